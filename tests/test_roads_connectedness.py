"""Getting along drawn roads: planted gaps and detours, and the same by walking every pixel."""

from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from roadrisk.roads.judging.connectedness import Connected, connected, connectedness
from roadrisk.roads.lines.skeletons import Skeleton, whole_skeleton

FAR = 4.0  # metres a pixel, so that halos are small


def roads(*lines: tuple[tuple[int, int], tuple[int, int]], side: int = 160) -> np.ndarray:
    """Roads five pixels wide along lines, (x, y) to (x, y)."""
    mask = np.zeros((side, side), np.uint8)
    for first, last in lines:
        cv2.line(mask, first, last, 1, 5)
    return mask > 0


def scribbled(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random roads, and the same with some left out, some more, and a hole."""
    chance = np.random.default_rng(seed)
    ends = [
        tuple(tuple(int(v) for v in place) for place in chance.integers(4, 156, (2, 2))) for _ in range(7)
    ]
    drawn = roads(*ends[2:])
    x, y = chance.integers(0, 130, 2)
    drawn[y : y + 20, x : x + 20] = False
    return roads(*ends[:5]), drawn


def walked(of: Skeleton, other: Skeleton, apart_px: float, snapped_px: float) -> tuple[float, float] | None:
    """One direction, pixel by pixel: every path of all pixels, every pair on its own.

    Returns
    -------
    Least and most, since of equally near pixels any will do.
    """
    graphs = [
        csr_array((each.link_length_px, tuple(each.links.T)), shape=(len(each.y), len(each.y)))
        for each in (of, other)
    ]
    ways, found = (dijkstra(graph, directed=False) for graph in graphs)
    fixed = set(np.flatnonzero(of.junction | (of.degree == 1)).tolist())
    for pixel in range(len(of.y)):
        if not any(np.isfinite(ways[pixel, node]) for node in fixed):
            fixed.add(pixel)
    away = np.array([min(ways[pixel, node] for node in fixed) for pixel in range(len(of.y))])
    for a, b in of.links.tolist():
        if away[a] // apart_px != away[b] // apart_px:
            fixed.add(a if away[a] > away[b] else b)
    lost = []
    for a, b in combinations(sorted(fixed), 2):
        if not np.isfinite(ways[a, b]):
            continue
        ends = []
        for pixel in (a, b):
            distance = np.hypot(other.y - of.y[pixel], other.x - of.x[pixel])
            if len(distance) and distance.min() <= snapped_px:
                ends.append(np.flatnonzero(distance == distance.min()))
        if len(ends) < 2:
            lost.append([1.0])
            continue
        either = found[np.ix_(*ends)].ravel()
        lost.append([min(1.0, abs(ways[a, b] - length) / ways[a, b]) for length in either])
    if not lost:
        return None
    return float(1 - np.mean([max(one) for one in lost])), float(1 - np.mean([min(one) for one in lost]))


def harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one and other else 0.0


@pytest.mark.parametrize("scale", [FAR, 1.3])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_it_is_what_walking_every_pixel_gives(scale: float, seed: int) -> None:
    true, drawn = (whole_skeleton(mask, FAR) for mask in scribbled(seed))
    there, back = (walked(*pair, 50 / scale, 4 / scale) for pair in ((true, drawn), (drawn, true)))
    found = connected(true, drawn, scale)
    assert found.line_px == pytest.approx(true.link_length_px.sum())
    if there is None:
        assert found.value is None
        return
    least, most = (harmonic(*pair) for pair in zip(there, back or (0.0, 0.0), strict=True))
    assert found.value is not None
    assert least - 1e-9 <= found.value <= most + 1e-9


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_itself_is_perfect_and_both_directions_are_alike(seed: int) -> None:
    true, drawn = (whole_skeleton(mask, FAR) for mask in scribbled(seed))
    assert connected(true, true, 1.0).value == 1.0
    either = connected(true, drawn, 1.0).value, connected(drawn, true, 1.0).value
    if None not in either:
        assert either[0] == either[1]


ALONG = roads(((20, 80), (140, 80)))


def compared(road: np.ndarray, drawn: np.ndarray, metres_per_pixel: float = 1.0) -> float | None:
    return connected(whole_skeleton(road, FAR), whole_skeleton(drawn, FAR), metres_per_pixel).value


def test_a_gap_by_hand() -> None:
    drawn = ALONG.copy()
    drawn[:, 75:85] = False
    # nodes of the truth: both ends and 50 m from each. Of six paths the four across the gap are lost;
    # of what is drawn each piece is one path, and both are true: the harmonic mean of 2/6 and 1
    assert compared(ALONG, drawn) == pytest.approx(0.5, abs=0.01)


def test_a_detour_counts_as_much_as_it_is_longer() -> None:
    # two ends joined along the middle; drawn around, through a corner: L is 120, L' is 75 + 120 + 75
    around = roads(((20, 80), (20, 5)), ((20, 5), (140, 5)), ((140, 5), (140, 80)))
    assert compared(ALONG, around, 0.01) == pytest.approx(0.0, abs=0.02)
    slanting = roads(((20, 80), (80, 35)), ((80, 35), (140, 80)))  # 75 + 75, a quarter longer
    # 10 cm a pixel: ends are within 40 pixels, points of 50 m would be farther apart than the road is long
    one, back = 1 - 150 / 120 + 1, 1 - (150 - 120) / 150
    assert compared(ALONG, slanting, 0.1) == pytest.approx(harmonic(one, back), abs=0.02)


@pytest.mark.parametrize(
    ("aside", "metres_per_pixel", "expected"), [(3, 1.0, 1.0), (6, 1.0, 0.0), (6, 0.5, 1.0), (3, 2.0, 0.0)]
)
def test_a_road_aside_is_the_same_within_four_metres(
    aside: int, metres_per_pixel: float, expected: float
) -> None:
    drawn = np.roll(ALONG, aside, axis=0)
    assert compared(ALONG, drawn, metres_per_pixel) == expected


def test_a_loop_without_ends_has_paths() -> None:
    ring = cv2.circle(np.zeros((160, 160), np.uint8), (80, 80), 50, 1, 5) > 0
    lines = whole_skeleton(ring, FAR)
    assert not (lines.degree == 1).any()
    assert compared(ring, ring) == 1.0
    cut = ring.copy()
    cut[70:90, 100:] = False
    found = compared(ring, cut)
    assert found is not None
    assert 0.2 < found < 0.9


def test_without_a_true_path_nothing_is_said_and_without_a_drawn_one_it_is_zero() -> None:
    nothing = np.zeros_like(ALONG)
    dot = nothing.copy()
    dot[80, 80] = True
    assert connectedness(nothing, ALONG, FAR) == Connected(None, 0.0)
    assert connectedness(dot, ALONG, FAR) == Connected(None, 0.0)
    assert connectedness(nothing, nothing, FAR) == Connected(None, 0.0)
    assert connectedness(ALONG, nothing, FAR).value == 0.0
    assert connectedness(ALONG, dot, FAR).value == 0.0
    assert connectedness(ALONG, np.ones_like(ALONG), FAR).value == 0.0


def test_a_pixel_is_taken_for_a_metre_where_nothing_says() -> None:
    small, drawn = ALONG[70:90, 10:80], np.roll(ALONG, 3, axis=0)[70:90, 10:80]
    assert connectedness(small, drawn, None) == connectedness(small, drawn, 1.0)
    assert connectedness(small, small, None).line_px == pytest.approx(57, abs=3)


def test_of_many_nodes_some_paths_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    comb = roads(((10, 80), (150, 80)), *(((x, 20), (x, 140)) for x in range(10, 151, 20)))
    drawn = comb.copy()
    drawn[:40, 60:] = False  # shorter, and not as far
    drawn[76:85, 75:85] = False
    everything = compared(comb, drawn)
    monkeypatch.setattr("roadrisk.roads.judging.connectedness.MOST_STARTS", 8)
    some = compared(comb, drawn)
    assert everything != some
    assert everything == pytest.approx(some, abs=0.1)
    assert compared(comb, comb) == 1.0


def test_roads_of_a_link_or_two_have_paths() -> None:
    """Between pixels that are all kept there are no chains."""
    mask = np.zeros((40, 40), bool)
    mask[5, 5:7] = mask[20, 20:22] = True
    assert connectedness(mask, mask, FAR) == Connected(1.0, pytest.approx(2.0))
    mask[20, 20] = False
    assert connectedness(mask, np.zeros_like(mask), FAR).value == 0.0
