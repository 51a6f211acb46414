"""Whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import DatasetError
from roadrisk.files import TEMPORARY, identity_of, locked, remove_temporaries, whole_file, write_json


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})

    def half_a_file() -> None:
        with whole_file(file) as temporary:
            temporary.write_text("half")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        half_a_file()
    assert file.read_text() == '{\n "a": 1\n}\n'
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text('[]{}",\\\n 1e'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('[]"\n1'), inner),
    )
)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "a.json", {"value": value})
        assert json.loads((Path(folder) / "a.json").read_text()) == {"value": value}


def test_numbers_of_a_list_stand_in_a_line(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"points": [[0.5, 1], [2, -3e9]], "names": ["x"]})
    assert (tmp_path / "a.json").read_text() == (
        '{\n "names": [\n  "x"\n ],\n "points": [\n  [0.5, 1],\n  [2, -3000000000.0]\n ]\n}\n'
    )


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "views").mkdir()
    left = tmp_path / "views" / f"{TEMPORARY}r00000c00000.tif"
    left.write_text("half")
    kept = tmp_path / "views" / "r00000c00000.tif"
    kept.write_text("whole")
    remove_temporaries(tmp_path)
    assert (left.exists(), kept.exists()) == (False, True)


def test_a_lock_is_held_and_let_go_even_by_the_dead(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with locked(tmp_path):
            os._exit(0)  # dies with the lock held
    os.waitpid(child, 0)
    with locked(tmp_path), pytest.raises(DatasetError) as caught, locked(tmp_path):
        pass
    assert (
        str(caught.value) == f"{tmp_path} is being written by another run; wait for it or use another folder"
    )
    with locked(tmp_path):
        pass


def test_identity_changes_with_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a")
    first = identity_of(file, hashed=True)
    os.utime(file, ns=(first["mtime_ns"], first["mtime_ns"]))
    assert identity_of(file, hashed=True) == first
    file.write_text("b")
    os.utime(file, ns=(first["mtime_ns"], first["mtime_ns"]))
    assert identity_of(file, hashed=True) != first
    assert "sha256" not in identity_of(file, hashed=False)
