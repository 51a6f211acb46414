"""What is written on a command line, as the plain values that settings are made of."""

from __future__ import annotations

import re
from datetime import date
from itertools import takewhile
from pathlib import Path

from roadrisk.errors import UsageError

# options that take several words; click takes one, so they are joined by commas before it looks
SEVERAL_WORDS = {"--bbox": 4, "--label-window": 2, "--feature-window": 2}

ENDS_WORDS = re.compile(r"--?[A-Za-z]|.*\.toml$")  # another flag, or the region file


def joined_words(args: list[str]) -> list[str]:
    """Arguments with the words of `--bbox` and the windows joined by commas.

    >>> joined_words(["--bbox", "-93.7", "41.5", "-93.5", "41.7", "-o", "x"])
    ['--bbox=-93.7,41.5,-93.5,41.7', '-o', 'x']
    >>> joined_words(["--bbox=-93.7,41.5,-93.5,41.7"])
    ['--bbox=-93.7,41.5,-93.5,41.7']
    """
    joined, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        if word in SEVERAL_WORDS and rest:
            count = 1 if "," in rest[0] else SEVERAL_WORDS[word]
            taken = list(takewhile(lambda text: not ENDS_WORDS.match(text), rest[:count]))
            rest = rest[len(taken) :]
            word = f"{word}={','.join(taken)}"
        joined.append(word)
    return joined


def one_region(given: list[Path]) -> Path | None:
    """The region file among the positional arguments; a pattern that the shell expanded is an error."""
    others = [p for p in given if p.suffix != ".toml"]
    if others:
        raise UsageError(
            f"{others[0]} is not a region file (.toml); if the shell expanded a pattern, quote the pattern: "
            f"--imagery '{others[0].parent / ('*' + others[0].suffix)}'"
        )
    if len(given) > 1:
        raise UsageError(f"one region file at a time; {len(given)} given")
    return given[0] if given else None


def numbers(flag: str, text: str | None, count: int) -> list[float] | None:
    """Numbers separated by commas."""
    if text is None:
        return None
    try:
        values = [float(v) for v in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"{flag} {text.replace(',', ' ')} is not {count} numbers") from None
    if len(values) != count:
        raise UsageError(f"{flag} takes {count} numbers; {len(values)} given")
    return values


def rows_and_cols(text: str | None) -> list[int] | None:
    """`4x6` as rows and columns."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise UsageError(f"--shape {text} is not ROWSxCOLS, as in 4x4")
    return [int(p) for p in parts]


def window(flag: str, text: str | None) -> list[date] | None:
    """Two ISO dates."""
    if text is None:
        return None
    try:
        dates = [date.fromisoformat(v) for v in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{flag} {text.replace(',', ' ')} is not two dates, as in 2024-01-01 2025-01-01"
        ) from None
    if len(dates) != 2:
        raise UsageError(f"{flag} takes two dates, FROM and TO; {len(dates)} given")
    return dates


def names(text: str | None) -> list[str] | None:
    """A list separated by commas."""
    return None if text is None else [n.strip() for n in text.split(",") if n.strip()]


def sides(text: str | None) -> list[int] | None:
    """Sides of neighbourhoods, as `3,7`."""
    given = names(text)
    if given is not None and not all(side.isdigit() for side in given):
        raise UsageError(f"--neighbourhood {text} is not numbers of tiles, as in 3,7")
    return [int(side) for side in given] if given is not None else None


def sources(paths: list[str] | None) -> list[dict[str, str]] | None:
    """Source flags as the region file writes them."""
    return [{"path": str(Path(p).expanduser()) if p.startswith("~") else p} for p in paths] if paths else None


def widths(given: list[str] | None) -> dict[str, float] | None:
    """Widths by class of road, as `residential=7`."""
    if given is None:
        return None
    known = {}
    for text in given:
        name, _, metres = text.rpartition("=")
        try:
            known[name.strip()] = float(metres)
        except ValueError:
            name = ""
        if not name.strip():
            raise UsageError(f"--width {text} is not CLASS=METRES, as in residential=7")
    return known
