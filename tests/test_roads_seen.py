"""What a mask of roads is told to show: metres, junctions and widths, however the mask is cut."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaics import TILE, grid_of, write_mosaic

from roadrisk.grid import Part
from roadrisk.mosaic.picture import Mask, Picture
from roadrisk.roads.drawing.cleaning import cleaned, cleaning_told, reach_px
from roadrisk.roads.lines.seen import FactsJob, PartFacts, facts_done, part_facts, seen_facts
from roadrisk.roads.lines.skeletons import Skeleton, halo_px, skeleton_of, widest_px
from roadrisk.roads.lines.thinning import thinned
from roadrisk.roads.scenes import Window

HALO = 80  # roads of up to 12 px
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)


def blobs(seed: int, shape: tuple[int, int], scale: float) -> Mask:
    """Random pieces, a few pixels to large areas."""
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), scale) > 0)


def strips(shape: tuple[int, int], lines: list[tuple[float, float, float, float]], width: float) -> Mask:
    """Pixels whose middle is within half a width of a line (x, y) to (x, y)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    road = np.zeros(shape, bool)
    for ax, ay, bx, by in lines:
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx**2 + dy**2), 0, 1)
        road |= np.hypot(x - ax - along * dx, y - ay - along * dy) <= width / 2
    return road


def star(angles: list[float], width: float, arm: float = 90.0, side: int = 220) -> Mask:
    """Roads that leave a point."""
    at = side / 2 + 0.3
    ends = [(at + arm * np.cos(np.radians(a)), at + arm * np.sin(np.radians(a))) for a in angles]
    return strips((side, side), [(at, at, *end) for end in ends], width)


def whole(road: Mask, halo: int = 272) -> Skeleton:
    """The skeleton of a raster beyond which there is no road."""
    road = np.pad(road, halo)
    return skeleton_of(road, np.ones_like(road), halo, (0, 0))


def core_px(skeleton: Skeleton) -> float:
    return float(skeleton.length_px[: skeleton.core].sum())


def width_px(skeleton: Skeleton) -> float:
    return float(2 * np.average(skeleton.half_width_px, weights=skeleton.length_px))


# cleaning


@few
@given(seed=seeds, speck=st.integers(0, 40), gap=st.integers(0, 6), scale=st.sampled_from([0.1, 0.8, 2.0]))
def test_a_window_with_its_halo_is_cleaned_as_the_whole(
    seed: int, speck: int, gap: int, scale: float
) -> None:
    valid = blobs(seed + 1, (150, 170), 9.0) | blobs(seed + 2, (150, 170), 9.0)
    road = blobs(seed, valid.shape, scale)
    y, x, height, width = 61, 70, 20, 25
    halo = reach_px(speck, gap)
    window = np.s_[y - halo : y + height + halo, x - halo : x + width + halo]
    part = cleaned(road[window], valid[window], speck, gap)[halo : halo + height, halo : halo + width]
    assert (part == cleaned(road, valid, speck, gap)[y : y + height, x : x + width]).all()
    assert not (cleaned(road, valid, speck, gap) & ~valid).any()


@pytest.mark.parametrize("gap", [1, 2, 3, 4, 7])
def test_gaps_as_wide_as_said_are_closed_and_wider_ones_are_not(gap: int) -> None:
    for wide, closed in ((gap, True), (gap + 2, False)):
        road = np.zeros((40, 60), bool)
        road[15 : 17 + gap, 5:55] = True
        road[:, 30 : 30 + wide] = False
        middle = cleaned(road, np.ones_like(road), 1, gap)[15 + (gap + 1) // 2, 30 : 30 + wide]
        assert middle.all() == closed
        assert middle.any() == closed


def test_pieces_of_fewer_pixels_go_and_corners_hold_together() -> None:
    road = np.zeros((9, 9), bool)
    road[1, 1] = road[2, 2] = road[3, 3] = road[6, 6] = road[6, 7] = True
    kept = cleaned(road, np.ones_like(road), 3, 0)
    assert np.argwhere(kept).tolist() == [[1, 1], [2, 2], [3, 3]]


def test_what_was_cleaned_is_told() -> None:
    assert cleaning_told(1, 0, 0.5) == "cleaned: nothing"
    assert cleaning_told(1, 3, 2.0) == "cleaned: gaps up to 3 px (6 m) wide are closed"


# thinning


@few
@given(seed=seeds, scale=st.sampled_from([0.1, 0.8, 2.0, 4.0]), steps=st.integers(1, 60))
def test_thinning_is_that_of_scikit_image(seed: int, scale: float, steps: int) -> None:
    thin = pytest.importorskip("skimage.morphology").thin
    road = blobs(seed, (47, 61), scale)
    assert (thinned(road, steps) == thin(road, steps)).all()


# centre-lines


@pytest.mark.parametrize("width", [3, 6, 11, 24])
def test_straight_roads_at_all_angles_have_their_length_and_width(width: int) -> None:
    halo, side, bias = 160, 150, []
    places = np.random.default_rng(width).random((16, 2))
    for angle, (dx, dy) in zip(np.linspace(0, np.pi, 16, endpoint=False), places, strict=True):
        x, y, far = halo + side / 2 + dx, halo + side / 2 + dy, 400.0
        line = (
            x - far * np.cos(angle),
            y - far * np.sin(angle),
            x + far * np.cos(angle),
            y + far * np.sin(angle),
        )
        road = strips((2 * halo + side, 2 * halo + side), [line], width)
        found = skeleton_of(road, np.ones_like(road), halo, (0, 0))
        within = side / max(abs(np.cos(angle)), abs(np.sin(angle)))
        assert core_px(found) == pytest.approx(within, rel=0.015)
        assert not found.junction.any()
        bias.append(width_px(found) - width)
    assert abs(np.mean(bias)) < 0.6
    assert np.abs(bias).max() < 1


def test_a_road_that_ends_has_its_length_but_for_half_a_width_at_each_end() -> None:
    road = np.zeros((40, 120), bool)
    road[15:24, 10:110] = True
    assert core_px(whole(road)) == pytest.approx(100 - 9, abs=1.5)


@pytest.mark.parametrize("width", [5, 9, 16])
@pytest.mark.parametrize(
    ("legs", "junctions"),
    [((0, 90, 180), 1), ((0, 90, 180, 270), 1), ((0, 60, 180, 240), 1), ((0, 120, 240), 1), ((0, 180), 0)],
)
def test_a_crossing_is_one_junction(legs: tuple[int, ...], junctions: int, width: int) -> None:
    for turn in (0, 7, 22, 45, 67):
        found = whole(star([leg + turn for leg in legs], width))
        assert int(found.junction.sum()) == junctions
        assert core_px(found) == pytest.approx(90 * len(legs), rel=0.03)


def test_a_roundabout_has_a_junction_for_each_road() -> None:
    y, x = np.mgrid[:260, :260]
    ring = np.abs(np.hypot(y - 130, x - 130) - 30) <= 4
    road = ring | (star([10, 100, 190, 280], 8, 110, 260) & (np.hypot(y - 130, x - 130) > 30))
    found = whole(road)
    assert int(found.junction.sum()) == 4
    assert core_px(found) == pytest.approx(2 * np.pi * 30 + 4 * (110 - 30), rel=0.02)


def test_streets_in_a_grid_have_their_metres_and_junctions() -> None:
    at = [50.2, 130.4, 210.6]
    lines = [(a, 10.0, a, 250.0) for a in at] + [(10.0, a, 250.0, a) for a in at]
    found = whole(strips((260, 260), lines, 9))
    assert int(found.junction.sum()) == 9
    assert core_px(found) == pytest.approx(6 * 240, rel=0.01)
    assert abs(width_px(found) - 9) < 1


def test_dots_have_no_length() -> None:
    road = np.zeros((30, 30), bool)
    road[5, 5] = road[20, 20] = True
    found = whole(road)
    assert found.degree.tolist() == [0, 0]
    assert found.length_px.tolist() == [0, 0]
    assert not len(found.links)


def test_branches_within_the_road_are_none() -> None:
    road = np.zeros((60, 120), bool)
    road[25:34, 10:110] = True
    road[20:25, 60:63] = True
    found = whole(road)
    assert not found.junction.any()
    assert sorted(found.degree.tolist())[:3] == [1, 1, 2]


def test_an_area_has_no_centre_line_and_a_road_to_it_keeps_its_own() -> None:
    road = np.zeros((200, 300), bool)
    road[20:180, 20:180] = True
    assert core_px(whole(road)) == 0
    road[96:104, 180:290] = True
    found = whole(road)
    assert not found.junction.any()
    # it ends half as far from the area as a road may be wide
    assert 75 < core_px(found) < 110


def test_the_staircase_of_a_diagonal_is_counted_once() -> None:
    steps = np.kron(np.eye(12, dtype=bool), np.ones((1, 2), bool))
    found = whole(np.pad(steps, 4))
    assert found.degree.max() == 2
    assert not found.junction.any()


# however the mask is cut


@few
@given(
    seed=seeds,
    scale=st.sampled_from([0.1, 1.0, 2.0, 4.0, 8.0, 20.0]),
    cuts=st.tuples(st.integers(1, 99), st.integers(1, 119)),
)
def test_parts_are_what_the_whole_says_of_them(seed: int, scale: float, cuts: tuple[int, int]) -> None:
    valid = blobs(seed + 1, (100 + 2 * HALO, 120 + 2 * HALO), 30.0) | (seed % 2 == 0)
    road = blobs(seed, valid.shape, scale)
    parts = []
    for top, bottom in ((0, cuts[0]), (cuts[0], 100)):
        for left, right in ((0, cuts[1]), (cuts[1], 120)):
            there = np.s_[top : bottom + 2 * HALO, left : right + 2 * HALO]
            parts.append(skeleton_of(road[there], valid[there], HALO, (top, left)))
    everything = skeleton_of(road, valid, HALO, (0, 0))
    assert links_of(*parts) == links_of(everything)
    assert pixels_of(*parts) == pixels_of(everything)


def links_of(*parts: Skeleton) -> list[tuple[float, ...]]:
    """Each link by the places of its ends, with its length; sorted."""
    return sorted(
        (float(s.y[a]), float(s.x[a]), float(s.y[b]), float(s.x[b]), float(length))
        for s in parts
        for (a, b), length in zip(s.links.tolist(), s.link_length_px.tolist(), strict=True)
    )


def pixels_of(*parts: Skeleton) -> list[tuple[float, ...]]:
    """All that is said of the pixels of the core; sorted."""
    names = ("y", "x", "half_width_px", "degree", "junction", "length_px")
    return sorted(tuple(float(getattr(s, name)[at]) for name in names) for s in parts for at in range(s.core))


@few
@given(seed=seeds, scale=st.sampled_from([0.8, 2.0, 5.0]))
def test_a_core_much_smaller_than_its_halo_is_a_slice_of_the_whole(seed: int, scale: float) -> None:
    side = 2 * HALO + 300
    road = blobs(seed, (side, side), scale)
    valid = np.ones_like(road)
    everything = skeleton_of(road, valid, HALO, (0, 0))
    small = skeleton_of(road[140:-150, 130:-160], valid[140:-150, 130:-160], HALO, (140, 130))
    height, width = 300 - 290, 300 - 290
    inside = [p for p in pixels_of(everything) if 0 <= p[0] - 140 < height and 0 <= p[1] - 130 < width]
    assert pixels_of(small) == inside


@pytest.mark.parametrize("more", [-2, 3])
def test_a_halo_shows_whether_a_road_beside_the_core_is_an_area(more: int) -> None:
    width = widest_px(HALO) + more
    for away in range(0, HALO + width, max(1, width // 4)):
        road = np.zeros((4 * HALO + 20, 4 * HALO + 20), bool)
        road[:, 2 * HALO + 10 + away : 2 * HALO + 10 + away + width] = True
        road[2 * HALO + 7 : 2 * HALO + 12, :] = True
        valid, near = np.ones_like(road), np.s_[HALO:-HALO, HALO:-HALO]
        everything = skeleton_of(road, valid, HALO, (-HALO, -HALO))
        inside = [p for p in pixels_of(everything) if 0 <= p[0] < 20 and 0 <= p[1] < 20]
        assert pixels_of(skeleton_of(road[near], valid[near], HALO, (0, 0))) == inside


# columns


def reader_of(road: Mask, valid: Mask) -> Callable[[Window], tuple[Mask, Mask]]:
    """Windows of a raster, beyond which nothing is known."""

    def read(window: Window) -> tuple[Mask, Mask]:
        y, x, height, width = window
        top, left = max(0, -y), max(0, -x)
        seen = np.zeros((2, height, width), bool)
        for layer, raster in enumerate((road, valid)):
            piece = raster[max(0, y) : y + height, max(0, x) : x + width]
            seen[layer, top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        return seen[0], seen[1]

    return read


def test_sums_over_tiles_and_parts_are_those_of_the_whole() -> None:
    road = blobs(5, (256, 320), 2.5)
    valid = blobs(6, road.shape, 40.0) | (np.arange(320) < 100)
    read, metre = reader_of(road, valid), 0.5
    one = part_facts(read, Part(0, 0, 4, 5), 64, metre)
    halves = [part_facts(read, Part(0, c, 4, n), 64, metre) for c, n in ((0, 2), (2, 3))]
    for name in ("coverage", "share", "road_m", "junctions"):
        joined = np.concatenate([getattr(half, name) for half in halves], axis=1)
        assert np.array_equal(joined, getattr(one, name), equal_nan=True)
    # OpenCV's distances are of 32 bit, whose last one follows how the memory lies
    widths = np.concatenate([half.width_m for half in halves], axis=1)
    assert widths == pytest.approx(one.width_m, rel=1e-6, nan_ok=True)
    coarse = part_facts(read, Part(0, 0, 2, 2), 128, metre)
    fine = part_facts(read, Part(0, 0, 4, 4), 64, metre)
    for name in ("road_m", "junctions"):
        summed = getattr(fine, name).reshape(2, 2, 2, 2).sum(axis=(1, 3))
        assert summed == pytest.approx(getattr(coarse, name), abs=1e-9)
    known = (road & valid).reshape(4, 64, 5, 64).sum(axis=(1, 3))
    assert np.isnan(one.share[one.coverage == 0]).all()
    assert np.nan_to_num(one.share) * one.coverage * 64**2 == pytest.approx(known)
    assert one.road_m.sum() == pytest.approx(core_px(whole(road & valid, halo_px(metre))) * metre)


def test_what_is_planted_is_told_in_metres() -> None:
    lines = [(64.3, 0.0, 64.3, 256.0), (0.0, 160.4, 256.0, 160.4)]
    road = strips((256, 256), lines, 10)
    told = part_facts(reader_of(road, np.ones_like(road)), Part(0, 0, 2, 2), 128, 0.5)
    # the top left tile has 128 px of one road, that below has both; at the edge half a width is lost
    assert told.road_m == pytest.approx(np.array([[61.5, 0], [123, 61.5]]), abs=1)
    assert told.junctions.tolist() == [[0, 0], [1, 0]]
    assert told.width_m[0, 0] == pytest.approx(5, abs=0.5)
    assert np.isnan(told.width_m[0, 1])
    assert told.share == pytest.approx(np.array([[10, 0], [19.2, 10]]) / 128, abs=0.01)


def test_no_road_is_zero_and_all_road_has_no_centre_line() -> None:
    valid = np.ones((256, 256), bool)
    for road, share in ((~valid, 0.0), (valid, 1.0)):
        told = part_facts(reader_of(road, valid), Part(0, 0, 2, 2), 128, 1.0)
        assert told.share.tolist() == [[share, share]] * 2
        assert not told.road_m.any()
        assert not told.junctions.any()
        assert np.isnan(told.width_m).all()


def test_unknown_is_missing_and_not_zero() -> None:
    road = strips((128, 256), [(0.0, 64.2, 256.0, 64.2)], 8)
    valid = np.zeros_like(road)
    valid[:, :64] = valid[:, 64:96] = valid[:, 192:208] = True
    grid = grid_of(2, 5)
    told = part_facts(reader_of(road, valid), Part(0, 0, 2, 4), 64, 1.0)
    columns = {column.name: values.reshape(2, 5) for column, values in seen_facts(grid, [told], 0.4)}
    assert columns["coverage_seen_roads"][1].tolist() == [1, 0.5, 0, 0.25, 0]
    for name in ("seen_road_share", "seen_road_m", "seen_junctions", "seen_road_width_m"):
        assert np.isnan(columns[name][:, 2:]).all()
    assert np.isfinite(columns["seen_road_m"][:, :2]).all()
    # of a tile that is half seen only that half
    assert columns["seen_road_m"][1, 1] == pytest.approx(32, rel=0.15)
    # nothing is known of a tile that has no picture, whatever is enough
    none = {column.name: values for column, values in seen_facts(grid, [], 0.0)}
    assert np.isnan(none["seen_road_m"]).all()
    assert not none["coverage_seen_roads"].any()


def test_columns_say_how_they_combine() -> None:
    columns = {column.name: column for column, _ in seen_facts(grid_of(1, 1), [], 0.5)}
    assert {name: (c.unit, c.role, c.combine, c.by) for name, c in columns.items()} == {
        "coverage_seen_roads": ("share", "info", "mean", ()),
        "seen_road_share": ("share", "feature", "mean", ("coverage_seen_roads",)),
        "seen_road_m": ("m", "feature", "sum", ()),
        "seen_junctions": ("junctions", "feature", "sum", ()),
        "seen_road_width_m": ("m", "feature", "mean", ("seen_road_m",)),
    }
    assert {c.source for c in columns.values()} == {"seen_roads"}


@pytest.mark.parametrize(("crs", "longer"), [("EPSG:32619", 1.0), ("EPSG:3857", 0.78)])
def test_a_job_reads_the_view_across_its_parts_and_may_go_to_a_process(
    tmp_path: Path, crs: str, longer: float
) -> None:
    # tiles of 64 px: parts of 64 x 64 tiles, so this grid has two
    grid = replace(grid_of(1, 66), crs=crs)
    road = strips((64, 66 * 64), [(0.0, 20.0, 66 * 64.0, 44.0)], 7)
    valid = np.ones_like(road)
    valid[:, 300:400] = False
    pixels = np.broadcast_to((road & valid) * np.uint8(255), (3, *road.shape)).copy()
    parts = write_mosaic(tmp_path, grid, TILE, Picture(pixels, valid), "roads")
    assert len(parts) == 2
    jobs = [FactsJob(tmp_path, "roads", grid, TILE, "plan", part, 1.0) for part in parts]
    done: list[PartFacts] = pickle.loads(
        pickle.dumps([facts_done(job) for job in pickle.loads(pickle.dumps(jobs))])
    )
    told = {column.name: values for column, values in seen_facts(grid, done, 0.5)}
    one = part_facts(reader_of(road, valid), Part(0, 0, 1, 66), TILE, 1.0)
    # metres are those of the ground, whatever those of the map are
    ground = np.sqrt(grid.area_km2(np.zeros(66, int), np.arange(66)) * 1e6) / 64
    assert ground == pytest.approx(longer, rel=0.01)
    for name, values in (("seen_road_m", one.road_m), ("seen_road_width_m", one.width_m)):
        expected = np.where(one.coverage >= 0.5, values * ground, np.nan)
        assert told[name] == pytest.approx(expected.ravel(), rel=1e-12, nan_ok=True)


def test_a_halo_is_enough_for_the_widest_road_it_is_for() -> None:
    for metre in (0.1, 0.3, 0.6, 1.0, 2.0):
        assert widest_px(halo_px(metre)) * metre >= 60 or halo_px(metre) == 512
