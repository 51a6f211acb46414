"""Models of older formats, told in the newest one's words.

Every released format stays readable: a fixture of each stands in `tests/formats`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from roadrisk.learning.pictures.weights import State

RENAMED = (("image.", "image.0."), ("tabular.", "facts."), ("fusion.", "fusion.linear."))


def upgraded(
    manifest: dict[str, Any], tensors: State, out_of_fold: pd.DataFrame
) -> tuple[dict[str, Any], State, pd.DataFrame]:
    """A model's three files as the newest format has them.

    Raises
    ------
    KeyError, TypeError, AttributeError : a damaged manifest.
    """
    if manifest["format"] < 4:
        manifest, tensors, out_of_fold = _in_format_4(manifest, tensors, out_of_fold)
    if manifest["format"] < 5:
        # format 5 knows what outputs are worth; before, nothing was said of it
        manifest = {**manifest, "calibration": None, "dispersion": None, "evaluation": {}}
    return manifest, tensors, out_of_fold


def _in_format_4(
    manifest: dict[str, Any], tensors: State, out_of_fold: pd.DataFrame
) -> tuple[dict[str, Any], State, pd.DataFrame]:
    """Format 4 knows several views, other tasks and networks; before, there was one of each."""
    old, picture, about = manifest["architecture"], manifest["picture"], manifest["provenance"]
    view = about.get("view", "aerial") if about["metres_per_pixel"] is not None else ""
    sees, reads = old["inputs"] != "facts", old["inputs"] != "image"
    architecture = {
        "views": [{"view": view, "size_px": old["size_px"]}] if sees else [],
        "encoder": old["encoder"],
        "tune": "all" if old["encoder"] == "basic" else "none",
        "own_encoders": False,
        "facts": "dense" if reads else None,
        "facts_width": 64,
        "fusion": "concat",
        "task": {"kind": "class", "loss": "cross-entropy", "classes": ["low", "high"], "exposure": ""},
        "dropout": old["dropout"],
        "modality_dropout": 0.0,
        "augment": False,
        "facts_can_be_absent": False,
    }
    scale = {view: about["metres_per_pixel"]} if about["metres_per_pixel"] is not None else {}
    name = {"both": "fused", "image": "image", "facts": "facts"}[old["inputs"]]
    told = out_of_fold.rename(columns={"logit": "output", "probability": "prediction"})
    told.insert(1, "model", name)
    return (
        {
            **manifest,
            "architecture": architecture,
            "pictures": [picture] if picture else [],
            "neighbourhood": [],
            "target": [{} for _ in manifest["preparation"]],
            "provenance": {**about, "metres_per_pixel": scale},
        },
        {_renamed(key): value for key, value in tensors.items()},
        told,
    )


def _renamed(key: str) -> str:
    """A tensor's name since format 4.

    >>> _renamed("fold0.tabular.fc1.weight"), _renamed("encoder.conv1.weight")
    ('fold0.facts.fc1.weight', 'encoder.conv1.weight')
    """
    fold, dot, name = key.partition(".")
    for old, new in RENAMED:
        if fold != "encoder" and name.startswith(old):
            return f"{fold}{dot}{new}{name.removeprefix(old)}"
    return key
