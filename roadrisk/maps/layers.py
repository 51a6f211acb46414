"""Layers: map files from scored tiles, one writer a suffix."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.files import whole_file
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.page import Overview, page
from roadrisk.maps.scored import WGS84, Places, Scored

DECIMALS = 7  # RFC 7946 calls more than about 6 no gain; 7 is a centimetre
LAYER_NAME = "risk"
SCHEMA_TABLES = {
    "gpkg_data_columns": """(
        table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT,
        mime_type TEXT, constraint_name TEXT,
        CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name),
        CONSTRAINT gdc_tn UNIQUE (table_name, name))""",
    "gpkg_data_column_constraints": """(
        constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC,
        min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
        CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value))""",
}
SCHEMA_DEFINITION = "http://www.geopackage.org/spec121/#extension_schema"

Writer = Callable[[Scored, Overview | None, Path], None]


def write_layers(scored: Scored, outs: Sequence[Path], overview: Overview | None = None) -> list[Path]:
    """Write one map file for each path, its form told by its suffix; all of them or none.

    Parameters
    ----------
    outs : `.geojson` (RFC 7946), `.gpkg` (the tiles' own CRS), `.parquet` (GeoParquet 1.1, the tiles'
        own CRS, bbox covering), `.csv` (lon and lat of centres) or `.html` (a map page). Existing files are
        replaced whole. All carry licence, attribution, model and windows, and what each field means, except
        `.csv`, which has no place for them.
    overview : the picture under the tiles of a page.

    Returns
    -------
    The paths written, as given.

    Raises
    ------
    LayerError : a suffix that is not known, a folder that is missing or cannot be written to, the same path
        twice, tiles without a place in a form that needs one, tiles that are too many for a page.
    """
    check_outs(outs, scored.places)
    try:
        with ExitStack() as until_all_are_written:
            for out in outs:
                temporary = until_all_are_written.enter_context(whole_file(out))
                WRITERS[out.suffix.lower()](scored, overview, temporary)
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


def _write_geojson(scored: Scored, overview: Overview | None, path: Path) -> None:
    """RFC 7946 by hand: GDAL can add foreign members such as `attribution` only since 3.11."""
    head = {
        "type": "FeatureCollection",
        "name": LAYER_NAME,
        "description": scored.about.risk_meaning,
        **{name: scored.about.as_json()[name] for name in ("title", "licence", "attribution")},
        "roadrisk": scored.as_json(),
    }
    geometries = geojson_geometries(_places_of(scored).shapes(WGS84))
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(head, ensure_ascii=False, allow_nan=False)[:-1] + ', "features": [\n')
        for i, (values, geometry) in enumerate(zip(_records(scored.table), geometries, strict=True)):
            properties = json.dumps(values, ensure_ascii=False, allow_nan=False)
            file.write(",\n" if i else "")
            file.write(f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}')
        file.write("\n]}\n")


def geojson_geometries(shapes: NDArray[Any]) -> Iterator[str]:
    """(N,) shapes in WGS84 as RFC 7946 text: at most 7 decimals, right-hand rings, `null` for None.

    >>> list(geojson_geometries(np.array([shapely.Point(-71.123456789, 42.0), None])))
    ['{"type":"Point","coordinates":[-71.1234568,42.0]}', 'null']
    """
    rounded = shapely.transform(shapes, lambda vertices: np.round(vertices, DECIMALS))
    for text in shapely.to_geojson(shapely.orient_polygons(rounded)):
        yield text or "null"


def _records(table: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Each row as plain JSON values, null where unknown."""
    columns = [table[name].astype(object).where(table[name].notna(), None).tolist() for name in table]
    return (dict(zip(table.columns, row, strict=True)) for row in zip(*columns, strict=True))


def _write_gpkg(scored: Scored, overview: Overview | None, path: Path) -> None:
    about = scored.about
    metadata = {
        "TITLE": about.title,
        "DESCRIPTION": about.risk_meaning,
        "LICENCE": about.licence,
        "ATTRIBUTION": about.attribution,
        "MODEL": about.model,
        "ROADRISK": json.dumps(scored.as_json(), ensure_ascii=False),
    }
    _frame(scored).to_file(
        path,
        driver="GPKG",
        layer=LAYER_NAME,
        engine="pyogrio",
        layer_metadata=metadata,
        layer_options={"IDENTIFIER": about.title, "DESCRIPTION": about.risk_meaning},
    )
    _describe_fields(path, scored.columns)


def _describe_fields(path: Path, columns: Sequence[Column]) -> None:
    """Alias and description of every field, by the schema extension of GeoPackage (OGC 12-128r19, F.9)."""
    aliases = field_aliases(columns)
    described = [(LAYER_NAME, c.name, aliases[c.name], field_description(c)) for c in columns]
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = MEMORY")  # no file beside the temporary one
        database.execute("BEGIN")
        for name, fields in SCHEMA_TABLES.items():
            database.execute(f"CREATE TABLE {name} {fields}")
        database.executemany(
            "INSERT INTO gpkg_extensions VALUES (?, NULL, 'gpkg_schema', ?, 'read-write')",
            [(name, SCHEMA_DEFINITION) for name in SCHEMA_TABLES],
        )
        database.executemany(
            "INSERT INTO gpkg_data_columns (table_name, column_name, name, description) VALUES (?, ?, ?, ?)",
            described,
        )
        database.execute("COMMIT")


def _write_parquet(scored: Scored, overview: Overview | None, path: Path) -> None:
    _frame(scored).to_parquet(path, index=False, write_covering_bbox=True, schema_version="1.1.0")
    # geopandas has no place for metadata of one's own, so the file is opened and written once more
    table = pyarrow.parquet.read_table(path)
    told = {**table.schema.metadata, b"roadrisk": json.dumps(scored.as_json(), ensure_ascii=False).encode()}
    schema = _described(table.schema, scored.columns).with_metadata(told)
    pyarrow.parquet.write_table(table.cast(schema), path, compression="zstd")


def _described(schema: pyarrow.Schema, columns: Sequence[Column]) -> pyarrow.Schema:
    """The schema with alias, unit and description in each field's metadata."""
    aliases = field_aliases(columns)
    for column in columns:
        place = schema.get_field_index(column.name)
        told = {"alias": aliases[column.name], "unit": column.unit, "description": field_description(column)}
        schema = schema.set(place, schema.field(place).with_metadata(told))
    return schema


def _write_csv(scored: Scored, overview: Overview | None, path: Path) -> None:
    table = scored.table
    if scored.places is not None:
        lng, lat = (values.round(DECIMALS) for values in scored.places.centres())
        table = table.assign(lon=lng, lat=lat)
        table = table[["lon", "lat", *scored.table.columns]]
    table.to_csv(path, index=False, lineterminator="\n")


def _write_page(scored: Scored, overview: Overview | None, path: Path) -> None:
    path.write_text(page(scored, overview), encoding="utf-8", newline="\n")


def _frame(scored: Scored) -> geopandas.GeoDataFrame:
    places = _places_of(scored)
    return geopandas.GeoDataFrame(scored.table, geometry=places.shapes(places.crs), crs=places.crs)


def _places_of(scored: Scored) -> Places:
    if scored.places is None:
        raise LayerError(
            "nothing says where the tiles are; give lon and lat columns or geometry, or write .csv"
        )
    return scored.places


WRITERS: dict[str, Writer] = {
    ".geojson": _write_geojson,
    ".gpkg": _write_gpkg,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".html": _write_page,
}
