"""The road stage: a network that turns a picture into roads.

`train` learns it from pictures whose roads are known, `apply` adds the view `roads` and its columns to a
dataset. Optional: nothing else needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {"apply": "roadrisk.roads.applying", "train": "roadrisk.roads.training"}


def __getattr__(name: str) -> Any:
    # imported when first asked for: torch takes seconds
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'roadrisk.roads' has no attribute {name!r}")
