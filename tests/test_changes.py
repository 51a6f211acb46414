"""The change between two scores: its interval, its classes, and no tile lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scored_examples import ABOUT, GRID, LABEL, RISK, TILE_ID, scored_grid
from task_examples import COUNT, THREE, scored_by
from test_bands import VISION, _lab

from roadrisk.changing import Compared, change_notes, compare
from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_shape
from roadrisk.learning.judging.empirical_bayes import belief
from roadrisk.maps.changes import (
    CHANGE_LEGEND,
    CLEARLY_HIGHER,
    CLEARLY_LOWER,
    HIGHER,
    LOWER,
    SAME,
    Estimate,
    change_classes,
    change_layer,
    mover,
)
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.matched import matched
from roadrisk.maps.places import GivenShapes, GridTiles
from roadrisk.maps.reading import layer_at
from roadrisk.maps.scored import HAS_FACTS, HAS_IMAGE, IN_TRAINING, scored_tiles

LATER = replace(ABOUT, model="fedcba9876543210", windows={"label": ("2025-01-01", "2026-01-01")})


def _wilson(events: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a proportion, 95 %."""
    z = 1.959964
    middle, half = (
        events / n + z**2 / (2 * n),
        z * np.sqrt(events / n * (1 - events / n) / n + (z / (2 * n)) ** 2),
    )
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


@pytest.mark.parametrize(
    ("here", "there", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10: MOVER on Wilson's intervals
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        ((2, 7), (6, 7), 0.0582, 0.8062),
        ((0, 29), (5, 56), -0.0381, 0.1926),
        ((0, 20), (0, 10), -0.1611, 0.2775),
        ((0, 10), (10, 10), 0.6075, 1.0000),
    ],
)
def test_mover_is_newcombes_of_two_proportions(
    here: tuple[int, int], there: tuple[int, int], low: float, high: float
) -> None:
    a, b = (
        Estimate(*np.array([[events / n], *([end] for end in _wilson(events, n))]))
        for events, n in (here, there)
    )
    change = mover(a, b)
    assert change.value == pytest.approx(there[0] / there[1] - here[0] / here[1])
    assert change.low == pytest.approx(low, abs=6e-5)
    assert change.high == pytest.approx(high, abs=6e-5)


values = st.tuples(*[st.floats(0, 1)] * 3).map(sorted)


@given(values, values)
def test_the_other_way_round_is_the_same_interval_mirrored(a: list[float], b: list[float]) -> None:
    # low, value, high
    here, there = (Estimate(np.array([v[1]]), np.array([v[0]]), np.array([v[2]])) for v in (a, b))
    forth, back = mover(here, there), mover(there, here)
    assert (forth.value, forth.low, forth.high) == (-back.value, -back.high, -back.low)
    assert forth.low <= forth.value <= forth.high


def _posterior(chance: np.random.Generator, truth: np.ndarray, mean: np.ndarray, k: float) -> Estimate:
    """What a model and one window's count say of expected counts."""
    known = belief(chance.poisson(truth) + 0.0, mean, k)
    return Estimate(known.expected, known.quantile(0.05), known.quantile(0.95))


@pytest.mark.parametrize("k", [0.2, 0.5, 2.0])
def test_mover_of_two_gamma_posteriors_covers_nine_changes_in_ten(k: float) -> None:
    chance, n = np.random.default_rng(0), 40_000
    mean_a, mean_b = chance.gamma(2.0, 1.5, (2, n))
    truth_a, truth_b = (mean * chance.gamma(1 / k, k, n) for mean in (mean_a, mean_b))
    change = mover(_posterior(chance, truth_a, mean_a, k), _posterior(chance, truth_b, mean_b, k))
    truth = truth_b - truth_a
    covered = ((change.low <= truth) & (truth <= change.high)).mean()
    assert 0.885 < covered < 0.935


def test_a_planted_change_is_called_clear_and_no_change_seldom() -> None:
    """A fifth of the tiles have five times their events in B; what a place is like stays."""
    chance, n, k = np.random.default_rng(1), 20_000, 0.5
    mean = chance.gamma(4.0, 1.5, n)
    truth = mean * chance.gamma(1 / k, k, n)
    planted = np.arange(n) % 5 == 0
    a = _posterior(chance, truth, mean, k)
    b = _posterior(chance, np.where(planted, 5 * truth, truth), mean, k)
    classes = change_classes(mover(a, b))
    assert (classes[planted & (truth > 4)] == CLEARLY_HIGHER).mean() > 0.95
    assert (classes[planted] == CLEARLY_LOWER).mean() < 0.005
    clear = np.isin(classes[~planted], [CLEARLY_HIGHER, CLEARLY_LOWER]).mean()
    assert 0.02 < clear < 0.1


def test_classes_are_by_direction_size_and_interval() -> None:
    nan = np.nan
    value = np.array([0.3, 0.3, 0.005, 0.005, 0.0, -0.005, -0.3, -0.3, nan, 0.3, -0.3])
    low = np.array([0.1, -0.1, -0.1, 0.001, 0.0, -0.1, -0.5, -0.6, nan, nan, nan])
    high = np.array([0.5, 0.6, 0.1, 0.010, 0.0, 0.1, 0.1, -0.1, nan, nan, nan])
    assert change_classes(Estimate(value, low, high), 0.01).tolist() == [
        *(CLEARLY_HIGHER, HIGHER, SAME, CLEARLY_HIGHER, SAME),
        *(SAME, LOWER, CLEARLY_LOWER, None, HIGHER, LOWER),
    ]
    assert change_classes(Estimate(value, low, high)).tolist()[2] == HIGHER


# up and down are as dark as each other: grey has one direction
@pytest.mark.parametrize("vision", [vision for vision in VISION if vision != "grey"])
def test_the_colours_of_change_differ_to_every_eye(vision: str) -> None:
    seen = [_lab(shade.colour, np.asarray(VISION[vision])) for shade in CHANGE_LEGEND.shades]
    apart = [float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[i + 1 :]]
    assert min(apart) > 10
    lightness = [lab[0] for lab in seen]
    assert lightness.index(max(lightness)) == 2
    assert [a < b for a, b in pairwise(lightness)] == [True, True, False, False]


def _scored(names: list[int], risk: list[float], spread: float | None = None, about=ABOUT) -> Layer:
    """Tiles of GRID by their numbers."""
    index = np.array(names)
    rows, cols = index // GRID.cols, index % GRID.cols
    values = np.array(risk)
    ends = [] if spread is None else [("risk_low", values - spread), ("risk_high", values + spread)]
    n = len(index)
    fields = [
        (TILE_ID, pd.Series(GRID.tile_ids(rows, cols))),
        (RISK, pd.Series(values)),
        *((replace(RISK, name=name, meaning=f"{name} of a spread."), pd.Series(end)) for name, end in ends),
        (HAS_IMAGE, pd.Series(np.ones(n, bool))),
        (HAS_FACTS, pd.Series(np.ones(n, bool))),
        (LABEL, pd.Series(pd.array([None, *[True] * (n - 1)], dtype="boolean"))),
        (IN_TRAINING, pd.Series(index % 2 == 0)),
    ]
    return scored_tiles(fields, GridTiles(GRID, rows, cols), about)


def _change(a: Layer, b: Layer) -> Layer:
    return change_layer(a, b, matched(a, b))


def test_tiles_are_matched_by_name_and_none_is_lost() -> None:
    a = _scored([4, 2, 0, 9], [0.1, 0.5, np.nan, 0.9], 0.05)
    b = _scored([9, 0, 4, 7], [0.4, 0.5, 0.7, 0.2], 0.05, LATER)
    made = _change(a, b)
    table = made.table
    assert table["tile_id"].tolist() == GRID.tile_ids(np.zeros(5, int), np.array([4, 2, 0, 9, 7])).tolist()
    assert table["change"].round(9).fillna(-9).tolist() == [0.6, -9, -9, -0.5, -9]
    assert table["change_class"].fillna("-").tolist() == [CLEARLY_HIGHER, "-", "-", CLEARLY_LOWER, "-"]
    half = 0.05 * np.sqrt(2)
    assert table["change_low"].tolist()[::3] == pytest.approx([0.6 - half, -0.5 - half])
    assert table["change_high"].tolist()[::3] == pytest.approx([0.6 + half, -0.5 + half])
    assert table["risk_a"].fillna(-9).tolist() == [0.1, 0.5, -9, 0.9, -9]
    assert table["risk_b"].fillna(-9).tolist() == [0.7, -9, 0.5, 0.4, 0.2]
    assert table["rank"].tolist() == [1, pd.NA, pd.NA, 2, pd.NA]
    assert table["rank_a"].tolist() == [3, 2, pd.NA, 1, pd.NA]
    assert table["rank_b"].tolist() == [1, pd.NA, 2, 3, 4]
    assert table["rank_change"].tolist() == [-2, pd.NA, pd.NA, 2, pd.NA]
    assert table["band_b"].fillna("-").tolist()[:2] == ["top 5 %", "-"]
    assert table["in_training"].tolist() == [True, True, True, False, False]
    assert table["label_a"].tolist() == [pd.NA, True, True, True, pd.NA]
    assert [column.name for column in made.columns] == list(table)
    squares = GRID.cells(np.zeros(5, int), np.array([4, 2, 0, 9, 7]))
    assert shapely.equals_exact(made.placed().shapes(GRID.crs), squares).all()
    lng, lat = made.placed().taken(np.array([4, 1])).centres()
    there = GRID.centres(np.zeros(2, int), np.array([7, 2]), "EPSG:4326")
    np.testing.assert_array_equal((lng, lat), there)


def test_shapes_come_from_the_layer_that_has_them() -> None:
    a, b = _scored([4, 2], [0.1, 0.5]), _scored([7, 2, 9], [0.4, 0.5, 0.7])
    outlines = b.placed().shapes("EPSG:4326")
    made = _change(a, replace(b, places=GivenShapes(outlines, "EPSG:4326")))
    places = made.placed()
    assert places.crs == GRID.crs
    squares = GRID.cells(np.zeros(4, int), np.array([4, 2, 7, 9]), "EPSG:4326")
    assert shapely.equals_exact(places.shapes("EPSG:4326"), squares).all()
    assert shapely.equals_exact(places.taken(np.array([3, 0])).shapes("EPSG:4326"), squares[[3, 0]]).all()
    lng, lat = places.taken(np.array([2, 1])).centres()
    there = GRID.centres(np.zeros(2, int), np.array([7, 2]), "EPSG:4326")
    np.testing.assert_allclose((lng, lat), there, atol=1e-6)


def test_the_order_of_rows_changes_no_change() -> None:
    chance = np.random.default_rng(0)
    a = _scored(list(range(40)), chance.random(40).tolist(), 0.1)
    b = _scored(list(range(40)), chance.random(40).tolist(), 0.1)
    here = _change(a, b).table.set_index("tile_id")
    mixed = _change(a.taken(chance.permutation(40)), b.taken(chance.permutation(40))).table.set_index(
        "tile_id"
    )
    pd.testing.assert_frame_equal(mixed.loc[here.index], here, check_exact=True)


def test_words_say_what_changed_and_what_its_ends_are() -> None:
    a, b = _scored([0, 1], [0.1, 0.2], 0.05), _scored([0, 1], [0.2, 0.3], 0.05, LATER)
    made = _change(a, b)
    assert (made.name, made.ranked) == ("change", 2)
    assert made.legend == CHANGE_LEGEND
    assert made.about.model == "0123456789abcdef to fedcba9876543210"
    assert made.about.windows == {
        "label_a": ("2024-01-01", "2025-01-01"),
        "label_b": ("2025-01-01", "2026-01-01"),
    }
    assert made.about.licence == ABOUT.licence
    meaning = {column.name: column.meaning for column in made.columns}
    assert meaning["risk_a"] == "In A: Probability of high risk."
    assert meaning["change_low"] == (
        "Low end of the change of risk by MOVER (Zou and Donner 2008) from the ends in A and B, which takes A "
        "and B to err independently; scores that err together, as those of one model do, differ by less than "
        "it allows for; empty where not known in both. In A and B: risk_low of a spread."
    )
    assert "up to one in ten unchanged" in meaning["change_class"]


def test_without_intervals_nothing_is_clear() -> None:
    made = _change(_scored([0, 1], [0.1, 0.9]), _scored([0, 1], [0.9, 0.1], 0.01))
    assert made.table["change_class"].tolist() == [HIGHER, LOWER]
    assert not {"change_low", "change_high"} & set(made.table)
    assert "nothing is clear" in next(c for c in made.columns if c.name == "change_class").meaning


def test_counts_change_with_their_own_intervals() -> None:
    a, _, observed = scored_by(COUNT, known=True)
    table = a.table.copy()
    for name in ("expected", "expected_low", "expected_high", "eb", "eb_low", "eb_high", "observed"):
        table[name] *= 3
    b = replace(a, table=table)
    made = _change(a, b).table
    np.testing.assert_allclose(made["expected_change"], 2 * a.table["expected"])
    np.testing.assert_allclose(made["observed_b"], 3 * observed)
    # of a gamma of one shape three times as wide: from the formula by hand
    e, low, high = (a.table[name] for name in ("expected", "expected_low", "expected_high"))
    np.testing.assert_allclose(
        made["expected_change_low"], 2 * e - np.sqrt(9 * (e - low) ** 2 + (high - e) ** 2)
    )
    clear = made["eb_change_class"] == CLEARLY_HIGHER
    assert (clear == (made["eb_change_low"] > 0)).all()
    assert set(made["change_class"].dropna()) == {SAME}  # the risk itself stayed


def _written(folder: Path, **layers: Layer) -> list[Path]:
    paths = [folder / f"{name}.parquet" for name in layers]
    for path, layer in zip(paths, layers.values(), strict=True):
        write_layers(layer, [path])
    return paths


def test_compare_writes_a_layer_and_counts_every_tile(tmp_path: Path) -> None:
    a = _scored([0, 1, 2, 3, 4], [0.1, 0.5, np.nan, 0.9, 0.300], 0.05)
    b = _scored([0, 1, 2, 3, 5], [0.7, 0.4, 0.5, 0.901, 0.2], 0.05, LATER)
    here, there = _written(tmp_path, a=a, b=b)
    outs = [tmp_path / "change.gpkg", tmp_path / "change.parquet"]
    compared = compare(here, there, outs)
    assert compared.paths == tuple(outs)
    assert compared.lines() == [
        "4 in A and B: 1 clearly higher, 0 higher, 1 about the same, 0 lower, 1 clearly lower",
        "kept without a change: 1 only in A, 1 only in B, 1 without a risk in A or B",
        "A is of model 0123456789abcdef, B of fedcba9876543210: part of the change may be of the models",
        "label window: A 2024-01-01 to before 2025-01-01, B 2025-01-01 to before 2026-01-01",
        "intervals take A and B to err independently; scores of one model, or of one place in two windows, "
        "mostly err together, and then fewer changes are called clear than are",
    ]
    assert compared.as_json() == {
        "layers": [str(out) for out in outs],
        "features": 6,
        "changes": compared.counts,
        "without_change": {"only in A": 1, "only in B": 1, "without a risk in A or B": 1},
        "notes": compared.lines()[2:],
    }
    places = compared.change.placed()
    assert isinstance(places, GridTiles)  # what is read as tiles of a lattice stays that
    left, bottom, right, top = places.grid.edges(places.rows, places.cols)
    squares = GRID.edges(np.zeros(6, int), np.array([0, 1, 2, 3, 4, 5]))
    np.testing.assert_array_equal((left, bottom, right, top), squares)
    for out in outs:
        read = layer_at(out)
        assert read.name in ("change", "risk")
        assert read.legend == CHANGE_LEGEND
        np.testing.assert_allclose(read.table["change"], compared.change.table["change"])
        assert read.table["change_class"].fillna("-").tolist() == (
            compared.change.table["change_class"].fillna("-").tolist()
        )


def test_roads_are_compared_by_their_ids(tmp_path: Path) -> None:
    tiles = scored_grid()
    table = tiles.table.rename(columns={"tile_id": "road_id"})
    columns = tuple(replace(c, name="road_id") if c.name == "tile_id" else c for c in tiles.columns)
    roads = replace(tiles, table=table, columns=columns, name="roads")
    here, there = _written(tmp_path, a=roads, b=roads)
    made = compare(here, there, [tmp_path / "change.csv"])
    assert made.counts == {**dict.fromkeys(CHANGE_LEGEND.values, 0), SAME: int(table["risk"].notna().sum())}
    assert made.change.columns[0].name == "road_id"
    tiled = _written(tmp_path, c=tiles)[0]
    with pytest.raises(LayerError) as error:
        compare(here, tiled, [tmp_path / "no.csv"])
    assert str(error.value) == (
        "A has road_id and B has tile_id; compare tiles with tiles, or roads with roads"
    )


def test_one_model_is_said_to_be_one() -> None:
    a = _scored([0], [0.1])
    assert (
        change_notes(a, a)[0] == "A and B are of one model (0123456789abcdef): the change is of inputs alone"
    )
    same = replace(a, about=replace(ABOUT, data="d1"))
    assert change_notes(same, same)[0].endswith("and of the same data: no change is to be expected")
    other = replace(a, about=replace(ABOUT, model="other"))
    assert change_notes(a, other)[0] == (
        "A is of model 0123456789abcdef, B of other, and both tell of the same label window: the change is "
        "between models, not in time"
    )
    assert change_notes(a, other)[-1] == "no interval of the risk in A and B, so no change is called clear"


def test_windows_that_overlap_and_labels_that_differ_are_said() -> None:
    later = replace(
        ABOUT, model="b", windows={"label": ("2024-07-01", "2025-07-01")}, label_meaning="9 or more"
    )
    said = change_notes(_scored([0], [0.1]), _scored([0], [0.1], about=later))
    assert said[1] == (
        "label window: A 2024-01-01 to before 2025-01-01, B 2024-07-01 to before 2025-07-01; they overlap, so "
        "that the same events are in both"
    )
    assert said[2] == "the labels differ: A 'true with 6 crashes or more', B '9 or more'"


def _refused(make: Callable[[Layer], tuple[Layer, Layer]], folder: Path) -> str:
    a, b = make(_scored(list(range(10)), np.linspace(0, 1, 10).tolist()))
    here, there = _written(folder, a=a, b=b)
    with pytest.raises(LayerError) as error:
        compare(here, there, [folder / "change.csv"])
    assert not (folder / "change.csv").exists()
    return str(error.value)


def test_layers_of_other_tiles_are_refused(tmp_path: Path) -> None:
    assert _refused(lambda a: (a, _scored([9, *range(20, 30)], [0.5] * 11)), tmp_path) == (
        "A has 10 tiles and B 11, but only 1 are in both by tile_id; compare scores of the same tiles"
    )


def test_tiles_of_one_name_elsewhere_are_refused(tmp_path: Path) -> None:
    def two(a: Layer) -> tuple[Layer, Layer]:
        west, east = (
            grid_of_shape(LngLatBbox(lng, 42.34, lng + 0.05, 42.37), 4, 4) for lng in (-71.15, -71.13)
        )
        return scored_grid(west), scored_grid(east)

    said = _refused(two, tmp_path)
    assert said.startswith("tiles with the same tile_id lie 1,6")
    assert said.endswith(" m apart in A and B; compare scores of the same tiles")


def test_risks_of_two_kinds_are_refused(tmp_path: Path) -> None:
    (counted, *_), (classed, *_) = scored_by(COUNT), scored_by(THREE)
    assert _refused(lambda _: (counted, classed), tmp_path) == (
        "the risk of A is \"Chance of one event or more in a window as long as the label's, as the model sees "
        "it\", that of B 'Probability that a tile is of class high, the riskiest, as the model sees it'; "
        "compare scores of models of one kind"
    )


def test_units_and_lengths_of_time_that_differ_are_refused(tmp_path: Path) -> None:
    counted, *_ = scored_by(COUNT, known=True)
    points = tuple(replace(c, unit="points") if c.name == "expected" else c for c in counted.columns)
    assert _refused(lambda _: (counted, replace(counted, columns=points)), tmp_path) == (
        "expected is in events in A and in points in B; compare scores of one unit"
    )
    long = replace(ABOUT, windows={"label": ("2022-01-01", "2025-01-01")})
    assert _refused(lambda a: (a, replace(a, about=long)), tmp_path) == (
        "the label window of A has 366 days, that of B 1,096: more happens in more time; compare models of "
        "windows of one length"
    )


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    name = GRID.tile_id(0, 1)
    assert _refused(lambda a: (a, _scored([0, 2, 1, 1], [0.5] * 4)), tmp_path) == (
        f"B has the tile_id {name!r} twice; give each feature its own"
    )


def test_a_leap_day_is_no_other_length_of_time(tmp_path: Path) -> None:
    a = _scored([0, 1], [0.1, 0.2])
    here, there = _written(tmp_path, a=a, b=replace(a, about=LATER))
    assert isinstance(compare(here, there, [tmp_path / "change.csv"]), Compared)


def test_a_field_without_words_is_compared_too() -> None:
    bare = Column("rank", "int64", "", "info", "none", "")
    a = _scored([0, 1], [0.1, 0.2])
    a = replace(a, columns=tuple(bare if c.name == "rank" else c for c in a.columns))
    made = _change(a, a)
    assert next(c for c in made.columns if c.name == "rank_a").meaning == "In A."


def test_a_page_shows_the_change_and_both_scores(tmp_path: Path) -> None:
    a, b = scored_grid(), scored_grid(about=LATER)
    here, there = _written(tmp_path, a=a, b=b)
    compare(here, there, [tmp_path / "change.html"])
    text = (tmp_path / "change.html").read_text(encoding="utf-8")
    titles = [layer["title"] for layer in _page_layers(text)]
    assert titles == [
        "Boston & around, change from A to B",
        "Boston & around (A)",
        "Boston & around (B)",
    ]


def _page_layers(text: str) -> list[dict]:
    start = text.index(">", text.index('id="data"')) + 1
    return json.loads(text[start : text.index("</script>", start)])["layers"]
