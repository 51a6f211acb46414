"""Ground distances on the WGS84 ellipsoid."""

from __future__ import annotations

import numpy as np
from pyproj import CRS, Geod, Transformer

from roadrisk.grid import FloatArray, IntArray

_WGS84 = Geod(ellps="WGS84")
_RADIUS_M = 6_371_008.8  # mean, IUGG
_CHORD_M = 5_000.0  # up to here an arc is its chord and a correction, to 3e-10


def ground_distances(crs: CRS | str, start: FloatArray, end: FloatArray) -> FloatArray:
    """(N,) geodesic metres between points, to 1e-9 of the distance or a hundredth of a micrometre.

    Parameters
    ----------
    start, end : (N, 2) x, y in `crs`.

    Examples
    --------
    >>> ground_distances("EPSG:4326", np.array([[-71.0, 42.0]]), np.array([[-71.0, 42.1]])).round(2).tolist()
    [11107.43]
    """
    n = len(start)
    points = np.concatenate([start, end])
    return ground_steps(crs, points, np.arange(n), np.arange(n, 2 * n))


def ground_steps(crs: CRS | str, points: FloatArray, start: IntArray, end: IntArray) -> FloatArray:
    """(S,) geodesic metres between points that several steps share.

    Parameters
    ----------
    points : (N, 2) x, y in `crs`.
    start, end : (S,) which points a step runs between.
    """
    lng, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*points.T)
    place = _geocentric(np.asarray(lng), np.asarray(lat))
    chord = np.sqrt(sum((axis[end] - axis[start]) ** 2 for axis in place))
    # an arc of angle a has the chord 2 R sin(a / 2)
    metres = chord * (1 + chord**2 / (24 * _RADIUS_M**2))
    far = np.flatnonzero(~(chord <= _CHORD_M))
    if len(far):
        a, b = start[far], end[far]
        metres[far] = _WGS84.inv(lng[a], lat[a], lng[b], lat[b])[2]
    return np.asarray(metres, dtype=np.float64)


def _geocentric(lng: FloatArray, lat: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(N,) metres from the centre of the Earth along its three axes."""
    with np.errstate(invalid="ignore"):
        sin, cos = np.sin(np.radians(lat)), np.cos(np.radians(lat))
        east, north = np.sin(np.radians(lng)), np.cos(np.radians(lng))
    normal = _WGS84.a / np.sqrt(1 - _WGS84.es * sin**2)
    return normal * cos * north, normal * cos * east, normal * (1 - _WGS84.es) * sin
