"""What `train` and `score` read: a dataset, or a table that names a picture a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from roadrisk.columns import Column
from roadrisk.dataset import Dataset, View, read_dataset
from roadrisk.errors import DatasetError, SourceError
from roadrisk.files import digest_of, sha256_of
from roadrisk.grid import FloatArray, IntArray, LngLatBbox
from roadrisk.gridding import grid_of_shape
from roadrisk.imagery.picture_files import file_inside, picture_of
from roadrisk.imagery.sheets import Stretch
from roadrisk.learning.facts.choosing import table_column
from roadrisk.learning.pictures.sources import CachedPictures, FilePictures, MosaicPictures
from roadrisk.maps.places import GivenShapes, GridTiles, Places, given_points
from roadrisk.sources.tables import checked_names

TABLE_SUFFIXES = (".csv", ".parquet")
NOT_FACTS = ("image_path", "tile_id", "id", "lon", "lat", "geometry")


@dataclass(frozen=True, eq=False)
class TileView:
    """One view of N tiles.

    Parameters
    ----------
    name : of the view; empty for the pictures that a table names.
    has_image : (N,) bool.
    tile_px : side of a picture as it is stored.
    reach : tiles that a picture reaches beyond its own, on each side.
    metres_per_pixel : ground side of a pixel [m]; None where nothing says.
    stretch : how more than 8 bit became 8 bit; None where they were, or where nothing says.
    pictures_of : side in pixels -> the pictures of the tiles that have one, in row order, of each dataset.
    """

    name: str
    has_image: NDArray[np.bool_]
    tile_px: int
    reach: int
    metres_per_pixel: float | None
    stretch: Stretch | None
    pictures_of: Callable[[int], tuple[CachedPictures, ...]]


@dataclass(frozen=True, eq=False)
class Tiles:
    """N tiles to learn from or to score, wherever they come from.

    Parameters
    ----------
    name : of the region or table, for people.
    identity : digest; the same only for the same source.
    path : of the dataset or table; what is computed from its pictures is kept beside it.
    frame : N rows with `tile_id` and the columns.
    columns : what is known of the columns of `frame`.
    keys : (N,) names by which a model knows a tile that it was trained on.
    eligible : (N,) bool, whether a model is trained and judged on the tile.
    scored : (N,) bool, whether a layer gives the tile a score.
    area_km2 : (N,) ground area; 1 where nothing says, so that sums stay as they are.
    places : where the tiles lie; None when nothing says.
    lattice : (row, col), absolute and (N,) each, and the ground metres of a step; None without places.
    views : those that were asked for and are there, in the order asked for.
    source : (N,) identity of the dataset or table that each tile is from.
    cell_m : ground side of a tile [m]; None where nothing says.
    dataset : None for a table, and for several datasets.
    metros : the tiles of each dataset where there are several.
    """

    name: str
    identity: str
    path: Path
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    keys: NDArray[Any]
    eligible: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    area_km2: FloatArray
    places: Places | None
    lattice: tuple[IntArray, IntArray, float] | None
    views: tuple[TileView, ...]
    source: NDArray[Any]
    cell_m: float | None = None
    dataset: Dataset | None = None
    metros: tuple[Tiles, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def has_image(self) -> NDArray[np.bool_]:
        """(N,) whether a tile has a picture in some view."""
        none = np.zeros(len(self), bool)
        return np.asarray(np.any([none, *(view.has_image for view in self.views)], axis=0))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was said of the sources that whoever reads a score should know."""
        if self.metros:
            return tuple(said for metro in self.metros for said in metro.warnings)
        return tuple(self.dataset.manifest.get("warnings", ())) if self.dataset else ()

    @property
    def licence(self) -> str:
        """Terms of the sources, one after the other."""
        return _said(self.dataset, "licence") or "as of the sources"

    @property
    def attribution(self) -> str:
        """Whose the sources are; their names where nobody said."""
        return _said(self.dataset, "attribution") or self.name

    @property
    def windows(self) -> dict[str, tuple[str, str]]:
        """The dates [from, to) of a dataset's label and features."""
        first = self.metros[0].dataset if self.metros else self.dataset
        known = first.manifest["windows"] if first else {}
        return {name: (start, end) for name, (start, end) in known.items()}


def cache_of(path: Path) -> Path:
    """Folder beside a dataset or table for what is computed once from its pictures."""
    return path.with_name(path.name + ".cache")


def tiles_at(path: Path, views: Sequence[str]) -> Tiles:
    """The tiles of a dataset folder, or of a table with `image_path`.

    Parameters
    ----------
    views : of a dataset, whose pictures are meant; those that it lacks are not among the tiles' views.

    Raises
    ------
    DatasetError : neither is there.
    SourceError : a table that cannot be used.
    """
    if path.is_dir():
        return tiles_of_dataset(read_dataset(path), views)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return tiles_of_table(path)
    if path.exists():
        raise DatasetError(f"{path} is neither a dataset folder nor a .csv or .parquet table")
    raise DatasetError(f"no such dataset or table: {path}")


def tiles_of_dataset(dataset: Dataset, views: Sequence[str]) -> Tiles:
    """The tiles of a dataset with the pictures of some of its views."""
    frame = dataset.tiles()
    grid = dataset.grid
    rows, cols = frame["row"].to_numpy(), frame["col"].to_numpy()
    dropped = frame["dropped"].to_numpy() if "dropped" in frame else np.zeros(len(frame), bool)
    known = {view.name: view for view in dataset.views}
    # ids of a `shape` grid say nothing of where it lies
    whose = "" if grid.scheme != "shape" else f"{digest_of(grid.as_json())[:16]}/"
    return Tiles(
        name=dataset.manifest["name"],
        identity=dataset.plan,
        path=dataset.path,
        frame=frame,
        columns=dataset.columns,
        keys=np.array([whose + name for name in frame["tile_id"]], dtype=object),
        eligible=frame["eligible"].to_numpy() & ~dropped,
        scored=~dropped,
        area_km2=grid.area_km2(rows, cols),
        places=GridTiles(grid, rows, cols),
        lattice=(grid.y0 + rows, grid.x0 + cols, grid.cell_m),
        views=tuple(_tile_view(dataset, frame, known[name]) for name in views if name in known),
        source=np.full(len(frame), dataset.plan, dtype=object),
        cell_m=grid.cell_m,
        dataset=dataset,
    )


def _tile_view(dataset: Dataset, frame: pd.DataFrame, view: View) -> TileView:
    has_image = frame[view.coverage_column].to_numpy() >= max(view.min_coverage, np.finfo(float).tiny)
    rows, cols = frame["row"].to_numpy()[has_image], frame["col"].to_numpy()[has_image]

    def pictures_of(size_px: int) -> tuple[CachedPictures, ...]:
        if not has_image.any():
            return ()
        pictures = MosaicPictures(dataset.reader(view.name), rows, cols, size_px, view.digest)
        return (CachedPictures(pictures, cache_of(dataset.path)),)

    return TileView(
        name=view.name,
        has_image=has_image,
        tile_px=view.tile_size * view.neighbourhood,
        reach=view.neighbourhood // 2,
        metres_per_pixel=dataset.metres_per_pixel(view.name),
        stretch=view.stretch,
        pictures_of=pictures_of,
    )


def tiles_of_table(path: Path) -> Tiles:
    """The tiles of a CSV or Parquet table with `image_path`, relative to the table's folder.

    `lon` and `lat`, or a geometry, say where a row lies; `tile_id` or `id` names it. Every other
    column that holds numbers is a fact.

    Raises
    ------
    SourceError : no `image_path`, no rows, a column or a tile named twice, a place outside the world, or a
        picture that is not in the table's folder.
    """
    frame, geometry = _read_table(path)
    if "image_path" not in frame:
        raise SourceError(
            f"{path} has no column image_path, which names a picture a row; "
            f"its columns: {', '.join(frame.columns)}"
        )
    if frame.empty:
        raise SourceError(f"{path} has no rows")
    identity = sha256_of(path)
    named = frame["image_path"].notna().to_numpy()
    places = geometry or _places(frame, path)
    names = next(
        (frame[c] for c in ("tile_id", "id", "image_path") if c in frame and frame[c].notna().all()), None
    )
    if names is None:
        raise SourceError(f"{path} has rows without image_path, so each row needs a tile_id")
    ids = names.astype(str).tolist()
    if len(set(ids)) < len(ids):
        raise SourceError(f"{path} names a tile twice: {_first_twice(ids)}; give each row its own tile_id")
    paths = tuple(frame["image_path"][named].astype(str))
    source_rows = tuple(np.flatnonzero(named).tolist())

    def pictures_of(size_px: int) -> tuple[CachedPictures, ...]:
        pictures = FilePictures(path.parent, paths, source_rows, size_px)
        return (CachedPictures(pictures, cache_of(path)),) if paths else ()

    return Tiles(
        name=path.stem,
        identity=identity,
        path=path,
        frame=frame.assign(tile_id=ids),
        columns=_table_columns(frame),
        keys=_table_keys(path.parent, frame, ids),
        eligible=np.ones(len(frame), bool),
        scored=np.ones(len(frame), bool),
        area_km2=np.ones(len(frame)),
        places=places,
        lattice=_lattice(places),
        views=(TileView("", named, _first_side(path.parent, paths), 0, None, None, pictures_of),),
        source=np.full(len(frame), identity, dtype=object),
    )


def _table_keys(folder: Path, frame: pd.DataFrame, ids: list[str]) -> NDArray[Any]:
    """(N,) id, picture and its size: the same for the same rows, in whatever order or file they stand."""
    keys = []
    for name, picture in zip(ids, frame["image_path"], strict=True):
        known = isinstance(picture, str)
        keys.append(
            f"{name}|{picture}|{file_inside(folder, picture).stat().st_size}" if known else f"{name}||"
        )
    return np.array(keys, dtype=object)


def _said(dataset: Dataset | None, what: str) -> str:
    rights = dataset.manifest["rights"] if dataset else []
    return "; ".join(dict.fromkeys(r[what] or f"{r['source']}: not stated" for r in rights))


def _read_table(path: Path) -> tuple[pd.DataFrame, GivenShapes | None]:
    try:
        if path.suffix.lower() == ".csv":
            names = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].fillna("").tolist()
            checked_names(names, path)
            return pd.read_csv(path), None
        if b"geo" in (pq.read_schema(path).metadata or {}):
            shapes = geopandas.read_parquet(path)
            crs = shapes.crs.to_string() if shapes.crs else "EPSG:4326"
            return pd.DataFrame(shapes.drop(columns=shapes.geometry.name)), GivenShapes(
                shapes.geometry.to_numpy(), crs
            )
        return pd.read_parquet(path), None
    except (ValueError, OSError, IndexError) as error:
        raise SourceError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None


def _places(frame: pd.DataFrame, path: Path) -> Places | None:
    if not {"lon", "lat"} <= set(frame.columns):
        return None
    degrees = {}
    for name, most in (("lon", 180), ("lat", 90)):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        wrong = frame[name].notna().to_numpy() & ~(np.abs(values) <= most)
        if wrong.any():
            row = int(wrong.argmax())
            raise SourceError(
                f"{path}: {int(wrong.sum()):,} rows have no usable {name}, the first is row {row} with "
                f"{frame[name].iloc[row]!r}; degrees from -{most} to {most} are meant"
            )
        degrees[name] = values
    nowhere = (degrees["lon"] == 0) & (degrees["lat"] == 0)
    if nowhere.any():
        raise SourceError(
            f"{path}: {int(nowhere.sum()):,} rows lie at 0, 0, the first is row {int(nowhere.argmax())}; "
            "empty their lon and lat if their place is not known"
        )
    return given_points(degrees["lon"], degrees["lat"])


def _lattice(places: Places | None) -> tuple[IntArray, IntArray, float] | None:
    """Rows of a table on a lattice as wide as they are apart: they say where they lie, not how wide."""
    if places is None:
        return None
    lng, lat = places.centres()
    if len(lng) < 2 or not np.isfinite(lng).all():
        return None
    margin = 1e-6
    box = LngLatBbox(lng.min() - margin, lat.min() - margin, lng.max() + margin, lat.max() + margin)
    crs = grid_of_shape(box, 1, 1).crs
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lng, lat)
    apart = shapely.STRtree(shapely.points(x, y)).query_nearest(
        shapely.points(x, y), exclusive=True, all_matches=False, return_distance=True
    )[1]
    apart = apart[apart > 0]
    if not len(apart):
        return None
    step_m = float(np.median(apart))
    return np.floor(-y / step_m).astype(np.int64), np.floor(x / step_m).astype(np.int64), step_m


def _table_columns(frame: pd.DataFrame) -> tuple[Column, ...]:
    return tuple(table_column(str(name), frame[name]) for name in frame.columns if name not in NOT_FACTS)


def _first_side(folder: Path, paths: tuple[str, ...]) -> int:
    if not paths:
        return 0
    _, height, width = picture_of(file_inside(folder, paths[0])).shape
    return int(min(height, width))


def _first_twice(names: list[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
