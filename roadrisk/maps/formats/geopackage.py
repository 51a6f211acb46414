"""GeoPackage, with the style and the meaning of its fields inside."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import geopandas

from roadrisk.columns import Column
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.layer import Layer

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


def write_geopackage(layer: Layer, path: Path) -> None:
    about = layer.about
    metadata = {
        "TITLE": about.title,
        "DESCRIPTION": about.risk_meaning,
        "LICENCE": about.licence,
        "ATTRIBUTION": about.attribution,
        "MODEL": about.model,
        "ROADRISK": json.dumps(layer.as_json(), ensure_ascii=False),
    }
    places = layer.placed()
    geopandas.GeoDataFrame(layer.table, geometry=places.shapes(places.crs), crs=places.crs).to_file(
        path,
        driver="GPKG",
        layer=layer.name,
        engine="pyogrio",
        layer_metadata=metadata,
        layer_options={"IDENTIFIER": about.title, "DESCRIPTION": about.risk_meaning},
    )
    _describe_fields(path, layer.name, layer.columns)


def _describe_fields(path: Path, name: str, columns: Sequence[Column]) -> None:
    """Alias and description of every field, by the schema extension of GeoPackage (OGC 12-128r19, F.9)."""
    aliases = field_aliases(columns)
    described = [(name, c.name, aliases[c.name], field_description(c)) for c in columns]
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = MEMORY")  # no file beside the temporary one
        database.execute("BEGIN")
        for table, fields in SCHEMA_TABLES.items():
            database.execute(f"CREATE TABLE {table} {fields}")
        database.executemany(
            "INSERT INTO gpkg_extensions VALUES (?, NULL, 'gpkg_schema', ?, 'read-write')",
            [(table, SCHEMA_DEFINITION) for table in SCHEMA_TABLES],
        )
        database.executemany(
            "INSERT INTO gpkg_data_columns (table_name, column_name, name, description) VALUES (?, ?, ?, ?)",
            described,
        )
        database.execute("COMMIT")
