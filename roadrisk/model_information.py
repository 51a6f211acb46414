"""What `info` says of a model; apart, since torch is slow to import and only a model needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roadrisk.columns import Column
from roadrisk.errors import ModelError
from roadrisk.learning.judging.measured import legend, metrics_table
from roadrisk.learning.judging.told import evaluation_lines
from roadrisk.learning.model import FOLDS, MANIFEST, REPORT, WEIGHTS, Model, read_model
from roadrisk.maps.fields import period, window_lines
from roadrisk.plain_text import TextTable


def told_of_model(path: Path) -> tuple[list[str | TextTable], dict[str, Any]]:
    """What a model's folder holds, for people and for programs.

    Raises
    ------
    ModelError : not a model, not whole, changed since it was written, or of a newer format.
    """
    model = read_model(path)
    try:
        return _told(model, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path / MANIFEST} is damaged ({type(error).__name__}: {error}); train the model again"
        ) from None


def _told(model: Model, path: Path) -> tuple[list[str | TextTable], dict[str, Any]]:
    about = model.provenance
    shape = model.architecture
    pictures = "no picture"
    if shape.views:
        seen = ", ".join(f"{view.view or 'pictures'} of {view.size_px} px" for view in shape.views)
        pictures = f"{shape.encoder} (learns: {shape.tune}) on {seen}"
    size = sum((path / name).stat().st_size for name in (MANIFEST, WEIGHTS, FOLDS))
    said: list[str | TextTable] = [
        f"model: whole, 3 files as they were written, {size / 1e6:,.1f} MB",
        f"inputs {shape.inputs}: {pictures}; {len(model.fold_models)} fold models, {model.split} folds",
        *((f"joined by {shape.fusion}",) if shape.inputs == "both" else ()),
        about["label"]["meaning"],
        *window_lines(about["windows"]),
        *_provenance_lines(about),
        *_trust_lines(model),
        *((f"report: {path / REPORT}",) if (path / REPORT).is_file() else ()),
        metrics_table(model.metrics, model.evaluation.intervals),
        legend(model.metrics),
        *evaluation_lines(model.metrics, model.evaluation, shape.task, model.name),
        _facts_table(model.columns, about),
    ]
    values = {
        "whole": True,
        "architecture": asdict(shape),
        "split": model.split,
        "metrics": model.metrics,
        "calibration": asdict(model.calibration) if model.calibration else None,
        "dispersion": asdict(model.dispersion) if model.dispersion else None,
        "columns": [column.as_json() for column in model.columns],
        "provenance": about,
    }
    return said, values


def _provenance_lines(about: dict[str, Any]) -> list[str]:
    """Where a model came from, as far as its file tells."""
    said = []
    if about.get("tiles"):
        classes = about.get("settings", {}).get("task", "class") == "class"
        high = f"{about.get('high_risk_tiles', 0):,} of them high risk, " if classes else ""
        said.append(
            f"learned from {about['tiles']:,} tiles, {high}{about.get('tiles_with_image', 0):,} with picture"
        )
    said += [f"dataset {d.get('name')} ({str(d.get('identity'))[:16]})" for d in about.get("datasets", [])]
    if about["cell_m"] is not None:
        said.append(f"tiles of {about['cell_m']:.4g} m")
    for view, metres in about["metres_per_pixel"].items():
        said.append(f"pictures of the view {view}, pixels of {metres:.3g} m")
    for view, spans in about.get("stretches", {}).items():
        said.append(f"{view} is stretched to 8 bit: {', '.join(f'{a:.5g} to {b:.5g}' for a, b in spans)}")
    said += about.get("warnings", [])
    if about.get("settings"):
        said.append(
            "settings: " + ", ".join(f"{k} {v}" for k, v in about["settings"].items() if v is not None)
        )
    if about.get("versions"):
        said.append(
            "made by " + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        )
    return said


def _trust_lines(model: Model) -> list[str]:
    """How its outputs became chances, and how far counts spread about them."""
    said = []
    if (calibration := model.calibration) is not None:
        how = {"platt": "Platt's sigmoid", "isotonic": "isotonic regression"}[calibration.method]
        said.append(
            f"calibrated by {how} on {calibration.tiles:,} tiles out of fold, "
            f"{calibration.positives:,} of them of the riskiest class"
            + (
                ": it orders them no better than chance, so all have the same risk"
                if calibration.level
                else ""
            )
        )
    if (spread := model.dispersion) is not None:
        unit = {"k": "", "k/length": " for 1 km of road", "k/mu": " where one event is expected"}[spread.form]
        said.append(f"dispersion of counts out of fold: {spread.form}, {spread.k:.3g}{unit}")
    return said


def _facts_table(columns: Sequence[Column], about: dict[str, Any]) -> TextTable:
    left_out, asked = about.get("left_out", {}), about.get("asked_for", {})
    known = {column.name for column in columns}
    rows = [
        (c.name, c.unit, period(c.window), c.source or "", _use(c.name, left_out, asked)) for c in columns
    ]
    rows += [(name, "", "", "", f"left out: {why}") for name, why in left_out.items() if name not in known]
    return TextTable("facts", ("fact", "unit", "window", "source", "use"), tuple(rows))


def _use(name: str, left_out: dict[str, str], asked: dict[str, str]) -> str:
    if name in left_out:
        return f"left out: {left_out[name]}"
    return f"used, {asked[name]}" if name in asked else "used"
