"""Which sheets there are: files, folders, patterns, tile servers, archives and catalogues."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from roadrisk.errors import SourceError
from roadrisk.files import identity_of
from roadrisk.grid import Grid, LngLatBbox, transformer
from roadrisk.imagery.catalogues import catalogue_sheets, is_catalogue
from roadrisk.imagery.dates import dated
from roadrisk.imagery.given import Given, GivenSheets
from roadrisk.imagery.headers import LATTICE, Header, header_of, meeting, sheet_of
from roadrisk.imagery.identities import remote_identity
from roadrisk.imagery.names import gdal_name, is_remote, public_name
from roadrisk.imagery.remote import remote_options
from roadrisk.imagery.sheets import Sheet, Sheets, Stretch
from roadrisk.imagery.stretching import stretched
from roadrisk.imagery.tiles.archives import archived_sheets, is_archive
from roadrisk.imagery.tiles.servers import is_server, served_sheets
from roadrisk.progress import Progress, silent
from roadrisk.rights import Rights
from roadrisk.source_settings import ImagerySource

# what goes beside a picture
SIDECARS = {".xml", ".ovr", ".msk", ".prj", ".wld", ".idx", ".md5", ".txt", ".csv", ".json", ".html", ".pdf"}
SIDECARS |= {".tfw", ".tifw", ".tiffw", ".j2w", ".jp2w", ".jgw", ".jpgw", ".pgw", ".pngw"}
OPENED_AT_ONCE = 8


def found_views(
    sources: Sequence[ImagerySource],
    grid: Grid,
    tile_size: int,
    stretches: Mapping[str, Stretch],
    progress: Progress = silent,
) -> dict[str, Sheets]:
    """The sheets of each view that `sources` name, views in the order in which they are first named.

    Parameters
    ----------
    stretches : of views whose stretch is known already; else it is measured where there are more than 8 bit.
    """
    views = dict.fromkeys(source.view for source in sources)
    found = {
        view: found_sheets([s for s in sources if s.view == view], grid, tile_size, progress)
        for view in views
    }
    return {view: stretched(sheets, grid, stretches.get(view)) for view, sheets in found.items()}


def found_sheets(
    sources: Sequence[ImagerySource], grid: Grid, tile_size: int, progress: Progress = silent
) -> Sheets:
    """The sheets of one view that meet `grid`.

    What a tile server or an archive has over the grid is fetched into the cache first. Files that go beside
    a picture (`.aux.xml`, `.tfw`, `.ovr`, ...) are passed over in a folder or a pattern. Every sheet is
    opened once, for its header. What is said of a sheet that several sources name is what the first says.

    Parameters
    ----------
    tile_size : pixels along a side of a tile, which decides the zoom that is asked of a server.

    Raises
    ------
    SourceError : nothing found, not a raster, no CRS, bands that make no picture, sheets of 8 bit beside
        sheets of more, or all of it outside the grid.
    """
    given = [given_sheets(source, grid, tile_size, progress) for source in sources]
    sheets: dict[str, Sheet] = {}
    for source, some in zip(sources, given, strict=True):
        for sheet in _opened(source, some.found, grid, progress):
            sheets.setdefault(_spelled_once(sheet.path), sheet)
    ordered = sorted(sheets.values(), key=lambda sheet: (sheet.taken[1] if sheet.taken else "", sheet.path))
    inside = tuple(sheet for sheet in ordered if meeting(sheet.bounds, grid.bounds) is not None)
    if not inside:
        raise _no_overlap(ordered, grid)
    _check_depth(inside)
    return Sheets(
        inside,
        len(ordered) - len(inside),
        tuple(note for some in given for note in some.notes),
        tuple(_rights(source, some) for source, some in zip(sources, given, strict=True)),
        grid.cell_m / grid.cell,
    )


def given_sheets(source: ImagerySource, grid: Grid, tile_size: int, progress: Progress) -> GivenSheets:
    """The sheets of one source by their names, in the form that the source has."""
    if is_server(source.path):
        return served_sheets(source, grid, tile_size, progress)
    _check_filled(source.path)
    if is_catalogue(source.path):
        return catalogue_sheets(source, grid, progress)
    if is_archive(source.path):
        return archived_sheets(source, grid, tile_size, progress)
    return GivenSheets(tuple(Given(path) for path in _expanded(source.path)))


def _opened(source: ImagerySource, given: Sequence[Given], grid: Grid, progress: Progress) -> Iterable[Sheet]:
    # one environment and one filter for all threads: both are set for the process
    with (
        warnings.catch_warnings(),
        rasterio.Env(**remote_options()),
        ThreadPoolExecutor(OPENED_AT_ONCE) as pool,
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        described = dated(source, list(pool.map(_identified, given)))
        headers = pool.map(partial(_header, source=source), described)
        sheets = []
        for number, (one, header) in enumerate(zip(described, headers, strict=True), start=1):
            sheets.append(sheet_of(header, _with_beside(one, header.files), grid))
            progress(f"open {source.view}", number, len(given))
    return sheets


def _header(given: Given, source: ImagerySource) -> Header:
    # only what was named can be left out; what lies in a folder comes with it
    if given.path == gdal_name(source.path):
        leave_out = "leave it out of --imagery"
    elif Path(given.path).is_file():
        leave_out = f"move it away, or use a pattern such as '{Path(given.path).parent}/*.tif'"
    else:
        leave_out = "try again later, or leave its source out of --imagery"
    return header_of(given.path, source.bands, leave_out)


def _identified(given: Given) -> Given:
    if given.identity is not None and not is_remote(given.path):
        return given
    known = given.identity or {}
    file = Path(given.path)
    known |= identity_of(file, hashed=False) if file.is_file() else remote_identity(given.path)
    return replace(given, identity=known)


def _with_beside(given: Given, files: Sequence[str]) -> Given:
    """The same sheet, known by everything it consists of: a world file, a mask, what lies below a VRT."""
    if given.identity is None or "mtime_ns" not in given.identity:
        return given
    others = sorted(set(files) - {given.path})
    beside = [
        identity_of(Path(file), hashed=False) if Path(file).is_file() else {"path": public_name(file)}
        for file in others
    ]
    return replace(given, identity={**given.identity, **({"beside": beside} if beside else {})})


def _spelled_once(path: str) -> str:
    """A file's one name, whatever links or folders lead to it."""
    file = Path(path)
    return str(file.resolve()) if file.is_file() else path


def _check_filled(path: str) -> None:
    """Nothing, if an address needs nothing of the environment: only a tile's is filled from it."""
    if "://" in path and "${" in path:
        raise SourceError(
            f"{public_name(path)} has a ${{NAME}} that only the address of a tile server is filled with; let "
            "the shell fill it in"
        )


def _check_depth(sheets: Sequence[Sheet]) -> None:
    """Nothing, if the sheets are all of 8 bit or all of more."""
    eight = [sheet for sheet in sheets if sheet.dtype == "uint8"]
    more = [sheet for sheet in sheets if sheet.dtype != "uint8"]
    if eight and more:
        raise SourceError(
            f"{public_name(more[0].path)} is {more[0].dtype} and {public_name(eight[0].path)} is 8 bit: one "
            "stretch cannot serve both; give each its own `view` in a region file"
        )


def _rights(source: ImagerySource, given: GivenSheets) -> Rights:
    path = public_name(source.path)
    # an address of tiles says most by its host
    name = path.split("/")[2] if "{z}" in path and "://" in path else Path(path).name
    return Rights(name, source.licence or given.licence, source.attribution or given.attribution)


def _expanded(pattern: str) -> list[str]:
    path = Path(pattern)
    if path.is_file():
        return [pattern]
    if path.is_dir():
        return _in_folder(path)
    if pattern.startswith("/vsi") or "://" in pattern:
        return [gdal_name(pattern)]
    if not glob.has_magic(pattern):
        raise SourceError(f"no such imagery: {pattern}; give a file, a folder or a quoted pattern")
    matched = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    found = [str(match) for match in matched if match.is_file() and _is_picture(match)]
    if not found:
        raise SourceError(f"the pattern {pattern} matches no picture; check it, and quote it in the shell")
    return sorted(found)


def _in_folder(folder: Path) -> list[str]:
    found = [str(file) for file in folder.iterdir() if file.is_file() and _is_picture(file)]
    if not found:
        raise SourceError(
            f"the folder {folder} holds no picture; for folders below it use '{folder}/**/*.tif'"
        )
    return sorted(found)


def _is_picture(file: Path) -> bool:
    return not file.name.startswith(".") and file.suffix.lower() not in SIDECARS


def _no_overlap(sheets: list[Sheet], grid: Grid) -> SourceError:
    corners = np.array([sheet.lnglat for sheet in sheets])
    there = LngLatBbox(*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    to_degrees = transformer(grid.crs, "EPSG:4326")
    here = LngLatBbox(*to_degrees.transform_bounds(*grid.bounds, densify_pts=LATTICE))
    count = f"{len(sheets):,} sheets lie" if len(sheets) > 1 else f"{public_name(sheets[0].path)} lies"
    return SourceError(
        f"{count} outside the region: imagery {_said(there)}, region {_said(here)} (W S E N); "
        "check --bbox and the imagery's CRS"
    )


def _said(box: LngLatBbox) -> str:
    return " ".join(f"{value:.4f}" for value in box)
