"""Values of a column as text, many at once: what the text forms of a layer are joined from."""

from __future__ import annotations

import json
import math
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from roadrisk.errors import LayerError
from roadrisk.grid import FloatArray

WHOLE_BELOW = 1e10  # arrow writes greater numbers with an exponent, which tells that they are no integers
JSON_ESCAPES = r'["\\\x00-\x1f]'  # RFC 8259, 7


def joined(*pieces: Any, unknown: str | None = None) -> Any:
    """(N,) texts made of pieces: arrays of N texts, and texts that are the same for all.

    Parameters
    ----------
    unknown : what stands for a null piece; without it the whole text is null.

    >>> joined("[", pa.array(["a", None]), "]", unknown="?").to_pylist()
    ['[a]', '[?]']
    """
    if unknown is None:
        return pc.binary_join_element_wise(*pieces, "")
    return pc.binary_join_element_wise(*pieces, "", null_handling="replace", null_replacement=unknown)


def written(texts: Any) -> memoryview:
    """The letters of (N,) texts one after the other, in UTF-8, as they lie in memory.

    >>> bytes(written(pa.array(["ab", "c"])))
    b'abc'
    """
    _, offsets, letters = texts.buffers()
    ends = np.frombuffer(offsets, np.int32, len(texts) + 1, texts.offset * 4)
    return memoryview(letters or b"")[ends[0] : ends[-1]]


def number_texts(values: FloatArray) -> Any:
    """(N,) shortest texts that give the numbers back, all with a point or an exponent; null for NaN.

    >>> number_texts(np.array([42.0, 1 / 3, 1e-7, np.nan])).to_pylist()
    ['42.0', '0.3333333333333333', '1e-7', None]
    """
    texts = pc.cast(pa.array(values, from_pandas=True), pa.string())
    whole = (values == np.rint(values)) & (np.abs(values) < WHOLE_BELOW)
    return pc.if_else(pa.array(whole), joined(texts, ".0"), texts) if whole.any() else texts


def json_texts(values: pd.Series[Any]) -> Any:
    r"""(N,) values of a column as JSON; null where unknown.

    Raises
    ------
    LayerError : a value is infinite.

    >>> json_texts(pd.Series(['a "b"', None])).to_pylist()
    ['"a \\"b\\""', None]
    """
    found = _arrow(values)
    if found is None:
        return pa.array(
            [None if unknown else json.dumps(v, ensure_ascii=False) for v, unknown in _marked(values)],
            pa.string(),
        )
    if pa.types.is_string(found.type):
        return _quoted(found)
    return _plain(found, str(values.name))


def csv_texts(values: pd.Series[Any]) -> Any:
    """(N,) values of a column as plain text, `True` and `False` as pandas has them; null where unknown.

    Raises
    ------
    LayerError : a value is infinite.
    """
    found = _arrow(values)
    if found is None:
        return pa.array([None if unknown else str(v) for v, unknown in _marked(values)], pa.string())
    if pa.types.is_boolean(found.type):
        return pc.if_else(found, "True", "False")
    return found if pa.types.is_string(found.type) else _plain(found, str(values.name))


def _marked(values: pd.Series[Any]) -> Any:
    return zip(values, values.isna(), strict=True)


def _arrow(values: pd.Series[Any]) -> Any:
    """Numbers, booleans or text; None where a column holds several kinds of value."""
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    if pa.types.is_dictionary(found.type):
        found = found.dictionary_decode()
    if pa.types.is_nested(found.type):
        return None
    plain = pa.types.is_integer(found.type) or pa.types.is_floating(found.type)
    return found if plain or pa.types.is_boolean(found.type) else found.cast(pa.string())


def _plain(found: Any, name: str) -> Any:
    if not pa.types.is_floating(found.type):
        return found.cast(pa.string())
    numbers: NDArray[np.float64] = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if math.isinf(np.abs(numbers).max(initial=0, where=~np.isnan(numbers))):
        raise LayerError(f"{name} holds infinite values, which no layer can; leave them empty")
    return number_texts(numbers)


def _quoted(texts: Any) -> Any:
    quoted = joined('"', texts, '"')
    odd = pc.fill_null(pc.match_substring_regex(texts, JSON_ESCAPES), False)
    if not pc.any(odd).as_py():
        return quoted
    escaped = [encode_basestring(text) for text in texts.filter(odd).to_pylist()]
    return pc.replace_with_mask(quoted, odd, pa.array(escaped, pa.string()))
