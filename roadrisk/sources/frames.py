"""Attributes of typed files as pandas has them, with nothing rounded."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from roadrisk.errors import SourceError

# pandas would turn integers beside nulls into floats, and ids above 2 ** 53 into others
_INTEGERS = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
}
_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)


def typed_frame(batch: pa.RecordBatch, path: Path) -> pd.DataFrame:
    """The columns of a batch: integers exact, dates and times as datetime64.

    Raises
    ------
    SourceError : a column is neither text nor numbers.

    Examples
    --------
    >>> ids = pa.record_batch({"id": pa.array([None, 2**60 + 1])})
    >>> typed_frame(ids, Path("a.parquet"))["id"].tolist()
    [<NA>, 1152921504606846977]
    """
    if not batch.num_columns:
        return pd.DataFrame(index=pd.RangeIndex(batch.num_rows))
    plain = [_plain(field, path) for field in batch.schema]
    table = pa.Table.from_batches([batch]).cast(pa.schema(plain))
    # so cast, it has forgotten what pandas noted of an index: that is a column like the others
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, types_mapper=_INTEGERS.get)
    return frame


def _plain(field: pa.Field, path: Path) -> pa.Field:
    """The field without dictionary."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    nested = pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)
    if nested or any(is_bytes(kind) for is_bytes in _BYTES):
        raise SourceError(
            f"{path}: the column {field.name!r} holds {'lists or records' if nested else 'bytes'}, neither "
            "text nor numbers; write it as text"
        )
    return pa.field(field.name, kind)
