"""Severities on the KABCO scale, and what a crash of each weighs.

K killed, A suspected serious injury, B minor, C possible, O property damage only. The weight of a
severity is its cost over that of O (EPDO, AASHTO Highway Safety Manual). There is no nationally
recommended set of costs in the United States (FHWA), so weights are the user's; the presets are one set
in public use.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from roadrisk.errors import SourceError
from roadrisk.source_settings import EventSource

# USDOT, Benefit-Cost Analysis Guidance for Discretionary Grant Programs, 2022: dollars a crash
USDOT_2022 = {"K": 11_600_000.0, "A": 554_800.0, "B": 151_100.0, "C": 77_200.0, "O": 3_900.0}
PRESETS = ("usdot-2022", "usdot-2022-ka", "usdot-2022-capped")

_WORDS = (
    ("O", r"property|pdo|no injur|none injured|no apparent|not injured|uninjured|non.?injury"),
    ("K", r"(?<!non.)(?<!non)fatal|killed|death"),
    ("A", r"suspected serious|(?<!non.)(?<!non)incapacitating|disabling|serious|severe|major"),
    ("B", r"suspected minor|non.?incapacitating|evident|minor|moderate"),
    ("C", r"possible|complaint"),
)
_LETTER = re.compile(r"([KABCO])(?:\W.*)?", re.IGNORECASE)


def kabco_of(text: str) -> str | None:
    """The KABCO letter that a severity says in plain words; none where it does not.

    >>> [kabco_of(t) for t in ("Fatal injury", "Non-fatal injury - Incapacitating", "A - Serious", "Injury")]
    ['K', 'A', 'A', None]
    >>> kabco_of("Property damage only (none injured)"), kabco_of("Non-fatal injury"), kabco_of("2")
    ('O', None, None)
    """
    letter = _LETTER.fullmatch(text.strip())
    if letter is not None:
        return letter[1].upper()
    return next((known for known, words in _WORDS if re.search(words, text, re.IGNORECASE)), None)


def severity_weights(
    source: EventSource, counts: Mapping[str, int], earlier: Mapping[str, int]
) -> dict[str, float]:
    """What an event of each severity weighs.

    Parameters
    ----------
    counts : severity as the file writes it, "" where it writes none -> events.
    earlier : of them, events before what is learned; only these decide what K and A share.

    Raises
    ------
    SourceError : a preset that is not there, severities that nothing gives a weight, or weights of 0 alone.

    Examples
    --------
    >>> source = EventSource("crashes.csv", weights="usdot-2022-capped", severities={"2": "B"})
    >>> {s: round(w, 1) for s, w in severity_weights(source, {"K": 3, "2": 5, "O": 9}, {}).items()}
    {'K': 142.3, '2': 38.7, 'O': 1.0}
    """
    keys = {text: source.severities.get(text) or kabco_of(text) for text in counts}
    table = _weights(source, keys, earlier)
    if table and not any(table.values()):
        raise SourceError(
            f"{source.where}: all weights are 0, so no event would weigh anything; give one above 0, or "
            "leave weights out"
        )
    weights = {}
    for text, key in keys.items():
        weight = table.get(text, table.get(key) if key is not None else None)
        if weight is not None:
            weights[text] = weight
    missing = [f"{text!r} ({counts[text]:,})" for text in counts if text not in weights]
    if missing:
        raise SourceError(
            f"{source.where}: no weight for the severities {', '.join(missing[:10])}; say which of "
            f"{', '.join(table)} each is, as in severities = {{ {_first(missing)} = ... }}, or give it a "
            "number of its own in weights"
        )
    return weights


def _weights(
    source: EventSource, keys: Mapping[str, str | None], earlier: Mapping[str, int]
) -> dict[str, float]:
    if not isinstance(source.weights, str):
        return dict(source.weights or {})
    if source.weights not in PRESETS:
        near = difflib.get_close_matches(source.weights, PRESETS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
        raise SourceError(f"{source.where}: no preset of weights called {source.weights!r}; {hint}")
    relative = {key: cost / USDOT_2022["O"] for key, cost in USDOT_2022.items()}
    if source.weights.endswith("capped"):
        relative["K"] = relative["A"]
    if source.weights.endswith("ka"):
        number = {k: sum(n for text, n in earlier.items() if keys[text] == k) for k in ("K", "A")}
        both = sum(number.values())
        merged = sum(relative[k] * n for k, n in number.items()) / both if both else relative["A"]
        relative |= {"K": merged, "A": merged}
    return relative


def _first(missing: list[str]) -> str:
    return missing[0].rsplit(" (", 1)[0]
