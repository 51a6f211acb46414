"""Encoded pictures: whether the bytes that a server sent are one whole picture."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from roadrisk.errors import SourceError

FORMS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
_PNG_END = b"IEND\xaeB`\x82"


class Encoded(NamedTuple):
    """A whole picture.

    Parameters
    ----------
    form : png, jpg or webp.
    """

    body: bytes
    form: str


class NotPicture(Exception):  # noqa: N818
    """Why bytes are not the picture of a tile."""


def whole_picture(body: bytes, tile_px: int) -> Encoded:
    """What a server sent as a picture, decoded to its last pixel.

    Bytes are kept as they came, but for grey PNG of less than 8 bits, and PNG with one transparent grey or
    colour, which GDAL's MBTiles read wrong: these are written anew as PNG with alpha, the same pixels.

    Raises
    ------
    NotPicture : empty, HTML, truncated, of 16 bits, moving, ...
    SourceError : a tile of the size that `tile_px` is not.
    """
    try:
        with Image.open(io.BytesIO(body), formats=tuple(FORMS)) as picture:
            _check_size(picture.size, tile_px)
            form = FORMS[str(picture.format)]
            if form == "png" and _PNG_END not in body[-64:]:
                raise NotPicture("a truncated PNG")
            if form == "webp" and getattr(picture, "is_animated", False):
                # GDAL shows nothing of it
                raise NotPicture("a moving WebP")
            picture.load()
            if form == "png" and _is_misread(body, picture):
                return Encoded(_with_alpha(picture), form)
            return Encoded(body, form)
    except UnidentifiedImageError:
        raise NotPicture(_told(body)) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise NotPicture("a truncated or damaged picture") from None


def _check_size(size: tuple[int, int], tile_px: int) -> None:
    if size == (tile_px, tile_px):
        return
    width, height = size
    if size in ((256, 256), (512, 512)):
        raise SourceError(f"the server's tiles are {width} px wide, not {tile_px}; set tile_px = {width}")
    raise NotPicture(f"a picture of {width} x {height} px")


def _is_misread(body: bytes, picture: Image.Image) -> bool:
    bits, kind = body[24], body[25]  # of the IHDR chunk, which comes first
    if bits == 16:
        raise NotPicture("a PNG of 16 bits")
    grey, colours = kind == 0, kind in (0, 2)
    return (grey and bits < 8) or (colours and "transparency" in picture.info)


def _with_alpha(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.convert("RGBA").save(written, "PNG")
    return written.getvalue()


def _told(body: bytes) -> str:
    start = body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return "an empty answer"
    if start.startswith(b"<"):
        return "HTML or XML in place of a picture"
    if start.startswith((b"{", b"[")):
        return "JSON in place of a picture"
    return "no PNG, JPEG or WebP picture"
