"""A dataset's events, counted anew for other windows: what was known then, and what happened next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from roadrisk.columns import Column, Fact, word
from roadrisk.dataset import Dataset
from roadrisk.errors import DatasetError, UsageError
from roadrisk.features.events import CRASHES, ENFORCEMENT, UNDATED, event_columns
from roadrisk.features.labels import rate_measure, rounded
from roadrisk.features.windows import SLACK, Windows, check_leakage
from roadrisk.files import digest_of
from roadrisk.grid import FloatArray
from roadrisk.inputs import Tiles
from roadrisk.labelling import LABEL, RATE
from roadrisk.schema import checked
from roadrisk.source_settings import EventSource
from roadrisk.sources.account import Account
from roadrisk.sources.coverage import COVERED
from roadrisk.sources.events import Events, weighted
from roadrisk.sources.stored import Written

FIELDS = ("x", "y", "time", "severity")  # of events, that counts are made from
_ONE_DAY = timedelta(days=1)
_SUFFIXES = {"feature": "past"}  # a window's name -> the end of its columns' names


def recounted(tiles: Tiles, windows: Windows) -> Tiles:
    """The same tiles with every column that comes from events as of other windows.

    The counts of each window, by kind and weighted, kernels and distances are made anew from the events that
    the dataset keeps, by the code that `tile` has. The label is cut at the dataset's own threshold. A source
    without a column in a dataset that declares its coverage stays without, since nothing says where it knows
    something; kinds are those that the dataset has columns of.

    Parameters
    ----------
    windows : without a label window, or with one of which the label's source tells nothing, there is no
        label.

    Raises
    ------
    UsageError : a window of facts that reaches into the label's, or tiles of a table.
    DatasetError : events that cannot be read.
    """
    dataset = tiles.dataset
    if dataset is None:
        raise UsageError(f"{tiles.path} keeps no events of its own to count for other windows")
    made = {
        name: _source_facts(dataset, tiles.frame, name, source, windows)
        for name, source in event_sources(dataset).items()
    }
    check_leakage([column for facts in made.values() for column, _ in facts], windows.label)
    known = {column.name: values for facts in made.values() for column, values in facts}
    columns = _placed(tiles.columns, {name: [c for c, _ in facts] for name, facts in made.items()})
    gone = {column.name for column in tiles.columns} - {column.name for column in columns}
    frame = tiles.frame.drop(columns=sorted(gone)).assign(**known)
    columns, frame = _labelled(dataset, columns, frame)
    frame = frame[["tile_id", "row", "col", *(column.name for column in columns)]]
    manifest = {
        **dataset.manifest,
        "windows": windows.as_json(),
        "columns": [column.as_json() for column in columns],
    }
    return replace(
        tiles,
        identity=digest_of([tiles.identity, windows.as_json()]),
        frame=frame,
        columns=columns,
        dataset=replace(dataset, columns=columns, manifest=manifest),
    )


def event_sources(dataset: Dataset) -> dict[str, EventSource]:
    """Name -> settings of each source of events, as the dataset was made with them.

    Raises
    ------
    DatasetError : settings that are none.
    """
    plans: Mapping[str, Any] = dataset.manifest["plan"].get("sources", {})
    known = {field.name for field in fields(EventSource)}
    found = {
        name: checked(
            EventSource,
            {key: value for key, value in plan.items() if key in known},
            f"{dataset.path}, its source {name}",
            DatasetError,
        )
        for name, plan in plans.items()
        if isinstance(plan, dict) and "severity" in plan
    }
    # as `tile` joined them, which a manifest's plan does not keep
    order = [joined["name"] for joined in dataset.manifest["sources"]]
    return {name: found[name] for name in order if name in found}


def kept_events(dataset: Dataset, name: str, source: EventSource, before: date | None = None) -> Events:
    """The events of a source that a dataset keeps.

    Their first and last date are those of the whole file, as far as events and columns tell.

    Parameters
    ----------
    before : weights that depend on how often severities occur see earlier days only.

    Raises
    ------
    DatasetError : their file is damaged.
    """
    stores = _stores(dataset, f"events/{name}.parquet", [*FIELDS, *(f"by_{by}" for by in source.by)])
    columns = _columns_of(dataset, name)
    events = Events(
        name=name,
        stores=stores,
        rejected=pd.DataFrame(),
        account=Account(name, 0, 0, {}, 0),
        understood=(),
        first=None,
        last=None,
        period=source.period,
        severities=Counter(),
        weights=None,
        ids_named=source.id is not None,
        kinds={by: _kinds(columns, name, by) for by in source.by},
    )
    severities, times = Counter[str](), []
    for batch in events.batches():
        severities.update(batch["severity"].fillna("").tolist())
        times += [batch["time"].min(), batch["time"].max()]
    known = [moment.date() for moment in times if not pd.isna(moment)]
    first, last = _dates(dataset, columns, name, known)
    return weighted(replace(events, severities=severities, first=first, last=last), source, before)


def _stores(dataset: Dataset, file: str, names: Sequence[str]) -> tuple[Written, ...]:
    """The rows of a dataset's file, which has these columns; none where no event was used."""
    if file not in dataset.manifest["files"]:
        return ()
    path = dataset.path / file
    try:
        with pq.ParquetFile(path) as opened:
            rows, there = opened.metadata.num_rows, opened.schema_arrow.names
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} is damaged ({reason}); copy the dataset again or tile again") from None
    lacking = [name for name in names if name not in there]
    if lacking:
        raise DatasetError(f"{path} lacks {', '.join(lacking)}; copy the dataset again or tile again")
    return (Written(path, np.ones(rows, dtype=bool), lambda frame: frame),)


def _source_facts(
    dataset: Dataset, frame: pd.DataFrame, name: str, source: EventSource, windows: Windows
) -> list[Fact]:
    """The columns of one source, its coverage before them; none where it tells of no window."""
    events = kept_events(dataset, name, source, windows.label[0] if windows.label else None)
    coverage = f"coverage_{name}"
    undated = any(column.name == f"{name}_{UNDATED}" for column in dataset.columns)
    covered = None
    if coverage in frame:
        covered = frame[coverage].to_numpy(dtype=float) >= COVERED
    elif source.coverage not in (None, "complete"):
        return []
    if events.first is None and not undated:
        return []
    mask = None if covered is None else covered.reshape(dataset.grid.shape)
    facts = event_columns(events, dataset.grid, windows, source, mask, _withheld(dataset, name, source))
    if covered is None or not facts:
        return facts
    [share] = [column for column in dataset.columns if column.name == coverage]
    known = [(column, np.where(covered, values, np.nan)) for column, values in facts]
    return [(share, frame[coverage].to_numpy()), *known]


def _placed(columns: Iterable[Column], made: Mapping[str, Sequence[Column]]) -> tuple[Column, ...]:
    """Columns with those of each source in place of its own; of one that had none, before `eligible`."""
    placed: list[Column] = []
    done: set[str] = set()
    for column in columns:
        if column.name == "eligible":
            placed += [new for name, own in made.items() if name not in done for new in own]
            done |= set(made)
        source = column.source
        if source is None or source not in made or not _is_count(column):
            placed.append(column)
        elif source not in done:
            done.add(source)
            placed += made[source]
    return tuple(placed)


def _is_count(column: Column) -> bool:
    """Whether a source made the column itself, and not the label from it."""
    return column.name not in (LABEL, RATE)


def _columns_of(dataset: Dataset, name: str) -> list[Column]:
    return [column for column in dataset.columns if column.source == name and _is_count(column)]


def _labelled(
    dataset: Dataset, columns: tuple[Column, ...], frame: pd.DataFrame
) -> tuple[tuple[Column, ...], pd.DataFrame]:
    """The label and the rate it is cut from, as of the columns that they come from.

    Classes as they stand and labels of a file of their own are no events, and stay.
    """
    cut = dataset.manifest["label"]
    settings = dataset.manifest["plan"].get("settings", {}).get("label") or {}
    if cut is None or settings.get("path") is not None:
        return columns, frame
    by_name = {column.name: column for column in columns}
    if LABEL not in by_name or (cut["measure"] == RATE and RATE not in by_name):
        return columns, frame  # what several metros do not share
    if cut["measure"] == RATE:
        events = settings.get("column") or f"{by_name[RATE].source}_label"
        if events not in by_name:
            return _without(columns, frame, (RATE, LABEL))
        rates, _ = rate_measure(_numbers(frame, events), _numbers(frame, settings["per"]))
        frame = frame.assign(**{RATE: rates})
        by_name[RATE] = replace(by_name[RATE], window=by_name[events].window)
    elif cut["measure"] not in by_name:
        return _without(columns, frame, (LABEL,))
    measure = _numbers(frame, cut["measure"])
    known = frame["eligible"].to_numpy(dtype=bool) & ~np.isnan(measure)
    high = pd.Series(pd.array(rounded(measure) >= cut["t"], dtype="boolean"), index=frame.index).mask(~known)
    by_name[LABEL] = replace(by_name[LABEL], window=by_name[cut["measure"]].window)
    return tuple(by_name[column.name] for column in columns), frame.assign(**{LABEL: high})


def _without(
    columns: tuple[Column, ...], frame: pd.DataFrame, names: Sequence[str]
) -> tuple[tuple[Column, ...], pd.DataFrame]:
    return tuple(column for column in columns if column.name not in names), frame.drop(columns=list(names))


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    return frame[name].to_numpy(dtype=float, na_value=np.nan)


def _kinds(columns: Sequence[Column], name: str, by: str) -> tuple[str, ...]:
    """The kinds that some window has columns of, in their order; "" for yes and no."""
    found: list[str] = []
    for column in columns:
        _, _, said = column.meaning.partition(f" with {by} ")
        plain = column.meaning.partition(f" with {by} of {name} ")[1]
        if plain and column.name.endswith(f"_{word(by)}"):
            found.append("")
        elif said and f"_{word(by)}_{said.split(' ')[0]}" in column.name:
            found.append(said.split(" ")[0])
    return tuple(dict.fromkeys(found))


def _dates(
    dataset: Dataset, columns: Sequence[Column], name: str, known: Sequence[date]
) -> tuple[date | None, date | None]:
    """First and last date of a source: of its events or, where these say less, of the windows it told of.

    A column's window is cut where the source ends; where it is whole, the source came within a week of it.
    """
    firsts, lasts = list(known), list(known)
    windows = {_SUFFIXES.get(w, w): span for w, span in dataset.manifest["windows"].items()}
    for suffix, asked in windows.items():
        told = next((c.window for c in columns if c.name == f"{name}_{suffix}"), None)
        if told is not None:
            start, end = (date.fromisoformat(day) for day in told)
            firsts.append(start if told[0] != asked[0] else start + SLACK)
            lasts.append(end - _ONE_DAY if told[1] != asked[1] else end - SLACK - _ONE_DAY)
    return (min(firsts), max(lasts)) if firsts else (None, None)


def _withheld(dataset: Dataset, name: str, source: EventSource) -> str:
    """Why models leave the facts of a source out, as its facts say, else as what it is called says."""
    facts = [column for column in _columns_of(dataset, name) if column.role == "feature"]
    if facts:
        return facts[0].withheld
    if source.undated:
        return ""
    return ENFORCEMENT if name == "citations" else CRASHES
