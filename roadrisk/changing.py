"""`compare`: two scores of the same tiles become a layer of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from roadrisk.errors import LayerError
from roadrisk.grid import FloatArray
from roadrisk.maps.changes import CHANGE_LEGEND, change_layer
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import MapFile, check_outs, map_files, write_files
from roadrisk.maps.matched import Matched, matched
from roadrisk.maps.page import page
from roadrisk.maps.reading import WRITTEN_BEFORE, layer_at

LEAST_SHARED = 0.5  # of the smaller layer
LOOKED_AT = 1_000  # features whose places are held against each other
APART_M = 10.0
LEAP_DAYS = 0.02  # share by which windows of as many years may differ
DEGREE_M = 111_195.0


@dataclass(frozen=True, eq=False)
class Compared:
    """What `compare` did.

    Parameters
    ----------
    before, after : A and B as they were read.
    notes : what a reader of the change should know, a line a thing.
    """

    paths: tuple[Path, ...]
    change: Layer
    before: Layer
    after: Layer
    match: Matched
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Features of each class of change."""
        found = self.change.table[CHANGE_LEGEND.field].value_counts()
        return {value: int(found.get(value, 0)) for value in CHANGE_LEGEND.values}

    @property
    def unmatched(self) -> dict[str, int]:
        """Features without a change, by why."""
        both = self.match.both
        return {
            "only in A": int((self.match.b < 0).sum()),
            "only in B": int((self.match.a < 0).sum()),
            "without a risk in A or B": int(self.change.table["change"].isna()[both].sum()),
        }

    def lines(self) -> list[str]:
        """For people: how many features changed, how many nobody knows of, and what it may be of."""
        said = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        lost = ", ".join(f"{count:,} {why}" for why, count in self.unmatched.items())
        return [
            f"{int(self.match.both.sum()):,} in A and B: {said}",
            f"kept without a change: {lost}",
            *self.notes,
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "layers": [str(path) for path in self.paths],
            "features": len(self.change),
            "changes": self.counts,
            "without_change": self.unmatched,
            "notes": list(self.notes),
        }


def compare(a: Path, b: Path, outs: Sequence[Path]) -> Compared:
    """Write the change from one score to another as layers, all of them or none.

    Features are matched by `tile_id`, of roads by `road_id`; those of one score alone are kept without a
    change.

    Parameters
    ----------
    a, b : layers that `score` wrote, before and after.
    outs : files to write; their suffixes say the formats. A page shows A and B beside the change.

    Raises
    ------
    LayerError : a layer that cannot be read or written, or two that cannot be compared.
    """
    before, after = layer_at(a), layer_at(b)
    for which, layer in (("A", before), ("B", after)):
        if "risk" not in layer.table:
            raise LayerError(f"{which} has no risk; compare layers that `roadrisk score` wrote")
    match = matched(before, after)
    check_alike(before, after)
    check_matched(before, after, match)
    change = change_layer(before, after, match)
    check_outs(outs, change.places)
    written = tuple(write_files([_file(out, change, before, after) for out in outs]))
    return Compared(written, change, before, after, match, tuple(change_notes(before, after)))


def check_alike(a: Layer, b: Layer) -> None:
    """Nothing, if the risk of two layers is of one kind, unit and length of time.

    Raises
    ------
    LayerError : what differs.
    """
    kinds = [layer.about.risk_meaning.partition(";")[0].rstrip(".") for layer in (a, b)]
    if kinds[0] != kinds[1]:
        raise LayerError(
            f"the risk of A is {kinds[0]!r}, that of B {kinds[1]!r}; compare scores of models of one kind"
        )
    for name in ("expected", "eb"):
        units = [column.unit for layer in (a, b) for column in layer.columns if column.name == name]
        if len(set(units)) > 1:
            raise LayerError(
                f"{name} is in {units[0]} in A and in {units[1]} in B; compare scores of one unit"
            )
    days = [_days(layer.about.windows.get("label")) for layer in (a, b)]
    if days[0] and days[1] and abs(days[0] - days[1]) > LEAP_DAYS * max(days[0], days[1]):
        raise LayerError(
            f"the label window of A has {days[0]:,} days, that of B {days[1]:,}: more happens in more time; "
            "compare models of windows of one length"
        )


def check_matched(a: Layer, b: Layer, match: Matched) -> None:
    """Nothing, if two layers are of the same features, in the same places.

    Raises
    ------
    LayerError : fewer than half of the smaller layer's are in the other, or most lie elsewhere there.
    """
    what = "tiles" if match.key == "tile_id" else "roads"
    shared = np.flatnonzero(match.both)
    if len(shared) < LEAST_SHARED * min(len(a), len(b)) or not len(shared):
        raise LayerError(
            f"A has {len(a):,} {what} and B {len(b):,}, but only {len(shared):,} are in both by {match.key}; "
            f"compare scores of the same {what}"
        )
    some = shared[:: -(-len(shared) // LOOKED_AT)]
    apart = _metres_apart(a, b, match, some)
    if np.median(apart) > APART_M:
        raise LayerError(
            f"{what} with the same {match.key} lie {np.median(apart):,.0f} m apart in A and B; "
            f"compare scores of the same {what}"
        )


def change_notes(a: Layer, b: Layer) -> list[str]:
    """What a reader of a change should know of its two scores, a line a thing."""
    here, there = a.about, b.about
    label = [about.windows.get("label") for about in (here, there)]
    said = []
    if WRITTEN_BEFORE in (here.model, there.model):
        said.append("a file does not say of which model it is: part of the change may be of the models")
    elif here.model == there.model:
        same_data = here.data and here.data == there.data
        so = " and of the same data: no change is to be expected"
        said.append(
            f"A and B are of one model ({here.model}){so if same_data else ': the change is of inputs alone'}"
        )
    elif label[0] and label[0] == label[1]:
        said.append(
            f"A is of model {here.model}, B of {there.model}, and both tell of the same label window: the "
            "change is between models, not in time"
        )
    else:
        said.append(
            f"A is of model {here.model}, B of {there.model}: part of the change may be of the models"
        )
    for name in sorted({*here.windows, *there.windows}):
        spans = [about.windows.get(name) for about in (here, there)]
        if spans[0] != spans[1]:
            said.append(f"{name} window: A {_span(spans[0])}, B {_span(spans[1])}{_overlap(spans)}")
    if here.label_meaning != there.label_meaning:
        said.append(f"the labels differ: A {here.label_meaning!r}, B {there.label_meaning!r}")
    ends = [{"risk_low", "risk_high"} <= set(layer.table) for layer in (a, b)]
    if all(ends):
        said.append(
            "intervals take A and B to err independently; scores of one model, or of one place in two "
            "windows, mostly err together, and then fewer changes are called clear than are"
        )
    else:
        without = " and ".join(name for name, has in zip("AB", ends, strict=True) if not has)
        said.append(f"no interval of the risk in {without}, so no change is called clear")
    return said


def _file(out: Path, change: Layer, before: Layer, after: Layer) -> MapFile:
    """The change as a map file; a page shows A and B too."""
    if out.suffix.lower() != ".html":
        return map_files(change, [out])[0]
    sides = [
        replace(layer, about=replace(layer.about, title=f"{layer.about.title} ({side})"))
        for side, layer in (("A", before), ("B", after))
    ]

    def fill(temporary: Path) -> None:
        temporary.write_text(page([change, *sides]), encoding="utf-8", newline="\n")

    return MapFile(out, fill)


def _metres_apart(a: Layer, b: Layer, match: Matched, some: Any) -> FloatArray:
    """(n,) metres between the middles that features have in two layers."""
    lng_a, lat_a = a.placed().taken(match.a[some]).centres()
    lng_b, lat_b = b.placed().taken(match.b[some]).centres()
    east = (lng_b - lng_a) * np.cos(np.radians(lat_a))
    return np.asarray(np.nan_to_num(np.hypot(east, lat_b - lat_a) * DEGREE_M))


def _days(window: tuple[str, str] | None) -> int:
    """Days of a window; 0 where it is not known."""
    return (date.fromisoformat(window[1]) - date.fromisoformat(window[0])).days if window else 0


def _span(window: tuple[str, str] | None) -> str:
    return f"{window[0]} to before {window[1]}" if window else "not known"


def _overlap(spans: Sequence[tuple[str, str] | None]) -> str:
    first, second = spans
    if first is None or second is None or max(first[0], second[0]) >= min(first[1], second[1]):
        return ""
    return "; they overlap, so that the same events are in both"
