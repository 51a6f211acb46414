"""Cloud-Optimised GeoTIFF: a pixel a tile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from roadrisk.columns import Column
from roadrisk.errors import LayerError
from roadrisk.grid import Grid
from roadrisk.maps.fields import field_description
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GridTiles
from roadrisk.maps.styles.drawing import xml_text
from roadrisk.maps.styles.pixels import UNKNOWN, colour_table, in_percent, pixel_ranges, pixel_values

BLOCK_PX = 512  # an overview no wider than one is the last


def write_cog(layer: Layer, path: Path) -> None:
    """A raster of the grid's tiles in its CRS, coloured by a table.

    A pixel is the percentile of the tile's risk rounded up to a whole per cent, so that it lies in the
    tile's band: 96 to 100 are the top 5 %. Where the classes are not bands of risk it is the number of the
    class, the highest for the one that matters most. 0 is nodata, where nothing is known. A pixel of an
    overview is the highest of the four below it. `RISK_AT_PERCENT` tells the lowest risk that a tile of the
    layer has at each per cent; of a part of the tiles it is theirs, while the per cents stay those among all.

    Raises
    ------
    LayerError : the features are not tiles of a grid.
    """
    places = layer.placed()
    if not isinstance(places, GridTiles):
        raise LayerError("a raster needs tiles of a grid; write .gpkg")
    pixels = np.full(places.grid.shape, UNKNOWN, dtype=np.uint8)  # (rows, cols)
    pixels[places.rows, places.cols] = pixel_values(layer)
    with _on_disk_of_memory(_pyramid(pixels)) as names:
        described = _virtual_raster(layer, places.grid, pixels, names)
        with rasterio.open(described) as source:
            rasterio.shutil.copy(
                source,
                path,
                driver="COG",
                compress="DEFLATE",
                blocksize=BLOCK_PX,
                overviews="FORCE_USE_EXISTING",
            )


def _pyramid(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The pixels and their overviews, each half as wide, its pixels the highest of four."""
    levels = [pixels]
    while max(levels[-1].shape) > BLOCK_PX:
        last = levels[-1]
        rows, cols = (side + side % 2 for side in last.shape)
        even = np.full((rows, cols), UNKNOWN, dtype=np.uint8)
        even[: last.shape[0], : last.shape[1]] = last
        levels.append(even.reshape(rows // 2, 2, cols // 2, 2).max(axis=(1, 3)))
    return levels


@contextmanager
def _on_disk_of_memory(levels: list[NDArray[np.uint8]]) -> Iterator[list[str]]:
    """The names that GDAL knows the levels by, while the block runs."""
    with ExitStack() as stack:
        files = [stack.enter_context(MemoryFile()) for _ in levels]
        for file, level in zip(files, levels, strict=True):
            height, width = level.shape
            # any place, which only the whole has, spares a warning
            frame = {"transform": rasterio.Affine(1, 0, 0, 0, -1, height), "dtype": "uint8", "count": 1}
            with file.open(driver="GTiff", width=width, height=height, **frame) as target:
                target.write(level, 1)
        yield [file.name for file in files]


def _virtual_raster(layer: Layer, grid: Grid, pixels: NDArray[np.uint8], names: list[str]) -> str:
    """A VRT of the levels: GDAL has no other way to be given overviews of one's own making."""
    root = ElementTree.Element("VRTDataset", rasterXSize=str(grid.cols), rasterYSize=str(grid.rows))
    _text(root, "SRS", grid.crs)
    _text(root, "GeoTransform", ", ".join(map(repr, map(float, grid.transform.to_gdal()))))
    _metadata(root, _words(layer))
    band = ElementTree.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    description, unit = _band_words(layer)
    _text(band, "Description", description)
    _text(band, "UnitType", unit)
    _text(band, "NoDataValue", str(UNKNOWN))
    _text(band, "ColorInterp", "Palette")
    colours = ElementTree.SubElement(band, "ColorTable")
    for entry in colour_table(layer.legend).tolist():
        parts = zip(("c1", "c2", "c3", "c4"), map(str, entry), strict=True)
        ElementTree.SubElement(colours, "Entry", dict(parts))
    _metadata(band, {**_statistics(pixels), "CLASSES": _classes(layer)})
    for level, name in enumerate(names):
        source = ElementTree.SubElement(band, "Overview" if level else "SimpleSource")
        _text(source, "SourceFilename", name)
        _text(source, "SourceBand", "1")
    return ElementTree.tostring(root, encoding="unicode")


def _words(layer: Layer) -> dict[str, str]:
    about = layer.about
    words = {
        "TITLE": about.title,
        "DESCRIPTION": about.risk_meaning,
        "LICENCE": about.licence,
        "ATTRIBUTION": about.attribution,
        "MODEL": about.model,
        "ROADRISK": json.dumps(layer.as_json(), ensure_ascii=False),
    }
    return {**words, "RISK_AT_PERCENT": _risks(layer)} if in_percent(layer.legend) else words


def _risks(layer: Layer) -> str:
    """The lowest risk at each whole per cent that a tile of the layer has, as JSON."""
    lowest = (
        layer.table["risk"].astype(float).groupby(pixel_values(layer)).min().drop(UNKNOWN, errors="ignore")
    )
    return json.dumps({str(percent): float(risk) for percent, risk in lowest.items()})


def _classes(layer: Layer) -> str:
    """The numbers [lowest, highest] of each class, as JSON."""
    numbers = {r.shade.value: [r.lowest, r.highest] for r in pixel_ranges(layer.legend)}
    return json.dumps(numbers, ensure_ascii=False)


def _band_words(layer: Layer) -> tuple[str, str]:
    """Description and unit of the band."""
    if in_percent(layer.legend):
        return "percentile of risk, rounded up; 100 is the riskiest", "%"
    told: Mapping[str, Column] = {column.name: column for column in layer.columns}
    return field_description(told[layer.legend.field]), ""


def _statistics(pixels: NDArray[np.uint8]) -> dict[str, str]:
    """Of the pixels that are known, by GDAL's names; nothing where none is."""
    known = pixels[pixels != UNKNOWN]
    if known.size == 0:
        return {}
    numbers: dict[str, Any] = {
        "MINIMUM": known.min(),
        "MAXIMUM": known.max(),
        "MEAN": known.mean(),
        "STDDEV": known.std(),
        "VALID_PERCENT": 100.0 * known.size / pixels.size,
    }
    return {f"STATISTICS_{name}": f"{value:.10g}" for name, value in numbers.items()}


def _metadata(parent: ElementTree.Element, items: Mapping[str, str]) -> None:
    metadata = ElementTree.SubElement(parent, "Metadata")
    for key, value in items.items():
        ElementTree.SubElement(metadata, "MDI", key=key).text = xml_text(value)


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = xml_text(text)
