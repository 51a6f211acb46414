"""Files that are whole or not there, and what a file's identity is."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from roadrisk.errors import DatasetError

TEMPORARY = ".tmp-"
HASHED_BELOW_BYTES = 1_000_000_000
_NUMBERS = re.compile(r"\[\n([^\[\]{}\"]+)\n *\]")
_PARTS = {".shp": (".dbf", ".shx", ".prj", ".cpg"), ".mif": (".mid",)}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` when the block ends well.

    The suffix is kept, since drivers choose a format by it. After an error nothing is left.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which must not be there; renamed to it when the block ends well.

    After an error nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{path.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` whole: equal values are equal bytes, and numbers of a list stand in one line."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    # no text holds a line break, so these are lists
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed run left half-written below `folder`."""
    for left in folder.rglob(f"{TEMPORARY}*"):
        if left.is_file():
            left.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Hexadecimal digest of a plain value.

    >>> digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def identity_of(path: Path, hashed: bool) -> dict[str, Any]:
    """What makes a source the same source: path, bytes, mtime, and sha256 when `hashed` and under 1 GB.

    A folder is its files; a file in several parts, such as a Shapefile, all of them.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {"path": str(path.absolute()), "files": [_identity_of_file(file, hashed) for file in files]}
    identity, beside = _identity_of_file(path, hashed), _files_beside(path)
    if beside:
        identity["beside"] = [_identity_of_file(file, hashed) for file in beside]
    return identity


def _identity_of_file(path: Path, hashed: bool) -> dict[str, Any]:
    stat = path.stat()
    identity: dict[str, Any] = {
        "path": str(path.absolute()),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
    }
    if hashed and stat.st_size < HASHED_BELOW_BYTES:
        identity["sha256"] = sha256_of(path)
    return identity


def _files_beside(path: Path) -> list[Path]:
    """The other parts of a file that has several; the case of their endings does not matter."""
    endings = _PARTS.get(path.suffix.lower(), ())
    if not endings:
        return []
    return sorted(f for f in path.parent.iterdir() if f.stem == path.stem and f.suffix.lower() in endings)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this run; the kernel lets go when the process ends, however it ends.

    Raises
    ------
    DatasetError : another run holds it.
    """
    # the folder itself is locked: a lock file would have to be removed, and could be a link
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DatasetError(
            f"{folder} is being written by another run; wait for it or use another folder"
        ) from None
    finally:
        os.close(descriptor)
