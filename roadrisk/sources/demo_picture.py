"""The made-up city as an aerial picture, one pixel a metre.

Each square is painted on its own from the plan and its own random numbers, so any window shows the
same pixels and nothing larger than the window is held. Worn markings have the same paint as fresh
ones: its pixels lie scattered over the asphalt. So the colours of a tile, their means and variances,
say nothing about its markings; only their arrangement does.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray
from roadrisk.sources.demo_city import BLOCKS, SQUARE_M, BoolArray, CityPlan

Picture = NDArray[np.uint8]
Canvas = NDArray[np.float32]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1

SIDE_PX = SQUARE_M
PAVEMENT_PX = 3
CROSSING_PX = 7
WHITE, YELLOW = (238, 238, 230), (236, 196, 74)
ASPHALT, PAVEMENT = (92, 92, 96), (170, 166, 158)
WATER = np.array([58, 96, 116], np.float32)
GROUND = {
    "houses": np.array([[104, 122, 76], [118, 126, 84], [92, 114, 70], [128, 124, 92]], np.float32),
    "park": np.array([[92, 124, 66], [84, 118, 62], [98, 126, 70], [88, 116, 64]], np.float32),
    "offices": np.array([[132, 130, 124], [124, 122, 118], [138, 134, 126], [128, 128, 126]], np.float32),
}
TREES = {"houses": 1.6, "park": 5.0, "offices": 0.5}  # a corner of a square
GRAIN = 3.5  # standard deviation of the sensor's noise, grey levels
ROOFS = ((150, 88, 70), (124, 104, 92), (158, 150, 142), (104, 106, 114), (184, 178, 168), (138, 118, 96))
LEAVES = ((58, 84, 46), (70, 98, 52), (50, 76, 48), (84, 104, 56))
FLAT_ROOFS = ((176, 174, 168), (150, 150, 152), (196, 192, 184), (132, 128, 124))


@dataclass(frozen=True)
class Yard:
    """A corner of a square: its part of one block.

    Parameters
    ----------
    box : up to the middle of the streets.
    block : one of `BLOCKS`.
    kerb_x, kerb_y : from the middle of the street to the end of its pavement.
    """

    box: Box
    block: str
    block_row: int
    block_col: int
    kerb_x: int
    kerb_y: int

    @property
    def inside(self) -> Box:
        """Without street and pavement."""
        x0, y0, x1, y1 = self.box
        return (
            x0 + self.kerb_x * (x0 > 0),
            y0 + self.kerb_y * (y0 > 0),
            x1 - self.kerb_x * (x1 < SIDE_PX),
            y1 - self.kerb_y * (y1 < SIDE_PX),
        )


def painted(plan: CityPlan, left: int, top: int, width: int, height: int) -> Picture:
    """The window [left, left + width) x [top, top + height) of the city's picture.

    Returns
    -------
    (3, height, width), red, green and blue; black outside the city.

    Examples
    --------
    >>> from roadrisk.sources.demo_city import city_plan
    >>> painted(city_plan(seed=0, rows=8, cols=8), left=10, top=20, width=100, height=50).shape
    (3, 50, 100)
    """
    rows, cols = plan.shape
    out = np.zeros((3, height, width), np.uint8)
    for row in range(max(0, top // SIDE_PX), min(rows, -(-(top + height) // SIDE_PX))):
        for col in range(max(0, left // SIDE_PX), min(cols, -(-(left + width) // SIDE_PX))):
            x, y = col * SIDE_PX - left, row * SIDE_PX - top
            x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + SIDE_PX, width), min(y + SIDE_PX, height)
            out[:, y0:y1, x0:x1] = painted_square(plan, row, col)[:, y0 - y : y1 - y, x0 - x : x1 - x]
    return out


def painted_square(plan: CityPlan, row: int, col: int) -> Picture:
    """(3, 64, 64) the picture of one square."""
    rng = np.random.default_rng([plan.seed, 2, row, col])
    canvas = _ground(plan, row, col)
    water = _water(plan, row, col)
    canvas[water] = WATER
    for yard in _yards(plan, row, col):
        _draw_yard(canvas, yard, water, rng)
    asphalt = _draw_streets(canvas, plan, row, col)
    canvas += rng.normal(0, GRAIN, canvas.shape[:2]).astype(np.float32)[..., None]
    paint, colour = _markings(plan, row, col, asphalt)
    if plan.worn[row, col]:
        paint, colour = _scattered(paint, colour, asphalt, np.random.default_rng([plan.seed, 3, row, col]))
    canvas[paint] = colour[paint]
    return np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8).transpose(2, 0, 1))


def _coordinates(row: int, col: int) -> tuple[FloatArray, FloatArray]:
    """Where a square's pixels are in the city: x (1, side) and y (side, 1)."""
    along = np.arange(SIDE_PX, dtype=np.float64) + 0.5
    return (along + col * SIDE_PX)[None, :], (along + row * SIDE_PX)[:, None]


def _water(plan: CityPlan, row: int, col: int) -> BoolArray:
    x, y = _coordinates(row, col)
    return np.asarray((plan.lake.shore_m(x, y) < 0) | (plan.river.bank_m(x, y) < 0))


def _ground(plan: CityPlan, row: int, col: int) -> Canvas:
    """(side, side, 3) grass, a shade for each block, in patches that run on across blocks."""
    x, y = _coordinates(row, col)
    phase = plan.seed % 97
    patches = np.sin(x / 37 + phase) * np.sin(y / 29 - phase) + np.sin((x + y) / 53) * np.sin(
        (x - 2 * y) / 71
    )
    canvas = np.empty((SIDE_PX, SIDE_PX, 3), np.float32)
    for yard in _yards(plan, row, col):
        x0, y0, x1, y1 = yard.box
        canvas[y0:y1, x0:x1] = GROUND[yard.block][(7 * yard.block_row + 3 * yard.block_col) % 4]
    canvas += 5 * patches[..., None].astype(np.float32)
    return canvas


def _yards(plan: CityPlan, row: int, col: int) -> list[Yard]:
    """The four corners of a square, each a part of another block."""
    x, y = int(plan.street_x[col]) - col * SIDE_PX, int(plan.street_y[row]) - row * SIDE_PX
    across, down = ((0, x), (x, SIDE_PX)), ((0, y), (y, SIDE_PX))
    return [
        Yard(
            box=(x0, y0, x1, y1),
            block=BLOCKS[plan.blocks[row + i, col + j]],
            block_row=row + i,
            block_col=col + j,
            kerb_x=int(plan.width_x[col]) // 2 + PAVEMENT_PX,
            kerb_y=int(plan.width_y[row]) // 2 + PAVEMENT_PX,
        )
        for i, (y0, y1) in enumerate(down)
        for j, (x0, x1) in enumerate(across)
    ]


def _draw_yard(canvas: Canvas, yard: Yard, water: BoolArray, rng: np.random.Generator) -> None:
    x0, y0, x1, y1 = box = yard.inside
    if yard.block != "park" and rng.random() < 0.88 and not water[y0:y1, x0:x1].any():
        if yard.block == "offices":
            _draw_flat_roof(canvas, box, rng)
        else:
            for plot in _plots(box, rng):
                _draw_gabled_roof(canvas, plot, rng)
    for _ in range(rng.poisson(TREES[yard.block])):
        radius = int(rng.integers(2, 5))
        x, y = (int(rng.integers(a + radius, b - radius)) for a, b in ((x0, x1), (y0, y1)))
        if not water[y, x]:
            _draw_tree(canvas, x, y, radius, rng)


def _plots(box: Box, rng: np.random.Generator) -> list[Box]:
    """One large house, or two side by side."""
    x0, y0, x1, y1 = box
    if rng.random() < 0.4:
        return [box]
    if rng.random() < 0.5:
        middle = (x0 + x1) // 2
        return [(x0, y0, middle, y1), (middle, y0, x1, y1)]
    middle = (y0 + y1) // 2
    return [(x0, y0, x1, middle), (x0, middle, x1, y1)]


def _draw_flat_roof(canvas: Canvas, box: Box, rng: np.random.Generator) -> None:
    """An office block with a parapet, plant on its roof and a long shadow."""
    x0, y0, x1, y1 = box
    margin = rng.integers(1, 5, 4)
    a, b, c, d = int(x0 + margin[0]), int(y0 + margin[1]), int(x1 - margin[2]), int(y1 - margin[3])
    canvas[b + 3 : min(d + 4, SIDE_PX), a + 3 : min(c + 4, SIDE_PX)] *= 0.55
    colour = np.array(FLAT_ROOFS[rng.integers(len(FLAT_ROOFS))], np.float32)
    canvas[b:d, a:c] = colour * 0.8
    canvas[b + 1 : d - 1, a + 1 : c - 1] = colour
    for _ in range(3):
        x, y = int(rng.integers(a + 2, c - 4)), int(rng.integers(b + 2, d - 4))
        canvas[y + 1 : y + 4, x + 1 : x + 4] = colour * 0.7
        canvas[y : y + 3, x : x + 3] = colour * 1.15


def _draw_gabled_roof(canvas: Canvas, plot: Box, rng: np.random.Generator) -> None:
    """A house, with its shadow to the south-east."""
    x0, y0, x1, y1 = plot
    margin = rng.integers(2, 5, 4)
    a, b, c, d = int(x0 + margin[0]), int(y0 + margin[1]), int(x1 - margin[2]), int(y1 - margin[3])
    if c - a < 4 or d - b < 4:
        return
    canvas[b + 2 : d + 2, a + 2 : c + 2] *= 0.62
    colour = np.array(ROOFS[rng.integers(len(ROOFS))], np.float32) + rng.normal(0, 6, 3).astype(np.float32)
    canvas[b:d, a:c] = colour * 1.08
    if c - a > d - b:
        canvas[(b + d) // 2 : d, a:c] = colour * 0.84
    else:
        canvas[b:d, (a + c) // 2 : c] = colour * 0.84


def _draw_tree(canvas: Canvas, x: int, y: int, radius: int, rng: np.random.Generator) -> None:
    colour = np.array(LEAVES[rng.integers(len(LEAVES))], float)
    cv2.circle(canvas, (x + 1, y + 1), radius, (colour * 0.55).tolist(), -1, cv2.LINE_8)
    cv2.circle(canvas, (x, y), radius, colour.tolist(), -1, cv2.LINE_8)
    cv2.circle(canvas, (x - 1, y - 1), max(1, radius // 2), (colour * 1.25).tolist(), -1, cv2.LINE_8)


def _draw_streets(canvas: Canvas, plan: CityPlan, row: int, col: int) -> BoolArray:
    """Pavements and asphalt; (side, side) where the asphalt is."""
    asphalt = np.zeros(canvas.shape[:2], bool)
    if plan.flooded[row, col]:
        return asphalt
    for colour, beside in ((PAVEMENT, PAVEMENT_PX), (ASPHALT, 0)):
        for x0, y0, x1, y1 in _street_boxes(plan, row, col, beside):
            canvas[y0:y1, x0:x1] = colour
            if beside == 0:
                asphalt[y0:y1, x0:x1] = True
    return asphalt


def _street_boxes(plan: CityPlan, row: int, col: int, beside: int) -> list[Box]:
    """The arms of a square's junction and the junction itself, each widened by `beside`."""
    x0, y0, x1, y1 = _junction_box(plan, row, col, beside)
    north, east, south, west = plan.arms(row, col)
    boxes = [(x0, y0, x1, y1)]
    boxes += [(x0, 0, x1, y0)] * north + [(x1, y0, SIDE_PX, y1)] * east
    return boxes + [(x0, y1, x1, SIDE_PX)] * south + [(0, y0, x0, y1)] * west


def _junction_box(plan: CityPlan, row: int, col: int, beside: int = 0) -> Box:
    x, y = int(plan.street_x[col]) - col * SIDE_PX, int(plan.street_y[row]) - row * SIDE_PX
    half_x, half_y = int(plan.width_x[col]) // 2 + beside, int(plan.width_y[row]) // 2 + beside
    return x - half_x, y - half_y, x + half_x, y + half_y


def _markings(plan: CityPlan, row: int, col: int, asphalt: BoolArray) -> tuple[BoolArray, Canvas]:
    """Where paint lies, (side, side), and its colour, (side, side, 3), when it is fresh."""
    paint = np.zeros((SIDE_PX, SIDE_PX), bool)
    colour = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32)
    if plan.flooded[row, col]:
        return paint, colour
    x0, y0, x1, y1 = _junction_box(plan, row, col)
    # turned so that each arm leaves to the south: k quarter turns, the junction's edge there, its sides
    turned = (
        (2, SIDE_PX - y0, SIDE_PX - x1, SIDE_PX - x0),
        (3, x1, SIDE_PX - y1, SIDE_PX - y0),
        (0, y1, x0, x1),
        (1, SIDE_PX - x0, y0, y1),
    )
    for present, (k, edge, left, right) in zip(plan.arms(row, col), turned, strict=True):
        if present:
            _mark_arm(np.rot90(paint, k), np.rot90(colour, k), edge, left, right)
    return paint & asphalt, colour


def _mark_arm(paint: BoolArray, colour: Canvas, edge: int, left: int, right: int) -> None:
    """Zebra crossing, stop line, edge lines and a dashed middle line of an arm that leaves to the south."""
    end = edge + 2 + CROSSING_PX
    middle = (left + right) // 2
    for x in range(left + 1, right - 1, 4):
        paint[edge + 1 : end - 1, x : x + 2] = True
    paint[end : end + 2, middle : right - 1] = True  # traffic keeps right
    paint[end:, [left, right - 1]] = True
    colour[edge:, left:right] = WHITE
    for y in range(end + 3, SIDE_PX, 7):
        paint[y : y + 4, middle - 1 : middle + 1] = True
    colour[end + 3 :, middle - 1 : middle + 1] = YELLOW


def _scattered(
    paint: BoolArray, colour: Canvas, asphalt: BoolArray, rng: np.random.Generator
) -> tuple[BoolArray, Canvas]:
    """The same pixels of paint, anywhere on the asphalt."""
    places = np.flatnonzero(asphalt)
    flecks = rng.choice(places, int(paint.sum()), replace=False)
    worn, worn_colour = np.zeros_like(paint), np.zeros_like(colour)
    worn.ravel()[flecks] = True
    worn_colour.reshape(-1, 3)[flecks] = colour[paint]
    return worn, worn_colour
