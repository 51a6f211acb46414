from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.sources import stored as module
from roadrisk.sources.stored import Stored, Writer, also_in, keys_of, repeats

rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=30)


def stored(some: list[tuple[int, int]]) -> Stored:
    """Rows with a key (0 is none) and a content."""
    writer = Writer(Path(mkdtemp()) / "rows.parquet")
    if some:
        keys, contents = np.array(some, dtype=np.uint64).T
        writer.add(pd.DataFrame({"key": keys, "content": contents, "n": range(len(some))}))
    writer.close()
    return Stored(writer.path, np.ones(writer.rows, dtype=bool), lambda frame: frame)


@given(rows, rows, st.integers(1, 5))
def test_one_row_of_each_key_stays_and_rows_without_a_key_do(
    first: list[tuple[int, int]], second: list[tuple[int, int]], at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        stores = [stored(first), stored(second)]
        gone = np.concatenate(repeats(stores, ["key"]))
    frame = pd.DataFrame([*first, *second], columns=["key", "content"])
    assert not gone[frame["key"] == 0].any()
    kept = frame[~gone & (frame["key"] != 0)]
    known = frame[frame["key"] != 0]
    assert kept["key"].is_unique
    assert kept.set_index("key")["content"].to_dict() == known.groupby("key")["content"].min().to_dict()


@given(rows, rows, st.integers(1, 5))
def test_rows_that_others_have(
    first: list[tuple[int, int]], second: list[tuple[int, int]], at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        (gone,) = also_in([stored(first)], [stored(second)], ["key"])
    known = {key for key, _ in second if key}
    assert gone.tolist() == [key in known for key, _ in first]


def test_rows_that_no_longer_count_are_gone_everywhere() -> None:
    store = stored([(1, 0), (1, 0), (2, 0)]).without(np.array([True, False, False]))
    assert [batch["n"].tolist() for batch in store.batches()] == [[1, 2]]
    assert [batch.index.tolist() for batch in store.batches()] == [[1, 2]]
    assert not repeats([store], ["key"])[0].any()


def test_a_store_of_nothing_is_empty() -> None:
    store = stored([])
    assert list(store.batches()) == []
    assert repeats([store], ["key"])[0].tolist() == []


def test_a_key_is_never_that_of_no_key() -> None:
    keys = keys_of(np.array(["", "a", None], dtype=object))
    assert (keys > 0).all()
    assert len(set(keys.tolist())) == 3
