"""Map files from layers, one writer a suffix."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from roadrisk.errors import LayerError
from roadrisk.files import whole_file
from roadrisk.maps.formats.csv_table import write_csv
from roadrisk.maps.formats.geojson import write_geojson
from roadrisk.maps.formats.geopackage import write_geopackage
from roadrisk.maps.formats.geoparquet import write_geoparquet
from roadrisk.maps.layer import Layer
from roadrisk.maps.page import write_page
from roadrisk.maps.places import Places

Writer = Callable[[Layer, Path], None]


def write_layers(layer: Layer, outs: Sequence[Path]) -> list[Path]:
    """Write one map file for each path, its form told by its suffix; all of them or none.

    Parameters
    ----------
    outs : `.geojson` (RFC 7946), `.gpkg` (the tiles' own CRS), `.parquet` (GeoParquet 1.1, the tiles'
        own CRS, bbox covering), `.csv` (lon and lat of centres) or `.html` (a map page). Existing files are
        replaced whole. All carry licence, attribution, model and windows, and what each field means, except
        `.csv`, which has no place for them.

    Returns
    -------
    The paths written, as given.

    Raises
    ------
    LayerError : a suffix that is not known, a folder that is missing or cannot be written to, the same path
        twice, tiles without a place in a form that needs one, tiles that are too many for a page.
    """
    check_outs(outs, layer.places)
    try:
        with ExitStack() as until_all_are_written:
            for out in outs:
                temporary = until_all_are_written.enter_context(whole_file(out))
                WRITERS[out.suffix.lower()](layer, temporary)
    except (OSError, DataSourceError, DataLayerError, FeatureError, sqlite3.Error) as error:
        names = " ".join(str(out) for out in outs)
        raise LayerError(f"{names}: cannot be written: {error}; free space or use another folder") from error
    return list(outs)


def check_outs(outs: Sequence[Path], places: Places | None) -> None:
    """Nothing, if layers can be written there; asked before the work that fills them.

    Raises
    ------
    LayerError : as `write_layers`, for the paths.
    """
    for out in outs:
        _check_out(out, places)
    repeated = [str(out) for out in set(outs) if list(outs).count(out) > 1]
    if repeated:
        raise LayerError(f"{', '.join(sorted(repeated))} is asked for twice; give every layer its own name")


def _check_out(out: Path, places: Places | None) -> None:
    suffix = out.suffix.lower()
    if suffix not in WRITERS:
        raise LayerError(f"{out} has no known suffix; use one of {' '.join(WRITERS)}")
    if places is None and suffix != ".csv":
        raise LayerError(
            f"{out} needs to know where tiles are, which the table does not say; "
            "give it lon and lat columns or geometry, or write .csv"
        )
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


WRITERS: dict[str, Writer] = {
    ".geojson": write_geojson,
    ".gpkg": write_geopackage,
    ".parquet": write_geoparquet,
    ".csv": write_csv,
    ".html": write_page,
}
