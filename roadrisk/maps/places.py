"""Where the features of a layer lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer

from roadrisk.grid import FloatArray, Grid, IntArray

WGS84 = "EPSG:4326"


class Places(Protocol):
    """Where N tiles lie; shapes are made when a layer asks for them."""

    @property
    def crs(self) -> str:
        """Where the tiles are exact, as `EPSG:32619`."""
        ...

    def shapes(self, crs: str) -> NDArray[Any]:
        """(N,) shapely polygons or points in `crs`, x before y; None where unknown."""
        ...

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """(N,) longitude and (N,) latitude [deg]; NaN where unknown."""
        ...

    def taken(self, rows: IntArray) -> Places:
        """These tiles in this order."""
        ...


@dataclass(frozen=True)
class GridTiles:
    """Tiles of a grid, at (N,) `rows` and (N,) `cols`."""

    grid: Grid
    rows: IntArray
    cols: IntArray

    @property
    def crs(self) -> str:
        """The grid's."""
        return self.grid.crs

    def shapes(self, crs: str) -> NDArray[Any]:
        """(N,) counter-clockwise squares; in another CRS, their true outlines."""
        return self.grid.cells(self.rows, self.cols, crs)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """(N,) longitude and (N,) latitude of the middle of each square [deg]."""
        return self.grid.centres(self.rows, self.cols, WGS84)

    def taken(self, rows: IntArray) -> GridTiles:
        """These tiles in this order."""
        return GridTiles(self.grid, self.rows[rows], self.cols[rows])


@dataclass(frozen=True)
class GivenShapes:
    """(N,) points, polygons or None that came with a table, in `crs`."""

    geometry: NDArray[Any]
    crs: str

    def shapes(self, crs: str) -> NDArray[Any]:
        """(N,) the shapes, their vertices moved to `crs`."""
        if crs == self.crs:
            return self.geometry
        moved = Transformer.from_crs(self.crs, crs, always_xy=True).transform
        return np.asarray(shapely.transform(self.geometry, moved, interleaved=False))

    def taken(self, rows: IntArray) -> GivenShapes:
        """These shapes in this order."""
        return GivenShapes(self.geometry[rows], self.crs)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """(N,) longitude and (N,) latitude of a point on each shape [deg]."""
        points = shapely.point_on_surface(self.shapes(WGS84))
        return np.asarray(shapely.get_x(points)), np.asarray(shapely.get_y(points))


@dataclass(frozen=True)
class Moved:
    """The places of a layer, exact in another CRS."""

    places: Places
    crs: str

    def shapes(self, crs: str) -> NDArray[Any]:
        """(N,) the shapes, in `crs`."""
        return self.places.shapes(crs)

    def centres(self) -> tuple[FloatArray, FloatArray]:
        """(N,) longitude and (N,) latitude [deg]."""
        return self.places.centres()

    def taken(self, rows: IntArray) -> Moved:
        """These places in this order."""
        return Moved(self.places.taken(rows), self.crs)


def given_points(lng: ArrayLike, lat: ArrayLike) -> GivenShapes:
    """Places from (N,) longitudes and latitudes; None where either is NaN.

    >>> given_points([-71.1, float("nan")], [42.3, 42.4]).geometry.tolist()
    [<POINT (-71.1 42.3)>, None]
    """
    x, y = np.asarray(lng, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    points: NDArray[Any] = np.asarray(shapely.points(x, y))
    points[~(np.isfinite(x) & np.isfinite(y))] = None
    return GivenShapes(points, WGS84)
