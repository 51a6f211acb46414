"""What a map page says of itself; nothing in it is run."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from roadrisk.maps.layer_file import LayerFile, fields_told, window_of, words_in


def page_file(path: Path) -> LayerFile:
    """What a page says; of one that shows several layers, what it says of the first."""
    reader = _PageReader()
    reader.feed(path.read_text(encoding="utf-8"))
    if not reader.data:
        raise ValueError("no map page of roadrisk: it has no data")
    data = json.loads(reader.data)
    return _first_layer(path, data["layers"][0]) if "layers" in data else _former_page(path, reader, data)


def _first_layer(path: Path, layer: dict[str, Any]) -> LayerFile:
    about = words_in(layer["about"])
    told = {
        f["name"]: {"alias": f["alias"], "unit": f["unit"], "description": f["meaning"]}
        for f in layer["fields"]
    }
    return LayerFile(
        path=path,
        features=int(layer["count"]),
        geometry=str(layer["geometry"]),
        crs="EPSG:4326",
        fields=fields_told(dict.fromkeys(told, ""), about, told),
        about=about,
    )


def _former_page(path: Path, reader: _PageReader, data: dict[str, Any]) -> LayerFile:
    """A page as the first releases wrote them: shapes in the data, words in the document."""
    words = {name.lower(): text for name, text in reader.words}
    about = {
        "title": reader.title,
        "licence": words.get("licence", ""),
        "attribution": words.get("sources", ""),
        "model": words.get("model", ""),
        "windows": {
            name.removeprefix("dates of "): window_of(text.split(" up to, not including, "))
            for name, text in words.items()
            if name.startswith("dates of ")
        },
    }
    told = {f["name"]: {"unit": f["unit"], "description": f["meaning"]} for f in data["fields"]}
    return LayerFile(
        path=path,
        features=len(data["shapes"]),
        geometry=_shape_type(data["shapes"]),
        crs="EPSG:4326",
        fields=fields_told(dict.fromkeys(told, ""), about, told),
        about=about,
    )


class _PageReader(HTMLParser):
    """Takes the heading, the words about the map and the data out of our own page; runs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.data = ""
        self.words: list[tuple[str, str]] = []
        self._open = ""
        self._name = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._open = "data" if tag == "script" and ("id", "data") in attributes else tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "h1":
            self.title += data
        elif self._open == "data":
            self.data += data
        elif self._open == "dt":
            self._name = data
        elif self._open == "dd":
            self.words.append((self._name, data))


def _shape_type(shapes: list[Any]) -> str:
    first = next((shape for shape in shapes if shape is not None), None)
    if first is None:
        return ""
    return "Polygon" if isinstance(first[0], list) else "Point"
