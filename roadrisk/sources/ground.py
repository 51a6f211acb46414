"""Ground lengths on the WGS84 ellipsoid."""

from __future__ import annotations

import numpy as np
from pyproj import CRS, Geod, Transformer

from roadrisk.grid import FloatArray, IntArray

_WGS84 = Geod(ellps="WGS84")


def ground_distances(crs: CRS | str, start: FloatArray, end: FloatArray) -> FloatArray:
    """(N,) geodesic metres between points.

    Parameters
    ----------
    start, end : (N, 2) x, y in `crs`.

    Examples
    --------
    >>> ground_distances("EPSG:4326", np.array([[-71.0, 42.0]]), np.array([[-71.0, 42.1]])).round(2).tolist()
    [11107.43]
    """
    to_lnglat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lng, lat = to_lnglat.transform(*np.concatenate([start, end]).T)
    n = len(start)
    return np.asarray(_WGS84.inv(lng[:n], lat[:n], lng[n:], lat[n:])[2], dtype=np.float64)


def ground_lengths(crs: CRS | str, coordinates: FloatArray, offsets: IntArray) -> FloatArray:
    """(L,) geodesic metres of lines.

    Parameters
    ----------
    coordinates : (N, 2) x, y of all vertices in `crs`.
    offsets : (L + 1,) line i has the vertices [offsets[i], offsets[i + 1]).
    """
    first = segment_starts(offsets)
    line = np.searchsorted(offsets, first, side="right") - 1
    metres = ground_distances(crs, coordinates[first], coordinates[first + 1])
    return np.bincount(line, metres, minlength=len(offsets) - 1).astype(np.float64)


def segment_starts(offsets: IntArray) -> IntArray:
    """(S,) index of the first vertex of each segment of lines.

    >>> segment_starts(np.array([0, 3, 5])).tolist()
    [0, 1, 3]
    """
    is_start = np.ones(int(offsets[-1]), dtype=bool)
    is_start[offsets[1:] - 1] = False
    return np.flatnonzero(is_start)
