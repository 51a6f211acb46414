"""Single tiles read back in random order, beside other ways to keep them: `make bench` prints the ratios.

4,000 parts by name: hard links to the four parts of 1,024 real tiles, so their bytes are in the page cache and
opening them is not.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from imagery_examples import PIXELS, PLAN, TILE_PX, cut, pictures, said, side_by_side, tiles_inside
from reading_examples import Mosaic, by_opencv, by_rasterio, by_roadrisk, by_vrt, decoded, png

from roadrisk.grid import Part, tiles_per_part
from roadrisk.mosaic.overview import write_vrt
from roadrisk.mosaic.parts import part_path, parts_path
from roadrisk.mosaic.reader import MosaicReader

PARTS = 50, 80
READ = 4000

PROCESSES = pytest.mark.parametrize(
    "processes",
    [
        pytest.param(
            n, marks=pytest.mark.benchmark(group=f"read: 4,000 tiles of 4,000 parts, {PIXELS}, {said_}")
        )
        for n, said_ in ((1, "one process"), (2, "two processes"))
    ],
)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Mosaic:
    folder = tmp_path_factory.mktemp("mosaic")
    grid = tiles_inside()
    sheets = side_by_side(pictures(folder), folder / "sheets")
    four = cut(folder, f"{sheets[0].parent}/*.tif", grid).parts
    drawn = Mosaic(folder, grid, PLAN, grid.shape)
    (folder / "png").mkdir()
    reader = MosaicReader(folder, "aerial", grid, TILE_PX, PLAN)
    for row, col in np.ndindex(grid.shape):
        cv2.imwrite(str(png(drawn, row, col)), reader.read(row, col)[::-1].transpose(1, 2, 0))
    reader.close()
    return repeated(drawn, four)


def repeated(drawn: Mosaic, four: pd.DataFrame) -> Mosaic:
    """The same tiles over and over."""
    side = tiles_per_part(TILE_PX)
    large = replace(drawn.grid, rows=PARTS[0] * side, cols=PARTS[1] * side)
    parts = large.parts(TILE_PX)
    for part in parts:
        first = Part(part.row % drawn.grid.rows, part.col % drawn.grid.cols, side, side)
        if part != first:
            os.link(drawn.folder / part_path("aerial", first), drawn.folder / part_path("aerial", part))
    table = four.iloc[np.zeros(len(parts), int)].assign(
        **{name: [getattr(part, name) for part in parts] for name in Part._fields}
    )
    table.to_parquet(drawn.folder / parts_path("aerial"), index=False)
    write_vrt(drawn.folder, "aerial", parts, large, TILE_PX)
    return drawn._replace(grid=large)


@pytest.fixture(scope="module")
def pools() -> Iterator[list[ProcessPoolExecutor]]:
    """Two processes, each with jobs of its own."""
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        yield [stack.enter_context(ProcessPoolExecutor(1, spawn)) for _ in range(2)]


def timed(
    benchmark: Any,
    capsys: Any,
    pools: list[ProcessPoolExecutor],
    read: Callable[..., int],
    mosaic: Mosaic,
    processes: int,
    rounds: int,
) -> None:
    """Time a reader on random tiles, and see that it reads what ours reads."""
    picked = np.random.default_rng(0).choice(mosaic.grid.size, READ, replace=False)
    tiles = [divmod(int(i), mosaic.grid.cols) for i in picked]
    found: list[int] = []

    def once() -> None:
        shares = [pools[i].submit(read, mosaic, tiles[i::processes]) for i in range(processes)]
        found.append(sum(share.result() for share in shares))

    # the first round imports what the reader needs
    benchmark.pedantic(once, rounds=rounds, warmup_rounds=1)
    assert found[-1] == by_roadrisk(mosaic, tiles)
    said(benchmark, capsys, tiles_a_second=READ / benchmark.stats.stats.min)


@PROCESSES
def test_read_roadrisk(benchmark: Any, capsys: Any, pools: Any, mosaic: Mosaic, processes: int) -> None:
    timed(benchmark, capsys, pools, by_roadrisk, mosaic, processes, 5)


@PROCESSES
def test_read_decoding_alone(benchmark: Any, capsys: Any, pools: Any, mosaic: Mosaic, processes: int) -> None:
    """No rival but the bound: the ratio beside it is the fraction of the raw rate that is reached."""
    timed(benchmark, capsys, pools, decoded, mosaic, processes, 5)


@PROCESSES
def test_read_rasterio_open(benchmark: Any, capsys: Any, pools: Any, mosaic: Mosaic, processes: int) -> None:
    timed(benchmark, capsys, pools, by_rasterio, mosaic, processes, 1)


@PROCESSES
def test_read_vrt(benchmark: Any, capsys: Any, pools: Any, mosaic: Mosaic, processes: int) -> None:
    timed(benchmark, capsys, pools, by_vrt, mosaic, processes, 1)


@PROCESSES
def test_read_png_by_opencv(benchmark: Any, capsys: Any, pools: Any, mosaic: Mosaic, processes: int) -> None:
    timed(benchmark, capsys, pools, by_opencv, mosaic, processes, 3)
