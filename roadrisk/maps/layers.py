"""Map files from layers, one form a suffix."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError

from roadrisk.errors import LayerError
from roadrisk.files import whole_file
from roadrisk.maps.formats.csv_table import write_csv
from roadrisk.maps.formats.flatgeobuf import write_flatgeobuf
from roadrisk.maps.formats.geojson import write_geojson, write_geojsonl
from roadrisk.maps.formats.geopackage import write_geopackage
from roadrisk.maps.formats.geoparquet import write_geoparquet
from roadrisk.maps.formats.pmtiles import write_pmtiles
from roadrisk.maps.formats.raster import write_cog
from roadrisk.maps.formats.style_files import write_qml, write_sld
from roadrisk.maps.layer import Layer
from roadrisk.maps.page import write_page
from roadrisk.maps.places import GridTiles, Moved, Places

Writer = Callable[[Layer, Path], None]


@dataclass(frozen=True)
class Form:
    """How layers of a suffix are written.

    Parameters
    ----------
    needs : what a layer must know of where its features lie.
    any_crs : whether the form leaves it open in which CRS.
    """

    write: Writer
    needs: Literal["nothing", "places", "grid"] = "places"
    any_crs: bool = False


FORMS = {
    ".geojson": Form(write_geojson),
    ".geojsonl": Form(write_geojsonl),
    ".gpkg": Form(write_geopackage, any_crs=True),
    ".fgb": Form(write_flatgeobuf, any_crs=True),
    ".parquet": Form(write_geoparquet, any_crs=True),
    ".pmtiles": Form(write_pmtiles),
    ".tif": Form(write_cog, needs="grid"),
    ".csv": Form(write_csv, needs="nothing"),
    ".html": Form(write_page),
    ".qml": Form(write_qml),
    ".sld": Form(write_sld),
}


@dataclass(frozen=True)
class MapFile:
    """A file to be made, and what fills the temporary one that takes its name when it is whole."""

    path: Path
    fill: Callable[[Path], None]


def write_layers(layer: Layer, outs: Sequence[Path], crs: str | None = None) -> list[Path]:
    """Write one map file for each path, its form told by its suffix; all of them or none.

    Parameters
    ----------
    outs : `.geojson` (RFC 7946), `.geojsonl` (a feature a line), `.gpkg` (style inside), `.fgb`
        (FlatGeobuf), `.parquet` (GeoParquet 1.1, bbox covering), `.pmtiles` (vector tiles), `.tif`
        (Cloud-Optimised GeoTIFF), `.csv` (lon and lat of centres), `.html` (a map page), `.qml` or `.sld`
        (the style alone, for a file of the same name). Existing files are replaced whole. All but `.csv`,
        `.geojsonl` and styles carry licence, attribution, model, windows and what each field means.
    crs : of `.gpkg`, `.fgb` and `.parquet`; the layer's own without it.

    Returns
    -------
    The paths written, as given.

    Raises
    ------
    LayerError : a suffix that is not known, a folder that is missing or cannot be written to, the same path
        twice, tiles without a place in a form that needs one, tiles that are too many for a page.
    """
    check_outs(outs, layer.places, crs)
    return write_files(map_files(layer, outs, crs))


def map_files(layer: Layer, outs: Sequence[Path], crs: str | None = None) -> list[MapFile]:
    """The files of a layer, as yet to be written."""
    moved = layer
    if crs is not None and layer.places is not None:
        moved = replace(layer, places=Moved(layer.places, crs))
    files = []
    for out in outs:
        form = FORMS[out.suffix.lower()]
        files.append(MapFile(out, partial(form.write, moved if form.any_crs else layer)))
    return files


def write_files(files: Sequence[MapFile]) -> list[Path]:
    """Write all of the files or none.

    Raises
    ------
    LayerError : one cannot be written.
    """
    try:
        with ExitStack() as until_all_are_written:
            for file in files:
                file.fill(until_all_are_written.enter_context(whole_file(file.path)))
    except (
        OSError,
        DataSourceError,
        DataLayerError,
        FeatureError,
        sqlite3.Error,
        pyarrow.ArrowException,
        RasterioError,
    ) as error:
        names = " ".join(str(file.path) for file in files)
        raise LayerError(f"{names}: cannot be written: {error}; free space or use another folder") from error
    return [file.path for file in files]


def check_outs(outs: Sequence[Path], places: Places | None, crs: str | None = None) -> None:
    """Nothing, if layers can be written there; asked before the work that fills them.

    Raises
    ------
    LayerError : as `write_layers`, for the paths and the CRS.
    """
    for out in outs:
        _check_out(out, places)
    real = [Path(os.path.realpath(out.parent)) / out.name for out in outs]
    repeated = {str(out) for out, at in zip(outs, real, strict=True) if real.count(at) > 1}
    if repeated:
        raise LayerError(f"{', '.join(sorted(repeated))} is asked for twice; give every layer its own name")
    if crs is not None:
        _check_crs(crs, outs)


def _check_crs(crs: str, outs: Sequence[Path]) -> None:
    try:
        CRS.from_user_input(crs)
    except CRSError:
        raise LayerError(f"--crs {crs} is no CRS; give one as EPSG:4326") from None
    if not any(FORMS[out.suffix.lower()].any_crs for out in outs):
        free = " ".join(suffix for suffix, form in FORMS.items() if form.any_crs)
        raise LayerError(f"--crs {crs}: none of the layers leaves its CRS open; only {free} do")


def _check_out(out: Path, places: Places | None) -> None:
    suffix = out.suffix.lower()
    if suffix not in FORMS:
        raise LayerError(f"{out} has no known suffix; use one of {' '.join(FORMS)}")
    needs = FORMS[suffix].needs
    if places is None and needs != "nothing":
        raise LayerError(
            f"{out} needs to know where tiles are, which the table does not say; "
            "give it lon and lat columns or geometry, or write .csv"
        )
    if needs == "grid" and not isinstance(places, GridTiles):
        raise LayerError(f"{out} is a raster, which needs the tiles of a grid; write .gpkg")
    if out.is_dir():
        raise LayerError(f"{out} is a folder; give the name of a file")
    if not out.parent.is_dir():
        raise LayerError(
            f"{out.parent} is not a folder, so {out.name} cannot be written there; make it first"
        )
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise LayerError(
            f"{out.parent} cannot be written to: {error.strerror}; use another folder"
        ) from error
