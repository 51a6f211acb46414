"""A table with the longitude and latitude of each feature's middle.

Spreadsheets run text that looks like a formula, and what a source calls a place may be written to be run.
Such text gets an apostrophe before it, by which a spreadsheet shows it as it stands; a reader that wants the
letters themselves takes the apostrophe away, or another form of the layer. All other text, names of tiles of
a grid and numbers among it, is as it is. The form has no place for licence, attribution, model and windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.types import is_numeric_dtype

from roadrisk.maps.formats.texts import csv_texts, joined, number_texts, written
from roadrisk.maps.layer import Layer

DECIMALS = 7  # a centimetre
# OWASP, CSV Injection: signs that start a formula, Chinese and Japanese ones too, and white space that a
# spreadsheet may drop before them
FORMULA = r"(?s)^\s*[=+\-@＝＋－＠].|^[\t\r\n]"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
QUOTED = '[",;\t\r\n]'  # RFC 4180, and the separators that spreadsheets of other countries take


def write_csv(layer: Layer, path: Path) -> None:
    """Comma-separated, UTF-8, a feature a line, empty where unknown; no text of it runs in a spreadsheet."""
    names = [*(["lon", "lat"] if layer.places is not None else []), *map(str, layer.table)]
    with path.open("wb") as file:
        file.write(",".join(_safe(pa.array(names)).to_pylist()).encode() + b"\n")
        for part in layer.parts():
            columns = [*_middles(part), *(_fields(values) for _, values in part.table.items())]
            pieces = [piece for column in columns for piece in (",", column)][1:]
            file.write(written(joined(*pieces, "\n", unknown="")))


def _middles(layer: Layer) -> list[Any]:
    if layer.places is None:
        return []
    return [number_texts(np.round(values, DECIMALS)) for values in layer.places.centres()]


def _fields(values: pd.Series[Any]) -> Any:
    texts = csv_texts(values)
    return texts if is_numeric_dtype(values.dtype) else _safe(texts)


def _safe(texts: Any) -> Any:
    """Texts as fields of a line, none of which a spreadsheet runs.

    >>> _safe(pa.array(["a", "-1.5", "=A1", "-x", 'b "c", d', None])).to_pylist()
    ['a', '-1.5', "'=A1", "'-x", '"b ""c"", d"', None]
    """
    runs = pc.and_(
        pc.match_substring_regex(texts, FORMULA), pc.invert(pc.match_substring_regex(texts, NUMBER))
    )
    kept = pc.if_else(runs, joined("'", texts), texts)
    doubled = joined('"', pc.replace_substring(kept, '"', '""'), '"')
    return pc.if_else(pc.match_substring_regex(kept, QUOTED), doubled, kept)
