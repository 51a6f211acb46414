"""Centre-lines and polygons of a mask of roads as a layer file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.files import whole_file
from roadrisk.grid import FloatArray, Grid, Part
from roadrisk.maps.fields import field_aliases, field_description, fields_as_json
from roadrisk.maps.formats.through_gdal import words_for_gdal
from roadrisk.mosaic.picture import Mask
from roadrisk.progress import Progress, silent
from roadrisk.roads.lines.centrelines import Lines, OpenChains, chains_of, lines_of
from roadrisk.roads.lines.polygons import road_polygons
from roadrisk.roads.lines.skeletons import halo_px, skeleton_of
from roadrisk.roads.scenes import Window

SUFFIX = ".gpkg"
CENTRELINES, POLYGONS = "centrelines", "polygons"

_LENGTH = Column("length_m", "float64", "m", "info", "none", "Length of the centre-line on the ground.")
_WIDTH = Column("width_m", "float64", "m", "info", "none", "Mean width of the road along the centre-line.")
_FROM = Column(
    "from_node", "int64", "", "info", "none", "Where it starts: pixel of the mosaic, counted by rows."
)
_TO = Column("to_node", "int64", "", "info", "none", "Where it ends: pixel of the mosaic, counted by rows.")
_AREA = Column("area_m2", "float64", "m2", "info", "none", "Area on the ground.")


class _Layer(NamedTuple):
    """One layer of the file."""

    name: str
    geometry_type: str
    meaning: str
    columns: tuple[Column, ...]


LAYERS = (
    _Layer(
        CENTRELINES,
        "LineString",
        "Centre-lines of the roads of a mask, from end or junction to the next, simplified to half a pixel.",
        (_LENGTH, _WIDTH, _FROM, _TO),
    ),
    _Layer(
        POLYGONS,
        "Polygon",
        "Roads of a mask, simplified to half a pixel and cut where the files of the mosaic meet.",
        (_AREA,),
    ),
)


@dataclass(frozen=True)
class AboutRoads:
    """What the file says of itself.

    Parameters
    ----------
    title : for people.
    licence, attribution : of the sources, as their owners ask.
    model : identity of the road model.
    """

    title: str
    licence: str
    attribution: str
    model: str


class VectorsWritten(NamedTuple):
    """What a layer file holds.

    Parameters
    ----------
    centrelines, polygons : how many.
    centreline_m : length of all centre-lines [m].
    polygon_m2 : area of all polygons [m2].
    """

    centrelines: int
    polygons: int
    centreline_m: float
    polygon_m2: float


def check_vectors_out(out: Path) -> None:
    """Nothing, if a layer of roads can be written there; asked before the work that fills it.

    Raises
    ------
    LayerError : a suffix that is not known, a folder in its place, or no folder to put it in.
    """
    if out.suffix.lower() != SUFFIX:
        raise LayerError(f"{out} has no suffix known for lines and polygons of roads; use {SUFFIX}")
    if out.is_dir():
        raise LayerError(f"{out} is a folder; give the name of a file")
    if not out.parent.is_dir():
        raise LayerError(
            f"{out.parent} is not a folder, so {out.name} cannot be written there; make it first"
        )


def vectors_written(
    read: Callable[[Window], tuple[Mask, Mask]],
    grid: Grid,
    tile_size: int,
    parts: Sequence[Part],
    out: Path,
    about: AboutRoads,
    progress: Progress = silent,
) -> VectorsWritten:
    """Write a GeoPackage with the layers `centrelines` and `polygons`, part by part; whole or not at all.

    A centre-line is one line however many parts it crosses. Polygons end where parts do, with the same
    vertices on both sides: the roads of a city are one polygon, which no reader would thank for. A road that
    is one pixel, or so wide that it is an area, has a polygon and no line.

    Parameters
    ----------
    read : road and valid of a window of the mosaic, (height, width) each; beyond the grid nothing is valid.
    out : `.gpkg`. An existing file is replaced.

    Raises
    ------
    LayerError : as `check_vectors_out`, or it cannot be written.
    """
    check_vectors_out(out)
    try:
        with whole_file(out) as temporary:
            for layer in LAYERS:
                _create(temporary, layer, grid.crs, about)
            return _filled(temporary, read, grid, tile_size, parts, progress)
    except (OSError, DataSourceError, DataLayerError, FeatureError) as error:
        raise LayerError(f"{out}: cannot be written: {error}; free space or use another folder") from error


def _filled(
    path: Path,
    read: Callable[[Window], tuple[Mask, Mask]],
    grid: Grid,
    tile_size: int,
    parts: Sequence[Part],
    progress: Progress,
) -> VectorsWritten:
    transform, width_px = grid.picture_transform(tile_size), grid.cols * tile_size
    halo = halo_px(grid.cell_m / tile_size)
    open_chains, counts = OpenChains(), VectorsWritten(0, 0, 0.0, 0.0)
    for done, part in enumerate(parts):
        progress("lines and polygons of roads", done, len(parts))
        y, x = part.row * tile_size, part.col * tile_size
        road, valid = read(
            Window(y - halo, x - halo, part.rows * tile_size + 2 * halo, part.cols * tile_size + 2 * halo)
        )
        around = np.s_[halo - 1 : road.shape[0] - halo + 1, halo - 1 : road.shape[1] - halo + 1]
        polygons = road_polygons((road & valid)[around], transform @ type(transform).translation(x, y))
        whole = open_chains.joined(chains_of(skeleton_of(road, valid, halo, (y, x))))
        lines = lines_of(whole, transform, width_px, grid.crs)
        counts = _appended(path, counts, grid, lines, polygons)
    rest = lines_of(open_chains.rest(), transform, width_px, grid.crs)
    progress("lines and polygons of roads", len(parts), len(parts))
    return _appended(path, counts, grid, rest, np.empty(0, object))


def _appended(
    path: Path, counts: VectorsWritten, grid: Grid, lines: Lines, polygons: NDArray[Any]
) -> VectorsWritten:
    """The counts, with what was written."""
    area_m2 = _ground_areas(grid, polygons)
    values: tuple[NDArray[Any], ...] = (lines.length_m, lines.width_m, lines.from_node, lines.to_node)
    _write(path, LAYERS[0], grid.crs, lines.geometry, values, append=True)
    _write(path, LAYERS[1], grid.crs, polygons, (area_m2,), append=True)
    return VectorsWritten(
        counts.centrelines + len(lines.geometry),
        counts.polygons + len(polygons),
        counts.centreline_m + float(lines.length_m.sum()),
        counts.polygon_m2 + float(area_m2.sum()),
    )


def _ground_areas(grid: Grid, polygons: NDArray[Any]) -> FloatArray:
    """(P,) ground area [m2], by the scale of the tile that the middle of each is in."""
    if not len(polygons):
        return np.empty(0)
    left, bottom, right, top = shapely.bounds(polygons).reshape(-1, 4).T
    rows, cols = grid.locate((left + right) / 2, (bottom + top) / 2)
    return np.asarray(shapely.area(polygons) * grid.area_km2(rows, cols) * 1e6 / grid.cell**2)


def _create(path: Path, layer: _Layer, crs: str, about: AboutRoads) -> None:
    """An empty layer that says what it is."""
    told = {**asdict(about), "windows": {}, "columns": fields_as_json(layer.columns)}
    title = f"{about.title}: {layer.name}"
    metadata = {
        "TITLE": title,
        "DESCRIPTION": layer.meaning,
        "LICENCE": about.licence,
        "ATTRIBUTION": about.attribution,
        "MODEL": about.model,
        "ROADRISK": json.dumps(told, ensure_ascii=False),
    }
    nothing = tuple(np.empty(0, column.dtype) for column in layer.columns)
    options = {"IDENTIFIER": title, "DESCRIPTION": layer.meaning}
    _write(path, layer, crs, np.empty(0, object), nothing, layer_metadata=metadata, layer_options=options)


def _write(
    path: Path,
    layer: _Layer,
    crs: str,
    geometry: NDArray[Any],
    values: Sequence[NDArray[Any]],
    **options: Any,
) -> None:
    """Features with a value each for the layer's columns."""
    if options.get("append") and not len(geometry):
        return
    arrays = [pyarrow.array(shapely.to_wkb(geometry), pyarrow.binary()), *map(pyarrow.array, values)]
    fields = [pyarrow.field("geometry", pyarrow.binary())]
    aliases = field_aliases(layer.columns)
    for column, array in zip(layer.columns, arrays[1:], strict=True):
        told = words_for_gdal(aliases[column.name], field_description(column))
        fields.append(pyarrow.field(column.name, array.type, metadata=told))
    pyogrio.write_arrow(
        pyarrow.table(arrays, schema=pyarrow.schema(fields)),
        path,
        layer=layer.name,
        driver="GPKG",
        geometry_name="geometry",
        geometry_type=layer.geometry_type,
        crs=crs,
        **options,
    )
