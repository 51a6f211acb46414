"""PMTiles: what an archive says of itself, and where its tiles lie.

The format is https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md. An archive comes from anywhere:
every place that it names is checked before it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from pmtiles.tile import (
    HeaderDict,
    MagicNumberNotFound,
    SpecVersionUnsupported,
    TileType,
    deserialize_header,
    zxy_to_tileid,
)

from roadrisk.errors import SourceError
from roadrisk.grid import IntArray
from roadrisk.imagery.tiles.archived import Archive, Bodies, plain_text, side_of
from roadrisk.imagery.tiles.directories import Damaged, Directory, directory_of, unpacked
from roadrisk.imagery.tiles.spans import Span, SpannedFile, bytes_at

HEAD = Span(0, 127)
# the root, and leaves of leaves: no writer makes more
DEEPEST = 4
TILES_AT_ONCE = 256
DIRECTORIES_AT_ONCE = 64
RASTER = (TileType.PNG, TileType.JPEG, TileType.WEBP, TileType.AVIF)
# a directory, and the tiles that it has
Leaf = tuple[Span, IntArray]


@dataclass(frozen=True)
class PmTiles:
    """A file, and the header that was checked."""

    file: SpannedFile
    header: HeaderDict


def pmtiles_archive(file: SpannedFile) -> Archive:
    """A PMTiles archive, by what its header and metadata say.

    Raises
    ------
    SourceError : another format, another version, vector tiles, or places outside the file.
    """
    if file.bytes is not None and file.bytes < HEAD.length:
        raise SourceError(f"{file.name} is no PMTiles archive; check the file")
    try:
        header = deserialize_header(bytes_at(file, [HEAD])[HEAD])
    except SpecVersionUnsupported:
        raise SourceError(
            f"{file.name} is not version 3 of PMTiles; convert it: pmtiles convert old.pmtiles new.pmtiles"
        ) from None
    except (MagicNumberNotFound, ValueError):
        raise SourceError(f"{file.name} is no PMTiles archive; check the file") from None
    if header["tile_type"] not in RASTER:
        kind = header["tile_type"].name
        raise SourceError(
            f"{file.name} holds {kind} tiles, which are no pictures; give one of PNG, JPEG, WebP or AVIF"
        )
    _check_places(file, header)
    try:
        return Archive(
            name=file.name,
            identity=file.identity,
            zooms=(header["min_zoom"], header["max_zoom"]),
            tile_px=side_of(_first_tile(file, header), file.name),
            attribution=_attribution(file, header),
            bodies=partial(_bodies, PmTiles(file, header)),
        )
    except Damaged as why:
        raise SourceError(f"{file.name} is damaged: {why}; copy it anew") from None


def _check_places(file: SpannedFile, header: HeaderDict) -> None:
    sections = ("root", "metadata", "leaf_directory", "tile_data")
    ends = [header[f"{name}_offset"] + header[f"{name}_length"] for name in sections]  # type: ignore[literal-required]
    if file.bytes is not None and max(ends) > file.bytes:
        raise SourceError(f"{file.name} is cut off or damaged: it names bytes beyond its end; copy it anew")
    if not header["min_zoom"] <= header["max_zoom"] <= 30:
        zooms = f"{header['min_zoom']} to {header['max_zoom']}"
        raise SourceError(f"{file.name} is damaged: it has zooms {zooms}; copy it anew")


def _attribution(file: SpannedFile, header: HeaderDict) -> str:
    span = Span(header["metadata_offset"], header["metadata_length"])
    if not span.length:
        return ""
    try:
        held = json.loads(unpacked(_bounded(file, [span])[span], header["internal_compression"]))
        return plain_text(held.get("attribution"))
    except (ValueError, AttributeError, RecursionError):
        raise Damaged("its metadata is no JSON object") from None


def _first_tile(file: SpannedFile, header: HeaderDict) -> bytes:
    """The first tile, which tells how wide tiles are: no field does."""
    span = Span(header["root_offset"], header["root_length"])
    for _ in range(DEEPEST):
        directory = directory_of(_bounded(file, [span])[span], header["internal_compression"])
        _check_within(directory, header, np.zeros(1, np.int64), file.manners.bytes_at_most)
        span = _place(directory, header, 0)
        if directory.runs[0]:
            break
    else:
        raise Damaged("its directories lead in circles")
    return _bounded(file, [span])[span]


def _bodies(archive: PmTiles, zoom: int, xs: IntArray, ys: IntArray) -> Iterator[Bodies]:
    places = zip(xs.tolist(), ys.tolist(), strict=True)
    ids = np.fromiter((zxy_to_tileid(zoom, x, y) for x, y in places), np.int64, len(xs))
    # in the archive's order neighbours lie together
    order = np.argsort(ids)
    offsets, lengths = tile_places(archive, ids[order])
    for start in range(0, len(order), TILES_AT_ONCE):
        some = slice(start, start + TILES_AT_ONCE)
        spans = [Span(*span) for span in zip(offsets[some].tolist(), lengths[some].tolist(), strict=True)]
        held = bytes_at(archive.file, [span for span in spans if span.length])
        yield [(which, held.get(span)) for which, span in zip(order[some].tolist(), spans, strict=True)]


def tile_places(archive: PmTiles, ids: IntArray) -> tuple[IntArray, IntArray]:
    """Where tiles lie in an archive's file.

    Parameters
    ----------
    ids : (N,) rising.

    Returns
    -------
    (N,) offsets and (N,) lengths [bytes]; 0 long where the archive has no such tile.

    Raises
    ------
    SourceError : a directory that is damaged, leads in circles or out of the file.
    """
    header = archive.header
    places = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    left = [(Span(header["root_offset"], header["root_length"]), np.arange(len(ids)))] if len(ids) else []
    try:
        for _ in range(DEEPEST):
            left = list(_below(archive, left, ids, places))
        if left:
            raise Damaged("its directories lead in circles")
    except Damaged as why:
        raise SourceError(f"{archive.file.name} is damaged: {why}; copy it anew") from None
    return places


def _below(
    archive: PmTiles, leaves: list[Leaf], ids: IntArray, places: tuple[IntArray, IntArray]
) -> Iterator[Leaf]:
    """Fill in `places` from directories; the directories below these, and which tiles they have."""
    header, offsets, lengths = archive.header, *places
    for start in range(0, len(leaves), DIRECTORIES_AT_ONCE):
        some = leaves[start : start + DIRECTORIES_AT_ONCE]
        packed = _bounded(archive.file, [span for span, _ in some])
        for span, which in some:
            directory = directory_of(packed[span], header["internal_compression"])
            entry = directory.entries_of(ids[which])
            which, entry = which[entry >= 0], entry[entry >= 0]
            _check_within(directory, header, entry, archive.file.manners.bytes_at_most)
            is_leaf = directory.runs[entry] == 0
            offsets[which[~is_leaf]] = header["tile_data_offset"] + directory.offsets[entry[~is_leaf]]
            lengths[which[~is_leaf]] = directory.lengths[entry[~is_leaf]]
            which, entry = which[is_leaf], entry[is_leaf]
            for first, end in pairwise([0, *(np.flatnonzero(np.diff(entry)) + 1), len(entry)]):
                if first < end:
                    yield _place(directory, header, int(entry[first])), which[first:end]


def _check_within(directory: Directory, header: HeaderDict, entry: IntArray, bytes_at_most: int) -> None:
    """Nothing, if entries lie in the sections of the file that are theirs."""
    lengths = directory.lengths[entry]
    sections = np.where(
        directory.runs[entry] == 0, header["leaf_directory_length"], header["tile_data_length"]
    )
    if (directory.offsets[entry] + lengths > sections).any():
        raise Damaged("a directory leads out of the file")
    if (lengths > bytes_at_most).any():
        raise Damaged(f"a tile or a directory of more than {bytes_at_most:,} bytes")


def _place(directory: Directory, header: HeaderDict, entry: int) -> Span:
    section = header["tile_data_offset"] if directory.runs[entry] else header["leaf_directory_offset"]
    return Span(section + int(directory.offsets[entry]), int(directory.lengths[entry]))


def _bounded(file: SpannedFile, spans: list[Span]) -> dict[Span, bytes]:
    """What lies at `spans`, which the header or a directory names."""
    longest = max(span.length for span in spans)
    if longest > file.manners.bytes_at_most:
        raise Damaged(f"a directory of {longest:,} bytes")
    return bytes_at(file, spans)
