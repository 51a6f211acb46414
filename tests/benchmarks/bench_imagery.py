"""Cutting pictures and reading them back, each beside its rivals in one group: `make bench` prints the ratios.

The command-line rivals come with `make test-tools`; one that is absent is skipped by name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from imagery_examples import (
    BOSTON,
    CRS,
    PIXELS,
    PLAN,
    SYSTEM,
    TILE_PX,
    ZOOM,
    Effort,
    cut,
    effort_of,
    pictures,
    ran_outside,
    said,
    side_by_side,
    tiles_inside,
    xyz,
)
from imagery_rivals import in_two_processes, parts_by_warped_vrt, tiles_by_rio_tiler
from pyproj import Transformer
from rasterio.windows import Window

from roadrisk.grid import Grid, LngLatBbox
from roadrisk.gridding import grid_of_zoom
from roadrisk.mosaic.cutting import CutView
from roadrisk.mosaic.parts import part_of
from roadrisk.mosaic.reader import MosaicReader

# PNG files have no place
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SAMPLED = 64
LIMIT_S = 120
RAW_MB = 3 * TILE_PX**2 / 1e6


class Scene(NamedTuple):
    """Sheets side by side and the tiles inside them."""

    folder: Path
    sheets: list[Path]
    grid: Grid


def tool(name: str) -> str:
    """A command of the system."""
    path = shutil.which(name, path=SYSTEM)
    if path is None:
        pytest.skip(f"{name} is absent; `make test-tools` installs it")
    return path


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    return Scene(folder, side_by_side(pictures(folder), folder / "sheets"), tiles_inside())


@pytest.fixture(scope="module")
def vrt(layout: Scene) -> Path:
    """The sheets as one raster."""
    path = layout.folder / "sheets.vrt"
    ran_outside(tool("gdalbuildvrt"), "-q", path, *layout.sheets)
    return path


@pytest.fixture(scope="module")
def ours(layout: Scene) -> Iterator[MosaicReader]:
    """The tiles as roadrisk cuts them."""
    folder = layout.folder / "ours"
    folder.mkdir()
    assert (cut(folder, f"{layout.folder}/sheets/*.tif", layout.grid).coverage == 1).all()
    reader = MosaicReader(folder, "aerial", layout.grid, TILE_PX, PLAN)
    yield reader
    reader.close()


class Race(NamedTuple):
    """A contestant's run."""

    benchmark: Any
    capsys: Any
    out: Path

    def ran(self, work: Callable[[Path], Any], rounds: int) -> Effort:
        """Time `work` into an empty folder `out` each round; what the quickest round took."""
        efforts: list[Effort] = []

        def emptied() -> None:
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir()

        def once() -> None:
            efforts.append(effort_of(lambda: work(self.out)))

        self.benchmark.pedantic(once, setup=emptied, rounds=rounds)
        return min(efforts)

    def say(self, effort: Effort, **facts: float) -> None:
        """Core-seconds say what the clock cannot on a machine that others use too."""
        took = {"core_seconds": effort.seconds * effort.cores, "cores_busy": effort.cores}
        said(self.benchmark, self.capsys, **facts, **took)


@pytest.fixture
def race(benchmark: Any, capsys: Any, tmp_path: Path) -> Iterator[Race]:
    yield Race(benchmark, capsys, tmp_path / "out")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def difference(ours: MosaicReader, grid: Grid, tile_of: Callable[[int, int], Any]) -> float:
    """Mean absolute difference of sampled tiles from ours, where the rival has picture [grey levels]."""
    picked = np.random.default_rng(0).choice(grid.size, SAMPLED, replace=False)
    apart = []
    for row, col in (divmod(int(i), grid.cols) for i in picked):
        tile = np.asarray(tile_of(row, col))
        there = tile[3] > 0 if len(tile) == 4 else np.ones(tile.shape[1:], bool)
        assert there.mean() > 0.5
        apart.append(np.abs(tile[:3].astype(int) - ours.read(row, col))[:, there].mean())
    return float(np.mean(apart))


def png(folder: Path, grid: Grid) -> Callable[[int, int], Any]:
    """(row, col) -> a tile of a folder of XYZ tiles, of which there must be one for each."""
    assert sum(1 for _ in folder.glob(f"{ZOOM}/*/*.png")) == grid.size

    def tile_of(row: int, col: int) -> Any:
        z, x, y = xyz(grid, row, col)
        with rasterio.open(folder / str(z) / str(x) / f"{y}.png") as file:
            return file.read()

    return tile_of


def block(path: Path, row: int, col: int) -> Any:
    """A tile of one raster."""
    with rasterio.open(path) as file:
        return file.read(window=Window(col * TILE_PX, row * TILE_PX, TILE_PX, TILE_PX))


CUT = pytest.mark.benchmark(group=f"cut: 1,024 tiles of 256 px from 36 sheets, {PIXELS}, two processes")
GDAL_LIKE_OURS = [
    "COMPRESS=ZSTD",
    "ZSTD_LEVEL=1",
    "PREDICTOR=2",
    "INTERLEAVE=PIXEL",
    "TILED=YES",
    "NUM_THREADS=2",
]


def speeds(done: CutView, effort: Effort) -> dict[str, float]:
    """What a cut reached: tiles with picture, as pixels in memory and as bytes on disk, and where time went."""
    tiles = int((done.coverage > 0).sum())
    shares = {f"share_of_{name}": spent / sum(done.spent) for name, spent in done.spent._asdict().items()}
    return {
        "tiles_a_second": tiles / effort.seconds,
        "MB_of_pixels_a_second": tiles * RAW_MB / effort.seconds,
        "MB_written_a_second": float(done.parts["bytes"].sum()) / 1e6 / effort.seconds,
        **shares,
    }


@CUT
def test_cut_roadrisk(race: Race, layout: Scene) -> None:
    cuts: list[CutView] = []
    effort = race.ran(lambda out: cuts.append(cut(out, f"{layout.folder}/sheets/*.tif", layout.grid)), 3)
    assert (cuts[-1].coverage == 1).all()
    race.say(effort, **speeds(cuts[-1], effort))


@CUT
def test_cut_gdal2tiles_average(race: Race, layout: Scene, ours: MosaicReader) -> None:
    """As people run it: it takes the nearest pixel into the grid's CRS, then averages."""
    inner = race.out.with_name("inner.vrt")
    ran_outside(tool("gdalbuildvrt"), "-q", "-te", *inside(layout.grid), inner, *layout.sheets)
    gdal2tiles(race, layout.grid, ours, inner, "average")


@CUT
def test_cut_gdal2tiles_cubic(race: Race, layout: Scene, vrt: Path, ours: MosaicReader) -> None:
    """Of a VRT that warps by cubic convolution, which makes the same pixels as ours."""
    warped = race.out.with_name("warped.vrt")
    # less a pixel all round: at the very edge it makes tiles beyond
    ran_outside(tool("gdalwarp"), "-q", "-of", "VRT", *onto(layout.grid, 1), vrt, warped)
    gdal2tiles(race, layout.grid, ours, warped, "cubic")


def gdal2tiles(race: Race, grid: Grid, ours: MosaicReader, source: Path, resampling: str) -> None:
    words = ["--xyz", "-z", ZOOM, "-r", resampling, "-w", "none", "--processes=2", "-q", source]
    effort = race.ran(lambda out: ran_outside(tool("gdal2tiles.py"), *words, out), 1)
    race.say(effort, grey_levels_apart=difference(ours, grid, png(race.out, grid)))


def inside(grid: Grid) -> list[str]:
    """A box in the sheets' CRS that touches the tiles of the grid and no other."""
    left, bottom, right, top = grid.bounds
    edge = 0.2 * grid.cell
    west, east, south, north = left + edge, right - edge, bottom + edge, top - edge
    to_sheets = Transformer.from_crs(grid.crs, CRS, always_xy=True)
    x, y = to_sheets.transform([west, west, east, east], [south, north, south, north])
    return [repr(value) for value in (max(x[:2]), max(y[0], y[2]), min(x[2:]), min(y[1], y[3]))]


def onto(grid: Grid, less: int = 0) -> list[object]:
    """gdalwarp's words for the grid's pixels, `less` some at each edge."""
    left, bottom, right, top = grid.bounds
    edge = less * grid.cell / TILE_PX
    box = [repr(value) for value in (left + edge, bottom + edge, right - edge, top - edge)]
    size = [side * TILE_PX - 2 * less for side in (grid.cols, grid.rows)]
    return ["-t_srs", grid.crs, "-te", *box, "-ts", *size, "-r", "cubic"]


@CUT
def test_cut_rio_tiler_png(race: Race, layout: Scene, vrt: Path, ours: MosaicReader) -> None:
    effort = race.ran(lambda out: rio_tiler(layout.grid, vrt, out), 1)
    race.say(effort, grey_levels_apart=difference(ours, layout.grid, png(race.out, layout.grid)))


@CUT
def test_cut_rio_tiler_pixels_only(race: Race, layout: Scene, vrt: Path) -> None:
    race.say(race.ran(lambda _: rio_tiler(layout.grid, vrt, None), 1))


def rio_tiler(grid: Grid, vrt: Path, out: Path | None) -> None:
    pytest.importorskip("rio_tiler")
    tiles = [xyz(grid, row, col) for row, col in np.ndindex(grid.shape)]
    in_two_processes(tiles_by_rio_tiler, tiles, vrt, out)


@CUT
@pytest.mark.parametrize("alpha", [(), ("-dstalpha",)], ids=["no_mask", "alpha"])
def test_cut_gdalwarp(
    race: Race, layout: Scene, vrt: Path, ours: MosaicReader, alpha: tuple[str, ...]
) -> None:
    """Into one GeoTIFF like our parts. (It writes no mask; of the sheets one by one it takes longer.)"""
    words = ["-q", *onto(layout.grid), "-wm", 512, "-multi", "-wo", "NUM_THREADS=2", *alpha, vrt]
    words += [word for option in GDAL_LIKE_OURS for word in ("-co", option)]
    effort = race.ran(lambda out: ran_outside(tool("gdalwarp"), *words, out / "region.tif"), 3)
    apart = difference(ours, layout.grid, lambda row, col: block(race.out / "region.tif", row, col))
    race.say(effort, grey_levels_apart=apart)


@CUT
def test_cut_gdal_raster_tile(race: Race, vrt: Path) -> None:
    if shutil.which("gdal", path=SYSTEM) is None:
        pytest.skip("`gdal raster tile` is absent: it came with GDAL 3.11, Debian 12 has 3.6")
    words = ["raster", "tile", "-q", "--min-zoom", ZOOM, "--max-zoom", ZOOM, "-r", "cubic", "-j", 2, vrt]
    race.say(race.ran(lambda out: ran_outside(tool("gdal"), *words, out), 1))


@CUT
def test_cut_warped_vrt_by_parts(race: Race, layout: Scene, ours: MosaicReader) -> None:
    grid, names = layout.grid, [str(path) for path in layout.sheets]
    parts = grid.parts(TILE_PX)
    effort = race.ran(lambda out: in_two_processes(parts_by_warped_vrt, parts, grid, names, out), 3)

    def tile_of(row: int, col: int) -> Any:
        part = part_of(grid, TILE_PX, row, col)
        return block(race.out / f"{part.name}.tif", row - part.row, col - part.col)

    race.say(effort, grey_levels_apart=difference(ours, grid, tile_of))


SPARSE = pytest.mark.benchmark(group="cut: 45 scattered sheets over their whole box, two processes")


@pytest.fixture(scope="module")
def scattered() -> Grid:
    """Some 200,000 tiles, of which one in a hundred has picture."""
    if not BOSTON.is_dir():
        pytest.skip(f"real data is absent: {BOSTON}")
    return grid_of_zoom(LngLatBbox(-72.74, 41.88, -70.67, 42.41), ZOOM)


@SPARSE
def test_sparse_roadrisk(race: Race, scattered: Grid) -> None:
    cuts: list[CutView] = []
    effort = race.ran(lambda out: cuts.append(cut(out, f"{BOSTON}/*.tif", scattered)), 3)
    race.say(effort, **speeds(cuts[-1], effort))


@SPARSE
def test_sparse_gdal2tiles(race: Race, capsys: Any, scattered: Grid) -> None:
    """At most two minutes of it: its time is then no more than a bound."""
    vrt = race.out.with_name("scattered.vrt")
    ran_outside(tool("gdalbuildvrt"), "-q", vrt, *sorted(BOSTON.glob("*.tif")))
    words = ["--xyz", "-z", ZOOM, "-w", "none", "-x", "--processes=2", "-q", vrt]
    ended: list[bool] = []
    race.ran(
        lambda out: ended.append(ran_outside(tool("gdal2tiles.py"), *words, out, limit_s=LIMIT_S)), rounds=1
    )
    if not ended[0]:
        with capsys.disabled():
            print(f"\n  test_sparse_gdal2tiles: not finished after {LIMIT_S} s")
