"""Parts that are damaged, or made to do harm: refused in one line, in little memory."""

from __future__ import annotations

import multiprocessing
import os
import re
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaics import grid_of, holed, part_file

from roadrisk.errors import DatasetError
from roadrisk.mosaic import blocks
from roadrisk.mosaic.blocks import PartFile
from roadrisk.mosaic.parts import Compression


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compress=st.sampled_from(["zstd", "jpeg"]))
def test_a_damaged_part_is_read_or_refused(
    tmp_path: Path, data: st.DataObject, compress: Compression
) -> None:
    path = tmp_path / f"{compress}.tif"
    if not path.exists():
        part_file(path, holed(grid_of(3, 3)), 64, compress)
    body = bytearray(path.read_bytes())
    mask = PartFile(path)._picture.next
    # where the directories are one byte decides more than among pixels
    places = st.one_of(st.integers(0, 400), st.integers(mask, len(body) - 1), st.integers(0, len(body) - 1))
    for at in data.draw(st.lists(places, min_size=1, max_size=4)):
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(body)), st.integers(0, len(body))))
    spoilt = tmp_path / "spoilt.tif"
    spoilt.write_bytes(body[:cut])
    said = rf"{re.escape(str(spoilt))} is (missing or )?damaged; copy the dataset again or tile again"
    refusals = [refusal(lambda: PartFile(spoilt))]
    if not refusals[0]:
        file = PartFile(spoilt)
        refusals.append(refusal(lambda: file.is_masked_rgb))
        for row, col in np.ndindex(2, 2):
            refusals += [refusal(partial(of, row, col)) for of in (file.pixels, file.valid)]
    assert all(re.fullmatch(said, refused) for refused in refusals if refused)


def refusal(call: Callable[[], Any]) -> str:
    """What a call was refused for; empty when it was not."""
    try:
        call()
    except DatasetError as error:
        return str(error)
    return ""


def test_a_missing_part_and_one_that_is_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "a.tif", tmp_path):
        with pytest.raises(DatasetError) as caught:
            PartFile(path)
        assert str(caught.value) == f"{path} is missing or damaged; copy the dataset again or tile again"


def with_first_block(path: Path, body: bytes, plane: str) -> None:
    """Put other bytes in the place of the first block, at the end of the file."""
    file = PartFile(path)
    directory = getattr(file, plane)
    whole = bytearray(path.read_bytes())
    for tag, value in ((blocks.OFFSETS, len(whole)), (blocks.COUNTS, len(body))):
        dtype, _, at = directory.tags[tag]
        whole[at : at + dtype.itemsize] = value.to_bytes(dtype.itemsize, "little")
    path.write_bytes(whole + body)


def jpeg_of(height: int, width: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def bare(jpeg: bytes, height: int, width: int) -> bytes:
    """As libtiff begins a block, then the whole of another JPEG."""
    frame = (
        b"\xff\xd8\xff\xc0\0\x11\x08"
        + struct.pack(">HH", height, width)
        + b"\x03\x01\x22\0\x02\x11\x01\x03\x11\x01"
    )
    return frame + jpeg[2:]


@pytest.mark.parametrize(
    ("compress", "plane", "body"),
    [
        ("zstd", "_picture", pa.compress(bytes(1 << 28), "zstd", asbytes=True)),
        ("zstd", "_picture", pa.compress(bytes(64 * 64 * 3 - 1), "zstd", asbytes=True)),
        ("zstd", "_mask", zlib.compress(bytes(1 << 24))),
        ("zstd", "_mask", zlib.compress(bytes(64 * 64 // 8 - 1))),
        ("jpeg", "_picture", jpeg_of(128, 64)),
        ("jpeg", "_picture", bare(jpeg_of(20_000, 20_000), 20_000, 20_000)),
        ("jpeg", "_picture", bare(jpeg_of(20_000, 20_000), 64, 64)),
        ("jpeg", "_picture", b"\xff\xd8" + bytes(100)),
    ],
)
def test_what_unpacks_to_another_size_is_refused_and_not_unpacked(
    tmp_path: Path, compress: Compression, plane: str, body: bytes
) -> None:
    path = tmp_path / "a.tif"
    part_file(path, holed(grid_of(3, 3)), 64, compress)
    with_first_block(path, body, plane)
    file = PartFile(path)
    child = multiprocessing.get_context("fork").Process(target=refused_in_little_memory, args=(file, plane))
    child.start()
    child.join()
    assert child.exitcode == 0


def refused_in_little_memory(part: PartFile | Path, plane: str) -> None:
    import resource

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (12 << 20), -1))
    with pytest.raises(DatasetError, match="damaged; copy"):
        block_of(part, plane)


def block_of(part: PartFile | Path, plane: str) -> Any:
    file = PartFile(part) if isinstance(part, Path) else part
    return (file.valid if plane == "_mask" else file.pixels)(0, 0)


def test_a_block_of_another_size_is_refused(tmp_path: Path) -> None:
    part_file(tmp_path / "a.tif", holed(grid_of(3, 3)), 64, "jpeg")
    larger = part_file(tmp_path / "b.tif", holed(grid_of(3, 3), 128), 128, "jpeg")
    with_first_block(tmp_path / "a.tif", larger._body(larger._picture, 0, 0), "_picture")
    with pytest.raises(DatasetError, match=r"a\.tif is damaged; copy the dataset again or tile again"):
        PartFile(tmp_path / "a.tif").pixels(0, 0)


def test_tables_that_bring_a_picture_of_their_own_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    file = part_file(path, holed(grid_of(3, 3)), 64, "jpeg")
    tables = jpeg_of(128, 64)
    end = path.stat().st_size
    patched(path, tag_at(file._picture, blocks.JPEG_TABLES) + 4, struct.pack("<II", len(tables), end))
    path.write_bytes(path.read_bytes() + tables)
    with pytest.raises(DatasetError, match=r"a\.tif is damaged; copy the dataset again or tile again"):
        PartFile(path).pixels(0, 0)


def tag_at(directory: Any, tag: int) -> int:
    """Where the entry of a tag is in a file whose first directory it stands in."""
    body = directory.file.head
    start = struct.unpack("<4sI", body[:8])[1] + 2
    return next(
        at for at in range(start, start + 12 * 40, 12) if struct.unpack_from("<H", body, at)[0] == tag
    )


def patched(path: Path, at: int, value: bytes) -> None:
    body = bytearray(path.read_bytes())
    body[at : at + len(value)] = value
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("plane", "tag", "value"),
    [
        ("_picture", blocks.BLOCK_WIDTH, 60_000),
        ("_picture", blocks.BLOCK_HEIGHT, 0),
        ("_picture", blocks.OFFSETS, 0xFFFFFFF0),
        ("_picture", blocks.COUNTS, 0xFFFF),
        ("_mask", blocks.BLOCK_WIDTH, 128),
        ("_mask", blocks.WIDTH, 64),
        ("_mask", blocks.COMPRESSION, 1),
        ("_mask", blocks.SUBFILE, 0),
    ],
)
def test_tags_that_lead_astray_are_refused(tmp_path: Path, plane: str, tag: int, value: int) -> None:
    path = tmp_path / "a.tif"
    file = part_file(path, holed(grid_of(3, 3)), 64)
    dtype, _, at = getattr(file, plane).tags[tag]
    patched(path, at, value.to_bytes(dtype.itemsize, "little"))
    file = PartFile(path)
    with pytest.raises(DatasetError, match=r"a\.tif is damaged; copy the dataset again or tile again"):
        (file.valid if plane == "_mask" else file.pixels)(0, 0)


def test_fewer_places_than_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    file = part_file(path, holed(grid_of(3, 3)), 64)
    patched(path, tag_at(file._picture, blocks.OFFSETS) + 4, struct.pack("<I", 3))
    file = PartFile(path)
    assert file.pixels(0, 2).any()
    with pytest.raises(DatasetError, match=r"a\.tif is damaged; copy the dataset again or tile again"):
        file.pixels(1, 0)


def test_a_tag_of_the_size_of_a_disk_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    file = part_file(path, holed(grid_of(3, 3)), 64)
    patched(path, tag_at(file._picture, blocks.METADATA) + 4, struct.pack("<II", 500_000_000, 0))
    os.truncate(path, 600_000_000)
    child = multiprocessing.get_context("fork").Process(target=refused_in_little_memory, args=(path, ""))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    file = part_file(path, holed(grid_of(3, 3)), 64)
    assert file.valid(0, 0).any()
    os.truncate(path, 5000)
    with pytest.raises(DatasetError, match=r"a\.tif is damaged; copy the dataset again or tile again"):
        file.valid(0, 1)


def remade(path: Path, **options: Any) -> None:
    """The same pixels in another layout."""
    with rasterio.open(path) as source:
        pixels, tags = source.read(), source.tags()
        profile = source.profile | {"tiled": True, "blockxsize": 64, "blockysize": 64} | options
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as target:
        target.update_tags(**tags)
        target.write(pixels[: profile["count"]].astype(profile["dtype"]))
        if options.get("masked", True):
            target.write_mask(np.ones(pixels.shape[1:], bool))


@pytest.mark.parametrize(
    "options",
    [
        {"predictor": 1, "compress": "zstd"},
        {"compress": "deflate", "predictor": 2},
        {"compress": "lzw", "predictor": 2},
        {"interleave": "band", "compress": "zstd", "predictor": 2},
        {"dtype": "uint16", "compress": "zstd", "predictor": 2},
        {"count": 1, "compress": "zstd", "predictor": 2, "photometric": "minisblack"},
        {"compress": "zstd", "predictor": 2, "masked": False},
        {"compress": "jpeg", "photometric": "RGB"},
    ],
)
def test_other_layouts_are_told_apart(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    assert part_file(path, holed(grid_of(3, 3)), 64).is_masked_rgb
    remade(path, **options)
    assert not PartFile(path).is_masked_rgb
