"""Geometry as columns of Arrow: WKB, the bounds that GeoParquet 1.1 calls a covering, and its `geo` key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyproj import CRS

from roadrisk.grid import FloatArray

GEOMETRY = "geometry"
COVERING = "bbox"
COVERING_TYPE = pa.struct([(edge, pa.float64()) for edge in ("xmin", "ymin", "xmax", "ymax")])

_WKB_BOX = np.dtype([("head", "u1,<u4,<u4,<u4"), ("points", [("x", "<f8"), ("y", "<f8")], 5)])


def boxes_as_wkb(left: FloatArray, bottom: FloatArray, right: FloatArray, top: FloatArray) -> pa.Array:
    """(N,) boxes, point for point those of `shapely.box` counter-clockwise.

    >>> import shapely
    >>> one = boxes_as_wkb(*np.array([[0.0], [1.0], [2.0], [3.0]]))
    >>> one[0].as_py() == shapely.to_wkb(shapely.box(0, 1, 2, 3, ccw=True))
    True
    """
    wkb = np.empty(len(left), dtype=_WKB_BOX)
    wkb["head"] = (1, 3, 1, 5)  # little-endian, a polygon, one ring, five points
    wkb["points"]["x"] = np.column_stack([right, right, left, left, right])
    wkb["points"]["y"] = np.column_stack([bottom, top, top, bottom, bottom])
    offsets = np.arange(len(left) + 1, dtype=np.int32) * _WKB_BOX.itemsize
    return pa.Array.from_buffers(pa.binary(), len(left), [None, pa.py_buffer(offsets), pa.py_buffer(wkb)])


def covering(edges: NDArray[np.float64]) -> pa.Array:
    """(4, N) left, bottom, right and top as one column; null where they are NaN.

    >>> covering(np.array([[0.0, np.nan]] * 4)).to_pylist()
    [{'xmin': 0.0, 'ymin': 0.0, 'xmax': 0.0, 'ymax': 0.0}, None]
    """
    nowhere = np.isnan(edges[0])
    mask = pa.array(nowhere) if nowhere.any() else None
    columns = [pa.array(edge) for edge in edges]
    return pa.StructArray.from_arrays(columns, fields=list(COVERING_TYPE), mask=mask)


def geo_key(crs: str, types: Sequence[str], bounds: Sequence[float] | None, **told: Any) -> dict[str, Any]:
    """The `geo` key of a GeoParquet 1.1 file with a column of WKB and its covering.

    Parameters
    ----------
    types : of the shapes, `Polygon`; empty where any may come.
    bounds : of them all, in `crs`; None without any shape.
    told : what else is known of the column, such as its `orientation`.
    """
    geometry = {
        "encoding": "WKB",
        "crs": CRS.from_user_input(crs).to_json_dict(),
        "geometry_types": list(types),
        **told,
        **({} if bounds is None else {"bbox": list(bounds)}),
        "covering": {"bbox": {edge.name: [COVERING, edge.name] for edge in COVERING_TYPE}},
    }
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: geometry}}


def bounds_of(edges: NDArray[np.float64]) -> list[float] | None:
    """Left, bottom, right and top around (4, N) edges, some NaN; None where all are.

    >>> bounds_of(np.array([[0.0, 1.0], [0.0, -1.0], [2.0, 3.0], [2.0, np.nan]]))
    [0.0, -1.0, 3.0, 2.0]
    """
    if np.isnan(edges).all():
        return None
    return [*np.nanmin(edges[:2], axis=1).tolist(), *np.nanmax(edges[2:], axis=1).tolist()]
