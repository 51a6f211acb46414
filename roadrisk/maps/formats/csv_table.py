"""A table with the longitude and latitude of each feature's middle."""

from __future__ import annotations

from pathlib import Path

from roadrisk.maps.layer import Layer

DECIMALS = 7  # a centimetre


def write_csv(layer: Layer, path: Path) -> None:
    table = layer.table
    if layer.places is not None:
        lng, lat = (values.round(DECIMALS) for values in layer.places.centres())
        table = table.assign(lon=lng, lat=lat)
        table = table[["lon", "lat", *layer.table.columns]]
    table.to_csv(path, index=False, lineterminator="\n")
