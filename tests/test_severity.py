from __future__ import annotations

import pytest

from roadrisk.errors import SourceError
from roadrisk.source_settings import EventSource
from roadrisk.sources.severity import USDOT_2022, kabco_of, severity_weights


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("K", "K"),
        ("K - Fatal Injury", "K"),
        ("Fatal injury", "K"),
        ("FATAL", "K"),
        ("Non-fatal injury", None),
        ("Nonfatal injury", None),
        ("(A) Suspected Serious Injury", "A"),
        ("Incapacitating", "A"),
        ("Non-fatal injury - Incapacitating", "A"),
        ("Non-fatal injury - Non-incapacitating", "B"),
        ("Suspected Minor Injury", "B"),
        ("Possible injury", "C"),
        ("Property damage only (none injured)", "O"),
        ("No Apparent Injury (O)", "O"),
        ("PDO", "O"),
        ("Injury", None),
        ("1", None),
        ("", None),
        ("Other", None),
        ("Crash", None),
        ("Bicycle", None),
    ],
)
def test_kabco_is_said_in_plain_words_or_not_at_all(text: str, letter: str | None) -> None:
    assert kabco_of(text) == letter


def test_the_preset_is_cost_over_the_cost_of_damage_only() -> None:
    """As in DOMAIN: a death weighs 2,974 crashes with damage only."""
    weights = severity_weights(EventSource("c.csv", weights="usdot-2022"), dict.fromkeys(USDOT_2022, 1), {})
    assert round(weights["K"]) == 2974
    assert weights["O"] == 1


def test_killed_and_serious_merged_keep_their_total() -> None:
    counts = {"Fatal injury": 3, "A": 17, "O": 400}
    whole = severity_weights(EventSource("c.csv", weights="usdot-2022"), counts, counts)
    merged = severity_weights(EventSource("c.csv", weights="usdot-2022-ka"), counts, counts)
    assert merged["Fatal injury"] == merged["A"]
    assert sum(merged[s] * n for s, n in counts.items()) == pytest.approx(
        sum(whole[s] * n for s, n in counts.items())
    )


def test_capped_weights_end_at_a_serious_injury() -> None:
    weights = severity_weights(
        EventSource("c.csv", weights="usdot-2022-capped"), {"K": 1, "A": 1, "B": 2}, {}
    )
    assert weights["K"] == weights["A"] > weights["B"]


def test_weights_that_sum_to_zero_are_refused() -> None:
    source = EventSource("c.csv", weights=dict.fromkeys("KABCO", 0.0))
    with pytest.raises(
        SourceError, match="all weights are 0, so no event would weigh anything; give one above"
    ):
        severity_weights(source, {"K": 1}, {})
    assert severity_weights(EventSource("c.csv", weights={"K": 1, "O": 0}), {"O": 3}, {}) == {"O": 0}


def test_own_weights_by_the_files_own_words_or_by_kabco() -> None:
    source = EventSource("c.csv", weights={"1": 50, "O": 1, "B": 8}, severities={"2": "B", "": "O"})
    assert severity_weights(source, {"1": 122, "2": 15, "": 40}, {}) == {"1": 50, "2": 8, "": 1}


def test_a_severity_without_weight_is_refused() -> None:
    with pytest.raises(SourceError) as raised:
        severity_weights(EventSource("c.csv", weights="usdot-2022"), {"K": 1, "2": 1500, "": 7}, {})
    assert str(raised.value) == (
        "c.csv: no weight for the severities '2' (1,500), '' (7); say which of K, A, B, C, O each is, as in "
        "severities = { '2' = ... }, or give it a number of its own in weights"
    )


def test_a_preset_that_is_not_there() -> None:
    with pytest.raises(
        SourceError, match=r"no preset of weights called 'usdot2022'; did you mean usdot-2022\?"
    ):
        severity_weights(EventSource("c.csv", weights="usdot2022"), {"K": 1}, {})
