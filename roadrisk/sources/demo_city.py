"""The plan of a made-up city, and the crashes that happen in it.

The city is a lattice of squares with one junction in the middle of each. Two things make a junction
dangerous. Worn-out markings stand in no table: only the picture shows them. Traffic is in no
picture: all classes of street are equally wide and equally painted, so the class, which stands for
the traffic (AADT follows it), is known from the road table alone.

Lengths are metres; x runs east and y south from the city's north-west corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray, IntArray

BoolArray = NDArray[np.bool_]

SQUARE_M = 64
NO_STREET = -1
HIGHWAY = ("primary", "secondary", "tertiary", "residential")
CLASS_AADT = np.array([24_000, 11_000, 5_000, 1_500])  # vehicles a day, median of the class
CLASS_SHARE = np.array([0.22, 0.24, 0.26, 0.28])
BLOCKS = ("houses", "park", "offices")
PARK_SHARE = 0.09
STREET_WIDTHS_M = (12, 14)  # drawn for a whole street, whatever its class
STREET_OFFSET_M = 3  # how far a street may lie from the middle of its squares

BASE_CRASHES = 2.0  # a year, where 10,000 vehicles enter a day
TRAFFIC_POWER = 0.9
WORN_FACTOR = 4.0
DISPERSION = 0.1  # k of Var = mu + k mu^2


@dataclass(frozen=True)
class Lake:
    """A lake with a wobbling shore."""

    x: float
    y: float
    radius: float
    phase: float

    def shore_m(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Metres from the shore, negative in the water."""
        dx, dy = x - self.x, (y - self.y) * 1.4
        angle = np.arctan2(dy, dx)
        wobble = 1 + 0.12 * np.sin(3 * angle + self.phase) + 0.06 * np.sin(7 * angle - 2 * self.phase)
        return np.asarray(np.hypot(dx, dy) - self.radius * wobble)


@dataclass(frozen=True)
class River:
    """A river from west to east, which streets cross on bridges."""

    y: float
    swing: float
    wave: float
    phase: float
    half_width: float

    def bank_m(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Metres from the bank, negative in the water."""
        middle = self.y + self.swing * np.sin(x / self.wave + self.phase)
        middle = middle + 0.3 * self.swing * np.sin(2.7 * x / self.wave)
        return np.asarray(np.abs(y - middle) - self.half_width)


@dataclass(frozen=True)
class Street:
    """A street from one junction, or the city's edge, to the next.

    Parameters
    ----------
    u, v : node ids of its ends.
    start, end : (x, y) of its ends.
    aadt : vehicles a day, both directions.
    """

    u: int
    v: int
    start: tuple[float, float]
    end: tuple[float, float]
    highway: str
    aadt: int
    oneway: bool

    @property
    def length_m(self) -> float:
        """From end to end."""
        return math.dist(self.start, self.end)


@dataclass(frozen=True)
class CityPlan:
    """Everything that is where it is in the city.

    Parameters
    ----------
    street_x : (cols,) middle of the north-south street of each column of squares.
    street_y : (rows,) middle of the east-west street of each row of squares.
    width_x, width_y : (cols,) and (rows,) how wide those streets are.
    class_x : (rows + 1, cols) index into `HIGHWAY` of the street across each square's north edge.
    class_y : (rows, cols + 1) the same across each square's west edge.
    aadt_x, aadt_y : vehicles a day on them.
    worn : (rows, cols) the junction's markings are worn out.
    flooded : (rows, cols) the square has a lake where others have a junction.
    blocks : (rows + 1, cols + 1) index into `BLOCKS` of the land around each square's north-west corner.
    """

    seed: int
    street_x: IntArray
    street_y: IntArray
    width_x: IntArray
    width_y: IntArray
    class_x: IntArray
    class_y: IntArray
    aadt_x: IntArray
    aadt_y: IntArray
    worn: BoolArray
    flooded: BoolArray
    blocks: IntArray
    lake: Lake
    river: River

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of squares."""
        return len(self.street_y), len(self.street_x)

    def arms(self, row: int, col: int) -> tuple[bool, bool, bool, bool]:
        """Whether a street leaves the square's junction to the north, east, south and west."""
        return (
            bool(self.class_x[row, col] != NO_STREET),
            bool(self.class_y[row, col + 1] != NO_STREET),
            bool(self.class_x[row + 1, col] != NO_STREET),
            bool(self.class_y[row, col] != NO_STREET),
        )


def city_plan(seed: int, rows: int, cols: int) -> CityPlan:
    """A city of `rows` x `cols` squares; equal seeds and sizes make equal cities.

    Examples
    --------
    >>> plan = city_plan(seed=0, rows=8, cols=12)
    >>> plan.shape, plan.arms(0, 0)
    ((8, 12), (True, True, True, True))
    """
    rng = np.random.default_rng([seed, 0])
    street_x, width_x = _streets_across(rng, cols)
    street_y, width_y = _streets_across(rng, rows)
    width_m, height_m = cols * SQUARE_M, rows * SQUARE_M
    lake = Lake(
        x=rng.uniform(0.6, 0.8) * width_m,
        y=rng.uniform(0.15, 0.3) * height_m,
        radius=0.08 * min(width_m, height_m),
        phase=rng.uniform(0, 2 * math.pi),
    )
    river = River(
        y=rng.uniform(0.6, 0.75) * height_m,
        swing=0.06 * height_m,
        wave=0.12 * width_m,
        phase=rng.uniform(0, 2 * math.pi),
        half_width=11.0,
    )
    flooded = lake.shore_m(street_x[None, :].astype(float), street_y[:, None].astype(float)) < 0
    class_x, aadt_x = _traffic(rng, cols, rows + 1)
    class_y, aadt_y = _traffic(rng, rows, cols + 1)
    dry_x, dry_y = np.ones((rows + 1, cols), bool), np.ones((rows, cols + 1), bool)
    for ends in (slice(0, -1), slice(1, None)):
        dry_x[ends] &= ~flooded
        dry_y[:, ends] &= ~flooded
    return CityPlan(
        seed=seed,
        street_x=street_x,
        street_y=street_y,
        width_x=width_x,
        width_y=width_y,
        class_x=np.where(dry_x, class_x.T, NO_STREET),
        class_y=np.where(dry_y, class_y, NO_STREET),
        aadt_x=np.where(dry_x, aadt_x.T, 0),
        aadt_y=np.where(dry_y, aadt_y, 0),
        worn=(rng.random((rows, cols)) < 0.5) & ~flooded,
        flooded=flooded,
        blocks=_blocks(rng, rows, cols),
        lake=lake,
        river=river,
    )


def entering_aadt(plan: CityPlan) -> FloatArray:
    """(rows, cols) vehicles a day that enter each junction: half of what its arms carry."""
    arms = plan.aadt_x[:-1] + plan.aadt_x[1:] + plan.aadt_y[:, :-1] + plan.aadt_y[:, 1:]
    return np.where(plan.flooded, 0.0, arms / 2.0)


def expected_crashes(plan: CityPlan) -> FloatArray:
    """(rows, cols) mean crashes a year at each junction, 0 where there is none.

    They grow with traffic as in a safety performance function, and `WORN_FACTOR` times where markings
    are worn.
    """
    worn = np.where(plan.worn, WORN_FACTOR, 1.0)
    return np.asarray(BASE_CRASHES * (entering_aadt(plan) / 10_000) ** TRAFFIC_POWER * worn)


def drawn_crashes(expected: FloatArray, rng: np.random.Generator) -> IntArray:
    """Counts drawn from a negative binomial: mean `expected`, variance mu + `DISPERSION` mu^2.

    Examples
    --------
    >>> drawn_crashes(np.full(100_000, 5.0), np.random.default_rng(0)).mean().round(1)
    np.float64(5.0)
    """
    frailty = rng.gamma(1 / DISPERSION, DISPERSION, expected.shape)
    return np.asarray(rng.poisson(expected * frailty), dtype=np.int64)


def streets(plan: CityPlan) -> Iterator[Street]:
    """Every street of the city once, north-south ones first."""
    rows, cols = plan.shape
    ys = np.concatenate([[0], plan.street_y, [rows * SQUARE_M]])
    xs = np.concatenate([[0], plan.street_x, [cols * SQUARE_M]])
    rng = np.random.default_rng([plan.seed, 1])
    oneway_x, oneway_y = rng.random(plan.class_x.shape) < 0.1, rng.random(plan.class_y.shape) < 0.1
    node = np.arange((rows + 2) * (cols + 2)).reshape(rows + 2, cols + 2) + 1
    for row, col in np.argwhere(plan.class_x != NO_STREET):
        x = float(plan.street_x[col])
        yield Street(
            u=int(node[row, col + 1]),
            v=int(node[row + 1, col + 1]),
            start=(x, float(ys[row])),
            end=(x, float(ys[row + 1])),
            highway=HIGHWAY[plan.class_x[row, col]],
            aadt=int(plan.aadt_x[row, col]),
            oneway=bool(oneway_x[row, col]),
        )
    for row, col in np.argwhere(plan.class_y != NO_STREET):
        y = float(plan.street_y[row])
        yield Street(
            u=int(node[row + 1, col]),
            v=int(node[row + 1, col + 1]),
            start=(float(xs[col]), y),
            end=(float(xs[col + 1]), y),
            highway=HIGHWAY[plan.class_y[row, col]],
            aadt=int(plan.aadt_y[row, col]),
            oneway=bool(oneway_y[row, col]),
        )


def _streets_across(rng: np.random.Generator, squares: int) -> tuple[IntArray, IntArray]:
    """(squares,) middles and widths of parallel streets, one through each square."""
    offset = rng.integers(-STREET_OFFSET_M, STREET_OFFSET_M + 1, squares)
    return np.arange(squares) * SQUARE_M + SQUARE_M // 2 + offset, rng.choice(STREET_WIDTHS_M, squares)


def _blocks(rng: np.random.Generator, rows: int, cols: int) -> IntArray:
    """(rows + 1, cols + 1) offices the likelier the nearer to the middle, parks anywhere, else houses."""
    y, x = np.ogrid[-1 : 1 : (rows + 1) * 1j, -1 : 1 : (cols + 1) * 1j]
    offices = rng.random((rows + 1, cols + 1)) < 0.95 * np.exp(-(x**2 + y**2) / 0.12)
    park = rng.random((rows + 1, cols + 1)) < PARK_SHARE
    return np.where(park, BLOCKS.index("park"), np.where(offices, BLOCKS.index("offices"), 0))


def _traffic(rng: np.random.Generator, lines: int, pieces: int) -> tuple[IntArray, IntArray]:
    """(lines, pieces) class and AADT of parallel streets; both change every few junctions."""
    starts = rng.random((lines, pieces)) < 0.35
    starts[:, 0] = True
    stretch = np.cumsum(starts.ravel()) - 1
    classes = rng.choice(len(HIGHWAY), stretch[-1] + 1, p=CLASS_SHARE)
    aadt = CLASS_AADT[classes] * np.exp(rng.normal(0, 0.12, len(classes)))
    rounded = (np.round(aadt / 100) * 100).astype(np.int64)
    return classes[stretch].reshape(lines, pieces), rounded[stretch].reshape(lines, pieces)
