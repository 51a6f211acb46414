"""The document of a page: one template for the file that holds all and for the page that asks a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from markupsafe import Markup

from roadrisk.errors import LayerError
from roadrisk.pages import csp_hash, rendered, template_text

PACKAGE = "roadrisk.maps"
SCRIPTS = ("page.words.js", "page.store.js", "page.map.js", "page.detail.js", "page.panel.js", "page.js")
# where a page may load from: nothing but itself, or its own server
EMBEDDED_SOURCES = "img-src data: blob:; connect-src data: blob:"
SERVED_SOURCES = "img-src 'self' data: blob:; connect-src 'self' data: blob:"


def served_page(configs: Sequence[Mapping[str, Any]], views: Sequence[str]) -> str:
    """The page of layers that its own server answers for.

    Parameters
    ----------
    configs : of one to three layers, as `layer_config` makes them.
    views : names of the pictures that the server has, the one that lies under the map first.
    """
    return document({"mode": "served", "layers": list(configs), "views": list(views)}, {}, SERVED_SOURCES)


def document(data: Mapping[str, Any], blocks: Mapping[str, str], sources: str) -> str:
    """The HTML of a page.

    Parameters
    ----------
    data : what the script reads at once.
    blocks : base64 texts by the id of the element that holds them, read when they are needed.
    sources : the rules of the content policy on what may be loaded.
    """
    scripts, styles = _scripts(), _styles()
    return rendered(
        PACKAGE,
        "page.html.j2",
        layers=data["layers"],
        data=json_in_html(data),
        blocks=blocks,
        sources=sources,
        scripts=scripts,
        styles=styles,
        script_hashes=" ".join(csp_hash(script) for script in scripts),
        style_hashes=" ".join(csp_hash(style) for style in styles),
        maplibre_licence=template_text(PACKAGE, "maplibre-gl-license.txt"),
    )


def json_in_html(value: Any) -> Markup:
    r"""JSON that may stand inside a `script` element: nothing in it can end the element or start another.

    >>> print(json_in_html({"name": "</script>"}))
    {"name":"\u003c/script\u003e"}
    """
    # ASCII: U+2028 and U+2029 are escaped too
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - escaped above


@cache
def _scripts() -> tuple[Markup, ...]:
    # without its last line, which would send a browser's developer tools to look for a source map
    library = maplibre_file("maplibre-gl.js").rsplit("//# sourceMappingURL", 1)[0]
    own = "\n".join(template_text(PACKAGE, name) for name in SCRIPTS)
    return Markup(library), Markup(f'(() => {{\n"use strict";\n{own}}})();\n')  # noqa: S704 - files of packages


@cache
def _styles() -> tuple[Markup, ...]:
    texts = maplibre_file("maplibre-gl.css"), template_text(PACKAGE, "page.css")
    return tuple(Markup(text) for text in texts)  # noqa: S704 - files of packages


def maplibre_file(name: str) -> str:
    """A file of MapLibre GL JS; found without importing `maplibre`, which sets up logging for everybody."""
    spec = find_spec("maplibre")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "srcjs" / name
        if path.is_file():
            return path.read_text(encoding="utf-8").replace("\r\n", "\n")
    raise LayerError(
        f"{name} of the package maplibre is missing; install it again: pip install --force-reinstall maplibre"
    )
