"""A made-up metro as the source files a user would have: orthophotos, centre-lines, a crash export.

Its truth is known and stands beside them in `truth.parquet`, which no command reads. The files have
the faults of real ones: orthophotos that overlap in one place and leave a gap in another, streets
listed in both directions, crashes without a position and crashes elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import rasterio
import shapely
from affine import Affine
from pyproj import Geod, Transformer
from rasterio.windows import Window

from roadrisk.errors import SourceError, UsageError
from roadrisk.files import TEMPORARY
from roadrisk.grid import FloatArray, IntArray, LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.sources.demo_city import (
    SQUARE_M,
    CityPlan,
    city_plan,
    drawn_crashes,
    entering_aadt,
    expected_crashes,
    streets,
)
from roadrisk.sources.demo_picture import painted

CRS = "EPSG:32615"
# on the zone's central meridian, where a box of degrees is a rectangle of metres; in the fields of Iowa
MIDDLE_SQUARE_X, MIDDLE_SQUARE_Y = 7_812, 71_950
SIDES = range(8, 193)  # squares along a side; wider, the box of degrees would bend into other tiles
YEARS = (2023, 2024)
SEVERITIES = ("K", "A", "B", "C", "O")
SEVERITY_SHARE = (0.006, 0.03, 0.12, 0.15, 0.694)
CRASH_SCATTER_M, CRASH_REACH_M = 6.0, 20.0
UNPLACED_SHARE, ELSEWHERE_SHARE = 0.015, 0.005  # of the crashes drawn, in rows added to them
BLOCK_PX = 256


@dataclass(frozen=True)
class Metro:
    """A made-up metro on disk.

    Parameters
    ----------
    region : `region.toml`, which names the other sources.
    imagery : folder of GeoTIFF sheets, 1 m a pixel.
    roads : GeoPackage of street centre-lines with class, AADT and length.
    crashes : CSV of dated points.
    truth : a row a tile: `expected_crashes` a year and their causes, `worn` markings and `entering_aadt`.
    cell : side of a tile [m]; a tile is one square of the city.
    tile_size : side of a tile [px].
    """

    region: Path
    imagery: Path
    roads: Path
    crashes: Path
    truth: Path
    bbox: LngLatBbox
    cell: float
    tile_size: int
    feature_window: tuple[date, date]
    label_window: tuple[date, date]


@dataclass(frozen=True)
class Sheet:
    """One orthophoto: pixels [left, left + width) x [top, top + height) of the city's picture."""

    name: str
    left: int
    top: int
    width: int
    height: int


def made_up_metro(folder: Path, seed: int, rows: int, cols: int) -> Metro:
    """Write a metro of `rows` x `cols` tiles into `folder`; equal seeds and sizes give equal bytes.

    Raises
    ------
    UsageError : a side outside 8 to 192 tiles.
    SourceError : the folder holds something.
    """
    if rows not in SIDES or cols not in SIDES:
        raise UsageError(
            f"a made-up metro cannot have {rows} x {cols} tiles; give each side {SIDES[0]} to {SIDES[-1]}"
        )
    if folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder} is not empty; remove it or name another folder for the made-up metro")
    plan = city_plan(seed, rows, cols)
    draft = folder.with_name(f"{TEMPORARY}{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "imagery").mkdir(parents=True)
    try:
        for sheet in sheets(rows, cols):
            write_sheet(draft / "imagery" / f"{sheet.name}.tif", plan, sheet)
        _write_roads(draft / "roads.gpkg", plan)
        crash_table(plan).to_csv(draft / "crashes.csv", index=False, lineterminator="\n")
        truth_table(plan).to_parquet(draft / "truth.parquet", index=False)
        (draft / "region.toml").write_text(region_toml(plan), encoding="utf-8")
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Metro(
        region=folder / "region.toml",
        imagery=folder / "imagery",
        roads=folder / "roads.gpkg",
        crashes=folder / "crashes.csv",
        truth=folder / "truth.parquet",
        bbox=bbox_of(plan),
        cell=float(SQUARE_M),
        tile_size=SQUARE_M,
        feature_window=(date(YEARS[0], 1, 1), date(YEARS[1], 1, 1)),
        label_window=(date(YEARS[1], 1, 1), date(YEARS[1] + 1, 1, 1)),
    )


def bbox_of(plan: CityPlan) -> LngLatBbox:
    """The box whose grid of `SQUARE_M` cells is the city's squares, each tile one square."""
    rows, cols = plan.shape
    west, north = corner_m(plan)
    # inside the edge, so that the bend of the parallels stays within the outermost tiles
    inset = SQUARE_M / 4
    edges = (west + inset, north - rows * SQUARE_M + inset, west + cols * SQUARE_M - inset, north - inset)
    degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform_bounds(*edges)
    return LngLatBbox(*(round(v, 6) for v in degrees))


def corner_m(plan: CityPlan) -> tuple[float, float]:
    """Easting and northing of the city's north-west corner."""
    rows, cols = plan.shape
    return float((MIDDLE_SQUARE_X - cols // 2) * SQUARE_M), float((MIDDLE_SQUARE_Y + rows // 2) * SQUARE_M)


def sheets(rows: int, cols: int) -> list[Sheet]:
    """Four orthophotos of a city: the northern two overlap by a tile, the southern two are a tile apart."""
    width, height = cols * SQUARE_M, rows * SQUARE_M
    x, y, half = cols // 2 * SQUARE_M, rows // 2 * SQUARE_M, SQUARE_M // 2
    return [
        Sheet("north_west", 0, 0, x + half, y),
        Sheet("north_east", x - half, 0, width - x + half, y),
        Sheet("south_west", 0, y, x, height - y),
        Sheet("south_east", x + SQUARE_M, y, width - x - SQUARE_M, height - y),
    ]


def write_sheet(path: Path, plan: CityPlan, sheet: Sheet) -> None:
    """Paint an orthophoto in strips, so that memory stays flat."""
    west, north = corner_m(plan)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "width": sheet.width,
        "height": sheet.height,
        "crs": CRS,
        "transform": Affine(1.0, 0.0, west + sheet.left, 0.0, -1.0, north - sheet.top),
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "compress": "deflate",
        "predictor": 2,
        "photometric": "RGB",
        "interleave": "pixel",
    }
    with rasterio.open(path, "w", **profile) as out:
        for top in range(0, sheet.height, BLOCK_PX):
            height = min(BLOCK_PX, sheet.height - top)
            strip = painted(plan, sheet.left, sheet.top + top, sheet.width, height)
            out.write(strip, window=Window(0, top, sheet.width, height))


def road_table(plan: CityPlan) -> geopandas.GeoDataFrame:
    """Centre-lines in degrees: `u`, `v`, `osmid`, `highway`, `oneway`, `aadt`, `length` [ground m].

    A two-way street has a row in each direction, as in street networks made from OpenStreetMap.
    """
    rows = []
    for osmid, street in enumerate(streets(plan), start=1):
        fields = (osmid, street.highway, street.oneway, street.aadt)
        rows.append((street.u, street.v, *fields, *street.start, *street.end))
        if not street.oneway:
            rows.append((street.v, street.u, *fields, *street.end, *street.start))
    names = ["u", "v", "osmid", "highway", "oneway", "aadt", "x0", "y0", "x1", "y1"]
    table = pd.DataFrame(rows, columns=names)
    lon0, lat0 = _degrees(plan, table.pop("x0").to_numpy(), table.pop("y0").to_numpy())
    lon1, lat1 = _degrees(plan, table.pop("x1").to_numpy(), table.pop("y1").to_numpy())
    length_m = np.asarray(Geod(ellps="WGS84").inv(lon0, lat0, lon1, lat1)[2])
    ends = np.stack([np.stack([lon0, lat0], axis=1), np.stack([lon1, lat1], axis=1)], axis=1)
    return geopandas.GeoDataFrame(
        table.assign(length=np.round(length_m, 3)), geometry=shapely.linestrings(ends), crs="EPSG:4326"
    )


def crash_table(plan: CityPlan) -> pd.DataFrame:
    """Crashes of two years: `crash_id`, `crash_date`, `lon`, `lat`, `severity`.

    To those drawn from `expected_crashes` are added rows without a position and rows far outside the
    city; all stand in the order of time.
    """
    rng = np.random.default_rng([plan.seed, 4])
    expected = expected_crashes(plan)
    years = [_crashes_of(plan, drawn_crashes(expected, rng), year, rng) for year in YEARS]
    placed = pd.concat(years, ignore_index=True)
    unplaced = placed.sample(frac=UNPLACED_SHARE, random_state=plan.seed).assign(lon=np.nan, lat=np.nan)
    elsewhere = placed.sample(frac=ELSEWHERE_SHARE, random_state=plan.seed + 1)
    elsewhere = elsewhere.assign(lon=elsewhere.lon - 1.5, lat=elsewhere.lat + 0.5)
    table = pd.concat([placed, unplaced, elsewhere], ignore_index=True)
    table = table.sort_values("crash_date", kind="stable", ignore_index=True)
    table.insert(0, "crash_id", np.arange(1, len(table) + 1))
    return table


def truth_table(plan: CityPlan) -> pd.DataFrame:
    """What is true of each tile, in (row, col) order."""
    grid = grid_of_cell(bbox_of(plan), SQUARE_M)
    rows, cols = grid.every_tile()
    return pd.DataFrame(
        {
            "tile_id": grid.tile_ids(rows, cols).astype(str),
            "row": rows,
            "col": cols,
            "expected_crashes": expected_crashes(plan).ravel(),
            "worn": plan.worn.ravel(),
            "entering_aadt": entering_aadt(plan).ravel(),
        }
    )


def region_toml(plan: CityPlan) -> str:
    """The region file of the metro."""
    year = YEARS[-1]
    return f"""\
# A made-up metro: roadrisk demo. Crashes have two causes: worn-out markings, which only the pictures
# show, and traffic, which only the road classes tell.
name = "made-up metro"
bbox = [{", ".join(f"{v:.6f}" for v in bbox_of(plan))}]
cell = {SQUARE_M}
tile_size = {SQUARE_M}
label_window = [{year}-01-01, {year + 1}-01-01]

[[imagery]]
path = "imagery/*.tif"

[[roads]]
path = "roads.gpkg"

[[crashes]]
path = "crashes.csv"
"""


def _crashes_of(plan: CityPlan, counts: IntArray, year: int, rng: np.random.Generator) -> pd.DataFrame:
    """A row a crash: on a day of the year, a few metres from its junction."""
    row, col = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), counts.shape[1])
    scatter = rng.normal(0, CRASH_SCATTER_M, (2, len(row))).clip(-CRASH_REACH_M, CRASH_REACH_M)
    lon, lat = _degrees(plan, plan.street_x[col] + scatter[0], plan.street_y[row] + scatter[1])
    first, after = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + 1}-01-01")
    days = rng.integers(0, int((after - first).astype(int)), len(row))
    return pd.DataFrame(
        {
            "crash_date": np.datetime_as_string(first + days),
            "lon": np.round(lon, 7),
            "lat": np.round(lat, 7),
            "severity": rng.choice(SEVERITIES, len(row), p=SEVERITY_SHARE),
        }
    )


def _degrees(plan: CityPlan, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Longitudes and latitudes of places in the city."""
    west, north = corner_m(plan)
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(west + x, north - y)
    return np.asarray(lon), np.asarray(lat)


def _write_roads(path: Path, plan: CityPlan) -> None:
    with _dated(f"{YEARS[-1] + 1}-01-01T00:00:00Z"):
        road_table(plan).to_file(path, driver="GPKG", layer="roads", engine="pyogrio")


@contextmanager
def _dated(moment: str) -> Iterator[None]:
    """Within, GDAL writes `moment` into GeoPackages in place of the clock's time."""
    option = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: moment})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})
