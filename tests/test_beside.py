"""What lies beside tiles that were learned from is no place never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from roadrisk.elsewhere import far_from
from roadrisk.inputs import tiles_at
from tests.metro_examples import metro_dataset


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_neither_seen_tiles_nor_those_beside_them_are_new(reach: int, tmp_path: Path) -> None:
    tiles = tiles_at(metro_dataset(tmp_path, "a", 1).path, ("aerial",))
    row, col = tiles.frame["row"].to_numpy(), tiles.frame["col"].to_numpy()
    seen = (row < 3) & (col < 4)
    steps = np.maximum(row - 2, col - 3)
    np.testing.assert_array_equal(far_from(tiles, seen, reach), steps > reach)
    assert far_from(tiles, np.zeros(len(tiles), bool), reach).all()
