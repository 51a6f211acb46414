"""Pictures of tiles, prepared to the size a network takes."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from roadrisk.errors import SourceError
from roadrisk.grid import IntArray
from roadrisk.imagery.picture_files import Pixels, file_inside, picture_of
from roadrisk.nets.encoders import encoder_of

BASIC_SIZE_PX = 196  # the first version's


@dataclass(frozen=True)
class PicturePreparation:
    """From 8-bit pixels to what a network takes.

    Parameters
    ----------
    size_px : side of the prepared picture.
    mean, std : of each band in [0, 1], taken away and divided by.
    """

    size_px: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Pictures(Protocol):
    """M pictures of the same prepared size, each a (3, size, size) array of RGB; threads may share them."""

    @property
    def identity(self) -> str:
        """Of all that they are taken from; with `keys` the same only for the same pixels."""

    @property
    def keys(self) -> IntArray:
        """(M,) of each picture, the same whichever others are in the list."""

    @property
    def size_px(self) -> int:
        """Side of a prepared picture."""

    def __len__(self) -> int: ...

    def prepared(self, indices: IntArray) -> Pixels:
        """(n, 3, size, size) of these pictures."""


class TileReader(Protocol):
    """What reads a tile of a mosaic, as `roadrisk.mosaic.parts.MosaicReader` does."""

    def read(self, row: int, col: int) -> Pixels:
        """(3, H, W), zeros where there is no picture."""


class CachedPictures(NamedTuple):
    """Pictures of one dataset or table, and the folder that keeps what is made of them."""

    pictures: Pictures
    cache: Path


@dataclass(frozen=True, eq=False)
class MosaicPictures:
    """Pictures of a dataset's tiles.

    Parameters
    ----------
    reader : opens the mosaic; threads have copies of it.
    row, col : (M,) tiles that have a picture.
    size_px : side they are prepared to.
    mosaic : made of the checksums of its parts.
    """

    reader: TileReader
    row: IntArray
    col: IntArray
    size_px: int
    mosaic: str
    _own: threading.local = field(default_factory=threading.local, init=False, repr=False)

    @property
    def identity(self) -> str:
        """Of the mosaic."""
        return self.mosaic

    @property
    def keys(self) -> IntArray:
        """(M,) made of row and column."""
        return (self.row.astype(np.int64) << 32) | self.col.astype(np.int64)

    def __len__(self) -> int:
        return len(self.row)

    def prepared(self, indices: IntArray) -> Pixels:
        """(n, 3, size, size) of these tiles."""
        if not hasattr(self._own, "reader"):
            self._own.reader = copy.copy(self.reader)
        reader: TileReader = self._own.reader
        places = zip(self.row[indices].tolist(), self.col[indices].tolist(), strict=True)
        return _stacked([resized(reader.read(r, c), self.size_px) for r, c in places], self.size_px)


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures named by a table, inside the table's folder.

    Parameters
    ----------
    folder : of the table.
    paths : (M,) relative to it.
    source_row : (M,) row of the table that names each, for messages.
    size_px : side they are prepared to.
    """

    folder: Path
    paths: tuple[str, ...]
    source_row: tuple[int, ...]
    size_px: int

    @property
    def identity(self) -> str:
        """That they are files."""
        return "files"

    @property
    def keys(self) -> IntArray:
        """(M,) made of path, bytes and time of each file."""
        digests = bytearray()
        for index, path in enumerate(self.paths):
            stat = self._file(index).stat()
            known = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()
            digests += hashlib.blake2b(known, digest_size=8).digest()
        return np.frombuffer(digests, "<i8").astype(np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def prepared(self, indices: IntArray) -> Pixels:
        """(n, 3, size, size) of these files.

        Raises
        ------
        SourceError : a path outside the folder, no such file, or not a whole 8-bit picture.
        """
        pictures = []
        for index in indices.tolist():
            try:
                pictures.append(resized(picture_of(self._file(index)), self.size_px))
            except SourceError as error:
                raise SourceError(f"row {self.source_row[index]}: {error}") from None
        return _stacked(pictures, self.size_px)

    def _file(self, index: int) -> Path:
        return file_inside(self.folder, self.paths[index])


def picture_preparation(encoder: str, tile_px: int) -> PicturePreparation:
    """What an encoder expects of pictures with `tile_px` pixels a side.

    Pretrained weights know features of one size: smaller pictures are enlarged to what they were trained on.

    Raises
    ------
    UsageError : an encoder that is none.

    Examples
    --------
    >>> picture_preparation("basic", 256).size_px, picture_preparation("basic", 128).size_px
    (196, 128)
    >>> picture_preparation("aerial-resnet18", 64)
    PicturePreparation(size_px=128, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    """
    if encoder == "basic":
        return PicturePreparation(min(BASIC_SIZE_PX, tile_px))
    return PicturePreparation(*encoder_of(encoder).sight)


def resized(picture: Pixels, size_px: int) -> Pixels:
    """(3, H, W) -> (3, size, size): averaged along the axes that shrink, then cubic along those that grow."""
    _, height, width = picture.shape
    if (height, width) == (size_px, size_px):
        return picture
    image: Any = np.ascontiguousarray(picture.transpose(1, 2, 0))  # (H, W, 3)
    small = (min(width, size_px), min(height, size_px))
    if small != (width, height):
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if small != (size_px, size_px):
        image = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(image, np.uint8).transpose(2, 0, 1)


def no_pixels_yet(count: int, size_px: int) -> Pixels:
    """(n, 3, size, size) to be filled, the bands of a pixel side by side as networks are quickest with."""
    return np.empty((count, size_px, size_px, 3), np.uint8).transpose(0, 3, 1, 2)


def _stacked(pictures: Sequence[Pixels], size_px: int) -> Pixels:
    out = no_pixels_yet(len(pictures), size_px)
    for index, picture in enumerate(pictures):
        out[index] = picture
    return out
