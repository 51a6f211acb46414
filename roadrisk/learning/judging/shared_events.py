"""The same event in the label and in the facts, by way of two sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from roadrisk.columns import Column
from roadrisk.learning.judging.evaluation import Finding

SAME_EVENTS = "same events"
NEAR_M, NEAR_S = 1.0, 60.0
COPIED_SHARE, FEWEST_POINTS = 0.9, 20  # of undated points, which may lie on crashes by chance

Window = tuple[str, str]


def shared_event_findings(
    events: Mapping[str, pd.DataFrame],
    label_sources: Collection[str],
    label_window: Window,
    columns: Sequence[Column],
) -> tuple[Finding, ...]:
    """Events of the label window that a fact was made from, too.

    Two records are one event if they are the same row of the same file, or within a metre and a minute.
    Points without dates are suspected where nine in ten of them lie within a metre of events of the label.

    Parameters
    ----------
    events : of one dataset by source: `x`, `y` [m], `time`, `source_file`, `source_row`.
    label_sources : those that the label counts.
    columns : the facts.
    """
    labelled = [_within(events[name], label_window) for name in label_sources if name in events]
    sources = sorted(
        {c.source for c in columns if c.source in events and c.role != "label"} - {None}, key=str
    )
    if not labelled or not sources:
        return ()
    learned = pd.concat(labelled, ignore_index=True)
    findings = []
    for name in sources:
        windows = {column.window for column in columns if column.source == name}
        found = _finding(str(name), events[str(name)], windows, learned)
        if found is not None:
            findings.append(found)
    if findings:
        return tuple(findings)
    names = ", ".join(map(str, sources))
    said = f"none of the {len(learned):,} events of the label window is an event of {names}"
    return (Finding(SAME_EVENTS, False, said),)


def same_events(one: pd.DataFrame, other: pd.DataFrame) -> NDArray[np.bool_]:
    """(N,) whether each of N records of `one` is an event of `other`, too.

    >>> known = pd.DataFrame({"x": [0.0], "y": [0.0], "time": [pd.Timestamp("2024-05-01 10:00")],
    ...                       "source_file": ["a.csv"], "source_row": [7]})
    >>> same_events(known, known.assign(x=0.9, source_file="b.csv")).tolist()
    [True]
    """
    records = pd.MultiIndex.from_frame(one[["source_file", "source_row"]])
    same = np.asarray(records.isin(pd.MultiIndex.from_frame(other[["source_file", "source_row"]])))
    dated = one["time"].notna().to_numpy()
    later = other[other["time"].notna()]
    if dated.any() and len(later):
        # 1 apart is a metre or a minute
        far, _ = cKDTree(_moments(later)).query(_moments(one[dated]), p=np.inf, distance_upper_bound=1.001)
        same[dated] |= np.isfinite(far)
    return same


def _finding(
    name: str, events: pd.DataFrame, windows: Collection[Window | None], learned: pd.DataFrame
) -> Finding | None:
    undated = bool(events["time"].isna().all())
    told = [events if undated or w is None else _within(events, w) for w in windows]
    used = pd.concat(told, ignore_index=True).drop_duplicates(["source_file", "source_row"])
    both = int(same_events(used, learned).sum())
    fix = f"leave the facts of {name} out"
    if both:
        return Finding(
            SAME_EVENTS,
            True,
            f"{both:,} of {len(used):,} events of {name}, which facts are made from, are events of the label "
            f"(the same row of a file, or within a metre and a minute); {fix}",
        )
    if not undated or len(used) < FEWEST_POINTS or not len(learned):
        return None
    far, _ = cKDTree(learned[["x", "y"]]).query(used[["x", "y"]], distance_upper_bound=NEAR_M)
    near = int(np.isfinite(far).sum())
    if near < COPIED_SHARE * len(used):
        return None
    return Finding(
        SAME_EVENTS,
        True,
        f"{near:,} of {len(used):,} points of {name}, which have no date, lie within a metre of events of "
        f"the label; {fix}, or date them",
    )


def _within(events: pd.DataFrame, window: Window) -> pd.DataFrame:
    start, end = (pd.Timestamp(day) for day in window)
    return events[(events["time"] >= start) & (events["time"] < end)]


def _moments(events: pd.DataFrame) -> NDArray[np.float64]:
    """(N, 3) place and time in metres and minutes."""
    seconds = events["time"].to_numpy("datetime64[ms]").astype(np.int64) / 1000
    return np.column_stack([events["x"] / NEAR_M, events["y"] / NEAR_M, seconds / NEAR_S])
