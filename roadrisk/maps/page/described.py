"""What a page is told of a layer before it asks for any row."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd

from roadrisk.errors import LayerError
from roadrisk.grid import IntArray, LngLatBbox
from roadrisk.maps.fields import field_aliases, field_description
from roadrisk.maps.layer import Layer
from roadrisk.maps.shape_types import shapes_of
from roadrisk.maps.styles.maplibre import style_layers

# what may name a feature and what its list may show, the first that a layer has
NAMING = ("tile_id", "road_id", "link_id", "id")
LISTING = ("expected", "change", "risk", "observed")
STANDING = ("rank", "percentile")


class Zoomed(Protocol):
    """Vector tiles, as far as a description needs them."""

    @property
    def zooms(self) -> tuple[int, int]:
        """The first and the last zoom."""
        ...

    @property
    def bounds(self) -> LngLatBbox | None:
        """Around all features; None without any."""
        ...


def layer_config(layer: Layer, tiles: Zoomed) -> dict[str, Any]:
    """A layer as plain JSON values: its words, legend, fields, counts and where its tiles are.

    Parameters
    ----------
    tiles : the layer's own.

    Raises
    ------
    LayerError : none of its features has a place.
    """
    if tiles.bounds is None:
        raise LayerError("a map page needs tiles that lie somewhere; write .csv")
    codes, shapes = layer.classes(), shapes_of(layer)
    often = np.bincount(codes[codes >= 0], minlength=len(layer.legend.shades))
    aliases = field_aliases(layer.columns)
    return {
        "name": layer.name,
        "title": layer.about.title,
        "about": layer.about.as_json(),
        "legend": layer.legend.as_json(),
        "named": name_field(layer),
        "listed": listed_field(layer),
        "fields": [
            {
                "name": column.name,
                "unit": column.unit,
                "alias": aliases[column.name],
                "meaning": field_description(column),
                "role": column.role,
            }
            for column in layer.columns
        ],
        "count": len(layer),
        "counts": dict(zip(layer.legend.values, often.tolist(), strict=True)),
        "absent": int((codes < 0).sum()),
        "ranked": len(rows_in_order(layer)),
        # more where some were taken; None where nothing says
        "ranked_in_all": layer.ranked,
        "bounds": [float(edge) for edge in tiles.bounds],
        "zooms": [int(zoom) for zoom in tiles.zooms],
        "geometry": shapes.kind,
        "style": style_layers(layer.legend, shapes.kinds, int(tiles.zooms[1])),
    }


def rows_in_order(layer: Layer) -> IntArray:
    """The rows that are ranked, the one that matters most first.

    By `rank`; a layer without ranks by its classes as the legend lists them, and within a class by the
    listed field, the largest first. Rows keep their order in ties.
    """
    table = layer.table
    if "rank" in table:
        rank = table["rank"].to_numpy(dtype=np.float64, na_value=np.nan)
        known = ~np.isnan(rank)
        order = np.argsort(np.where(known, rank, np.inf), kind="stable")
    else:
        codes = layer.classes()
        listed = pd.to_numeric(table[listed_field(layer)], errors="coerce")
        fall = -listed.to_numpy(dtype=np.float64, na_value=-np.inf)
        known = codes >= 0
        order = np.lexsort((fall, codes))
    return np.asarray(order[known[order]], dtype=np.int64)


def name_field(layer: Layer) -> str:
    """The field that names a feature."""
    names = [column.name for column in layer.columns]
    return next((name for name in NAMING if name in names), names[0])


def listed_field(layer: Layer) -> str:
    """The field that the list of the riskiest shows.

    What a count model expects, else the change, the risk or what was observed, else the first number.
    """
    made = [column.name for column in layer.columns if column.role != "feature"]
    known = (name for name in LISTING if name in made)
    numbers = (name for name in layer.table.select_dtypes("number") if name not in STANDING)
    return str(next(known, next(numbers, name_field(layer))))
