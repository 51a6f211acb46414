"""What `info` says of a road model; apart, since torch is slow to import and only a model needs it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from roadrisk.errors import ModelError
from roadrisk.plain_text import TextTable
from roadrisk.roads.judging.measures import METRICS
from roadrisk.roads.judging.tables import scores_table
from roadrisk.roads.model import MANIFEST, REPORT, UNITS, WEIGHTS, RoadModel, read_road_model


def told_of_road_model(path: Path) -> tuple[list[str | TextTable], dict[str, Any]]:
    """What a road model's folder holds, for people and for programs.

    Raises
    ------
    ModelError : not a road model, not whole, changed since it was written, or of a newer format.
    """
    model = read_road_model(path)
    try:
        return _told(model, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path / MANIFEST} is damaged ({type(error).__name__}: {error}); train the model again"
        ) from None


def _told(model: RoadModel, path: Path) -> tuple[list[str | TextTable], dict[str, Any]]:
    shape, about = model.architecture, model.provenance
    size = sum((path / name).stat().st_size for name in (MANIFEST, WEIGHTS, UNITS))
    scale = model.metres_per_pixel
    said: list[str | TextTable] = [
        f"road model: whole, 3 files as they were written, {size / 1e6:,.1f} MB",
        f"{shape.decoder} on {shape.encoder}, pictures of {shape.bands} "
        f"band{'s' * (shape.bands != 1)}, {shape.shrink} x {shape.shrink} pixels seen as one",
        f"learned from {about['source']} ({str(about['identity'])[:16]})",
        "pixels of an unknown size" if scale is None else f"pixels of {scale:.3g} m",
        f"road is from level {model.level} of 255 on",
    ]
    if model.stretch is not None:
        spans = ", ".join(f"{low:.5g} to {high:.5g}" for low, high in model.stretch)
        said.append(f"pictures are stretched to 8 bit: {spans}")
    said += [str(line) for line in about.get("told", ())]
    said += [str(about["rule"])] if about.get("rule") else []
    for name, values in (("settings: ", about.get("settings")), ("made by ", about.get("versions"))):
        if values:
            said.append(name + ", ".join(f"{key} {value}" for key, value in values.items() if value != {}))
    said += [f"report: {path / REPORT}"] if (path / REPORT).is_file() else []
    judged_on = str(about.get("judged_on") or "units it did not learn from")
    said.append(scores_table(judged_on, model.metrics, METRICS))
    said += [
        scores_table(f"{name}, never learned from", metrics, METRICS)
        for name, metrics in sorted(about.get("holdout", {}).items())
    ]
    values = {
        "whole": True,
        "architecture": asdict(shape),
        "level": model.level,
        "metres_per_pixel": scale,
        "metrics": model.metrics,
        "provenance": about,
    }
    return said, values
