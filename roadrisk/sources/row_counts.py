"""How many rows a file says it holds: what it gives must not be fewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from roadrisk.errors import SourceError

_DBF_HEADER_BYTES = 32
_DELETED = ord("*")


def check_row_count(path: Path, read: int, declared: int) -> None:
    """Nothing, if as many rows were read as the file says it holds.

    A damaged file often gives the rows before the damage and no error.

    Parameters
    ----------
    declared : less than 0 where the file does not say.

    Raises
    ------
    SourceError : rows are lost.
    """
    if read >= declared or read + _deleted_rows(path) >= declared:
        return
    raise SourceError(
        f"{path} is damaged: it says it holds {declared:,} rows, and only {read:,} can be read; download or "
        "export it again"
    )


def _deleted_rows(path: Path) -> int:
    """Rows of a Shapefile that are marked as deleted; they still count in its header."""
    if path.suffix.lower() != ".shp":
        return 0
    table = next((f for f in path.parent.iterdir() if _is_beside(f, path)), None)
    if table is None:
        return 0
    data = np.fromfile(table, dtype=np.uint8)
    if len(data) < _DBF_HEADER_BYTES:
        return 0
    # dBASE: bytes 8 and 10 say how long the header and a row are; a row begins with its mark
    start, width = (int(n) for n in data[8:12].view("<u2"))
    return int((data[start :: max(1, width)] == _DELETED).sum())


def _is_beside(file: Path, path: Path) -> bool:
    return file.stem == path.stem and file.suffix.lower() == ".dbf"
