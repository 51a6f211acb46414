"""The made-up metro: what its files hold, and what its pictures and tables do and do not tell."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from sklearn.metrics import roc_auc_score

import roadrisk.sources.demo as demo
from roadrisk.errors import SourceError, UsageError
from roadrisk.gridding import grid_of_cell, tiles_in
from roadrisk.region import read_region
from roadrisk.sources.demo import made_up_metro
from roadrisk.sources.demo_city import (
    DISPERSION,
    HIGHWAY,
    NO_STREET,
    SQUARE_M,
    WORN_FACTOR,
    CityPlan,
    city_plan,
    drawn_crashes,
    entering_aadt,
    expected_crashes,
    streets,
)
from roadrisk.sources.demo_picture import painted, painted_square

TEST_SEEDS = (101, 102, 103)  # never looked at while the city was tuned; 0 to 4 were


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def tile_pictures(plan: CityPlan) -> np.ndarray:
    """(squares with a junction, 3, 64, 64)."""
    return np.stack([painted_square(plan, r, c) for r, c in np.argwhere(~plan.flooded)])


def either_way(truth: np.ndarray, statistic: np.ndarray) -> float:
    auroc = roc_auc_score(truth, statistic)
    return max(auroc, 1 - auroc)


@pytest.fixture(scope="module")
def metro(tmp_path_factory: pytest.TempPathFactory) -> demo.Metro:
    return made_up_metro(tmp_path_factory.mktemp("metro") / "m", seed=7, rows=16, cols=12)


@pytest.fixture(scope="module")
def plan() -> CityPlan:
    return city_plan(7, 16, 12)


def test_same_seed_same_bytes(tmp_path: Path, metro: demo.Metro) -> None:
    again = made_up_metro(tmp_path / "elsewhere", seed=7, rows=16, cols=12)
    first, second = digests(metro.region.parent), digests(again.region.parent)
    assert first == second
    assert len(first) == 8
    other = digests(made_up_metro(tmp_path / "other", seed=8, rows=16, cols=12).region.parent)
    assert not {k for k in first if first[k] == other[k]} - {"region.toml"}


@settings(max_examples=25, deadline=None)
@given(
    left=st.integers(-80, 500),
    top=st.integers(-80, 500),
    width=st.integers(2, 150),
    height=st.integers(2, 150),
    share=st.floats(0.01, 0.99),
)
def test_a_window_is_the_same_however_it_is_cut(
    left: int, top: int, width: int, height: int, share: float
) -> None:
    plan = city_plan(7, 8, 8)
    whole = painted(plan, left, top, width, height)
    x, y = max(1, int(share * width)), max(1, int(share * height))
    sides = [painted(plan, left, top, x, height), painted(plan, left + x, top, width - x, height)]
    halves = [painted(plan, left, top, width, y), painted(plan, left, top + y, width, height - y)]
    np.testing.assert_array_equal(np.concatenate(sides, axis=2), whole)
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)


def test_outside_the_city_is_black(plan: CityPlan) -> None:
    picture = painted(plan, -10, -5, 20, 10)
    assert picture[:, :5].max() == 0
    assert picture[:, :, :10].max() == 0
    assert picture[:, 5:, 10:].min() > 0


@pytest.mark.parametrize("seed", TEST_SEEDS)
def test_no_colour_mean_or_variance_tells_worn_markings(seed: int) -> None:
    plan = city_plan(seed, 36, 36)
    pictures = tile_pictures(plan).astype(np.float64)
    worn = plan.worn[~plan.flooded]
    for channel in range(3):
        assert either_way(worn, pictures[:, channel].mean((1, 2))) <= 0.55
        assert either_way(worn, pictures[:, channel].var((1, 2))) <= 0.55


def test_the_same_junction_worn_or_not_has_the_same_colours(plan: CityPlan) -> None:
    fresh, worn = (replace(plan, worn=np.full_like(plan.worn, w) & ~plan.flooded) for w in (False, True))
    a, b = (tile_pictures(p).astype(np.float64) for p in (fresh, worn))
    assert np.abs(a.mean((2, 3)) - b.mean((2, 3))).max() < 0.2  # grey levels
    assert np.abs(a.std((2, 3)) / b.std((2, 3)) - 1).max() < 0.01
    assert (a != b).any(axis=1).mean((1, 2)).min() > 0.05


def test_the_arrangement_of_paint_tells_worn_markings(plan: CityPlan) -> None:
    white = tile_pictures(plan).min(axis=1) > 200
    alone = white[:, 1:-1, 1:-1] & ~(white[:, :-2, 1:-1] | white[:, 2:, 1:-1])
    alone &= ~(white[:, 1:-1, :-2] | white[:, 1:-1, 2:])
    assert roc_auc_score(plan.worn[~plan.flooded], alone.sum((1, 2))) > 0.99


def test_the_picture_does_not_tell_traffic(plan: CityPlan) -> None:
    """Other classes and volumes on the same streets: the same pixels."""
    shuffled = np.array([2, 3, 1, 0])
    other = replace(
        plan,
        class_x=np.where(plan.class_x == NO_STREET, NO_STREET, shuffled[plan.class_x]),
        class_y=np.where(plan.class_y == NO_STREET, NO_STREET, shuffled[plan.class_y]),
        aadt_x=plan.aadt_x * 3,
        aadt_y=plan.aadt_y[::-1] * 2,
    )
    np.testing.assert_array_equal(painted(other, 0, 0, 768, 1024), painted(plan, 0, 0, 768, 1024))


def test_the_roads_do_not_tell_worn_markings(plan: CityPlan) -> None:
    other = replace(plan, worn=~plan.worn & ~plan.flooded)
    pd.testing.assert_frame_equal(demo.road_table(plan), demo.road_table(other))


@pytest.mark.parametrize("mean", [0.5, 5.0, 40.0])
def test_draws_have_the_mean_and_dispersion_they_are_drawn_from(mean: float) -> None:
    draws = drawn_crashes(np.full(400_000, mean), np.random.default_rng(3))
    variance = mean + DISPERSION * mean**2
    assert abs(draws.mean() - mean) < 4 * np.sqrt(variance / draws.size)
    assert abs((draws.var() - mean) / mean**2 - DISPERSION) < 0.1 * DISPERSION + 5 / (
        mean * np.sqrt(draws.size)
    )


def test_expected_crashes_have_two_causes(plan: CityPlan) -> None:
    expected, entering = expected_crashes(plan), entering_aadt(plan)
    sound = expected_crashes(replace(plan, worn=np.zeros_like(plan.worn)))
    np.testing.assert_allclose((expected / np.where(sound, sound, 1))[plan.worn], WORN_FACTOR)
    np.testing.assert_array_equal(expected[~plan.worn], sound[~plan.worn])
    order = np.argsort(entering.ravel(), kind="stable")
    assert (np.diff(sound.ravel()[order]) >= 0).all()
    assert (expected[plan.flooded] == 0).all()
    assert plan.flooded.any()


def test_entering_traffic_is_half_of_the_arms(plan: CityPlan) -> None:
    total = sum(s.aadt * len({s.start, s.end} & junctions(plan)) for s in streets(plan))
    assert entering_aadt(plan).sum() == total / 2


def junctions(plan: CityPlan) -> set[tuple[float, float]]:
    return {(float(plan.street_x[c]), float(plan.street_y[r])) for r, c in np.argwhere(~plan.flooded)}


def test_streets_are_where_they_are_painted(plan: CityPlan) -> None:
    """Asphalt lies under every street, half way along it, unless it is marked there."""
    asphalt_or_paint = 0
    picture = painted(plan, 0, 0, 768, 1024).astype(int)
    every = list(streets(plan))
    for street in every:
        x, y = (int((a + b) / 2) for a, b in zip(street.start, street.end, strict=True))
        patch = picture[:, y - 2 : y + 3, x - 2 : x + 3].reshape(3, -1)
        asphalt_or_paint += int((np.abs(patch - np.array([[92], [92], [96]])).max(axis=0) < 16).sum() >= 3)
    assert asphalt_or_paint == len(every)


def test_the_region_file_is_the_metro(metro: demo.Metro, plan: CityPlan) -> None:
    region = read_region(metro.region)
    grid = region.grid()
    assert grid.shape == plan.shape
    assert (grid.bounds.left, grid.bounds.top) == demo.corner_m(plan)
    assert (region.label_window, region.tile_size, region.cell) == (
        metro.label_window,
        metro.tile_size,
        metro.cell,
    )
    assert tiles_in(grid, metro.bbox) == grid.size
    truth = pd.read_parquet(metro.truth)
    rows, cols = grid.every_tile()
    assert truth.tile_id.tolist() == grid.tile_ids(rows, cols).tolist()
    np.testing.assert_array_equal(truth.expected_crashes, expected_crashes(plan).ravel())


@pytest.mark.parametrize("shape", [(8, 8), (9, 31), (192, 192), (8, 192), (192, 9)])
def test_the_box_makes_the_grid_of_squares(shape: tuple[int, int]) -> None:
    plan = city_plan(1, *shape)
    grid = grid_of_cell(demo.bbox_of(plan), SQUARE_M)
    assert (grid.shape, grid.crs) == (shape, demo.CRS)
    assert (grid.bounds.left, grid.bounds.top) == demo.corner_m(plan)


def test_sheets_show_the_city_with_one_overlap_and_one_gap(metro: demo.Metro, plan: CityPlan) -> None:
    west, north = demo.corner_m(plan)
    seen = np.zeros((16 * SQUARE_M, 12 * SQUARE_M), int)
    whole = painted(plan, 0, 0, seen.shape[1], seen.shape[0])
    paths = sorted(metro.imagery.glob("*.tif"))
    for path in paths:
        with rasterio.open(path) as sheet:
            x, y = round(sheet.bounds.left - west), round(north - sheet.bounds.top)
            assert (str(sheet.crs), sheet.res) == (demo.CRS, (1.0, 1.0))
            window = slice(y, y + sheet.height), slice(x, x + sheet.width)
            np.testing.assert_array_equal(sheet.read(), whole[:, *window])
            seen[window] += 1
    tiles = seen.reshape(16, SQUARE_M, 12, SQUARE_M)
    assert len(paths) == 4
    assert (tiles.max((1, 3)) == 0).sum() == 8
    assert ((tiles.min((1, 3)) == 0) == (tiles.max((1, 3)) == 0)).all()
    assert (seen == 2).sum() == 8 * SQUARE_M * SQUARE_M
    assert seen.max() == 2


def test_two_way_streets_are_listed_in_both_directions(metro: demo.Metro, plan: CityPlan) -> None:
    table = geopandas.read_file(metro.roads)
    assert set(table.highway) == set(HIGHWAY)
    assert str(table.crs) == "EPSG:4326"
    low, high = np.minimum(table.u, table.v), np.maximum(table.u, table.v)
    once = table.groupby([low, high, table.osmid])
    assert once.ngroups == len(list(streets(plan)))
    assert (once.size() == np.where(once.oneway.first(), 1, 2)).all()
    length_m = once.length.first().sum()
    assert length_m == pytest.approx(sum(s.length_m for s in streets(plan)) / 0.9996, rel=1e-5)
    lines = table.to_crs(demo.CRS).geometry
    np.testing.assert_allclose(table["length"], lines.length / 0.9996, rtol=1e-4)
    west, north = demo.corner_m(plan)
    ends = {(round(x - west), round(north - y)) for line in lines for x, y in line.coords}
    assert ends == {(round(x), round(y)) for s in streets(plan) for x, y in (s.start, s.end)}


def test_crashes_lie_in_the_tile_they_were_drawn_for(metro: demo.Metro, plan: CityPlan) -> None:
    table = pd.read_csv(metro.crashes, parse_dates=["crash_date"])
    rows, cols = read_region(metro.region).grid().locate_lnglat(table.lon, table.lat)
    inside = rows >= 0
    east, north = Transformer.from_crs("EPSG:4326", demo.CRS, always_xy=True).transform(
        table.lon[inside], table.lat[inside]
    )
    left, top = demo.corner_m(plan)
    off_x, off_y = east - left - plan.street_x[cols[inside]], top - north - plan.street_y[rows[inside]]
    assert max(abs(off_x.mean()), abs(off_y.mean())) < 0.5
    assert max(np.abs(off_x).max(), np.abs(off_y).max()) <= demo.CRASH_REACH_M + 0.05
    rng = np.random.default_rng([7, 4])
    first, last = (str(d) for d in metro.label_window)
    label = inside & (table.crash_date >= first) & (table.crash_date < last)
    counts = np.zeros(plan.shape, int)
    np.add.at(counts, (rows[inside & ~label], cols[inside & ~label]), 1)
    np.testing.assert_array_equal(counts, drawn_crashes(expected_crashes(plan), rng))
    total = expected_crashes(plan).sum()
    variance = (expected_crashes(plan) + DISPERSION * expected_crashes(plan) ** 2).sum()
    assert abs(label.sum() - total) < 4 * np.sqrt(variance)


def test_dirty_rows_are_few_and_counted(metro: demo.Metro) -> None:
    table = pd.read_csv(metro.crashes)
    rows, _ = read_region(metro.region).grid().locate_lnglat(table.lon, table.lat)
    unplaced = table.lon.isna() | table.lat.isna()
    drawn = int((rows >= 0).sum())
    assert unplaced.sum() == round(0.015 * drawn)
    assert len(table) - unplaced.sum() - drawn == round(0.005 * drawn) > 0
    assert unplaced.mean() < 0.05
    assert table.crash_id.is_unique
    assert table.crash_date.is_monotonic_increasing
    assert set(table.severity) <= set("KABCO")


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(SourceError, match=r"mine is not empty; remove it or name another folder"):
        made_up_metro(tmp_path / "mine", seed=0, rows=8, cols=8)
    assert digests(tmp_path) == {"mine/thesis.txt": hashlib.sha256(b"x").hexdigest()}


@pytest.mark.parametrize("shape", [(7, 8), (8, 193)])
def test_a_size_that_makes_no_metro_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="give each side 8 to 192"):
        made_up_metro(tmp_path / "m", 0, *shape)


def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(plan: CityPlan) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(demo, "region_toml", full)
    with pytest.raises(OSError, match="no space"):
        made_up_metro(tmp_path / "m", seed=0, rows=8, cols=8)
    assert list(tmp_path.iterdir()) == []
