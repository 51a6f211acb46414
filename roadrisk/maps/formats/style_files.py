"""Styles beside a layer: a program that opens `risk.fgb` finds its colours in `risk.qml`."""

from __future__ import annotations

from pathlib import Path

from roadrisk.maps.layer import Layer
from roadrisk.maps.styles.qml import qml
from roadrisk.maps.styles.sld import sld


def write_qml(layer: Layer, path: Path) -> None:
    """The style that QGIS takes by itself for a file of the same name beside it."""
    path.write_text(qml(layer), encoding="utf-8", newline="\n")


def write_sld(layer: Layer, path: Path) -> None:
    """The style for GeoServer and other programs that read Styled Layer Descriptors."""
    path.write_text(sld(layer), encoding="utf-8", newline="\n")
