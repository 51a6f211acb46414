"""A layer as texts that a page holds: its tiles, its rows, its names, each unpacked when it is needed."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from roadrisk.errors import LayerError
from roadrisk.maps.layer import Layer
from roadrisk.maps.page.described import layer_config, name_field, rows_in_order
from roadrisk.maps.page.finding import reach_m
from roadrisk.maps.places import WGS84
from roadrisk.maps.vector_tiles import VectorTiles

ROWS_A_BLOCK = 2048  # as many as a click or a hover unpacks without being felt
STEP_DEG = 1e-6  # vertices of the page are whole steps; a step is a tenth of a metre
DIGITS = 6


@dataclass(frozen=True)
class Held:
    """A layer inside a page.

    Parameters
    ----------
    config : what the page reads at once.
    blocks : base64 by the id of its element.
    """

    config: dict[str, Any]
    blocks: dict[str, str]


def held(layer: Layer, tiles: VectorTiles, k: int) -> Held:
    """The k-th layer of a page.

    The blocks are gzip: `tile-K-Z-X-Y` a vector tile, `rows-K-P` the P-th 2,048 rows as JSON
    `{"columns": [values by field], "shapes": [...]}`, `names-K` the names as JSON and
    `order-K` the ranked rows with their ranks: `{"rows": [...], "ranks": [...]}`.
    Shapes are whole steps of 1e-6 degrees from the layer's `origin`, each vertex relative to the one
    before it: `["Polygon", [ring...]...]`, `["LineString", line...]` or `["Point", point...]`; null
    without a place.
    """
    config = layer_config(layer, tiles)
    origin = np.array(config["bounds"][:2])
    blocks = {
        f"tile-{k}-{z}-{x}-{y}": packed(tiles.tile(z, x, y))
        for z in range(tiles.zooms[0], tiles.zooms[1] + 1)
        for x, y in tiles.addresses(z)
    }
    boxes = []
    for number, part in enumerate(layer.parts(ROWS_A_BLOCK)):
        shapes = part.placed().shapes(WGS84)
        rows = {
            "columns": [plain(part.table[column.name]) for column in part.columns],
            "shapes": [stepped(shape, origin) for shape in shapes],
        }
        blocks[f"rows-{k}-{number}"] = packed_json(rows)
        box = shapely.total_bounds(shapes)
        boxes.append(box.tolist() if np.isfinite(box).all() else None)
    blocks[f"names-{k}"] = packed_json(plain(layer.table[name_field(layer)].astype("str")))
    order = rows_in_order(layer)
    ranks = layer.table["rank"].iloc[order].astype(int).tolist() if "rank" in layer.table else None
    blocks[f"order-{k}"] = packed_json(
        {"rows": order.tolist(), "ranks": ranks or list(range(1, len(order) + 1))}
    )
    page = {
        "reach_m": reach_m(config["geometry"]),
        "rows_a_block": ROWS_A_BLOCK,
        "origin": origin.tolist(),
        "step": STEP_DEG,
        "boxes": boxes,
    }
    return Held({**config, **page}, blocks)


def packed(content: bytes) -> str:
    """Base64 of gzip, the same for the same bytes."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def packed_json(value: Any) -> str:
    """JSON, packed."""
    return packed(json.dumps(value, allow_nan=False, separators=(",", ":")).encode())


def plain(values: pd.Series[Any]) -> list[Any]:
    """Plain JSON values, null where unknown, numbers to 6 digits."""
    found = values.astype(object).where(values.notna(), None).tolist()
    return [float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for value in found]


def stepped(shape: Any, origin: NDArray[np.float64]) -> list[Any] | None:
    """A shape in whole steps from an origin; None without a place.

    Raises
    ------
    LayerError : a collection of several kinds of shape.
    """
    if shape is None or shape.is_empty:
        return None
    kind = shape.geom_type.removeprefix("Multi")
    if kind not in ("Point", "LineString", "Polygon"):
        raise LayerError(f"a map page draws points, lines and polygons, not a {kind}; write .gpkg")
    parts = shapely.get_parts(shape)
    if kind != "Polygon":
        return [kind, *(_steps(shapely.get_coordinates(part), origin) for part in parts)]
    return [kind, *([_steps(ring, origin) for ring in _rings(part)] for part in parts)]


def _rings(polygon: Any) -> Sequence[NDArray[np.float64]]:
    # without the last vertex, which is the first again
    return [shapely.get_coordinates(ring)[:-1] for ring in (polygon.exterior, *polygon.interiors)]


def _steps(vertices: NDArray[np.float64], origin: NDArray[np.float64]) -> list[int]:
    whole = np.round((vertices - origin) / STEP_DEG).astype(np.int64)
    whole[1:] -= whole[:-1].copy()
    return list(whole.ravel().tolist())
