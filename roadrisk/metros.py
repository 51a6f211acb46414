"""Several metros as one set of tiles to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.errors import ModelError, UsageError
from roadrisk.features.labels import class_label, top_fifth_threshold
from roadrisk.files import digest_of
from roadrisk.inputs import Tiles, TileView
from roadrisk.learning.labels.label import DEFAULT
from roadrisk.learning.matching import Kind, shared_columns, tile_differences, years_ratio
from roadrisk.learning.pictures.sources import CachedPictures

FAR_APART = 2**30  # rows between two lattices: no block or neighbourhood reaches across
NOT_CLASSES = ("road_m_lanes_", "road_m_speed_", "road_m_oneway")
TOP_SHARE = 0.2  # of datasets that do not say which


def kind_of(tiles: Tiles) -> Kind:
    """What a model would know of these tiles, but for their values."""
    return Kind(
        columns=tiles.columns,
        cell_m=tiles.cell_m,
        metres_per_pixel={v.name: v.metres_per_pixel for v in tiles.views if v.metres_per_pixel is not None},
        stretches={v.name: v.stretch for v in tiles.views if v.stretch},
        views=tuple(view.name for view in tiles.views),
    )


def joined(metros: Sequence[Tiles]) -> tuple[Tiles, dict[str, str]]:
    """The tiles of all metros with the columns that all have alike, whatever order they are given in.

    Sums over windows of other lengths than the first's are as of its length.

    Returns
    -------
    The tiles, and for each column that is left out the reason.

    Raises
    ------
    UsageError : a dataset twice, or a table among several.
    ModelError : tiles of another kind than the others', or a tile in two of them.
    """
    if len(metros) == 1:
        return metros[0], {}
    metros = sorted(metros, key=lambda tiles: (min(tiles.keys), tiles.identity))
    for tiles in metros:
        if tiles.dataset is None:
            raise UsageError(f"{tiles.path} is a table; several metros in one model are datasets")
    for one, other in combinations(metros, 2):
        if one.identity == other.identity:
            both = "twice" if one.path == other.path else f"as {other.path}, too"
            raise UsageError(f"{one.path} is given {both}; name each dataset once")
        check_alike(one, other)
        check_apart(one, other)
    metros = [with_absent_classes(tiles, [c for t in metros for c in t.columns]) for tiles in metros]
    columns, left_out = shared_columns(
        [(name, tiles.columns) for name, tiles in zip(names_of(metros), metros, strict=True)]
    )
    metros = [over_windows(replace(tiles, columns=columns), tiles.columns) for tiles in metros]
    first = metros[0]
    return (
        replace(
            first,
            name=", ".join(dict.fromkeys(tiles.name for tiles in metros)),
            identity=digest_of([tiles.identity for tiles in metros]),
            frame=pd.concat(
                [tiles.frame[["tile_id", *(c.name for c in columns)]] for tiles in metros], ignore_index=True
            ),
            keys=np.concatenate([tiles.keys for tiles in metros]),
            eligible=np.concatenate([tiles.eligible for tiles in metros]),
            scored=np.concatenate([tiles.scored for tiles in metros]),
            area_km2=np.concatenate([tiles.area_km2 for tiles in metros]),
            places=None,
            lattice=_joined_lattice(metros),
            views=tuple(_joined_view(metros, index) for index in range(len(first.views))),
            source=np.concatenate([tiles.source for tiles in metros]),
            dataset=None,
            metros=tuple(metros),
        ),
        left_out,
    )


def one_label(
    tiles: Tiles, unshared: Mapping[str, str]
) -> tuple[Tiles, Mapping[str, Any] | None, tuple[str, ...]]:
    """The datasets' own label under one threshold, of the measure that all of them were cut from.

    Each dataset cut its label by its own top share; of several the threshold is found anew, over the
    eligible tiles of all.

    Parameters
    ----------
    unshared : why columns are not among those of all metros.

    Returns
    -------
    The tiles, how their label was cut (None for a table, or for classes as they stand), and lines for people.

    Raises
    ------
    ModelError : datasets whose labels were made in different ways.
    SourceError : no threshold makes two classes.
    """
    if not tiles.metros:
        return tiles, tiles.dataset.manifest["label"] if tiles.dataset else None, ()
    names = names_of(tiles.metros)
    cuts = [metro.dataset.manifest["label"] for metro in tiles.metros if metro.dataset]
    made = [cut["measure"] if cut else "classes as they stand" for cut in cuts]
    if len(set(made)) > 1:
        told = ", ".join(f"{name} from {how}" for name, how in zip(names, made, strict=True))
        raise ModelError(f"the metros' labels are made in different ways ({told}); name one with --label")
    if cuts[0] is None:
        return tiles, None, ()
    measure = cuts[0]["measure"]
    check_shared(measure, unshared, "what is learned")
    [column] = [column for column in tiles.columns if column.name == measure]
    values = tiles.frame[measure].to_numpy(dtype=float, na_value=np.nan)
    threshold = top_fifth_threshold(values, tiles.eligible, _top_share(tiles.metros), column.unit)
    high = class_label(values, tiles.eligible, threshold)
    shares = [
        f"{name} {100 * float(high[tiles.source == metro.identity].mean()):.1f} %, alone from {cut['t']:g}"
        for name, metro, cut in zip(names, tiles.metros, cuts, strict=True)
    ]
    told = f"one threshold of {measure} for all metros; {threshold} ({'; '.join(shares)})"
    relabelled = replace(tiles, frame=tiles.frame.assign(**{DEFAULT: high.to_numpy()}))
    return relabelled, {"measure": measure, **threshold.as_json()}, (told,)


def without_columns(tiles: Tiles, beside: Tiles) -> tuple[Tiles, dict[str, str]]:
    """Tiles without the facts that other tiles lack or have differently, and why of each."""
    beside = with_absent_classes(beside, tiles.columns)
    _, reasons = shared_columns([(tiles.name, tiles.columns), (f"--holdout {beside.path}", beside.columns)])
    facts = [column for column in tiles.columns if column.role in ("feature", "exposure")]
    left_out = {column.name: reasons[column.name] for column in facts if column.name in reasons}
    kept = tuple(column for column in tiles.columns if column.name not in left_out)
    return replace(tiles, columns=kept), left_out


def check_shared(name: str | None, unshared: Mapping[str, str], what: str) -> None:
    """Nothing, if a column that is needed is one of all metros.

    Raises
    ------
    ModelError : it is not, and why.
    """
    if name is not None and name in unshared:
        raise ModelError(
            f"{name}, {what}, is not one column of all metros: {unshared[name]}; tile all alike, "
            "or leave one out"
        )


def with_absent_classes(tiles: Tiles, columns: Iterable[Column]) -> Tiles:
    """Tiles with 0 metres of each road class that is known elsewhere and no street here has.

    Classes become columns as they occur; where roads are known, one that does not occur is none, not unknown.

    Parameters
    ----------
    columns : of a model, or of other metros.
    """
    known = {column.name for column in tiles.columns}
    classes = {c.name: c for c in columns if _of_class(c.name) and c.name not in known}
    if "road_m" not in known or tiles.dataset is None or not classes:
        return tiles
    # where the sources of roads know nothing, they know nothing of any class
    none = tiles.frame["road_m"].mask(tiles.frame["road_m"].notna(), 0.0)
    frame = tiles.frame.assign(**dict.fromkeys(classes, none))
    return replace(tiles, frame=frame, columns=(*tiles.columns, *classes.values()))


def _of_class(name: str) -> bool:
    """Whether a column is the length of a road class, not of what only some sources know of roads."""
    return name.startswith("road_m_") and not name.startswith(NOT_CLASSES)


def over_windows(tiles: Tiles, own: Iterable[Column]) -> Tiles:
    """Tiles whose facts that are sums over windows are as of the windows of `tiles.columns`.

    A model divides a sum by the length of the window that it learned from.

    Parameters
    ----------
    own : the columns as the values in `tiles.frame` have them.
    """
    mine = {column.name: column for column in own}
    ratios = {c.name: years_ratio(mine[c.name], c) for c in tiles.columns if c.role == "feature"}
    changed = {name: tiles.frame[name] * ratio for name, ratio in ratios.items() if ratio != 1}
    return replace(tiles, frame=tiles.frame.assign(**changed)) if changed else tiles


def check_alike(one: Tiles, other: Tiles) -> None:
    """Nothing, if tiles and pictures are of one kind, whatever their columns.

    Raises
    ------
    ModelError : each difference.
    """
    wrong = tile_differences(kind_of(other), kind_of(one), str(one.path))
    if not wrong:
        one, other = other, one
        wrong = tile_differences(kind_of(other), kind_of(one), str(one.path))
    if wrong:
        raise ModelError(
            f"{other.path} has other tiles than {one.path}: {'; '.join(wrong)}; tile both alike, "
            "or leave one out"
        )


def check_apart(one: Tiles, other: Tiles) -> None:
    """Nothing, if no place is in an eligible tile of both, whatever their grids.

    Raises
    ------
    ModelError : how many are, and one of them.
    """
    twice = np.isin(one.keys, other.keys[other.eligible]) & one.eligible
    twice |= _centres_in(one, other)
    if not twice.any():
        one, other = other, one
        twice = _centres_in(one, other)
    if twice.any():
        raise ModelError(
            f"{int(twice.sum()):,} tiles are in two metros, {one.frame['tile_id'][twice.argmax()]} in "
            f"{one.path} and {other.path}: one would be judged by a model that saw the other; give metros "
            "that do not overlap"
        )


def _centres_in(one: Tiles, other: Tiles) -> Any:
    """(N,) whether the centre of an eligible tile of `one` is in an eligible tile of `other`."""
    if one.dataset is None or other.dataset is None:
        return np.zeros(len(one), bool)
    there = other.dataset.grid
    rows, cols = one.frame["row"].to_numpy(), one.frame["col"].to_numpy()
    lng, lat = one.dataset.grid.centres(rows, cols, "EPSG:4326")
    rows, cols = there.locate_lnglat(lng, lat)
    eligible = np.zeros(there.shape, bool)
    eligible[other.frame["row"], other.frame["col"]] = other.eligible
    return one.eligible & (rows >= 0) & eligible[rows, cols]


def _joined_lattice(metros: Sequence[Tiles]) -> tuple[Any, Any, float]:
    """Places on one lattice: metros of the same grid stay where they are, others come to lie far apart."""
    grids: list[Any] = []
    rows, cols, steps = [], [], []
    for tiles in metros:
        if tiles.dataset is None or tiles.lattice is None:
            continue
        grid = tiles.dataset.grid
        here = (grid.crs, grid.cell, grid.origin_x, grid.origin_y)
        if here not in grids:
            grids.append(here)
        row, col, step_m = tiles.lattice
        rows.append(row + grids.index(here) * FAR_APART)
        cols.append(col)
        steps.append(step_m)
    return np.concatenate(rows), np.concatenate(cols), steps[0]


def _joined_view(metros: Sequence[Tiles], index: int) -> TileView:
    views = [tiles.views[index] for tiles in metros]

    def pictures_of(size_px: int) -> tuple[CachedPictures, ...]:
        return tuple(pictures for view in views for pictures in view.pictures_of(size_px))

    return replace(
        views[0],
        has_image=np.concatenate([view.has_image for view in views]),
        reach=max(view.reach for view in views),
        pictures_of=pictures_of,
    )


def names_of(metros: Sequence[Tiles]) -> list[str]:
    """What metros are called: by name where no two have the same, else by path."""
    names = [tiles.name for tiles in metros]
    return names if len(set(names)) == len(names) else [str(tiles.path) for tiles in metros]


def _top_share(metros: Sequence[Tiles]) -> float:
    """The share of tiles that is to be high risk, which all datasets ask for."""
    asked = {
        tiles.dataset.manifest["plan"].get("settings", {}).get("label", {}).get("share", TOP_SHARE)
        for tiles in metros
        if tiles.dataset
    }
    if len(asked) > 1:
        shares = " and ".join(f"{share:g}" for share in sorted(asked))
        raise ModelError(
            f"the metros call different shares of tiles high risk ({shares}); tile them with one, "
            "or give --at-least"
        )
    return float(next(iter(asked)))
