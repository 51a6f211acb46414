"""What is learned of a region's tiles: which are judged, and which of them are high risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from roadrisk.columns import MOST_CLASSES, Column
from roadrisk.errors import RegionError
from roadrisk.features.labels import (
    Threshold,
    class_label,
    eligible_tiles,
    rate_measure,
    top_fifth_threshold,
)
from roadrisk.joining import Facts, Records, covered_tiles
from roadrisk.region import Region, named_sources
from roadrisk.sources.labels import LabelFile

VALUE, RATE, LABEL = "label_value", "label_rate", "label"


@dataclass(frozen=True)
class Labelled:
    """What is learned.

    Parameters
    ----------
    facts : `eligible`, `label` and what it was cut from, as far as there is a label.
    measure : the column it was cut from; None for classes as they stand, or without a label.
    said : lines for people.
    """

    facts: Facts
    measure: str | None
    threshold: Threshold | None
    said: tuple[str, ...]

    def as_json(self) -> dict[str, Any] | None:
        """How the label was cut, for models that take it to other windows and metros."""
        if self.threshold is None:
            return None
        return {"measure": self.measure, **self.threshold.as_json()}


def labelled(region: Region, facts: Facts, records: Records, file: LabelFile | None) -> Labelled:
    """Which tiles a model is judged on, and which of them are high risk.

    Parameters
    ----------
    facts : every column that is known, `dropped` among them where tiles are.
    file : labels made elsewhere.

    Raises
    ------
    RegionError : a column that is not there.
    SourceError : labels of one class only.
    """
    measure, made = _of_column(region, facts) if file is None else _of_file(file, records)
    made, said = _rate(region, facts, measure, made)
    eligible = _eligible(region, facts, records, measure, made)
    column = _eligible_column()
    if measure is None:
        return Labelled([(column, eligible)], None, None, (*said, _unsaid(facts)))
    known, values = made[-1]
    if file is not None and not made_of_numbers(values):
        eligible &= pd.notna(values)
        label = pd.Series(values).where(eligible).to_numpy()
        dtype = {"bool": "boolean"}.get(file.dtype, file.dtype)
        meaning = f"{file.column}, as the file has it. Missing where the tile is not eligible."
        fact = (Column(LABEL, dtype, "", "label", "none", meaning, known.source, known.window), label)
        return Labelled([(column, eligible), fact], None, None, (*said, _classes_line(label)))
    eligible &= ~np.isnan(values)
    threshold = top_fifth_threshold(values, eligible, region.label.share, known.unit)
    high = class_label(values, eligible, threshold)
    meaning = f"High risk: {known.name} is at least {threshold.t:g}. Missing where the tile is not eligible."
    fact = (
        Column(LABEL, "boolean", "", "label", "none", meaning, known.name, known.window),
        high.to_numpy(),
    )
    new = [f for f in made if f[0].name in (VALUE, RATE)]
    return Labelled([*new, (column, eligible), fact], known.name, threshold, (*said, str(threshold)))


def made_of_numbers(values: NDArray[Any]) -> bool:
    """Whether a label is a measure, not classes: numbers, and more than a few whole ones."""
    if values.dtype == object or values.dtype == bool:
        return False
    known = np.unique(values[~np.isnan(values)])
    return bool(len(known) > MOST_CLASSES or (known % 1 != 0).any())


def _of_file(file: LabelFile, records: Records) -> tuple[str | None, Facts]:
    meaning = f"{file.column} of the label's own file."
    dtype = "float64" if file.dtype == "float64" else "object"
    return VALUE, [
        (Column(VALUE, dtype, "", "label", "none", meaning, LABEL, _label_window(records)), file.values)
    ]


def _label_window(records: Records) -> tuple[str, str] | None:
    window = records.windows.label
    return (window[0].isoformat(), window[1].isoformat()) if window else None


def _of_column(region: Region, facts: Facts) -> tuple[str | None, Facts]:
    """The column that is learned: by name, or the only count of crashes in the label window."""
    by_name = {column.name: (column, values) for column, values in facts}
    counts = [f"{source.name}_label" for source in named_sources(region.crashes, "crashes")]
    known = [name for name in counts if name in by_name]
    name = region.label.column or (known[0] if len(known) == 1 else None)
    if name is None:
        return None, []
    if name not in by_name:
        raise RegionError(f"[label] column {name!r} is not there; columns: {', '.join(by_name)}")
    return name, [by_name[name]]


def _rate(region: Region, facts: Facts, measure: str | None, made: Facts) -> tuple[Facts, tuple[str, ...]]:
    """The measure over its exposure, where that is asked for."""
    per = region.label.per
    if per is None or measure is None:
        return made, ()
    by_name = {column.name: (column, values) for column, values in facts}
    if per not in by_name:
        raise RegionError(f"[label] per {per!r} is not there; columns: {', '.join(by_name)}")
    (column, values), (exposure, exposed) = made[-1], by_name[per]
    if values.dtype == object:
        raise RegionError(f"[label] per {per!r}: {measure} holds classes, which have no rate; leave it out")
    rates, lost = rate_measure(values, exposed)
    unit = f"{column.unit} per {exposure.unit}"
    meaning = f"{column.name} over {per}; missing where there is no exposure."
    fact = (Column(RATE, "float64", unit, "label", "none", meaning, column.source, column.window), rates)
    return [*made, fact], (f"{lost:,} tiles have {measure} and no {per}: they get no label",)


def _eligible(
    region: Region, facts: Facts, records: Records, measure: str | None, made: Facts
) -> NDArray[np.bool_]:
    by_name = {column.name: values for column, values in facts}
    size = records.grid.size
    roads = [by_name["road_m"]] if records.roads is not None else []
    source = made[0][0].source if made else None
    covered = [covered_tiles(records.coverage[source])] if source in records.coverage else []
    return eligible_tiles(roads, size, covered) & ~by_name.get("dropped", np.zeros(size, bool))


def _eligible_column() -> Column:
    meaning = (
        "Whether a model is trained and judged on the tile: it has road, the source of what is learned knows "
        "it, and it has not been dropped."
    )
    return Column("eligible", "bool", "", "info", "none", meaning)


def _classes_line(label: NDArray[Any]) -> str:
    counts = pd.Series(label, dtype=object).dropna().value_counts()
    shown = ", ".join(f"{value} {n:,}" for value, n in counts.head(MOST_CLASSES).items())
    return f"label: {shown}; classes as the file has them"


def _unsaid(facts: Facts) -> str:
    measures = [column.name for column, _ in facts if column.role == "label"]
    return f"no label; say what is learned: train --label {' or '.join(measures)}" if measures else "no label"
