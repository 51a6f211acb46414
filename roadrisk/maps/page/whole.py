"""The map page as one file: it works with no network and runs nothing from the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from roadrisk.errors import LayerError
from roadrisk.maps.layer import Layer
from roadrisk.maps.page.blocks import held
from roadrisk.maps.page.document import EMBEDDED_SOURCES, document
from roadrisk.maps.page.tile_pictures import riskiest_pictures
from roadrisk.maps.page.underlay import mercator_picture, picture_url
from roadrisk.maps.vector_tiles import vector_tiles

PAGE_LIMIT_BYTES = 25_000_000
MOST_LAYERS = 3
UNDERLAY_SHARE = 0.35  # of the room for pictures
WORDS_BYTES = 2_000  # what the page says of its pictures, around them
DATA_URL = "data:image/webp;base64,"


def write_page(layer: Layer, path: Path) -> None:
    """The map page of a layer, as a file."""
    path.write_text(page([layer]), encoding="utf-8", newline="\n")


def page(layers: Sequence[Layer], limit_bytes: int = PAGE_LIMIT_BYTES) -> str:
    """A self-contained map page of one to three layers, at most `limit_bytes` of UTF-8.

    Pictures give way: first their quality, then their size, then the number of tiles that have one.

    Raises
    ------
    LayerError : the features alone exceed the limit, none of a layer's has a place, more than three layers.
    """
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise LayerError(f"a map page shows one to three layers, not {len(layers)}; write several pages")
    blocks: dict[str, str] = {}
    configs: list[dict[str, Any]] = []
    for k, layer in enumerate(layers):
        part = held(layer, vector_tiles(layer), k)
        blocks.update(part.blocks)
        configs.append(part.config)
    data: dict[str, Any] = {"mode": "embedded", "layers": configs, "views": [], "underlay": None}
    bare = len(document(data, blocks, EMBEDDED_SOURCES).encode())
    if bare > limit_bytes:
        raise LayerError(
            f"a page of {sum(map(len, layers)):,} features takes {bare / 1e6:.1f} MB without pictures; "
            f"the most is {limit_bytes / 1e6:g} MB: write .gpkg and open it by `roadrisk view`"
        )
    _add_pictures(layers, data, blocks, limit_bytes - bare - WORDS_BYTES)
    return document(data, blocks, EMBEDDED_SOURCES)


def _add_pictures(
    layers: Sequence[Layer], data: dict[str, Any], blocks: dict[str, str], room_bytes: int
) -> None:
    pictured = [(k, layer) for k, layer in enumerate(layers) if layer.pictures is not None]
    overview = next(
        (seen for _, layer in pictured if layer.pictures and (seen := layer.pictures.overview())), None
    )
    if overview is not None:
        picture = mercator_picture(overview)
        url = picture_url(picture, int(room_bytes * UNDERLAY_SHARE))
        blocks["underlay"] = url.removeprefix(DATA_URL)
        data["underlay"] = picture.corners
        room_bytes -= len(url)
    made = riskiest_pictures([layer for _, layer in pictured], room_bytes)
    blocks |= {f"picture-{number}": text for number, text in enumerate(made.texts)}
    for (k, layer), held_by in zip(pictured, made.held, strict=True):
        data["layers"][k] |= {
            "pictured": len(held_by),
            "views": list(layer.pictures.views if layer.pictures else ()),
            "pictures": held_by,
        }
