"""GeoPackage, with the style and the meaning of its fields inside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from roadrisk.maps.formats.through_gdal import written_by_gdal
from roadrisk.maps.layer import Layer
from roadrisk.maps.shape_types import shapes_of
from roadrisk.maps.styles.qml import qml
from roadrisk.maps.styles.sld import sld

# of every change, so that the same layer is the same bytes
CHANGED = "1970-01-01T00:00:00.000Z"
# as QGIS makes it, which takes the style that is marked useAsDefault when it loads the layer
LAYER_STYLES = """CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), f_table_schema TEXT(256),
    f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"""
STYLE = """INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column,
    styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time)
    SELECT '', '', table_name, column_name, :name, :qml, :sld, 1, :description, '', :changed
    FROM gpkg_geometry_columns"""
STYLES_ARE_LISTED = """INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change)
    VALUES ('layer_styles', 'attributes', 'layer_styles', :changed)"""


def write_geopackage(layer: Layer, path: Path) -> None:
    """Features in the layer's order; GDAL takes alias and description of the fields from their metadata.

    Nothing in the file tells when it was made: what GeoPackage wants as dates are those of 1970.
    """
    shapes = shapes_of(layer)
    # of those that readers may have, the last that none of them warns of
    options = {
        "dataset_options": {"VERSION": "1.3"},
        "layer_options": {"IDENTIFIER": layer.about.title, "DESCRIPTION": layer.about.risk_meaning},
    }
    with (
        written_by_gdal(layer, path, "GPKG", ".gpkg", shapes, **options) as made,
        closing(sqlite3.connect(made, isolation_level=None)) as database,
    ):
        database.execute("BEGIN")
        if shapes.drawn_alike:
            _add_style(database, layer)
        database.execute("UPDATE gpkg_contents SET last_change = ?", (CHANGED,))
        database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", (CHANGED,))
        database.execute("COMMIT")


def _add_style(database: sqlite3.Connection, layer: Layer) -> None:
    told = {
        "name": layer.legend.title,
        "qml": qml(layer),
        "sld": sld(layer),
        "description": layer.about.risk_meaning,
        "changed": CHANGED,
    }
    database.execute(LAYER_STYLES)
    database.execute(STYLE, told)
    database.execute(STYLES_ARE_LISTED, told)
