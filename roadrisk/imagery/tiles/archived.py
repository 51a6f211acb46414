"""Archived: what an archive of tiles is, whatever its format."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pmtiles.tile import Compression

from roadrisk.errors import SourceError
from roadrisk.grid import IntArray
from roadrisk.imagery.tiles.directories import Damaged, unpacked
from roadrisk.imagery.tiles.encoded import Encoded, NotPicture, whole_picture

FORMS = ("PNG", "JPEG", "WEBP", "AVIF")
TILE_SIDES = (256, 512)
GZIP = b"\x1f\x8b"
AVIF = (b"ftypavif", b"ftypavis")
# which tile, and what the archive holds for it; None where it has none
Bodies = list[tuple[int, bytes | None]]


@dataclass(frozen=True)
class Archive:
    """An archive of XYZ tiles.

    Parameters
    ----------
    name : for people, without secrets.
    identity : what makes it the same archive.
    zooms : the least and the most that it has.
    tile_px : side of its tiles.
    attribution : plain text; empty where it has none.
    bodies : (zoom, x, y) -> tiles some at a time, each by its index in x and y; y is counted from the north.
    """

    name: str
    identity: dict[str, Any]
    zooms: tuple[int, int]
    tile_px: int
    attribution: str
    bodies: Callable[[int, IntArray, IntArray], Iterator[Bodies]]


def tile_picture(body: bytes, tile_px: int) -> Encoded:
    """A tile as GDAL's MBTiles have it: AVIF, which they lack, as PNG.

    Raises
    ------
    NotPicture : no whole picture.
    """
    try:
        plain = _plain(body)
        if plain[4:12] in AVIF:
            written = io.BytesIO()
            with Image.open(io.BytesIO(plain), formats=("AVIF",)) as picture:
                picture.save(written, "PNG")
            plain = written.getvalue()
    except (Damaged, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise NotPicture("a damaged picture") from None
    return whole_picture(plain, tile_px)


def side_of(body: bytes, name: str) -> int:
    """How wide a tile is, and with it those of its archive [pixels].

    Raises
    ------
    SourceError : no picture, or of another size than tiles have.
    """
    try:
        with Image.open(io.BytesIO(_plain(body)), formats=FORMS) as picture:
            width, height = picture.size
    except (Damaged, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise SourceError(f"{name} is damaged: its first tile is no picture; copy it anew") from None
    if width != height or width not in TILE_SIDES:
        raise SourceError(f"{name} has tiles of {width} x {height} px; only 256 and 512 px are read")
    return width


def plain_text(said: object) -> str:
    """Text of metadata without its markup; empty where it is no text.

    >>> plain_text('<a href="https://a.example">&copy; A</a>')
    '© A'
    """
    return html.unescape(re.sub(r"<[^>]*>", "", said)).strip() if isinstance(said, str) else ""


def _plain(body: bytes) -> bytes:
    return unpacked(body, Compression.GZIP) if body.startswith(GZIP) else body
