"""A dataset as one scene: its mosaic by window, its roads from a view or drawn, and its tiles as units."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from mosaics import SMALL, TILE, grid_of, holed, write_mosaic
from numpy.typing import NDArray

import roadrisk.grid
from roadrisk.dataset import Dataset, View, read_dataset
from roadrisk.errors import DatasetError, RoadriskError, UsageError
from roadrisk.grid import Grid
from roadrisk.mosaic.picture import Picture
from roadrisk.roads.scenes import Plane, RoadExamples, Truths, Window
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.sources.centre_lines import LineTruths, line_truths
from roadrisk.roads.sources.examples import dataset_examples, examples_at
from roadrisk.roads.sources.mosaics import MaskTruths, mosaic_of
from roadrisk.roads.sources.widths import BUILDS, road_widths

SETTINGS = RoadSettings()
HEIGHT, WIDTH = SMALL.rows * TILE, SMALL.cols * TILE
WINDOWS = st.builds(
    Window,
    st.integers(-100, HEIGHT + 30),
    st.integers(-100, WIDTH + 30),
    st.integers(1, 260),
    st.integers(1, 260),
)
KNOWN = np.ones(SMALL.shape, bool)


def dataset_of(folder: Path, grid: Grid = SMALL, *names: str) -> Dataset:
    """A dataset of nothing but views."""
    views = tuple(View(name, TILE, 0.9, f"digest of {name}", plan="plan") for name in names or ("aerial",))
    return Dataset(folder, grid, views, (), "plan", {"files": [], "name": "made up"})


def around(picture: Picture, pixels: int = 400) -> Picture:
    """A picture with nothing around it."""
    sides = (pixels, pixels), (pixels, pixels)
    return Picture(np.pad(picture.pixels, ((0, 0), *sides)), np.pad(picture.valid, sides))


def slice_of(window: Window, pixels: int = 400) -> tuple[slice, slice]:
    y, x, height, width = window
    return np.s_[y + pixels : y + pixels + height, x + pixels : x + pixels + width]


def lines_in(dataset: Dataset, lines: list[list[tuple[float, float]]]) -> NDArray[np.object_]:
    """Lines that are given in pixels of a view, in the grid's CRS."""
    place = dataset.grid.picture_transform(TILE)
    return np.array(
        [shapely.LineString([place @ point for point in points]) for points in lines], dtype=object
    )


def drawn_lines(
    lines: list[list[tuple[float, float]]], width_px: float, known: NDArray[np.bool_] = KNOWN
) -> LineTruths:
    dataset = dataset_of(Path(), SMALL)
    width_m = np.full(len(lines), width_px * dataset.metres_per_pixel("aerial"))
    return line_truths(dataset, "aerial", lines_in(dataset, lines), width_m, known)


# --- the mosaic ---


@pytest.mark.parametrize("kept_bytes", [0, 64 << 20])
def test_a_window_is_the_slice_of_the_whole_mosaic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", 2 * TILE)
    monkeypatch.setattr("roadrisk.roads.sources.mosaics._KEPT_BYTES", kept_bytes)
    whole = holed()
    assert len(write_mosaic(tmp_path, SMALL, TILE, whole)) > 4
    plane, beyond = mosaic_of(dataset_of(tmp_path), "aerial"), around(whole)
    assert (plane.height, plane.width, plane.bands) == (HEIGHT, WIDTH, 3)

    @given(WINDOWS)
    def check(window: Window) -> None:
        read, there = plane.read(window), slice_of(window)
        assert (read.pixels == beyond.pixels[:, *there]).all()
        assert (read.valid == beyond.valid[there]).all()

    check()


@pytest.mark.parametrize("duplicate", [copy.copy, lambda some: pickle.loads(pickle.dumps(some))])
def test_a_copy_reads_for_itself(
    tmp_path: Path, duplicate: Callable[[Plane | Truths], Plane | Truths]
) -> None:
    write_mosaic(tmp_path, SMALL, TILE, holed())
    plane = mosaic_of(dataset_of(tmp_path), "aerial")
    window = Window(-10, 30, 200, 200)
    for some in (plane, MaskTruths(plane, 100), drawn_lines([[(0, 0), (300, 300)]], 5)):
        first, other = values_of(some.read(window)), duplicate(some)
        assert all((a == b).all() for a, b in zip(first, values_of(other.read(window)), strict=True))
        some.close()
        for reader in (other, some):
            assert all((a == b).all() for a, b in zip(first, values_of(reader.read(window)), strict=True))


def values_of(read: object) -> tuple[NDArray[Any], ...]:
    return tuple(read) if isinstance(read, tuple) else tuple(vars(read).values())


def test_a_mask_view_is_road_where_any_band_is_above(tmp_path: Path) -> None:
    whole = holed()
    write_mosaic(tmp_path, SMALL, TILE, whole, "drawn")
    plane = mosaic_of(dataset_of(tmp_path, SMALL, "drawn"), "drawn")
    for above in (0, 127, 254):
        truth = MaskTruths(plane, above).read(Window(0, 0, HEIGHT, WIDTH))
        assert (truth.known == whole.valid).all()
        assert (truth.road == (whole.pixels > above).any(axis=0)).all()
    beyond = MaskTruths(plane, 0).read(Window(HEIGHT, WIDTH, 20, 20))
    assert not beyond.known.any()
    assert not beyond.road.any()


# --- lines ---


@pytest.mark.parametrize("width_px", [1.0, 2.5, 4.0, 7.0, 11.6])
@pytest.mark.parametrize("rise", [0.31, 0.93, -2.7])
def test_a_road_is_drawn_as_wide_as_it_is(width_px: float, rise: float) -> None:
    # through the middle and far beyond, so that no end is within
    middle = np.array([WIDTH / 2 + 0.2, HEIGHT / 2 + 0.4])
    along = np.array([1.0, rise]) / np.hypot(1.0, rise)
    ends = [tuple(middle + far * along) for far in (-2000, 2000)]
    road = drawn_lines([ends], width_px).read(Window(0, 0, HEIGHT, WIDTH)).road
    inside = shapely.intersection(shapely.LineString(ends), shapely.box(0, 0, WIDTH, HEIGHT)).length
    assert road.sum() == pytest.approx(inside * width_px, rel=0.02)


@pytest.mark.parametrize("turned", [False, True])
def test_roads_of_many_directions_have_their_area(turned: bool) -> None:
    rng = np.random.default_rng(2)
    total, wanted = 0.0, 0.0
    for _ in range(60):
        middle, angle = rng.uniform(150, 170, 2), rng.uniform(0, np.pi)
        along = 90 * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(middle - along), tuple(middle + along)]
        truths = drawn_lines([ends[::-1] if turned else ends], 6.0)
        total += truths.read(Window(0, 0, HEIGHT, WIDTH)).road.sum()
        wanted += 180 * 6 + np.pi * 3**2
    assert total == pytest.approx(wanted, rel=0.02)


def test_a_window_of_lines_is_the_slice_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    lines = [[tuple(p) for p in rng.uniform(-50, 450, (4, 2))] for _ in range(30)]
    known = rng.random(SMALL.shape) > 0.3
    truths = drawn_lines(lines, 7.3, known)
    whole = truths.read(Window(-400, -400, HEIGHT + 800, WIDTH + 800))
    inside = whole.known[400 : 400 + HEIGHT, 400 : 400 + WIDTH]
    assert (inside == known.repeat(TILE, 0).repeat(TILE, 1)).all()
    assert whole.known.sum() == inside.sum()
    assert 0.1 < whole.road[whole.known].mean() < 0.9

    @given(WINDOWS)
    def check(window: Window) -> None:
        truth, there = truths.read(window), slice_of(window)
        assert (truth.road == whole.road[there]).all()
        assert (truth.known == whole.known[there]).all()

    check()


def test_a_line_on_the_edge_of_tiles_is_seen_from_both() -> None:
    truths = drawn_lines([[(0, TILE), (WIDTH, TILE)]], 6.0)
    above, below = (truths.read(Window(row * TILE, TILE, TILE, TILE)).road for row in (0, 1))
    assert above.all(axis=1).tolist() == [False] * (TILE - 3) + [True] * 3
    assert below.all(axis=1).tolist() == [True] * 3 + [False] * (TILE - 3)


def test_a_line_narrower_than_a_pixel_holds_together() -> None:
    import cv2

    road = drawn_lines([[(3, 5), (200, 61)], [(200, 61), (220, 300)]], 0.2).read(Window(0, 0, 320, 320)).road
    pieces, _ = cv2.connectedComponents(road.astype(np.uint8), connectivity=8)
    assert pieces == 2  # one of them is what is no road


# --- widths ---


def test_lanes_widen_a_road_and_a_given_width_stands() -> None:
    classes = pd.Series(["primary", "primary", "primary", "track", None])
    lanes = np.array([np.nan, 4.0, 0.0, 2.0, np.nan])
    build = BUILDS["primary"]
    usual = build.lanes * build.lane_m + build.beside_m
    widths = road_widths(classes, lanes, {})
    assert widths.width_m.tolist() == [usual, 4 * build.lane_m + build.beside_m, usual, 7.0, 7.0]
    assert widths.told == (
        "widths [m] of drawn roads: primary 9.4 (9.4 to 16.4); lanes known of 1 lines",
        "lines of no class that has a width are drawn 7 m wide: 1 without a class, 1 of class 'track'",
    )
    given = road_widths(classes, lanes, {"primary": 5.0, "track": 2.0})
    assert given.width_m.tolist() == [5.0, 5.0, 5.0, 2.0, 7.0]


def test_a_width_of_no_class_is_refused() -> None:
    classes = pd.Series(["primary", None, "track"])
    with pytest.raises(UsageError) as raised:
        road_widths(classes, np.full(3, np.nan), {"motorwy": 9.0})
    assert str(raised.value) == "no line is of class 'motorwy', whose width is given; classes: primary, track"
    # one of OpenStreetMap's may be in another metro
    road_widths(classes, np.full(3, np.nan), {"motorway": 9.0})


# --- a made-up metro ---


@pytest.fixture(scope="module")
def examples(dataset: Dataset) -> RoadExamples:
    return examples_at(dataset.path, SETTINGS)


def test_the_tiles_with_a_picture_are_units(dataset: Dataset, examples: RoadExamples) -> None:
    tiles = dataset.tiles()
    pictured = tiles[tiles["coverage_aerial"] > 0]
    assert 0 < len(examples) == len(pictured) < len(tiles)
    assert examples.key.tolist() == pictured["tile_id"].tolist()
    assert (examples.row == pictured["row"]).all()
    assert (examples.col == pictured["col"]).all()
    assert examples.lattice is not None
    rows, cols, step_m = examples.lattice
    assert (rows - examples.row == dataset.grid.y0).all()
    assert (cols - examples.col == dataset.grid.x0).all()
    assert step_m == dataset.grid.cell_m
    assert examples.metres_per_pixel == dataset.metres_per_pixel("aerial")
    assert examples.window(3) == (examples.row[3] * TILE, examples.col[3] * TILE, TILE, TILE)
    left_out = len(tiles) - len(pictured)
    assert examples.told[0] == (
        f"{len(examples):,} of {len(tiles):,} tiles to learn from; left out: {left_out:,} have no picture"
    )
    assert examples.told[1].startswith("weak labels: roads are centre-lines drawn as wide as their class")


def test_shares_add_up_to_the_roads_of_the_whole(examples: RoadExamples) -> None:
    scene = examples.scenes[0]
    whole = Window(0, 0, scene.plane.height, scene.plane.width)
    truth, valid = scene.truths.read(whole), scene.plane.read(whole).valid
    unit = np.zeros_like(valid)
    for n in range(len(examples)):
        y, x, height, width = examples.window(n)
        unit[y : y + height, x : x + width] = True
    known = truth.known & valid & unit
    assert examples.known_share.sum() * TILE**2 == pytest.approx(known.sum())
    road_px = (examples.road_share * examples.known_share).sum() * TILE**2
    assert road_px == pytest.approx((truth.road & known).sum())


def test_drawn_roads_are_those_of_the_picture(examples: RoadExamples) -> None:
    """The made-up picture shows the roads of the made-up lines: grey, and so of little colour."""
    scene = examples.scenes[0]
    whole = Window(0, 0, scene.plane.height, scene.plane.width)
    truth, picture = scene.truths.read(whole), scene.plane.read(whole)
    colour = np.ptp(picture.pixels.astype(int), axis=0)
    assert colour[truth.road & picture.valid].mean() < 0.8 * colour[~truth.road & picture.valid].mean()


def copied(dataset: Dataset, folder: Path) -> Dataset:
    shutil.copytree(dataset.path, folder)
    return read_dataset(folder)


def with_tiles(dataset: Dataset, **columns: NDArray[Any]) -> Dataset:
    """A copy whose table of tiles holds other values."""
    path = dataset.path / "tiles.parquet"
    geopandas.read_parquet(path).assign(**columns).to_parquet(path)
    return dataset


def test_a_tile_whose_road_metres_are_missing_is_unknown(dataset: Dataset, tmp_path: Path) -> None:
    tiles = dataset.tiles()
    road_m = tiles["road_m"].to_numpy(float).copy()
    road_m[:40] = np.nan
    road_m[40:80] = 0.0
    examples = examples_at(with_tiles(copied(dataset, tmp_path / "d"), road_m=road_m).path, SETTINGS)
    pictured = tiles["coverage_aerial"] >= 0.9
    assert examples.key.tolist() == tiles["tile_id"][pictured & np.isfinite(road_m)].tolist()
    for n in (0, 40):
        row, col = divmod(n, dataset.grid.cols)
        truth = examples.scenes[0].truths.read(Window(row * TILE, col * TILE, TILE, TILE))
        assert truth.known.all() == (n == 40)
        assert truth.known.any() == (n == 40)
    unknown = int((pictured & np.isnan(road_m)).sum())
    assert examples.told[0].endswith(
        f"; {unknown} have roads that are unknown, in a part of them at least (`road_m`)"
    )


def test_a_tile_partly_inside_the_coverage_is_unknown(dataset: Dataset, tmp_path: Path) -> None:
    """Where in it the roads are known nobody says, and no road there is not unknown."""
    source = next(column.source for column in dataset.columns if column.name == "road_m")
    covered = replace(
        next(column for column in dataset.columns if column.name == "coverage_aerial"),
        name=f"coverage_{source}",
        source=source,
    )
    share = np.ones(dataset.grid.size)
    share[:100] = 0.7
    whole = copied(dataset, tmp_path / "d")
    manifest = whole.path / "dataset.json"
    told = json.loads(manifest.read_text())
    told["columns"].append(covered.as_json())
    manifest.write_text(json.dumps(told))
    with_tiles(whole, **{covered.name: share})
    examples = examples_at(whole.path, SETTINGS)
    pictured = dataset.tiles()["coverage_aerial"].to_numpy() >= 0.9
    assert len(examples) == int(pictured[100:].sum())
    assert (
        "100 tiles are partly inside the coverage of the roads, so theirs are taken for unknown"
        in examples.told
    )


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_datasets_of_every_format_give_examples(version: int) -> None:
    path = Path(__file__).with_name("formats") / f"dataset-{version}"
    examples = examples_at(path, SETTINGS)
    assert len(examples) == 60
    assert examples.road_share.mean() == pytest.approx(0.242, abs=0.001)


def test_the_identity_is_of_pictures_roads_and_widths(dataset: Dataset, tmp_path: Path) -> None:
    one = examples_at(dataset.path, SETTINGS).identity
    other = copied(dataset, tmp_path / "elsewhere")
    assert examples_at(other.path, SETTINGS).identity == one
    assert examples_at(other.path, RoadSettings(widths_m={"primary": 20.0})).identity != one
    # how masks are cut means nothing to lines
    assert examples_at(other.path, RoadSettings(mask_above=3)).identity == one
    path = other.path / "lines" / "roads.parquet"
    geopandas.read_parquet(path).iloc[1:].to_parquet(path)
    assert examples_at(other.path, SETTINGS).identity != one


# --- a mask view ---


def with_mask(dataset: Dataset, folder: Path, picture: Picture, tile_px: int = TILE) -> Dataset:
    """A copy of a dataset with the view `drawn`."""
    copy_of = copied(dataset, folder)
    write_mosaic(folder, dataset.grid, tile_px, picture, "drawn")
    view = View("drawn", tile_px, 0.9, "digest of drawn", plan="plan")
    return replace(copy_of, views=(*copy_of.views, view))


def test_a_mask_view_gives_the_examples(dataset: Dataset, tmp_path: Path) -> None:
    height, width = dataset.grid.rows * TILE, dataset.grid.cols * TILE
    grey = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    valid = np.zeros((height, width), bool)
    valid[: 5 * TILE + 16] = True
    shown = with_mask(dataset, tmp_path / "d", Picture(np.stack([grey * valid] * 3), valid))
    examples = dataset_examples(shown, RoadSettings(mask="drawn", mask_above=200))
    assert examples.row.max() == 5
    assert set(examples.known_share[examples.row == 5]) == {16 / TILE}
    assert examples.known_share[examples.row < 5].min() >= 0.9
    n = len(examples) - 1
    y, x, _, _ = examples.window(n)
    assert examples.road_share[n] == pytest.approx((grey[y : y + 16, x : x + TILE] > 200).mean())
    tiles = dataset.tiles()
    unseen = int((tiles["coverage_aerial"][tiles["row"] > 5] >= 0.9).sum())
    assert examples.told[0].endswith(f"; {unseen} have nothing in view 'drawn'")
    assert examples.told[1:] == ("roads are where view 'drawn' is above 200 (--mask-above)",)
    assert examples.identity != dataset_examples(shown, RoadSettings(mask="drawn")).identity


def test_what_has_no_picture_is_not_known(dataset: Dataset, tmp_path: Path) -> None:
    height, width = dataset.grid.rows * TILE, dataset.grid.cols * TILE
    valid = np.broadcast_to((np.arange(height) % TILE < 60)[:, None], (height, width))
    partly = with_mask(
        dataset, tmp_path / "d", Picture(np.full((3, height, width), 9, np.uint8) * valid, valid)
    )
    with_tiles(partly, coverage_aerial=np.full(dataset.grid.size, 60 / TILE))
    views = (replace(partly.views[-1], coverage="coverage_aerial"),)
    examples = dataset_examples(replace(partly, views=views), RoadSettings(view="drawn"))
    assert set(examples.known_share) == {60 / TILE}


def said_of(dataset: Dataset, settings: RoadSettings, error: type[RoadriskError] = DatasetError) -> str:
    with pytest.raises(error) as raised:
        dataset_examples(dataset, settings)
    return str(raised.value)


def test_a_view_that_is_not_there(dataset: Dataset) -> None:
    assert said_of(dataset, RoadSettings(mask="drawn")) == (
        f"{dataset.path} has no view 'drawn'; its views: aerial"
    )
    assert said_of(dataset, RoadSettings(view="ariel")) == (
        f"{dataset.path} has no view 'ariel'; its views: aerial"
    )


def test_the_picture_is_not_its_own_mask(dataset: Dataset) -> None:
    assert said_of(dataset, RoadSettings(mask="aerial"), UsageError) == (
        "view 'aerial' is the picture and the mask; --mask names the view that shows where roads are"
    )


def test_widths_are_not_of_a_mask_view(dataset: Dataset) -> None:
    assert said_of(dataset, RoadSettings(mask="drawn", widths_m={"primary": 9.0}), UsageError) == (
        "widths are of centre-lines, and roads are those of view 'drawn'; leave out --width or --mask"
    )


def test_a_mask_view_of_other_pixels(dataset: Dataset) -> None:
    odd = replace(dataset, views=(*dataset.views, View("drawn", 128, 0.9, "digest")))
    assert said_of(odd, RoadSettings(mask="drawn")) == (
        f"{dataset.path}: a tile has {TILE} px in view 'aerial' and 128 px in 'drawn'; "
        "a mask has those of the picture"
    )


def test_a_mask_view_without_roads(dataset: Dataset, tmp_path: Path) -> None:
    height, width = dataset.grid.rows * TILE, dataset.grid.cols * TILE
    black = Picture(np.ones((3, height, width), np.uint8), np.ones((height, width), bool))
    shown = with_mask(dataset, tmp_path / "d", black)
    count = int((dataset.tiles()["coverage_aerial"] >= 0.9).sum())
    assert said_of(shown, RoadSettings(mask="drawn")) == (
        f"{shown.path}: {count} tiles with a picture show no road: no pixel of view 'drawn' is above 127; "
        "lower --mask-above, or name another view with --mask"
    )
    assert dataset_examples(shown, RoadSettings(mask="drawn", mask_above=0)).road_share.min() == 1


def test_a_dataset_without_centre_lines(dataset: Dataset) -> None:
    files = [file for file in dataset.manifest["files"] if not file.startswith("lines/")]
    bare = replace(dataset, manifest={**dataset.manifest, "files": files})
    assert said_of(bare, SETTINGS) == (
        f"{dataset.path} has no centre-lines to draw roads from; tile it with --roads SRC, or name a view "
        "that shows where roads are with --mask"
    )


def test_centre_lines_that_are_damaged(dataset: Dataset, tmp_path: Path) -> None:
    damaged = copied(dataset, tmp_path / "d")
    (damaged.path / "lines" / "roads.parquet").write_bytes(b"PAR1")
    said = said_of(damaged, SETTINGS)
    assert said.startswith(f"{damaged.path / 'lines' / 'roads.parquet'} is damaged (")
    assert said.endswith("); copy the dataset again or tile again")


def test_no_known_road_at_any_picture(dataset: Dataset, tmp_path: Path) -> None:
    unknown = with_tiles(copied(dataset, tmp_path / "d"), road_m=np.full(dataset.grid.size, np.nan))
    count = int((dataset.tiles()["coverage_aerial"] >= 0.9).sum())
    assert said_of(unknown, SETTINGS) == (
        f"{unknown.path}: none can be learned from: all {count} tiles with a picture have roads that are "
        "unknown, in a part of them at least (`road_m`)"
    )


def test_no_picture_at_all(dataset: Dataset, tmp_path: Path) -> None:
    nothing = with_tiles(copied(dataset, tmp_path / "d"), coverage_aerial=np.zeros(dataset.grid.size))
    assert said_of(nothing, SETTINGS) == (
        f"{nothing.path}: no tile has a picture in view 'aerial'; tile with --imagery there"
    )


def test_an_unfinished_dataset(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DatasetError, match="is unfinished; run the same `roadrisk tile` again"):
        examples_at(tmp_path, SETTINGS)


def test_a_tile_that_could_not_be_read_is_told(dataset: Dataset, tmp_path: Path) -> None:
    coverage = dataset.tiles()["coverage_aerial"].to_numpy(float).copy()
    coverage[np.flatnonzero(coverage >= 0.9)[:3]] = np.nan
    failed = with_tiles(copied(dataset, tmp_path / "d"), coverage_aerial=coverage)
    assert dataset_examples(failed, SETTINGS).told[0].endswith("; 3 have a picture that could not be read")


def test_peak_memory_is_that_of_a_few_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr("roadrisk.roads.sources.mosaics._KEPT_BYTES", 8 * 4 * TILE**2)
    peaks = []
    for side in (8, 16):
        grid, folder = grid_of(side, side), tmp_path / str(side)
        write_mosaic(folder, grid, TILE, holed(grid))
        plane = mosaic_of(dataset_of(folder, grid), "aerial")
        tracemalloc.start()
        for y in range(0, side * TILE, 100):
            for x in range(0, side * TILE, 100):
                plane.read(Window(y, x, 100, 100))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 200_000
