"""What a file looks like, whatever its name says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import pyarrow as pa
from pyogrio.errors import DataLayerError, DataSourceError

from roadrisk.errors import SourceError

# what the readers of tables raise when bytes are not what they should be
UNREADABLE = (
    OSError,
    UnicodeDecodeError,
    OverflowError,
    pa.ArrowException,
    DataLayerError,
    DataSourceError,
)
_XML_ENCODINGS = ("utf-8", "utf-16", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252")
_XML_BLOCK_BYTES = 1 << 20


class Kind(NamedTuple):
    """What a file looks like and what to do about it, for a message, and how its name should end."""

    looks: str
    fix: str
    endings: tuple[str, ...] = ()


_AGAIN = "download or export it again"
_WEB_PAGE = Kind("a web page, perhaps an error or a log-in page", "download it again")
_SIGNATURES = (
    (b"PK\x03\x04", Kind("a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV")),
    (b"\xd0\xcf\x11\xe0", Kind("an old Excel or Access file", "save the table as CSV")),
    (b"\x1f\x8b", Kind("a gzip archive", "unpack it, or let its name end in .csv.gz")),
    (
        b"SQLite format 3\x00",
        Kind("a GeoPackage or another SQLite database", "name it .gpkg", (".gpkg", ".sqlite")),
    ),
    (b"PAR1", Kind("Parquet", "name it .parquet", (".parquet", ".geoparquet", ".pq"))),
    (b"fgb\x03", Kind("FlatGeobuf", "name it .fgb", (".fgb",))),
    (b"\x00\x00\x27\x0a", Kind("a Shapefile", "name it .shp, beside its .shx and .dbf", (".shp",))),
    (b"\x89PNG", Kind("a PNG picture", "give the table")),
    (b"\xff\xd8\xff", Kind("a JPEG picture", "give the table")),
    (b"II*\x00", Kind("a TIFF picture", "give the table")),
    (b"MM\x00*", Kind("a TIFF picture", "give the table")),
    (b"%PDF", Kind("a PDF", "give the table")),
    (b"version https://git-lfs", Kind("a Git LFS pointer", "fetch the file itself with `git lfs pull`")),
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def kind_of_bytes(head: bytes) -> Kind | None:
    """What a file that begins so is, unless it may be a table of text.

    Examples
    --------
    >>> kind_of_bytes(b"<!DOCTYPE html><html>404").looks
    'a web page, perhaps an error or a log-in page'
    >>> kind_of_bytes(b"lon,lat,date") is None
    True
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if b"OSMHeader" in head[:64]:
        return Kind("an OpenStreetMap extract", "name it .osm.pbf", (".pbf",))
    if head.startswith(_UTF_16):
        return None
    if re.search(rb"[\x00-\x08\x0e-\x19]", head):
        return Kind("binary data", f"{_AGAIN}, text in UTF-8")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:4096].lower()
    if re.match(rb"<(!doctype html|html|head)", start):
        return _WEB_PAGE
    if start.startswith(b"<"):
        return _WEB_PAGE if b"<html" in start else Kind("XML", "name it for what it is, such as .gml or .kml")
    if re.match(rb'\{\s*("|\})|\[\s*\{', start):
        return _json_kind(head, start)
    return None


def kind_of_any(head: bytes, suffix: str) -> Kind:
    r"""What a file is that could not be opened as what its name says.

    >>> kind_of_any(b"lon,lat", ".gpkg").looks
    "text that begins 'lon,lat'"
    >>> kind_of_any(b"fgb\x03 and no more", ".fgb").looks
    'the right kind of file, but damaged or cut off'
    """
    if not head.strip():
        return Kind("an empty file", _AGAIN)
    kind = kind_of_bytes(head)
    if kind is not None:
        return (
            Kind("the right kind of file, but damaged or cut off", _AGAIN) if suffix in kind.endings else kind
        )
    text = head.decode("utf-16" if head.startswith(_UTF_16) else "utf-8", errors="replace")
    return Kind(f"text that begins {_beginning(text)!r}", "if it is CSV, name it .csv; else export it again")


def _json_kind(head: bytes, start: bytes) -> Kind:
    if b'"feature' in start or b'"type"' in start:
        return Kind("GeoJSON", "name it .geojson", (".geojson", ".json"))
    return Kind(f"JSON that begins {_beginning(head.decode('utf-8', errors='replace'))!r}", _AGAIN)


def _beginning(text: str) -> str:
    return " ".join(text.split())[:40]


def unopened(path: Path, expected: str, error: Exception) -> SourceError:
    """The error of a file that is not what its name says, or is that but damaged."""
    if path.is_dir():
        return SourceError(f"{path} is not {expected}: {one_line(error)}; export it again")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as denied:
        return SourceError(f"cannot read {path}: {denied.strerror}; see who may read it")
    kind = kind_of_any(head, path.suffix.lower())
    return SourceError(f"{path} is not {expected}: it looks like {kind.looks}; {kind.fix}")


@contextmanager
def undamaged(path: Path) -> Iterator[None]:
    """A block that reads a file.

    Raises
    ------
    SourceError : the file cannot be read to its end.
    """
    try:
        yield
    except UNREADABLE as error:
        raise SourceError(f"{path} is damaged: {one_line(error)}; {_AGAIN}") from None


def check_xml(path: Path) -> None:
    """Nothing, if a file of XML is whole: GDAL gives the rows before the damage and no error.

    Raises
    ------
    SourceError : it is cut off or damaged, or in an encoding that GDAL does not read.
    """

    def check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _XML_ENCODINGS:
            raise SourceError(f"{path} is XML in {encoding!r}, which GDAL does not read; write it as UTF-8")

    parser = expat.ParserCreate()
    parser.XmlDeclHandler = check_encoding
    try:
        with path.open("rb") as file:
            while block := file.read(_XML_BLOCK_BYTES):
                parser.Parse(block, False)
            parser.Parse(b"", True)
    except (expat.ExpatError, LookupError) as error:
        raise SourceError(f"{path} is damaged: {one_line(error)}; {_AGAIN}") from None


def one_line(error: BaseException) -> str:
    r"""What an error of a library says, fit for a message.

    >>> one_line(ValueError("two\nlines"))
    'two lines'
    """
    text = " ".join(str(error).split())[:200]
    return "".join(c if c.isprintable() else "?" for c in text)
