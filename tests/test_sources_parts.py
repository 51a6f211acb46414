from __future__ import annotations

import json
from collections import Counter
from itertools import permutations

import pandas as pd
import pytest

from roadrisk.errors import RoadriskError
from roadrisk.geometry.near import NOWHERE
from roadrisk.sources.parts import Part, account_of, lost_reasons


def part(rows: int, kept: int, outside: int, rejected: dict[str, int], left_out: dict[str, int]) -> Part:
    frame = pd.DataFrame({"source_row": range(kept)})
    return Part(rows, frame, Counter(rejected), Counter(left_out), outside, NOWHERE, {})


PARTS = [
    part(6, 2, 1, {"zero length": 2}, {"not source MDOT": 1}),
    part(4, 3, 0, {"no geometry": 1}, {}),
    part(2, 0, 0, {"zero length": 1}, {"not source MDOT": 1}),
]


def test_parts_add_up_and_their_order_does_not_show() -> None:
    account = account_of("roads", PARTS, {"listed again": 1})
    assert (account.read, account.used, account.outside) == (12, 4, 1)
    assert account.rejected == {"no geometry": 1, "zero length": 3}
    assert account.left_out == {"listed again": 1, "not source MDOT": 2}
    written = {json.dumps(account_of("roads", some).as_json()) for some in permutations(PARTS)}
    assert len(written) == 1


def test_a_row_that_is_nowhere_is_a_bug() -> None:
    with pytest.raises(RoadriskError, match="please report this as a bug"):
        account_of("roads", [part(2, 1, 0, {}, {})])


def test_lost_rows_are_told_with_their_reasons() -> None:
    assert lost_reasons(account_of("roads", PARTS)) == "zero length 3, no geometry 1, not source MDOT 2"
    assert lost_reasons(account_of("roads", [])) == ""
