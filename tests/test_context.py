"""The context against averages of the whole aligned mosaic."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from mosaics import SMALL, TILE, holed, write_mosaic, write_table
from numpy.typing import NDArray

import roadrisk.grid
from roadrisk.errors import DatasetError
from roadrisk.grid import Grid, Part
from roadrisk.mosaic.context import ContextPainter, context_block
from roadrisk.mosaic.parts import part_path, write_painted
from roadrisk.mosaic.picture import Picture
from roadrisk.mosaic.reader import MosaicReader

WIDE = 192  # a tile of the aligned view; its context of 3 x 3 tiles has blocks of 64
GRID = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 5, 4)


def area_means(size: int, small: int) -> NDArray[np.float64]:
    """(small, size) weights that average over areas."""
    edges = np.arange(small + 1) * size / small
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(overlap, 0, None) * small / size


def averaged(picture: Picture, rows: int, cols: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, rows, cols) means of what is known of the whole mosaic, and (rows, cols) the share that is."""
    down, across = area_means(picture.valid.shape[0], rows), area_means(picture.valid.shape[1], cols).T
    share = down @ picture.valid @ across
    return down @ (picture.pixels * picture.valid) @ across / np.maximum(share, 1e-9), share


def cut_context(folder: Path, grid: Grid, tile_size: int, block: int) -> list[Part]:
    painter = pickle.loads(pickle.dumps(ContextPainter(folder, "aerial", grid, tile_size, "plan", block)))
    (folder / "views/context").mkdir(parents=True)
    written = []
    for part in grid.parts(block):
        painted = painter.painted(part)
        assert not painted.failed.any()
        if painted.picture.valid.any():
            place = grid.picture_transform(block)
            write_painted(
                folder / part_path("context", part), painted, place, grid.crs, block, "plan", "zstd"
            )
            written.append(part)
    write_table(folder, grid, block, written, "context")
    return written


def whole(reader: MosaicReader, grid: Grid, block: int) -> Picture:
    rows = [[reader.read(r, c) for c in range(grid.cols)] for r in range(grid.rows)]
    valid = [[reader.valid(r, c) for c in range(grid.cols)] for r in range(grid.rows)]
    return Picture(np.block(rows), np.block(valid))


@pytest.mark.parametrize(
    ("tile_size", "n", "block"), [(256, 3, 96), (192, 3, 64), (240, 3, 80), (512, 5, 112)]
)
def test_a_context_is_the_average_of_the_whole_mosaic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile_size: int, n: int, block: int
) -> None:
    # several parts of each view, whose edges do not meet
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", tile_size)
    picture, grid = holed(GRID, tile_size), GRID
    assert context_block(tile_size, n) == block
    assert len(write_mosaic(tmp_path, grid, tile_size, picture)) == 16
    assert len(cut_context(tmp_path, grid, tile_size, block)) > 1
    got = whole(MosaicReader(tmp_path, "context", grid, block, "plan"), grid, block)
    mean, share = averaged(picture, grid.rows * block, grid.cols * block)
    clear = np.abs(share - 0.5) > 1e-6
    assert np.array_equal(got.valid[clear], share[clear] > 0.5)
    assert np.abs(got.pixels - mean)[:, got.valid].max() <= 0.501
    assert not got.pixels[:, ~got.valid].any()


def test_half_a_picture_is_known(tmp_path: Path) -> None:
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 1, 1)
    valid = np.zeros((256, 256), bool)
    valid[:, :4] = True  # of 8 columns that become 3: the middle one is half known
    picture = Picture(np.full((3, 256, 256), 200, np.uint8) * valid, valid)
    write_mosaic(tmp_path, grid, 256, picture)
    painted = ContextPainter(tmp_path, "aerial", grid, 256, "plan", 96).painted(Part(0, 0, 1, 1))
    assert painted.picture.valid[0, :4].tolist() == [True, True, False, False]
    assert painted.picture.pixels[:, 0, :4].tolist() == [[200, 200, 0, 0]] * 3


def test_the_parts_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = holed(GRID, WIDE)
    seen = []
    for side in (WIDE, 3 * WIDE, 4096):
        monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", side)
        folder = tmp_path / str(side)
        write_mosaic(folder, GRID, WIDE, picture)
        cut_context(folder, GRID, WIDE, 64)
        seen.append(whole(MosaicReader(folder, "context", GRID, 64, "plan"), GRID, 64))
    for other in seen[1:]:
        assert np.array_equal(seen[0].pixels, other.pixels)
        assert np.array_equal(seen[0].valid, other.valid)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_neighbourhood_is_a_window_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", 2 * TILE)
    picture = holed()
    write_mosaic(tmp_path, SMALL, TILE, picture)
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan", neighbourhood=n)
    margin = n // 2 * TILE
    pixels = np.pad(picture.pixels, ((0, 0), (margin, margin), (margin, margin)))
    valid = np.pad(picture.valid, margin)
    for of in (reader, pickle.loads(pickle.dumps(reader))):
        for row, col in np.ndindex(SMALL.shape):
            there = np.s_[row * TILE : (row + n) * TILE, col * TILE : (col + n) * TILE]
            assert np.array_equal(of.read(row, col), pixels[:, *there])
            assert np.array_equal(of.valid(row, col), valid[there])
    with pytest.raises(DatasetError, match="no tile at row -1, column 0: the grid has 6 x 5"):
        reader.read(-1, 0)


def test_dates_are_those_of_the_tile_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # parts of 2 x 2 tiles, and of 5 x 5 in the context
    monkeypatch.setattr(roadrisk.grid, "PART_SIDE_PX", 2 * 256)
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 64.0, 5000, -73000, 7, 6)
    first = np.array([[f"20{r:02d}-01-{c + 1:02d}" for c in range(6)] for r in range(7)])
    last = np.array([[f"20{r:02d}-02-{c + 1:02d}" for c in range(6)] for r in range(7)])
    first[1, 1] = last[1, 1] = ""
    picture = holed(grid, 256)
    picture.valid[: 2 * 256, 2 * 256 :] = False
    whole = Picture(picture.pixels * picture.valid, picture.valid)
    written = write_mosaic(tmp_path, grid, 256, whole, dates=(first, last))
    assert len(written) < len(grid.parts(256))
    painter = ContextPainter(tmp_path, "aerial", grid, 256, "plan", 96)
    for part in grid.parts(96):
        painted = painter.painted(part)
        for row, col in np.ndindex(part.rows, part.cols):
            r, c = part.row + row, part.col + col
            there = any(p.row <= r < p.row + p.rows and p.col <= c < p.col + p.cols for p in written)
            wanted = (first[r, c], last[r, c]) if there else ("", "")
            assert (painted.first[row, col], painted.last[row, col]) == wanted
    assert len(grid.parts(96)) == 4


def test_a_damaged_view_is_told(tmp_path: Path) -> None:
    write_mosaic(tmp_path, GRID, WIDE, holed(GRID, WIDE))
    file = tmp_path / "views/aerial/r00000c00000.tif"
    file.write_bytes(file.read_bytes()[:50_000])
    with pytest.raises(
        DatasetError, match=r"r00000c00000\.tif is (missing or )?damaged; copy the dataset again or"
    ):
        ContextPainter(tmp_path, "aerial", GRID, WIDE, "plan", 64).painted(Part(0, 0, 5, 4))
