"""What was known of the same tiles before a window began, and what the window then brought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd

from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.features.events import CRASHES, smoothed
from roadrisk.features.labels import rounded
from roadrisk.features.windows import Window, Windows
from roadrisk.gathering import Gathered, examples_of
from roadrisk.grid import FloatArray, IntArray
from roadrisk.inputs import Tiles
from roadrisk.labelling import RATE
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.scaling import YEAR_DAYS
from roadrisk.learning.labels.amounts import exposure_of
from roadrisk.learning.settings import TrainSettings
from roadrisk.metros import joined
from roadrisk.periods import Periods, periods_of
from roadrisk.recounting import recounted

BANDWIDTHS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of a kernel density, in tiles


@dataclass(frozen=True, eq=False)
class KnownBefore:
    """N tiles on the day before a window begins, in the order of their keys.

    Parameters
    ----------
    facts : without anything made from crashes.
    with_past : the same with what is made from crashes of earlier days; None without any.
    measure : (N,) of the window itself, that its label is cut from or is.
    past : (N,) of all days before; None without any.
    densities : (N,) past events per km2 and year, of each of some bandwidths; empty without a past.
    """

    facts: Examples
    with_past: Examples | None
    measure: FloatArray
    past: FloatArray | None
    densities: tuple[FloatArray, ...] = ()


@dataclass(frozen=True, eq=False)
class TwoWindows:
    """What is learned from, and what is judged.

    Parameters
    ----------
    before : (N,) measure of the window before the fitted one; None where its source does not tell all of it.
    bandwidths : of `densities` of both [tiles].
    told : which facts are left out, and why.
    """

    fitted: KnownBefore
    judged: KnownBefore
    before: FloatArray | None
    bandwidths: tuple[float, ...]
    told: tuple[str, ...]


def periods_of_all(tiles: Tiles, measure: str) -> Periods:
    """The windows of a dataset, or of several that have the same.

    Raises
    ------
    ModelError : as of `periods_of`; of a table, and of datasets whose windows differ.
    """
    known = []
    for one in tiles.metros or (tiles,):
        if one.dataset is None:
            raise ModelError(f"{one.path} keeps no events with dates, so there is no next period to judge")
        known.append((one.path, periods_of(one.dataset, measure)))
    (path, first), *others = known
    for other, periods in others:
        if periods != first:
            raise ModelError(
                f"{path} and {other} tell of other windows or other sources of {measure}, so they have no "
                "next period in common; train on each alone to judge it"
            )
    return first


def two_windows(learned: Gathered, periods: Periods, settings: TrainSettings, order: IntArray) -> TwoWindows:
    """The tiles before both windows, with the same facts as of the same length of time.

    A model divides a sum by the length of the window that it was fitted on, so sums and kernels over a longer
    past are brought to that length; the distance to the nearest event cannot be, and is left out where the
    pasts differ.

    Parameters
    ----------
    settings : that `learned` was gathered by.
    order : rows of `learned.examples` by key.

    Raises
    ------
    ModelError : the tiles of a window are all of one class or have the same count.
    """
    measure = str(learned.label.measure)
    fitted = _recounted(learned.tiles, periods.fitted, periods.past_fitted)
    judged = _recounted(learned.tiles, periods.judged, periods.past_judged)
    facts, past, told = _shared(learned, fitted, judged, periods, settings.exclude)
    past_name = f"{periods.source}_past{measure.removeprefix(f'{periods.source}_label')}"
    if measure == RATE:
        past_name = f"{periods.source}_past"
    sides = _bandwidths(learned.tiles)
    rows = learned.known[order]

    def known(tiles: Tiles) -> KnownBefore:
        label = _labels(learned, tiles, measure)[rows]
        there = past_name in tiles.frame
        alike = _as_long(tiles, [*facts, *past])
        of_facts, of_all = (
            _examples(learned, alike, columns, label, order, settings.neighbourhood)
            for columns in (facts, [*facts, *past])
        )
        return KnownBefore(
            facts=of_facts,
            with_past=of_all if past else None,
            measure=_numbers(tiles.frame, measure)[rows],
            past=_numbers(tiles.frame, past_name)[rows] if there else None,
            densities=tuple(_density(tiles, past_name, side)[rows] for side in sides) if there else (),
        )

    before = None
    if periods.before is not None:
        before = _numbers(_recounted(learned.tiles, periods.before, None).frame, measure)[rows]
    return TwoWindows(known(fitted), known(judged), before, sides, told)


def _recounted(tiles: Tiles, label: Window, past: Window | None) -> Tiles:
    """Tiles with what was known before a window began; of several metros, joined again."""
    made = [
        recounted(one, _windows_before(one.dataset, label, past))
        for one in tiles.metros or (tiles,)
        if one.dataset is not None
    ]
    return joined(made)[0] if tiles.metros else made[0]


def _windows_before(dataset: Dataset, label: Window, past: Window | None) -> Windows:
    """These two, and the dataset's other windows as far as they end before the label's begins."""
    named = {
        name: (date.fromisoformat(start), date.fromisoformat(end))
        for name, (start, end) in dataset.manifest["windows"].items()
        if name not in ("label", "feature") and date.fromisoformat(end) <= label[0]
    }
    return Windows(label, past, named)


def _shared(
    learned: Gathered, fitted: Tiles, judged: Tiles, periods: Periods, exclude: Sequence[str]
) -> tuple[list[Column], list[Column], tuple[str, ...]]:
    """Facts without crashes, those made from them, and lines on what is left out."""
    then, now = ({column.name: column for column in tiles.columns} for tiles in (fitted, judged))
    start = periods.fitted[0].isoformat()
    made = [c for c in fitted.columns if _of_crashes(c, periods.source) and c.name not in exclude]
    asked = [c.name for c in learned.columns if not _of_crashes(c, periods.source)]
    late, unknown, distances = [], [], []
    facts, past = [], []
    for name in [*asked, *(column.name for column in made)]:
        if name not in then or name not in now:
            unknown.append(name)
        elif (then[name].window or ("", ""))[1] > start:
            late.append(name)
        elif name in asked:
            facts.append(then[name])
        elif then[name].window is None:
            unknown.append(name)
        elif then[name].combine == "min" and _days(then[name]) != _days(now[name]):
            distances.append(name)
        else:
            past.append(then[name])
    reasons = {
        f"of days from {start} on, when what is learned here begins": late,
        f"nothing of them is known before {start}": unknown,
        "a distance to the nearest of a longer past is shorter, which no rate makes up for": distances,
    }
    told = tuple(
        f"next period, left out: {', '.join(names)}: {why}" for why, names in reasons.items() if names
    )
    return facts, past, told


def _of_crashes(column: Column, source: str) -> bool:
    return column.role == "feature" and (column.withheld.rstrip(".") == CRASHES or column.source == source)


def _as_long(tiles: Tiles, columns: Sequence[Column]) -> Tiles:
    """Tiles whose sums and kernels over windows are as of the windows of `columns`."""
    own = {column.name: column for column in tiles.columns}
    changed = {
        column.name: tiles.frame[column.name] * (_days(column) / _days(own[column.name]))
        for column in columns
        if _is_rate(column) and _days(column) != _days(own[column.name])
    }
    return replace(tiles, frame=tiles.frame.assign(**changed))


def _is_rate(column: Column) -> bool:
    """Whether twice the time brings twice as much."""
    return column.window is not None and (column.combine == "sum" or column.unit.endswith("events/km2"))


def _days(column: Column) -> int:
    if column.window is None:
        return 0
    start, end = (date.fromisoformat(day[:10]) for day in column.window)
    return max(1, (end - start).days)


def _labels(learned: Gathered, tiles: Tiles, measure: str) -> FloatArray:
    """(rows of tiles,) the label as it is defined, of these windows."""
    values = _numbers(tiles.frame, measure)
    threshold, task = learned.label.threshold, learned.label.task
    labels = values
    if task.kind == "class" and threshold is not None:
        labels = np.where(np.isnan(values), np.nan, rounded(values) >= threshold)
    known = labels[learned.known]
    if not (known != known[0]).any():
        window = next(column.window for column in tiles.columns if column.name == measure) or ("", "")
        of_what = f"are {task.classes[int(known[0])]} risk by" if task.classes else f"have {known[0]:g} in"
        raise ModelError(
            f"{tiles.path}: all {len(known):,} tiles {of_what} {measure} from {window[0]} to before "
            f"{window[1]}, so no model of the next period can be fitted; tile with another --label-window"
        )
    return labels


def _examples(
    learned: Gathered,
    tiles: Tiles,
    columns: Sequence[Column],
    label: FloatArray,
    order: IntArray,
    neighbourhood: tuple[int, ...],
) -> Examples:
    """Examples in this order, with other facts and labels."""
    exposure = exposure_of(tiles.frame, learned.label.task, str(tiles.path))
    made = examples_of(replace(tiles, views=()), tuple(columns), neighbourhood, (), exposure)
    made = made.taken(learned.known[order])
    return replace(
        learned.examples.taken(order),
        label=label,
        facts=made.facts,
        columns=made.columns,
        texts=made.texts,
        text_columns=made.text_columns,
        exposure=made.exposure,
    )


def _bandwidths(tiles: Tiles) -> tuple[float, ...]:
    """Those that are narrower than every grid [tiles]."""
    grids = [one.dataset.grid for one in tiles.metros or (tiles,) if one.dataset is not None]
    return tuple(side for side in BANDWIDTHS if side < min(max(grid.shape) for grid in grids))


def _density(tiles: Tiles, name: str, bandwidth: float) -> FloatArray:
    """(rows of tiles,) events of a column per km2 and year, smoothed; 0 where its source knows nothing.

    Parameters
    ----------
    bandwidth : of a Gaussian [tiles].
    """
    parts = []
    for one in tiles.metros or (tiles,):
        if one.dataset is None:
            continue
        grid = one.dataset.grid
        counts = _numbers(one.frame, name).reshape(grid.shape)
        [column] = [column for column in one.columns if column.name == name]
        smooth = smoothed(grid, np.nan_to_num(counts), bandwidth * grid.cell_m, np.isfinite(counts))
        parts.append(np.nan_to_num(smooth).ravel() / (_days(column) / YEAR_DAYS))
    return np.concatenate(parts)


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    return frame[name].to_numpy(dtype=float, na_value=math.nan)
