from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
from event_examples import GRID, dated, events_at
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.columns import Column
from roadrisk.errors import SourceError, UsageError
from roadrisk.features.windows import (
    Windows,
    check_label_window,
    check_leakage,
    chosen_windows,
    default_windows,
    in_window,
)

LEFT, _, _, TOP = GRID.bounds
Y2023, Y2024, Y2025 = (date(y, 1, 1) for y in (2023, 2024, 2025))


@given(st.lists(st.datetimes(datetime(2022, 1, 1), datetime(2026, 1, 1)), min_size=1))
def test_adjoining_windows_share_nothing(moments: list[datetime]) -> None:
    times = pd.Series(np.array(moments, dtype="datetime64[s]"))
    early, late = in_window(times, (date(2022, 1, 1), Y2024)), in_window(times, (Y2024, date(2026, 1, 2)))
    assert (early ^ late).all()


def test_an_empty_label_window_is_an_error() -> None:
    with pytest.raises(
        SourceError, match="no event in the grid falls in the label window 2024-01-01 to 2025-01-01"
    ):
        check_label_window([dated(["2020-05-05"]), dated(["2021-05-05"])], (Y2024, Y2025))
    check_label_window([dated(["2020-05-05"]), dated(["2024-05-05"])], (Y2024, Y2025))


def test_the_label_window_of_one_source_is_refused_in_its_name() -> None:
    with pytest.raises(SourceError) as raised:
        check_label_window([dated(["2020-05-05", "2021-05-05"])], (Y2024, Y2025))
    assert str(raised.value) == (
        "crashes: no event in the grid falls in the label window 2024-01-01 to 2025-01-01; the file is "
        "dated 2020-05-05 to 2021-05-05: give another --label-window"
    )


def test_default_windows() -> None:
    assert default_windows(date(2015, 1, 1), date(2024, 12, 31)) == (
        (Y2024, Y2025),
        (date(2015, 1, 1), Y2024),
    )
    # the last year is not over: the one before is the label; what is before the first full year counts too
    label, feature = default_windows(date(2010, 6, 1), date(2016, 6, 30))
    assert label == (date(2015, 1, 1), date(2016, 1, 1))
    assert feature == (date(2010, 6, 1), date(2015, 1, 1))
    # days without a crash at New Year
    assert default_windows(date(2023, 1, 4), date(2024, 12, 28)) == ((Y2024, Y2025), (Y2023, Y2024))


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2024, 1, 1), date(2024, 12, 31)),
        (date(2023, 3, 1), date(2024, 12, 31)),
        (Y2023, date(2024, 11, 30)),
    ],
)
def test_no_default_with_less_than_two_full_years(first: date, last: date) -> None:
    with pytest.raises(UsageError, match=f"dated {first} to {last}.*--label-window.*--feature-window"):
        default_windows(first, last)


def test_chosen_windows() -> None:
    crashes = [dated(["2015-01-01", "2024-12-31"])]
    label, past = (Y2024, Y2025), (Y2023, Y2024)
    assert chosen_windows(label, None, {}, crashes) == Windows(label, None)
    assert chosen_windows(None, None, {}, crashes) == Windows(
        *default_windows(date(2015, 1, 1), date(2024, 12, 31))
    )
    assert chosen_windows(None, past, {"y2022": past}, crashes) == Windows(label, past, {"y2022": past})
    with pytest.raises(UsageError, match="--feature-window ends 2024-01-02, after --label-window starts"):
        chosen_windows(label, (Y2023, date(2024, 1, 2)), {}, crashes)


def test_without_crashes_every_date_of_the_others_is_past() -> None:
    others = [dated(["2015-03-01", "2024-12-31"]), dated(["2010-01-05"])]
    assert chosen_windows(None, None, {}, [], others) == Windows(None, (date(2010, 1, 5), Y2025))
    undated = events_at(LEFT + 1, TOP - 1, undated=True)
    assert chosen_windows(None, None, {}, [], [undated]) == Windows(None, None)


def column(role: str, window: tuple[str, str] | None) -> Column:
    return Column("citations_y2024", "float64", "events", role, "sum", "", "citations", window)  # type: ignore[arg-type]


def test_a_feature_that_touches_the_label_window_is_refused() -> None:
    touching = ("2023-06-01", "2024-01-02")
    with pytest.raises(UsageError) as raised:
        check_leakage([column("feature", touching)], (Y2024, Y2025))
    assert str(raised.value) == (
        "citations_y2024 tells of 2023-06-01 to before 2024-01-02, which reaches into the label window "
        "(2024-01-01 to before 2025-01-01), so a model would know what it is to learn; end its window on "
        "2024-01-01 or before, or leave it out"
    )
    for later in (("2024-06-01", "2024-07-01"), ("2025-01-01", "2026-01-01")):
        with pytest.raises(UsageError):
            check_leakage([column("feature", later)], (Y2024, Y2025))
    check_leakage(
        [
            column("feature", ("2023-06-01", "2024-01-01")),
            column("label", ("2024-01-01", "2025-01-01")),
            column("feature", None),
        ],
        (Y2024, Y2025),
    )
    check_leakage([column("feature", touching)], None)
