"""Scored tiles: where they lie, what they carry and what their reader must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import FloatArray, Grid, IntArray
from roadrisk.maps.bands import ranked
from roadrisk.maps.fields import fields_as_json

WGS84 = "EPSG:4326"

TILE_ID = Column("tile_id", "object", "", "info", "none", "Name of the tile, the same for everybody.")
STANDING_COLUMNS = (
    Column(
        "rank", "int64", "", "info", "none", "Place among the scored tiles; 1 is the riskiest, ties share it."
    ),
    Column(
        "percentile",
        "float64",
        "%",
        "info",
        "none",
        "Scored tiles with this risk or less; 100 is the riskiest.",
    ),
    Column("band", "object", "", "info", "none", "Slice of the scored tiles in order of risk."),
)
HAS_IMAGE = Column("has_image", "bool", "", "info", "none", "Whether the score used a picture of the tile.")
HAS_FACTS = Column("has_facts", "bool", "", "info", "none", "Whether the score used facts about the tile.")
IN_TRAINING = Column(
    "in_training",
    "bool",
    "",
    "info",
    "none",
    "Whether models learned from the tile; its score comes from others.",
)
EVERY_LAYER_HAS = (TILE_ID.name, "risk", HAS_IMAGE.name, HAS_FACTS.name, IN_TRAINING.name)


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


def given_points(lng: ArrayLike, lat: ArrayLike) -> GivenShapes:
    """Places from (N,) longitudes and latitudes; None where either is NaN.

    >>> given_points([-71.1, float("nan")], [42.3, 42.4]).geometry.tolist()
    [<POINT (-71.1 42.3)>, None]
    """
    x, y = np.asarray(lng, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    points: NDArray[Any] = np.asarray(shapely.points(x, y))
    points[~(np.isfinite(x) & np.isfinite(y))] = None
    return GivenShapes(points, WGS84)


@dataclass(frozen=True)
class About:
    """What every layer says of itself.

    Parameters
    ----------
    title : of the region or table, for people.
    risk_meaning : one sentence on what a high risk means.
    label_meaning : one sentence on what `label` holds.
    licence, attribution : of the sources, as their owners ask.
    model : identity of the model.
    windows : dates [from, to) by what they bound, such as `label` and `features`.
    """

    title: str
    risk_meaning: str
    label_meaning: str
    licence: str
    attribution: str
    model: str
    windows: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Scored:
    """The scores of N tiles.

    Parameters
    ----------
    table : N rows.
    columns : what the columns of `table` mean, in its order.
    places : where the tiles lie; None when nothing says.
    """

    table: pd.DataFrame
    columns: tuple[Column, ...]
    places: Places | None
    about: About

    def __len__(self) -> int:
        return len(self.table)

    def as_json(self) -> dict[str, Any]:
        """What a layer's metadata holds: the words about it and its columns."""
        return {**self.about.as_json(), "columns": fields_as_json(self.columns)}


def scored_tiles(
    fields: Sequence[tuple[Column, pd.Series[Any]]],
    places: Places | None,
    about: About,
    order: FloatArray | None = None,
) -> Scored:
    """What is known of scored tiles with their ranks and bands, ready to be written.

    Parameters
    ----------
    fields : what a layer carries, N values each, with its meaning. Among them are `tile_id`, `risk` (NaN
        where not scored), `has_image`, `has_facts` and `in_training`; rank, percentile and band follow risk.
    order : (N,) by which tiles are ranked, higher is riskier; the risk without it.

    Raises
    ------
    LayerError : two fields have the same name, one of every layer's is missing, a value is infinite, or the
        numbers of rows differ.
    """
    lengths = {len(values) for _, values in fields}
    if len(lengths) > 1:
        raise LayerError(
            f"scores and facts differ in rows, {sorted(lengths)}; give the same tiles in the same order"
        )
    known = {column.name: values.array for column, values in fields}
    missing = [name for name in EVERY_LAYER_HAS if name not in known]
    if missing:
        raise LayerError(f"scores lack {', '.join(missing)}; a layer has each of these fields")
    risk = known["risk"].to_numpy(dtype=np.float64, na_value=np.nan)
    standing = ranked(risk if order is None else np.where(np.isnan(risk), np.nan, order))
    made = zip(STANDING_COLUMNS, (standing.rank, pd.Series(standing.percentile), standing.band), strict=True)
    after_risk = 1 + [column.name for column, _ in fields].index("risk")
    every = [*fields[:after_risk], *made, *fields[after_risk:]]
    often = Counter(column.name for column, _ in every)
    taken = sorted(name for name, times in often.items() if times > 1)
    if taken:
        raise LayerError(f"facts are called {', '.join(taken)}, as fields of a score are; rename them")
    table = pd.DataFrame({column.name: values.array for column, values in every})
    endless = [
        str(name) for name in table.select_dtypes("number") if np.isinf(table[name].astype(float)).any()
    ]
    if endless:
        raise LayerError(f"{', '.join(endless)} holds infinite values, which no layer can; leave them empty")
    return Scored(table, tuple(column for column, _ in every), places, about)
