"""The windows of a plane: each pixel counts once in all, whatever part asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.roads.drawing.lattice import CORE_STRIDES, Axis, Lattice, Place, Span
from roadrisk.roads.scenes import Window, within

SHRINKS = st.sampled_from([1, 2, 3, 4, 8])
PARTS = st.sampled_from([4096, 4080, 4032, 3328, 2048])
AXES = st.builds(
    lambda length, part, shrink: Axis(length, part, 32 * shrink), st.integers(1, 30_000), PARTS, SHRINKS
)


@given(AXES)
def test_the_weights_of_all_windows_sum_to_one_at_every_pixel(axis: Axis) -> None:
    summed = np.zeros(axis.end_px)
    for core in range(axis.cores):
        start, stop = axis.window(core)
        weights = axis.weights(core)
        assert weights.min() >= 0
        summed[start:stop] += weights
    assert np.abs(summed - 1).max() < 1e-6
    assert axis.length_px <= axis.end_px


def test_a_weight_is_one_in_the_middle_and_falls_evenly_around_the_edge() -> None:
    axis = Axis(12_288, 4096, 64)
    start, stop = axis.window(1)
    assert (start, stop) == (4096 - 128, 8192 + 128)
    ramp = (np.arange(128) + 0.5) / 128
    weights = axis.weights(1)
    assert not weights[:64].any()
    assert np.allclose(weights[64:192], ramp)
    assert np.array_equal(weights[192:-192], np.ones(stop - start - 384))
    assert np.allclose(weights[-192:-64], ramp[::-1])
    assert not weights[-64:].any()
    assert np.array_equal(axis.weights(0)[: 4096 - 64], np.ones(4096 - 64))


@given(AXES)
def test_windows_begin_and_end_where_the_deepest_features_do(axis: Axis) -> None:
    for core in range(axis.cores):
        start, stop = axis.window(core)
        assert start % axis.unit_px == stop % axis.unit_px == 0
        assert start >= 0
        assert 4 * axis.unit_px <= stop - start <= (CORE_STRIDES + 5) * axis.unit_px


@given(AXES)
def test_the_cores_of_all_parts_are_all_cores_once(axis: Axis) -> None:
    assert [core for part in range(axis.parts) for core in axis.cores_of(part)] == [*range(axis.cores)]
    assert axis.edge(0) == 0
    assert axis.edge(axis.cores) == axis.end_px


@given(AXES, st.data())
def test_a_part_is_asked_for_a_window_where_its_own_count(axis: Axis, data: st.DataObject) -> None:
    start = data.draw(st.integers(-500, axis.length_px))
    span = Span(start, start + data.draw(st.integers(1, 5000)))
    asked = axis.parts_at(span)
    for part in range(axis.parts):
        reach = axis.reach(part)
        assert (part in asked) == (max(reach.start, span.start) < min(reach.stop, span.stop))


@given(AXES)
def test_alone_is_where_no_other_part_counts(axis: Axis) -> None:
    counts = np.zeros((axis.parts, axis.end_px), bool)
    for part in range(axis.parts):
        for core in axis.cores_of(part):
            start, stop = axis.window(core)
            counts[part, start:stop] |= axis.weights(core) > 0
    for part in range(axis.parts):
        start, stop = axis.alone(part)
        others = np.delete(counts, part, axis=0)
        assert not others[:, start:stop].any()
        assert stop == start or counts[part, start:stop].all()


@pytest.mark.parametrize(("tile", "shrink"), [(256, 1), (256, 2), (80, 2), (80, 1), (1024, 2)])
def test_overlap_costs_an_eighth_at_most(tile: int, shrink: int) -> None:
    side = 4096 // tile * tile
    lattice = Lattice(8 * side, 8 * side, side, shrink)
    seen = sum(
        window.height * window.width
        for part in lattice.parts()
        for window in map(lattice.window, lattice.cores(part))
    )
    assert seen / (8 * side) ** 2 < 1.13


def test_a_larger_plane_has_the_same_windows() -> None:
    small, large = Lattice(8192, 8192, 4096, 1), Lattice(20_000, 9000, 4096, 1)
    # those that do not end at the small one's edge
    for core in [Place(0, 0), Place(1, 1), Place(2, 1)]:
        assert small.window(core) == large.window(core)
        for one, other in zip(small.weights(core), large.weights(core), strict=True):
            assert np.array_equal(one, other)


def test_within_is_where_pixels_of_both_lie() -> None:
    outer, window = Window(10, 20, 5, 6), Window(12, 10, 9, 12)
    assert within(window, outer) == (slice(2, 5), slice(0, 2))
    assert within(outer, window) == (slice(0, 3), slice(10, 12))
    beside = within(Window(100, 100, 5, 5), outer)
    assert np.zeros((5, 6))[beside].size == 0
