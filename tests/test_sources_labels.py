from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.source_settings import LabelSettings
from roadrisk.sources.labels import LabelFile, read_label_file

GRID = grid_of_cell(LngLatBbox(-71.11, 42.34, -71.10, 42.35), 500)
LEFT, BOTTOM, RIGHT, TOP = GRID.bounds
ROWS, COLS = GRID.every_tile()
IDS = GRID.tile_ids(ROWS, COLS)


def of_csv(folder: Path, frame: pd.DataFrame, column: str = "risk", **more: Any) -> LabelFile:
    path = folder / "labels.csv"
    frame.to_csv(path, index=False)
    return read_label_file(LabelSettings(path=str(path), column=column, **more), GRID)


def of_shapes(
    folder: Path, shapes: list[Any], values: list[Any], name: str = "labels.parquet", crs: Any = None
) -> LabelFile:
    path = folder / name
    frame = geopandas.GeoDataFrame({"risk": values}, geometry=shapes, crs=GRID.crs)
    frame = frame.to_crs(crs or GRID.crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return read_label_file(LabelSettings(path=str(path), column="risk"), GRID)


def part_of(row: int, col: int, left: float, right: float) -> Any:
    """A slice of a tile from `left` to `right` of its width."""
    west, south, east, north = GRID.tile_bounds(row, col)
    return shapely.box(west + left * (east - west), south, west + right * (east - west), north)


def test_a_table_of_tiles_is_taken_as_it_stands(tmp_path: Path) -> None:
    numbers = [1.5, 2.5, 3.0]
    frame = pd.DataFrame({"tile_id": [IDS[1], IDS[0], "32619/500/9/9"], "risk": numbers})
    label = of_csv(tmp_path, frame)
    assert label.dtype == "float64"
    np.testing.assert_array_equal(label.values, [2.5, 1.5] + [np.nan] * (GRID.size - 2))
    assert (label.account.read, label.account.used, label.account.outside) == (3, 2, 1)
    assert label.understood == ("labels.csv: comma-separated, UTF-8", "'risk' by 'tile_id'; numbers")


@pytest.mark.parametrize(
    ("given_values", "expected", "dtype"),
    [
        (["high", " low ", ""], ["high", "low", None], "object"),
        (["True", "false", ""], [True, False, None], "bool"),
        (["3", "1", ""], [3.0, 1.0, np.nan], "float64"),
        (["0.25", "1e3", ""], [0.25, 1000.0, np.nan], "float64"),
        (["0.25", "0.5", "n/a"], [0.25, 0.5, np.nan], "float64"),
    ],
)
def test_what_values_are(tmp_path: Path, given_values: list[str], expected: list[Any], dtype: str) -> None:
    label = of_csv(tmp_path, pd.DataFrame({"tile_id": IDS[:3], "risk": given_values}))
    assert label.dtype == dtype
    np.testing.assert_array_equal(label.values[:3], np.array(expected, dtype=label.values.dtype))
    assert label.account.used == 2
    assert label.account.rejected in ({"no value": 1}, {"not a number": 1})


def test_parquet_keeps_its_booleans(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"tile_id": IDS[:3], "risk": [True, None, False]}).to_parquet(path)
    label = read_label_file(LabelSettings(path=str(path), column="risk"), GRID)
    assert (label.dtype, label.values[:3].tolist()) == ("bool", [True, None, False])


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "tile_id": [IDS[0], IDS[0], None, "nowhere", IDS[1], IDS[2], IDS[3]],
            "risk": ["0.5", "0.5", "1", "1", "", "inf", "0.1"],
        }
    )
    account = of_csv(tmp_path, frame).account
    assert (account.read, account.used, account.outside) == (7, 2, 1)
    assert account.rejected == {"no tile_id": 1, "no value": 1, "not a number": 1}
    assert account.left_out == {"listed again": 1}


def test_a_tile_with_two_values_is_an_error(tmp_path: Path) -> None:
    for a, b, said in (("1.5", "2", "1.5 and 2"), ("low", "high", "high and low"), ("3", "10", "10 and 3")):
        frame = pd.DataFrame({"tile_id": [IDS[2], IDS[0], IDS[2]], "risk": [a, a, b]})
        for rows in (frame, frame[::-1]):
            with pytest.raises(SourceError) as error:
                of_csv(tmp_path, rows)
            path = tmp_path / "labels.csv"
            assert str(error.value) == (
                f"{path} names tile {IDS[2]} twice with different values, {said}; keep one"
            )


def test_the_column_has_to_be_there(tmp_path: Path) -> None:
    frame = pd.DataFrame({"tile_id": IDS[:2], "risk": ["1.5", "2.5"]})
    with pytest.raises(SourceError, match=r"has no column 'risky' \(column\); did you mean 'risk'\?"):
        of_csv(tmp_path, frame, "risky")


def test_labels_of_another_grid(tmp_path: Path) -> None:
    frame = pd.DataFrame({"tile_id": ["14/1/1", "14/1/2"], "risk": ["1.5", "2.5"]})
    said = f"all 2 sound rows are outside the grid, whose first tile is {IDS[0]}; check --bbox"
    with pytest.raises(SourceError, match=re.escape(said)):
        of_csv(tmp_path, frame)
    frame = pd.DataFrame({"tile_id": IDS[:2], "risk": ["", ""]})
    with pytest.raises(SourceError, match=r"no row has a label: no value 2; check `column` \('risk'\)"):
        of_csv(tmp_path, frame)


@pytest.mark.parametrize("name", ["labels.parquet", "labels.gpkg", "labels.geojson"])
def test_numbers_of_polygons_are_averaged_by_area(tmp_path: Path, name: str) -> None:
    shapes = [part_of(0, 0, 0, 0.25), part_of(0, 0, 0.25, 0.75), part_of(1, 1, 0, 1)]
    label = of_shapes(tmp_path, shapes, [0.5, 2.0, 7.5], name, 4326 if name.endswith("json") else None)
    expected = np.full(GRID.shape, np.nan)
    expected[0, 0], expected[1, 1] = (0.25 * 0.5 + 0.5 * 2) / 0.75, 7.5
    np.testing.assert_allclose(label.values.reshape(GRID.shape), expected, rtol=1e-6)
    # of coordinates rounded to nanometres or so neighbours get a sliver, which labels nothing
    assert label.understood[1].startswith(
        "'risk' by polygons; numbers, of several polygons in a tile their mean by area"
    )


def test_a_tile_covered_less_than_half_has_no_label(tmp_path: Path) -> None:
    shapes = [
        part_of(0, 0, 0, 0.002),
        part_of(0, 1, 0, 0.3),
        part_of(0, 1, 0.3, 0.5),
        part_of(1, 0, 0, 0.4),
        part_of(1, 0, 0.4, 1),
    ]
    label = of_shapes(tmp_path, shapes, ["hi", "lo", "hi", "lo", None])
    found = label.values.reshape(GRID.shape)
    assert (found[0, 0], found[0, 1], found[1, 0]) == (None, "lo", None)
    assert label.understood[1].endswith("; tiles covered less than half, which get none: 2")
    assert label.account.left_out == {"in tiles covered less than half": 2}
    assert label.account.used == 2
    with pytest.raises(SourceError) as error:
        of_shapes(tmp_path, shapes[:1], ["hi"])
    assert str(error.value).endswith(
        "labels.parquet: no row has a label: in tiles covered less than half 1; take smaller tiles"
    )


def test_the_class_that_covers_most_wins(tmp_path: Path) -> None:
    shapes = [
        part_of(0, 0, 0, 0.3),
        part_of(0, 0, 0.7, 1),
        part_of(0, 0, 0.3, 0.7),  # less than both `low` together
        part_of(0, 1, 0, 0.5),
        part_of(0, 1, 0.5, 1),  # a tie
        part_of(1, 0, 0, 0.1),
        part_of(1, 0, 0.1, 0.2),
        part_of(1, 0, 0.2, 0.5),  # more than both
    ]
    classes = ["low", "low", "high", "low", "high", "low", "low", "high"]
    label = of_shapes(tmp_path, shapes, classes)
    found = label.values.reshape(GRID.shape)
    assert (*found[0, :2], found[1, 0]) == ("low", "high", "high")
    assert sum(value is not None for value in label.values) == 3
    assert label.understood[1] == (
        "'risk' by polygons; 2 classes, the one that covers most of a tile, "
        "the first by its text where two have as much (tiles: 1)"
    )
    whole = of_shapes(tmp_path, shapes, [1 if c == "low" else 4 for c in classes])
    assert whole.values.reshape(GRID.shape)[0, :2].tolist() == [1.0, 1.0]
    flags = of_shapes(tmp_path, shapes, [c == "low" for c in classes])
    assert flags.values.reshape(GRID.shape)[0, :2].tolist() == [True, False]


def test_polygons_that_cannot_be_used(tmp_path: Path) -> None:
    far = shapely.box(RIGHT + 900, TOP + 900, RIGHT + 1900, TOP + 1900)
    shapes = [part_of(0, 0, 0, 1), None, shapely.Point(LEFT + 1, TOP - 1), far, part_of(0, 1, 0, 1)]
    account = of_shapes(tmp_path, shapes, [0.5, 0.5, 0.5, 0.5, None]).account
    assert (account.read, account.used, account.outside) == (5, 1, 1)
    assert account.rejected == {"no geometry": 1, "no value": 1, "not a polygon": 1}
    lines = [shapely.LineString([(LEFT, TOP), (RIGHT, BOTTOM)])]
    with pytest.raises(SourceError, match="holds no polygons and no points"):
        of_shapes(tmp_path, lines, [0.5])


def test_points(tmp_path: Path) -> None:
    x, y = GRID.centres(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]))
    shapes = [*shapely.points(x, y), shapely.Point(RIGHT + 5000, TOP)]
    label = of_shapes(tmp_path, shapes, [1.5, 2.5, 5.0, 9.0, 1.0])
    found = label.values.reshape(GRID.shape)
    assert (found[0, 0], found[1, 1]) == (3.0, 9.0)
    assert np.isfinite(found).sum() == 2
    assert (label.account.used, label.account.outside) == (4, 1)
    label = of_shapes(tmp_path, shapes, ["b", "a", "b", "c", "c"])
    assert label.values.reshape(GRID.shape)[0, 0] == "b"
    label = of_shapes(tmp_path, shapes[1:], ["b", "a", "c", "c"])
    assert label.values.reshape(GRID.shape)[0, 0] == "a"
    assert "where two have as much (tiles: 1)" in label.understood[1]


def test_points_in_columns(tmp_path: Path) -> None:
    x, y = GRID.centres(np.array([0, 1]), np.array([0, 1]))
    frame = pd.DataFrame({"there_x": [*x, 0], "there_y": [*y, 0], "risk": [0.5, 1.5, 1]})
    label = of_csv(tmp_path, frame, x="there_x", y="there_y", crs=GRID.crs)
    assert label.values.reshape(GRID.shape)[[0, 1], [0, 1]].tolist() == [0.5, 1.5]
    assert label.account.rejected == {"zero-zero": 1}
    lng, lat = GRID.centres(np.array([0, 1]), np.array([0, 1]), "EPSG:4326")
    frame = pd.DataFrame({"lon": lng, "lat": lat, "risk": [0.5, 1.5]})
    np.testing.assert_array_equal(of_csv(tmp_path, frame).values, label.values)
    with pytest.raises(SourceError, match="no columns that look like coordinates"):
        of_csv(tmp_path, frame.rename(columns={"lon": "here"}))


pieces = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0, 0.9), st.floats(0.05, 0.5), st.integers(0, 30)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12)
@given(pieces, st.booleans(), st.randoms())
def test_no_row_order_changes_a_label(
    tmp_path_factory: pytest.TempPathFactory,
    some: list[tuple[int, float, float, int]],
    words: bool,
    random: Any,
) -> None:
    folder = tmp_path_factory.mktemp("order")

    def labels(rows: list[tuple[int, float, float, int]]) -> LabelFile:
        shapes = [
            part_of(tile // GRID.cols, tile % GRID.cols, left, min(1, left + width))
            for tile, left, width, _ in rows
        ]
        values = [f"c{value % 3}" if words else value / 7 for *_, value in rows]
        return of_shapes(folder, shapes, values)

    some = [*some, (4, 0.0, 1.0, 7)]  # one that is sure to label a tile
    first, second = labels(some), labels(random.sample(some, len(some)))
    assert first.account == second.account
    assert first.understood == second.understood
    np.testing.assert_array_equal(first.values, second.values)


def test_no_order_of_points_changes_a_mean(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).lognormal(0, 3, 40).tolist()
    shapes = [part_of(0, 0, 0.4, 0.6).centroid] * 40
    first, second = (of_shapes(tmp_path, shapes, some) for some in (numbers, sorted(numbers)))
    assert first.values[0] == second.values[0]


def test_a_mean_is_conserved(tmp_path: Path) -> None:
    """Values times areas of polygons that do not overlap are those of the tiles."""
    rng = np.random.default_rng(0)
    cuts = np.sort(rng.uniform(LEFT, RIGHT, 6))
    shapes = [shapely.box(a, BOTTOM, b, TOP) for a, b in pairwise(cuts)]
    values = rng.uniform(0, 9, len(shapes))
    label = of_shapes(tmp_path, shapes, values.tolist())
    cells = GRID.cells(ROWS, COLS)
    covered = shapely.area(shapely.intersection(shapely.union_all(shapes), cells))
    expected = float((values * shapely.area(shapes)).sum())
    assert float(np.nansum(label.values * covered)) == pytest.approx(expected, rel=1e-9)


def test_boston_tracts(shared_data: Path) -> None:
    """The tract that covers most of each tile, as shapely's intersections have it."""
    path = shared_data / "boston" / "areas" / "boston_census_tracts.geojson"
    tracts = geopandas.read_file(path)
    number = next(
        c for c in tracts.columns if pd.api.types.is_float_dtype(tracts[c]) and tracts[c].nunique() > 50
    )
    grid = Grid(**{**GRID.as_json(), "rows": 8, "cols": 8})
    label = read_label_file(LabelSettings(path=str(path), column=number), grid)
    rows, cols = grid.every_tile()
    cells = geopandas.GeoDataFrame({"tile": range(grid.size)}, geometry=grid.cells(rows, cols), crs=grid.crs)
    known = tracts[tracts[number].notna()][[number, "geometry"]].to_crs(grid.crs)
    cut = geopandas.overlay(cells, known, how="intersection")
    area = cut.area
    expected = (cut[number] * area).groupby(cut["tile"]).sum() / area.groupby(cut["tile"]).sum()
    half = area.groupby(cut["tile"]).sum() >= grid.cell**2 / 2
    np.testing.assert_allclose(label.values[expected.index], expected.where(half), rtol=1e-6)
    assert label.account.read == len(tracts)
