"""The map page: one HTML file that works with no network and runs nothing from the data."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from markupsafe import Markup
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.warp import Resampling, calculate_default_transform, reproject

from roadrisk.errors import LayerError
from roadrisk.maps.bands import BANDS
from roadrisk.maps.fields import field_description
from roadrisk.maps.layer import About, Layer
from roadrisk.maps.pictures import Overview
from roadrisk.maps.places import WGS84
from roadrisk.pages import csp_hash, rendered, template_text

PACKAGE = "roadrisk.maps"
PAGE_LIMIT_BYTES = 20_000_000
PICTURE_LIMIT_PX = 4096
SMALLEST_PICTURE_PX = 64
QUALITIES = (85, 70, 55, 40)
MERCATOR = "EPSG:3857"
STEP_DEG = 1e-6  # vertices of the page are whole steps; a step is a tenth of a metre
DIGITS = 6


@dataclass(frozen=True)
class Picture:
    """An overview as the page draws it: (H, W, 4) red, green, blue, opacity in Web Mercator."""

    pixels: NDArray[np.uint8]
    corners: list[tuple[float, float]]  # lon, lat of the top left, top right, bottom right, bottom left


def page(layer: Layer, overview: Overview | None, limit_bytes: int = PAGE_LIMIT_BYTES) -> str:
    """A self-contained map page, at most `limit_bytes` of UTF-8.

    The picture gives way: first its quality, then its size.

    Raises
    ------
    LayerError : the tiles alone exceed the limit, or no tile has a place.
    """
    data = page_data(layer)
    bare = _rendered(layer.about, data, None)
    room = limit_bytes - len(bare.encode())
    if room < 0:
        raise LayerError(
            f"a page of {len(layer):,} tiles takes {len(bare.encode()) / 1e6:.1f} MB without a picture; "
            f"the most is {limit_bytes / 1e6:g} MB: write .gpkg or .parquet, or score a smaller region"
        )
    if overview is None:
        return bare
    picture = mercator_picture(overview)
    url = picture_url(picture, room - 1_000)  # 1,000: the corners and the page's words around them
    return _rendered(layer.about, data, {"url": url, "corners": picture.corners})


def write_page(layer: Layer, path: Path) -> None:
    """The map page of a layer, as a file."""
    overview = layer.pictures.overview() if layer.pictures else None
    path.write_text(page(layer, overview), encoding="utf-8", newline="\n")


def page_data(layer: Layer) -> dict[str, Any]:
    """What the page's script reads, as plain JSON values.

    Shapes are whole steps of 1e-6 degrees from `origin`, each vertex relative to the one before it: [x, y]
    for a point, else a list of polygons of rings [x, y, dx, dy, ...]; null without a place.

    Raises
    ------
    LayerError : no tile has a place.
    """
    shapes = layer.places.shapes(WGS84) if layer.places is not None else np.array([])
    bounds = shapely.total_bounds(shapes)
    if not np.isfinite(bounds).all():
        raise LayerError("a map page needs tiles that lie somewhere; write .csv")
    origin = bounds[:2]
    table = layer.table
    bands = [band.name for band in BANDS]
    counts = table["band"].value_counts()
    return {
        "bands": [
            {"name": band.name, "colour": band.colour, "count": int(counts.get(band.name, 0))}
            for band in BANDS
        ],
        "unscored": int(table["risk"].isna().sum()),
        "listed": _listed(layer),
        "fields": [{"name": c.name, "unit": c.unit, "meaning": field_description(c)} for c in layer.columns],
        "columns": [
            [bands.index(name) if name is not None else None for name in _plain(table["band"])]
            if column.name == "band"
            else _plain(table[column.name])
            for column in layer.columns
        ],
        "origin": origin.tolist(),
        "step": STEP_DEG,
        "bounds": bounds.tolist(),
        "shapes": [_stepped(shape, origin) for shape in shapes],
    }


def mercator_picture(overview: Overview, limit_px: int = PICTURE_LIMIT_PX) -> Picture:
    """The overview moved to EPSG:3857, its longer side at most `limit_px`; clear where it had nothing."""
    bands, height, width = overview.pixels.shape
    opaque = np.full((4 - bands, height, width), 255, dtype=np.uint8)
    source = np.concatenate([overview.pixels, opaque])  # (4, H, W)
    left, bottom, right, top = overview.bounds
    start = Affine((right - left) / width, 0, left, 0, (bottom - top) / height, top)
    transform, cols, rows = calculate_default_transform(
        overview.crs, MERCATOR, width, height, *overview.bounds
    )
    shrink = max(1.0, max(cols, rows) / limit_px)
    transform = transform @ Affine.scale(shrink)
    cols, rows = math.ceil(cols / shrink - 1e-9), math.ceil(rows / shrink - 1e-9)
    moved = np.zeros((4, rows, cols), dtype=np.uint8)
    with rasterio.Env(GDAL_NUM_THREADS="2"):
        reproject(
            source,
            moved,
            src_transform=start,
            src_crs=overview.crs,
            dst_transform=transform,
            dst_crs=MERCATOR,
            src_alpha=4,
            dst_alpha=4,
            resampling=Resampling.average if shrink > 1 else Resampling.bilinear,
        )
    x, y = transform @ (np.array([0, cols, cols, 0]), np.array([0, 0, rows, rows]))
    lng, lat = Transformer.from_crs(MERCATOR, WGS84, always_xy=True).transform(x, y)
    corners = [(float(a), float(b)) for a, b in zip(lng.round(9), lat.round(9), strict=True)]
    return Picture(np.ascontiguousarray(moved.transpose(1, 2, 0)), corners)


def picture_url(picture: Picture, limit_bytes: int) -> str:
    """The picture as a `data:` address of at most `limit_bytes`, as good as fits.

    Raises
    ------
    LayerError : not even a picture of 64 px fits.
    """
    for pixels in _shrinking(picture.pixels):
        for quality in QUALITIES:
            _, encoded = cv2.imencode(
                ".webp", cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, quality]
            )
            url = "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
            if len(url) <= limit_bytes:
                return url
    raise LayerError(
        "the tiles of the page leave no room for a picture; write .gpkg, or score a smaller region"
    )


def _shrinking(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    while True:
        yield pixels
        height, width = (max(1, round(side * 0.7)) for side in pixels.shape[:2])
        if max(height, width) < SMALLEST_PICTURE_PX:
            return
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _listed(layer: Layer) -> str:
    """The field that the list of the riskiest tiles shows: what a count model expects, else the risk."""
    made = {column.name for column in layer.columns if column.role == "info"}
    return "expected" if "expected" in made else "risk"


def _plain(values: pd.Series[Any]) -> list[Any]:
    """Plain JSON values, null where unknown, numbers to 6 digits."""
    found = values.astype(object).where(values.notna(), None).tolist()
    return [float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for value in found]


def _stepped(shape: Any, origin: NDArray[np.float64]) -> list[Any] | None:
    if shape is None or shape.is_empty:
        return None
    if shape.geom_type == "Point":
        return _steps(shapely.get_coordinates(shape), origin)
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        raise LayerError(f"a map page draws points and polygons, not a {shape.geom_type}; write .gpkg")
    return [
        [
            _steps(shapely.get_coordinates(ring)[:-1], origin)
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        for polygon in shapely.get_parts(shape)
    ]


def _steps(vertices: NDArray[np.float64], origin: NDArray[np.float64]) -> list[int]:
    whole = np.round((vertices - origin) / STEP_DEG).astype(np.int64)
    return [int(step) for step in np.diff(whole, axis=0, prepend=0).ravel()]


def json_in_html(value: Any) -> Markup:
    r"""JSON that may stand inside a `script` element: nothing in it can end the element or start another.

    >>> print(json_in_html({"name": "</script>"}))
    {"name":"\u003c/script\u003e"}
    """
    text = json.dumps(
        value, allow_nan=False, separators=(",", ":")
    )  # ASCII: U+2028 and U+2029 are escaped too
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _rendered(about: About, data: dict[str, Any], picture: dict[str, Any] | None) -> str:
    scripts, styles = _scripts(), _styles()
    return rendered(
        PACKAGE,
        "page.html.j2",
        about=about,
        data=json_in_html({**data, "picture": picture}),
        bands=data["bands"],
        unscored=data["unscored"],
        tiles=len(data["shapes"]),
        scripts=scripts,
        styles=styles,
        script_hashes=" ".join(csp_hash(script) for script in scripts),
        style_hashes=" ".join(csp_hash(style) for style in styles),
        maplibre_licence=template_text(PACKAGE, "maplibre-gl-license.txt"),
    )


@cache
def _scripts() -> tuple[Markup, ...]:
    # without its last line, which would send a browser's developer tools to look for a source map
    library = _maplibre("maplibre-gl.js").rsplit("//# sourceMappingURL", 1)[0]
    return tuple(Markup(text) for text in (library, template_text(PACKAGE, "page.js")))  # noqa: S704 - files of packages


@cache
def _styles() -> tuple[Markup, ...]:
    return tuple(Markup(text) for text in (_maplibre("maplibre-gl.css"), template_text(PACKAGE, "page.css")))  # noqa: S704


def _maplibre(name: str) -> str:
    """A file of MapLibre GL JS; found without importing `maplibre`, which sets up logging for everybody."""
    spec = find_spec("maplibre")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "srcjs" / name
        if path.is_file():
            return path.read_text(encoding="utf-8").replace("\r\n", "\n")
    raise LayerError(
        f"{name} of the package maplibre is missing; install it again: pip install --force-reinstall maplibre"
    )
