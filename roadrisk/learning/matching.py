"""Whether tiles are of the kind that a model knows, and which facts several metros share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from roadrisk.columns import Column
from roadrisk.learning.facts.choosing import TEXT_DTYPES

TOLERANCE = 0.2  # of cell side, pixel side and window length

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Kind:
    """What a model knows of the tiles that it learned from, but for their values.

    Parameters
    ----------
    columns : the facts.
    cell_m : ground side of a tile; None where nothing says.
    metres_per_pixel : of each view of known scale.
    stretches : by view, how pixels of more than 8 bit became 8 bit.
    views : names of the views that there are.
    """

    columns: tuple[Column, ...]
    cell_m: float | None
    metres_per_pixel: Mapping[str, float]
    stretches: Mapping[str, Spans]
    views: tuple[str, ...]


def tile_differences(here: Kind, there: Kind, remedy: str) -> list[str]:
    """In what tiles and their pictures differ from those that a model learned from; empty when alike.

    Parameters
    ----------
    here : the tiles in question.
    there : what was learned from.
    remedy : what to tile with so that more than 8 bit are stretched alike.
    """
    wrong = []
    if not _near(here.cell_m, there.cell_m):
        wrong.append(f"tiles are {here.cell_m:.4g} m wide, not {there.cell_m:.4g}")
    for view in there.views:
        if view not in here.views:
            wrong.append(f"no view {view}" if view else "no pictures")
            continue
        scale, known = here.metres_per_pixel.get(view), there.metres_per_pixel.get(view)
        of_view = f" of {view}" if len(there.views) > 1 else ""
        if not _near(scale, known):
            wrong.append(f"a pixel{of_view} is {scale:.3g} m, not {known:.3g}")
        wrong += _stretch_differs(here.stretches.get(view), there.stretches.get(view), remedy)
    return wrong


def column_differences(here: Kind, there: Kind, used: set[str]) -> dict[str, str]:
    """Why a column that was learned from is not the same here, by its name.

    Parameters
    ----------
    used : names of those columns of `there` that matter.
    """
    known = {column.name: column for column in here.columns}
    wrong = {name: f"no column {name}" for name in sorted(used) if name not in known}
    for column in there.columns:
        if column.name in used and column.name in known:
            differs = _differs(known[column.name], column)
            if differs:
                wrong[column.name] = f"{column.name} {differs}"
    return wrong


def shared_columns(
    metros: Sequence[tuple[str, tuple[Column, ...]]],
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """The columns that all metros have alike, as the first tells them, and why each other is left out.

    What a model may not use of one metro unless asked for, it may not use of any.

    Parameters
    ----------
    metros : name and columns of each.

    Examples
    --------
    >>> lanes = Column("lanes", "float64", "", "feature", "mean", "Lanes.")
    >>> shared_columns([("a", (lanes,)), ("b", ())])
    ((), {'lanes': 'not in b'})
    """
    (first, columns), *others = metros
    known = {metro: {column.name: column for column in its} for metro, its in metros}
    names = dict.fromkeys(name for its in known.values() for name in its)
    left_out: dict[str, str] = {}
    for name in names:
        lacking = [metro for metro, its in known.items() if name not in its]
        if lacking:
            left_out[name] = f"not in {', '.join(lacking)}"
    shared = []
    for column in columns:
        if column.name in left_out:
            continue
        its = [(metro, known[metro][column.name]) for metro, _ in others]
        differing = [(metro, _differs(one, column) or _unlike(one, column)) for metro, one in its]
        reasons = [f"in {metro} it {differs} as in {first}" for metro, differs in differing if differs]
        if reasons:
            left_out[column.name] = reasons[0]
            continue
        withheld = next((one.withheld for one in (column, *(c for _, c in its)) if one.withheld), "")
        shared.append(replace(column, withheld=withheld))
    return tuple(shared), left_out


def years_ratio(here: Column, there: Column) -> float:
    """What a sum over the window of one column is multiplied by to be one over that of another.

    >>> year = Column("a", "int64", "events", "feature", "sum", "", window=("2023-01-01", "2024-01-01"))
    >>> years_ratio(year, replace(year, window=("2021-01-01", "2023-01-01")))
    2.0
    """
    own, other = _days(here), _days(there)
    return other / own if here.combine == "sum" and own and other else 1.0


def _differs(here: Column, there: Column) -> str:
    """In what a column differs from the one that was learned from; empty when alike."""
    if here.unit != there.unit:
        return f"is in {here.unit or 'no unit'}, not {there.unit or 'no unit'}"
    if not _near(_days(here), _days(there)):
        return f"spans {_days(here)} days, not {_days(there)}"
    if here.combine != there.combine:
        return f"is a {here.combine}, not a {there.combine}"
    return ""


def _unlike(here: Column, there: Column) -> str:
    """In what a column is another thing than one of the same name; empty when alike."""
    if here.role != there.role:
        return f"is of role {here.role}, not {there.role}"
    if (here.window is None) != (there.window is None):
        return f"is {_dated(here)}, not {_dated(there)}"
    texts = [column.dtype in TEXT_DTYPES for column in (here, there)]
    if texts[0] != texts[1]:
        return "holds text, not numbers" if texts[0] else "holds numbers, not text"
    return ""


def _dated(column: Column) -> str:
    return "undated" if column.window is None else "of a window"


def _stretch_differs(here: Spans | None, there: Spans | None, remedy: str) -> list[str]:
    """In what pixels of more than 8 bit became 8 bit differently; empty when alike."""
    if here == there:
        return []
    if there is None:
        return ["its pictures are stretched from more than 8 bit, the model's were of 8 bit"]
    return [f"its pictures are stretched otherwise (tile with --stretch-of {remedy})"]


def _near(here: float | None, there: float | None) -> bool:
    """Whether two sizes agree, where both are known."""
    return here is None or there is None or abs(here - there) <= TOLERANCE * there


def _days(column: Column) -> int | None:
    if column.window is None:
        return None
    start, end = (date.fromisoformat(day) for day in column.window)
    return (end - start).days
