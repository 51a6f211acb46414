from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.features.labels import (
    Threshold,
    class_label,
    eligible_tiles,
    rate_measure,
    top_fifth_threshold,
)

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


def test_eligible_tiles_lie_where_the_label_is_known() -> None:
    inside = [np.array([True, True, False]), np.array([False, True, True])]
    assert eligible_tiles([], 3, inside).tolist() == [False, True, False]
    assert eligible_tiles([np.array([1.0, 0.0, 1.0])], 3, inside[:1]).tolist() == [True, False, False]


def test_unknown_road_is_no_road() -> None:
    unknown = np.array([np.nan, np.nan, 0.0])
    assert eligible_tiles([unknown], 3).tolist() == [False, False, False]
    assert eligible_tiles([unknown, np.array([1.0, np.nan, np.nan])], 3).tolist() == [True, False, False]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 9).map(float), st.just(float("nan"))),
            st.one_of(st.floats(0.001, 99), st.sampled_from([0.0, float("nan")])),
        ),
        max_size=40,
    )
)
def test_every_event_is_in_a_rate_or_left_out(tiles: list[tuple[float, float]]) -> None:
    events, exposure = (np.array(v, dtype=float) for v in (zip(*tiles, strict=True) if tiles else ([], [])))
    rates, left_out = rate_measure(events, exposure)
    known = ~np.isnan(rates)
    np.testing.assert_allclose((rates * exposure)[known], events[known])
    assert (known == (~np.isnan(events) & (exposure > 0))).all()
    assert left_out == ((events > 0) & ~(exposure > 0)).sum()


def test_an_exposure_is_not_negative() -> None:
    with pytest.raises(SourceError) as error:
        rate_measure(np.ones(3), np.array([1.0, -2.0, -1.0]))
    assert str(error.value) == (
        "2 tiles have a negative exposure, such as -2; mend the source of the column named with `per`"
    )


def test_a_tile_without_a_measure_has_no_label() -> None:
    measure = np.array([0.0, 0, 0, 0, 2.0, np.nan, np.nan])
    eligible = np.ones(7, dtype=bool)
    threshold = top_fifth_threshold(measure, eligible)
    assert threshold == Threshold(2.0, 0.2, 0.2, 0.0)
    label = class_label(measure, eligible, threshold)
    assert label.isna().tolist() == [False] * 5 + [True] * 2
    with pytest.raises(SourceError, match="all 4 eligible tiles are low risk"):
        class_label(np.where(measure == 2, np.nan, measure), eligible, threshold)
    with pytest.raises(SourceError, match="no tile is eligible"):
        top_fifth_threshold(np.full(7, np.nan), eligible)


@given(
    st.lists(st.lists(st.sampled_from([0.1, 1.7, 20.3]), max_size=6), min_size=2, max_size=30), st.randoms()
)
def test_no_order_of_weights_parts_a_tie(tiles: list[list[float]], random: object) -> None:
    """0.1 + 1.7 + 20.3 is not 20.3 + 1.7 + 0.1 to the bit; the tiles are alike all the same."""
    measure = np.array([float(sum(weights)) for weights in tiles])
    again = np.array([float(sum(sorted(weights))) for weights in tiles])
    eligible = np.ones(len(tiles), dtype=bool)
    try:
        threshold = top_fifth_threshold(measure, eligible, unit="EPDO")
    except SourceError:
        return
    assert threshold.t > 0
    assert top_fifth_threshold(again, eligible, unit="EPDO") == threshold
    label = class_label(again, eligible, threshold)
    assert (label == class_label(measure, eligible, threshold)).all()
    assert label.mean() == pytest.approx(threshold.share)
    kinds = {tuple(sorted(weights)): high for weights, high in zip(tiles, label, strict=True)}
    assert [kinds[tuple(sorted(weights))] for weights in tiles] == label.tolist()


def test_one_event_more_is_said_of_events_alone() -> None:
    measure = np.array([0.0] * 8 + [0.2, 0.3])
    rate = top_fifth_threshold(measure, every, unit="events per vehicle-km")
    assert rate == Threshold(0.2, 0.2, None, None, "events per vehicle-km")
    assert str(rate) == "high risk: 0.2 events per vehicle-km or more, 20.0 % of eligible tiles"
    assert str(Threshold(**{**rate.as_json(), "unit": ""})) == (
        "high risk: 0.2 or more, 20.0 % of eligible tiles"
    )
    count = top_fifth_threshold(measure * 10, every)
    assert str(count) == (
        "high risk: 2 or more, 20.0 % of eligible tiles (one event less: 20.0 %, one more: 10.0 %)"
    )
    # as a dataset kept it before a threshold had a unit
    fields = {k: v for k, v in count.as_json().items() if k != "unit"}
    assert Threshold(**fields) == count
