"""Roadway-risk maps from aerial pictures and traffic facts.

Each command of the command line is the function of the same name here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadrisk.changing import compare
    from roadrisk.demonstration import demo
    from roadrisk.evaluating import evaluate
    from roadrisk.explaining import explain
    from roadrisk.information import info
    from roadrisk.scoring import score
    from roadrisk.serving import view
    from roadrisk.tiling import tile
    from roadrisk.training import train
    from roadrisk.tuning import tune

__version__ = "0.1.0"
__all__ = ["compare", "demo", "evaluate", "explain", "info", "score", "tile", "train", "tune", "view"]

_HOMES = {
    "compare": "roadrisk.changing",
    "demo": "roadrisk.demonstration",
    "evaluate": "roadrisk.evaluating",
    "explain": "roadrisk.explaining",
    "info": "roadrisk.information",
    "score": "roadrisk.scoring",
    "tile": "roadrisk.tiling",
    "train": "roadrisk.training",
    "tune": "roadrisk.tuning",
    "view": "roadrisk.serving",
}


def __getattr__(name: str) -> Any:
    # imported when first asked for: torch and GDAL take seconds, `roadrisk --help` must not
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'roadrisk' has no attribute {name!r}")
