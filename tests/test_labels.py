from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.features.labels import Threshold, class_label, eligible_tiles, top_fifth_threshold

measures = st.lists(st.integers(0, 6), min_size=2, max_size=60)
every = np.ones(10, dtype=bool)


@given(measures, st.lists(st.booleans(), min_size=60, max_size=60), st.floats(0.05, 0.95))
def test_no_other_threshold_is_nearer(counts: list[int], mask: list[bool], share: float) -> None:
    measure, eligible = np.array(counts, dtype=float), np.array(mask[: len(counts)])
    values = measure[eligible]
    candidates = [t for t in np.unique(values) if t > 0 and 0 < (values >= t).mean() < 1]
    if not candidates:
        with pytest.raises(SourceError):
            top_fifth_threshold(measure, eligible, share)
        return
    threshold = top_fifth_threshold(measure, eligible, share)
    assert threshold.t > 0
    assert threshold.share == (values >= threshold.t).mean()
    nearest = min(abs((values >= t).mean() - share) for t in candidates)
    assert abs(threshold.share - share) == pytest.approx(nearest, abs=1e-12)
    assert threshold.share_one_less == (values >= threshold.t - 1).mean()
    assert threshold.share_one_more == (values >= threshold.t + 1).mean()
    label = class_label(measure, eligible, threshold)
    assert (label.isna().to_numpy() == ~eligible).all()
    assert label[eligible].mean() == pytest.approx(threshold.share)


@given(measures, st.randoms())
def test_row_order_changes_no_threshold(counts: list[int], random: object) -> None:
    measure = np.array(counts, dtype=float)
    eligible = np.ones(len(counts), dtype=bool)
    try:
        expected = top_fifth_threshold(measure, eligible)
    except SourceError:
        return
    assert top_fifth_threshold(np.sort(measure), eligible) == expected


def test_ties_are_kept_whole_and_zero_is_never_high() -> None:
    assert top_fifth_threshold(np.array([0.0] * 9 + [1.0]), every).t == 1
    assert top_fifth_threshold(np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 5.0]), every).t == 5
    assert top_fifth_threshold(np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1.0]), every).share == 0.3


def test_tiles_that_are_not_eligible_count_for_nothing() -> None:
    measure = np.array([9.0] * 50 + [0, 0, 0, 0, 2.0])
    eligible = np.array([False] * 50 + [True] * 5)
    assert top_fifth_threshold(measure, eligible) == Threshold(2.0, 0.2, 0.2, 0.0)


@pytest.mark.parametrize(
    ("measure", "eligible", "message"),
    [
        (np.zeros(10), every, "one class only: of 10 eligible tiles none has an event"),
        (np.full(10, 3.0), every, "one class only: of 10 eligible tiles all have 3"),
        (np.arange(10.0), ~every, "no tile is eligible"),
    ],
)
def test_one_class_only(measure: np.ndarray, eligible: np.ndarray, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        top_fifth_threshold(measure, eligible)


def test_a_threshold_from_elsewhere_may_make_one_class() -> None:
    with pytest.raises(SourceError, match="all 10 eligible tiles are low risk at a threshold of 50"):
        class_label(np.arange(10.0), every, Threshold(50.0, 0.2, 0.2, 0.2))


def test_eligible_tiles() -> None:
    assert eligible_tiles([], 3).tolist() == [True, True, True]
    assert eligible_tiles([np.array([0.0, 1.0, 0.0])], 3).tolist() == [False, True, False]
