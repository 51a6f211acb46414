"""Licence and attribution: what the owner of a source asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rights:
    """Whose a source is and on what terms it may be used; None where the user did not say."""

    source: str
    licence: str | None
    attribution: str | None
