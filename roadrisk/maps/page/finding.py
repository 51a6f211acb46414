"""How near to coordinates a feature must lie to be what is meant."""

from __future__ import annotations

REACH_M = 100.0  # of a line or a point, which no coordinates hit exactly


def reach_m(geometry: str) -> float:
    """0 where all are areas.

    >>> reach_m("Polygon"), reach_m("LineString")
    (0.0, 100.0)
    """
    return 0.0 if geometry == "Polygon" else REACH_M
