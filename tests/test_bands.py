"""Ranks and bands: against scipy, whatever the order of the tiles, and told apart by every eye."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from roadrisk.maps.bands import BANDS, ranked

# few distinct values, so that ties are common
risks = st.lists(
    st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1), st.just(np.nan)), max_size=60
)

# what a colour looks like to each kind of colour vision, in linear light: Machado, Oliveira and Fernandes 2009,
# severity 1.0, and grey by luminance
VISION = {
    "usual": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
}


@given(risks)
def test_ranks_are_scipys_and_null_where_not_scored(risk: list[float]) -> None:
    values = np.array(risk, dtype=float)
    scored = ~np.isnan(values)
    standing = ranked(values)
    rank = standing.rank.to_numpy(dtype=float, na_value=np.nan)
    np.testing.assert_array_equal(rank[scored], rankdata(-values[scored], method="min"))
    np.testing.assert_array_equal(
        np.round(standing.percentile[scored] * scored.sum() / 100),
        rankdata(values[scored], method="max"),
    )
    assert np.isnan(rank[~scored]).all()
    assert np.isnan(standing.percentile[~scored]).all()
    assert standing.band.isna().to_numpy().tolist() == (~scored).tolist()


@given(risks, st.randoms(use_true_random=False))
def test_no_row_order_changes_a_standing(risk: list[float], random: object) -> None:
    order = list(range(len(risk)))
    random.shuffle(order)  # type: ignore[attr-defined]
    here, there = ranked(risk), ranked([risk[i] for i in order])
    assert there.rank.tolist() == [here.rank.tolist()[i] for i in order]
    np.testing.assert_array_equal(there.percentile, here.percentile[order])
    assert there.band.astype(object).fillna("-").tolist() == [
        here.band.astype(object).fillna("-")[i] for i in order
    ]


@pytest.mark.parametrize("count", [20, 100, 1_000])
def test_bands_hold_the_shares_they_are_named_for(count: int) -> None:
    risk = np.random.default_rng(0).permutation(count) / count
    band = ranked(risk).band
    assert {name: int((band == name).sum()) * 100 // count for name in band.unique()} == {
        "top 5 %": 5,
        "next 10 %": 10,
        "next 20 %": 20,
        "next 25 %": 25,
        "lowest 40 %": 40,
    }
    assert band[risk.argmax()] == "top 5 %"
    assert band[risk.argmin()] == "lowest 40 %"


def test_a_tie_across_an_edge_goes_whole_to_the_riskier_band() -> None:
    risk = np.concatenate([np.full(10, 0.9), np.linspace(0, 0.5, 90)])
    assert (ranked(risk).band[:10] == "top 5 %").all()


def test_nothing_scored_is_no_standing() -> None:
    standing = ranked([np.nan, np.nan])
    assert standing.rank.isna().all()
    assert standing.band.isna().all()


@pytest.mark.parametrize("vision", VISION)
def test_bands_differ_to_every_eye_and_darken_with_risk(vision: str) -> None:
    seen = [_lab(band.colour, np.asarray(VISION[vision])) for band in BANDS]
    assert min(float(np.linalg.norm(a - b)) for a, b in pairwise(seen)) > 10
    lightness = [lab[0] for lab in seen]
    assert lightness == sorted(lightness)


def _lab(colour: str, vision: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of an sRGB colour as somebody sees it."""
    coded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ (vision @ light).clip(0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
