"""Tiles, facts and a label become examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.errors import ModelError, UsageError
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles
from roadrisk.learning.blocks import FoldPlan, planned_folds
from roadrisk.learning.correlogram import Correlogram, residual_range, unexplained
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.choosing import TEXT_DTYPES, ChosenFacts, chosen_facts
from roadrisk.learning.facts.neighbourhood import reach_tiles, weight_names, with_neighbourhoods
from roadrisk.learning.facts.preparation import check_scaling, fact_values, text_values
from roadrisk.learning.folds import BUFFER_TILES
from roadrisk.learning.judging.intervals import block_of
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.labels.amounts import EVENTS, exposure_of
from roadrisk.learning.labels.label import DEFAULT, Label, label_of
from roadrisk.learning.pictures.sources import PicturePreparation, picture_preparation
from roadrisk.learning.settings import Inputs, TrainSettings
from roadrisk.metros import check_shared, joined, one_label, without_columns


@dataclass(frozen=True, eq=False)
class HoldingOut:
    """Spatial folds, and the correlogram that their blocks are made wide enough for."""

    plan: FoldPlan
    correlogram: Correlogram | None


@dataclass(frozen=True, eq=False)
class Gathered:
    """Labelled tiles of one or several metros, ready to learn from.

    Parameters
    ----------
    tiles : all of them, with and without a label.
    label : of all of them.
    known : (N,) rows of `tiles` that have a label.
    examples : N of these rows.
    columns : facts as the tiles have them, without those made from neighbours.
    left_out : why each column that could be a fact is none.
    pictures : how the pictures of each view are prepared.
    road_m : (N,) metres of road; None where no source knows a road.
    holding_out : how whole places are held out, and why so; None where rows have no places.
    """

    tiles: Tiles
    label: Label
    known: IntArray
    examples: Examples
    columns: tuple[Column, ...]
    left_out: dict[str, str]
    pictures: tuple[PicturePreparation, ...]
    road_m: FloatArray | None
    holding_out: HoldingOut | None

    @property
    def block(self) -> int:
        """Side of spatial blocks [tiles]; 0 without places."""
        return self.holding_out.plan.block if self.holding_out else 0

    @property
    def buffer(self) -> int:
        """Tiles around a test tile that its fold does not learn from; 0 without places."""
        return self.holding_out.plan.buffer if self.holding_out else 0

    @property
    def events(self) -> FloatArray:
        """(N,) events of the label window; the label itself where there are none."""
        return self.label.events[self.known]

    @property
    def high(self) -> FloatArray:
        """(N,) 1 where a tile is of the riskiest class, or in the top fifth of values or counts."""
        return self.label.high[self.known]

    @property
    def outcomes(self) -> Outcomes:
        """What is known of the tiles that models are judged on."""
        examples, row, col = self.examples, self.examples.row, self.examples.col
        road_m = np.full(len(examples), np.nan) if self.road_m is None else self.road_m
        return Outcomes(
            task=self.label.task,
            key=examples.key,
            dataset=self.tiles.source[self.known],
            label=examples.label,
            high=self.high,
            events=self.events,
            threshold=counts_from(self.label.as_json()),
            area_km2=examples.area_km2,
            road_m=road_m,
            has_image=examples.has_image,
            covered=covered_by_all(self.tiles.frame, self.columns)[self.known],
            row=row,
            col=col,
            block=None if row is None or col is None else block_of(row, col, self.block),
        )


def gathered(metros: Sequence[Tiles], settings: TrainSettings, beside: Tiles | None = None) -> Gathered:
    """What there is to learn from.

    Parameters
    ----------
    settings : resolved.
    beside : a metro that is judged, never learned from; facts that it lacks are left out.

    Raises
    ------
    RoadriskError : metros that differ, no label, no picture or no fact where one is asked for.
    """
    check_scaling(settings)
    sees = settings.sees != "facts"
    # pictures that nobody looks at may differ
    tiles, unshared = joined(metros if sees else [replace(one, views=()) for one in metros])
    if beside is not None:
        tiles, lacking = without_columns(tiles, beside)
        unshared = {**unshared, **lacking}
    for name, what in _needed(settings):
        check_shared(name, unshared, what)
    cut, told = None, tuple[str, ...]()
    if settings.label in (None, DEFAULT):
        tiles, cut, told = one_label(tiles, unshared)
    where = ", ".join(str(one.path) for one in tiles.metros or (tiles,))
    label = label_of(tiles.frame, tiles.columns, tiles.eligible, settings, where, cut)
    label = replace(label, told=(*told, *label.told))
    chosen = _chosen(tiles, settings, label, unshared, beside)
    columns = (*chosen.numbers, *chosen.texts)
    pictures = picture_preparations(tiles, settings) if sees else ()
    known = np.flatnonzero(np.isfinite(label.values))
    exposure = exposure_of(tiles.frame, label.task, where)
    examples = replace(
        examples_of(tiles, columns, settings.neighbourhood, pictures, exposure), label=label.values
    ).taken(known)
    _check_sides(tiles, examples, settings, chosen.left_out)
    sided = np.flatnonzero(has_a_side(examples, settings.sees))
    label = replace(label, told=(*label.told, *_without_sides(len(known) - len(sided), settings.sees)))
    known, examples = known[sided], examples.taken(sided)
    learned = Gathered(
        tiles=tiles,
        label=label,
        known=known,
        examples=examples,
        columns=columns,
        left_out=chosen.left_out,
        pictures=pictures,
        road_m=road_metres(tiles, known),
        holding_out=None,
    )
    if tiles.lattice is None:
        return learned
    row, col, cell_m = tiles.lattice
    return replace(learned, holding_out=_holding_out(learned, row, col, cell_m, settings))


def _holding_out(
    learned: Gathered, row: IntArray, col: IntArray, cell_m: float, settings: TrainSettings
) -> HoldingOut:
    """Folds of whole places; blocks know dataset, label, views and neighbourhoods, no other setting.

    The buffer is as wide as the widest view, so that no picture of a tested tile shows what one of a training
    tile shows (Mahoney et al. 2023, arXiv 2303.07334).
    """
    tiles = learned.tiles
    views = [2 * view.reach + 1 for view in tiles.views] if settings.sees != "facts" else []
    reach = max([BUFFER_TILES, reach_tiles(settings), *views])
    correlogram = None if settings.block_m else _correlogram(learned, row, col, cell_m)
    plan = planned_folds(
        row[learned.known],
        col[learned.known],
        learned.high,
        cell_m,
        [1, *views, *settings.neighbourhood],
        reach,
        correlogram,
        settings.folds,
        settings.block_m,
        settings.seed,
    )
    return HoldingOut(plan, correlogram)


def _correlogram(learned: Gathered, row: IntArray, col: IntArray, cell_m: float) -> Correlogram | None:
    """Of what the facts that any model may have do not explain; None where there are none."""
    tiles = learned.tiles
    facts = chosen_facts(tiles.columns, TrainSettings(inputs="facts"), learned.label)
    columns = (*facts.numbers, *facts.texts)
    if not columns:
        return None
    # all that have a label, whether or not a model sees anything of them
    known = np.flatnonzero(np.isfinite(learned.label.values))
    every = examples_of(replace(tiles, views=()), columns, (), (), np.ones(len(tiles))).taken(known)
    try:
        residual = unexplained(every, learned.label.high[known])
    except ModelError:
        return None  # too few tiles of one kind: the folds themselves will say so
    return residual_range(row[known], col[known], residual, cell_m)


def examples_of(
    tiles: Tiles,
    columns: tuple[Column, ...],
    neighbourhood: tuple[int, ...],
    pictures: Sequence[PicturePreparation],
    exposure: FloatArray,
) -> Examples:
    """Tiles as a network meets them, one for every row, without labels.

    Parameters
    ----------
    columns : the facts.
    neighbourhood : sides [tiles] of the neighbourhoods whose facts are facts, too.
    pictures : how those of each view are prepared; empty for a model that looks at none.
    exposure : (N,) what expected counts are proportional to.
    """
    views = tiles.views[: len(pictures)]
    texts = tuple(column for column in columns if column.dtype in TEXT_DTYPES)
    numbers = tuple(column for column in columns if column.dtype not in TEXT_DTYPES)
    values = fact_values(tiles.frame, [column.name for column in numbers])
    row, col = tiles.lattice[:2] if tiles.lattice else (None, None)
    if neighbourhood:
        if row is None or col is None:
            raise UsageError(
                f"{tiles.path} does not say where its rows lie, so they have no neighbours; "
                "leave out --neighbourhood, or give lon and lat"
            )
        weights = {
            name: tiles.frame[name].to_numpy(dtype=float, na_value=np.nan)
            for name in weight_names(numbers)
            if name in tiles.frame
        }
        values, numbers = with_neighbourhoods(
            values, numbers, row, col, tiles.area_km2, neighbourhood, weights
        )
    return Examples(
        key=tiles.keys,
        label=np.full(len(tiles), np.nan),
        facts=values,
        columns=numbers,
        texts=text_values(tiles.frame, [column.name for column in texts]),
        text_columns=texts,
        area_km2=tiles.area_km2,
        views=tuple(view.name for view in views),
        pictures=tuple(v.pictures_of(p.size_px) for v, p in zip(views, pictures, strict=True)),
        picture=_picture_indices([view.has_image for view in views], len(tiles)),
        row=row,
        col=col,
        exposure=exposure,
    )


def has_a_side(examples: Examples, inputs: Inputs) -> NDArray[np.bool_]:
    """(N,) whether a tile has something that a model of these inputs looks at."""
    sides = {
        "image": examples.has_image,
        "facts": examples.has_facts,
        "both": examples.has_image | examples.has_facts,
    }
    return sides[inputs]


def _without_sides(count: int, inputs: Inputs) -> tuple[str, ...]:
    what = {"image": "no picture", "facts": "no fact", "both": "neither picture nor fact"}[inputs]
    return (f"{count:,} labelled tiles have {what}: they are left out",) if count else ()


def picture_preparations(tiles: Tiles, settings: TrainSettings) -> tuple[PicturePreparation, ...]:
    """How the pictures of each view are prepared: all to one size where one encoder looks at them."""
    widest = max((view.tile_px for view in tiles.views), default=0)
    sides = [view.tile_px if settings.own_encoders else widest for view in tiles.views]
    return tuple(picture_preparation(settings.encoder, side) for side in sides)


def counts_from(origin: Mapping[str, Any]) -> float | None:
    """Events from which a tile is of the riskiest class; None where classes are not cut from counts.

    Parameters
    ----------
    origin : what `Label.as_json` gave.
    """
    cut = origin["threshold"]
    return float(cut) if cut is not None and origin.get("unit") == EVENTS else None


def covered_by_all(frame: pd.DataFrame, columns: Sequence[Column]) -> NDArray[np.bool_]:
    """(N,) whether every source of these facts knows anything of a tile.

    >>> frame = pd.DataFrame({"road_m": [1.0, 0.0], "income": [None, 9.0]})
    >>> facts = [Column(name, "float64", "", "feature", "none", "", source=name) for name in frame]
    >>> covered_by_all(frame, facts).tolist()
    [False, True]
    """
    by_source: dict[str | None, list[str]] = {}
    for column in columns:
        by_source.setdefault(column.source, []).append(column.name)
    known = [frame[names].notna().any(axis=1).to_numpy() for names in by_source.values()]
    return np.asarray(np.all([np.ones(len(frame), bool), *known], axis=0))


def road_metres(tiles: Tiles, rows: IntArray) -> FloatArray | None:
    """(n,) metres of road in these tiles; None where no source knows a road."""
    if "road_m" not in tiles.frame:
        return None
    return tiles.frame["road_m"].to_numpy(dtype=float, na_value=np.nan)[rows]


def _needed(settings: TrainSettings) -> list[tuple[str | None, str]]:
    """The columns without which nothing can be learned as asked, and what each is."""
    asked = [(name, "a fact that is asked for") for name in settings.features or ()]
    return [(settings.label or DEFAULT, "what is learned"), (settings.exposure, "an exposure"), *asked]


def _chosen(
    tiles: Tiles, settings: TrainSettings, label: Label, unshared: Mapping[str, str], beside: Tiles | None
) -> ChosenFacts:
    """The facts of all metros, each of days before its own metro's label window."""
    settings = replace(settings, exclude=tuple(name for name in settings.exclude if name not in unshared))
    kept = {column.name for column in tiles.columns}
    facts: set[str] = set()
    for metro in (*tiles.metros, *((beside,) if beside else ())):
        its = {c.name: c for c in (metro.dataset.columns if metro.dataset else metro.columns)}
        facts |= {column.name for column in its.values() if column.role in ("feature", "exposure")}
        asked = None if settings.features is None else tuple(n for n in settings.features if n in its)
        own = replace(settings, features=asked, exclude=tuple(n for n in settings.exclude if n in its))
        try:
            chosen_facts(tuple(column for column in its.values() if column.name in kept), own, label)
        except UsageError as error:
            raise UsageError(f"{metro.path}: {error}") from None
    chosen = chosen_facts(tiles.columns, settings, label)
    reasons = {name: why for name, why in unshared.items() if name in facts or not tiles.metros}
    return chosen._replace(left_out={**reasons, **chosen.left_out})


def _picture_indices(has_image: Sequence[NDArray[np.bool_]], count: int) -> IntArray:
    """(N, V) index of each tile's picture among those of its view, -1 without one."""
    indices = [np.where(there, np.cumsum(there) - 1, -1) for there in has_image]
    return np.stack(indices, axis=1) if indices else np.empty((count, 0), np.int64)


def _check_sides(
    tiles: Tiles, examples: Examples, settings: TrainSettings, left_out: Mapping[str, str]
) -> None:
    """All that is asked for is there: a model never quietly does without a side or a view."""
    if settings.sees != "facts":
        _check_views(tiles, settings)
        if not examples.has_image.any():
            raise ModelError("no labelled tile has a picture; use --inputs facts, or tile with --imagery")
    if settings.sees != "image" and not examples.columns and not examples.text_columns:
        first = [f"{name} is left out: {why}; " for name, why in left_out.items()][:1]
        raise ModelError(
            f"there are no facts to learn from; {''.join(first)}use --inputs image, or add sources of facts"
        )


def _check_views(tiles: Tiles, settings: TrainSettings) -> None:
    there = {view.name for view in tiles.views}
    for metro in tiles.metros or (tiles,):
        if metro.dataset is not None and metro.dataset.views:
            for name in settings.views:
                if name not in there:
                    metro.dataset.view(name)
