"""The check for leaks: whether something that is learned from knows what it is judged by.

Shuffled labels find no leak, since a shuffle breaks a leaked fact, too; so each way in which labels leak is
looked for by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import Column
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.duplicates import duplicate_findings
from roadrisk.learning.judging.evaluation import Finding
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.shared_events import shared_event_findings
from roadrisk.learning.judging.shuffled import shuffled_label_findings
from roadrisk.learning.judging.suspects import neighbour_findings, suspect_findings

PICTURE_DATES, WINDOWS = "picture dates", "feature windows"

Window = tuple[str, str]


def leak_findings(
    examples: Examples,
    outcomes: Outcomes,
    folds: Folds,
    label_window: Window | None,
    label_sources: Collection[str],
    taken_last: Mapping[str, NDArray[Any]],
    events: Sequence[Mapping[str, pd.DataFrame]],
    seed: int,
    ceiling: float | None = None,
) -> tuple[Finding, ...]:
    """What every check found, leaks first.

    Parameters
    ----------
    examples, outcomes, folds : of the same N rows.
    label_window : dates [from, to) of the label; None where it has none.
    label_sources : of the events that the label counts.
    taken_last : by view, (N,) ISO day on which what each picture shows was last taken, missing where unknown.
    events : of each dataset, by source: `x`, `y` [m], `time`, `source_file`, `source_row`.
    seed : of the sample of pictures and of the shuffles.
    ceiling : AUROC that the label's own chance leaves to anybody; None where it is not known.
    """
    order = np.argsort(examples.key, kind="stable")
    examples, outcomes, folds = examples.taken(order), outcomes.taken(order), folds.taken(order)
    taken_last = {view: days[order] for view, days in taken_last.items()}
    amount = outcomes.events if outcomes.task.kind == "class" else outcomes.label
    columns = (*examples.columns, *examples.text_columns)
    findings = [
        *picture_date_findings(examples, taken_last, label_window),
        *window_findings(columns, label_window),
        *duplicate_findings(examples, folds, seed),
        *suspect_findings(examples, amount, outcomes.high, folds, ceiling),
        *neighbour_findings(examples, amount, outcomes.high, label_window),
        *shuffled_label_findings(examples, outcomes.high, outcomes.block, folds, seed),
    ]
    if label_window is not None:
        for of_dataset in events:
            findings += shared_event_findings(of_dataset, label_sources, label_window, columns)
    return tuple(sorted(findings, key=lambda finding: not finding.leak))


def picture_date_findings(
    examples: Examples, taken_last: Mapping[str, NDArray[Any]], label_window: Window | None
) -> tuple[Finding, ...]:
    """Pictures taken after the label window starts, which may show what happened.

    Parameters
    ----------
    taken_last : as of `leak_findings`.
    """
    findings = []
    for view, name in enumerate(examples.views):
        there = examples.picture[:, view] >= 0
        said = f"{name}: " if name else ""
        if name not in taken_last or label_window is None:
            what = "the label has no window" if label_window is None else "pictures have no dates"
            findings.append(
                Finding(PICTURE_DATES, False, f"{said}{what}, so it cannot be told which came first")
            )
            continue
        days = pd.to_datetime(pd.Series(taken_last[name][there]), errors="coerce").to_numpy("datetime64[D]")
        late, unknown = days >= np.datetime64(label_window[0]), int(np.isnat(days).sum())
        untold = f"; of {unknown:,} pictures nobody says when they were taken" if unknown else ""
        if unknown == len(days):
            text = f"{said}nobody says when its pictures were taken, so it cannot be told which came first"
        elif late.any():
            text = (
                f"{said}{int(late.sum()):,} of {len(days):,} pictures were taken after the label window "
                f"starts ({label_window[0]}), the last on {days[late].max()}; use older pictures or a later "
                f"window{untold}"
            )
        else:
            text = f"{said}no picture is known to be later than the start of the label window{untold}"
        findings.append(Finding(PICTURE_DATES, bool(late.any()), text))
    return tuple(findings)


def window_findings(columns: Sequence[Column], label_window: Window | None) -> tuple[Finding, ...]:
    """Facts of days inside the label window, or after it.

    Parameters
    ----------
    columns : the facts.

    Examples
    --------
    >>> late = Column("tows", "float64", "events", "feature", "sum", "", window=("2024-03-01", "2024-06-01"))
    >>> [finding] = window_findings([late], ("2024-01-01", "2025-01-01"))
    >>> finding.leak, finding.text[:43]
    (True, 'tows tells of 2024-03-01 to before 2024-06-')
    """
    if not columns:
        return ()
    if label_window is None:
        said = "the label has no window, so it cannot be told whether facts are older"
        return (Finding(WINDOWS, False, said),)
    late = [column for column in columns if column.window and column.window[1] > label_window[0]]
    for_each = [
        Finding(
            WINDOWS,
            True,
            f"{column.name} tells of {' to before '.join(column.window or ())}, and the label of days from "
            f"{label_window[0]}; leave it out with --exclude {column.name}",
        )
        for column in sorted(late, key=lambda column: column.name)
    ]
    if for_each:
        return tuple(for_each)
    undated = sum(column.window is None for column in columns)
    untold = f"; {undated} without dates are taken to be older" if undated else ""
    return (
        Finding(WINDOWS, False, f"no fact of {len(columns)} tells of days from {label_window[0]} on{untold}"),
    )
