"""A layer as vector tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from roadrisk.errors import LayerError
from roadrisk.grid import IntArray, LngLatBbox
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GivenShapes, GridTiles
from roadrisk.maps.vector_tiles.cells import cell_tiles
from roadrisk.maps.vector_tiles.encoding import Drawn, mvt
from roadrisk.maps.vector_tiles.shapes import shape_tiles
from roadrisk.maps.vector_tiles.standing import standing
from roadrisk.maps.vector_tiles.values import Tags, field_values, tags
from roadrisk.maps.vector_tiles.world import WEB_MERCATOR, WorldBox, tile_box

NAME = "features"
NOWHERE = GivenShapes(np.empty(0, dtype=object), WEB_MERCATOR)
CLASS, STANDS_FOR = "class", "tiles"


class Drawing(Protocol):
    """What the features of a layer look like, tile by tile."""

    @property
    def extent(self) -> WorldBox | None:
        """Of all features; None without any."""
        ...

    @property
    def zooms(self) -> tuple[int, int]:
        """The lowest and the highest."""
        ...

    def meets(self, z: int, x: int, y: int) -> bool:
        """Whether a tile may hold something; where it may not, no tile within it does."""
        ...

    def drawn(self, z: int, x: int, y: int) -> Drawn | None:
        """What a tile holds; None without anything."""
        ...


@dataclass(frozen=True, eq=False)
class VectorTiles:
    """A layer as Mapbox Vector Tiles 2.1, each made when it is asked for.

    A tile has one layer, `name`. The id of a feature is its row in the layer. Its property `class` is the
    place of its class among the legend's shades, -1 without one.

    At low zooms a block of small tiles of a grid is one feature, with row and properties of the tile in it
    that stands first by rank, so that no risky tile is hidden. Other shapes are thinned out to the ones that
    stand first when a tile holds very many.

    Parameters
    ----------
    fields : properties besides `class`, by name. With any, a feature of a zoom that merges tiles says in
        `tiles` how many it stands for. A field that is itself called `class` or `tiles` takes that name.
    """

    name: str
    classes: NDArray[np.int16]
    fields: Mapping[str, pa.Array]
    drawing: Drawing

    @property
    def zooms(self) -> tuple[int, int]:
        """The lowest and the highest that there are tiles for; viewers enlarge the highest."""
        return self.drawing.zooms

    @property
    def bounds(self) -> LngLatBbox | None:
        """Around all features, the east above 180 across the antimeridian; None without any."""
        extent = self.drawing.extent
        return None if extent is None else extent.lnglat()

    def tile(self, z: int, x: int, y: int, fields: Sequence[str] | None = None) -> bytes:
        """A tile's bytes, not compressed; none where it holds nothing, outside the zooms and the world.

        Parameters
        ----------
        fields : fewer of the fields.
        """
        lowest, highest = self.zooms
        if not (lowest <= z <= highest and 0 <= x < 1 << z and 0 <= y < 1 << z):
            return b""
        drawn = self._drawn(z, x, y)
        if drawn is None:
            return b""
        return mvt(self.name, drawn, self._properties(drawn, self.fields if fields is None else fields))

    def addresses(self, z: int) -> Iterator[tuple[int, int]]:
        """The (x, y) of the tiles of a zoom that hold something."""
        yield from self._descended(0, 0, 0, z)

    def _descended(self, z: int, x: int, y: int, wanted: int) -> Iterator[tuple[int, int]]:
        # a tile without anything has no children with anything
        if not any(self.drawing.meets(z, turned, y) for turned in self._turned(z, x, y)):
            return
        if z == wanted:
            if self._drawn(z, x, y) is not None:
                yield x, y
            return
        for row in (2 * y, 2 * y + 1):
            for column in (2 * x, 2 * x + 1):
                yield from self._descended(z + 1, column, row, wanted)

    def _drawn(self, z: int, x: int, y: int) -> Drawn | None:
        found = [self.drawing.drawn(z, turned, y) for turned in self._turned(z, x, y)]
        parts = [drawn for drawn in found if drawn is not None]
        return parts[0].and_then(parts[1:]) if parts else None

    def _turned(self, z: int, x: int, y: int) -> list[int]:
        """The x of a tile as often as it is near the features, counted on around the world."""
        extent = self.drawing.extent
        around = (x, x + (1 << z), x - (1 << z))
        return [at for at in around if extent is not None and tile_box(z, at, y).meets(extent)]

    def _properties(self, drawn: Drawn, fields: Sequence[str] | Mapping[str, Any]) -> dict[str, Tags]:
        made = {CLASS: tags(pa.array(self.classes[drawn.rows]))}
        if fields and (drawn.stands_for > 1).any():
            made[STANDS_FOR] = tags(pa.array(drawn.stands_for))
        rows = pa.array(drawn.rows)
        return made | {field: tags(self.fields[field].take(rows)) for field in fields}


def vector_tiles(
    layer: Layer,
    fields: Sequence[str] = (),
    name: str = NAME,
    zooms: tuple[int, int] | None = None,
) -> VectorTiles:
    """A layer as vector tiles; features without a place are in none of them.

    Parameters
    ----------
    fields : of the layer that features carry besides their class; null is left out.
    name : of the layer inside the tiles.
    zooms : the lowest and the highest; without them 0 and the one at which the shapes are as good as exact.

    Raises
    ------
    LayerError : the features have no place, a field that is not there, a class that the legend lacks.
    """
    places = layer.placed()
    missing = [field for field in fields if field not in layer.table]
    if missing:
        raise LayerError(f"the layer has no {', '.join(missing)}; it has {', '.join(map(str, layer.table))}")
    classes = layer.classes()
    ordered: IntArray = standing(layer, classes)
    drawing: Drawing
    if isinstance(places, GridTiles) and len(layer):
        drawing = cell_tiles(places, ordered, zooms)
    else:
        drawing = shape_tiles(places if len(layer) else NOWHERE, ordered, zooms)
    values = {field: field_values(layer.table[field]) for field in fields}
    return VectorTiles(name, classes, values, drawing)
