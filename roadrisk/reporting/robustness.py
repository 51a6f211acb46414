"""What `--robustness` found, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from roadrisk.learning.judging.changed import Trial
from roadrisk.learning.judging.fairness import Quintile
from roadrisk.plain_text import TextTable
from roadrisk.reporting.words import amount, model_words, number, percent, signed

TRIALS = (
    "change",
    "learned by",
    "AUROC within folds",
    "95 %",
    "difference",
    "ranks",
    "top 5 % that stays",
    "",
)
QUINTILES = ("fifth by", "from", "to", "tiles", "observed / predicted", "95 %", "among the riskiest fifth")


def robustness_tables(
    trials: Sequence[Trial], quintiles: Sequence[Quintile], said: Sequence[str]
) -> tuple[TextTable, ...]:
    """A table for each of them that is not empty.

    Parameters
    ----------
    said : lines on what could not be, and on what numbers mean.
    """
    made = [
        TextTable("Another choice", TRIALS, tuple(map(_trial, trials)), TRIALS[2:7]),
        TextTable("Errors by quintile", QUINTILES, tuple(map(_quintile, quintiles)), QUINTILES[1:]),
        TextTable("To know", ("of these numbers",), tuple((line,) for line in said)),
    ]
    return tuple(table for table in made if table.rows)


def _trial(of: Trial) -> tuple[str, ...]:
    difference = "" if of.difference is None else signed(of.difference)
    if of.difference_low is not None and of.difference_high is not None:
        difference += f" ({signed(of.difference_low)} to {signed(of.difference_high)})"
    return (
        of.name,
        model_words(of.model),
        number(of.auroc) or "not tried",
        _ends(of.low, of.high),
        difference,
        number(of.spearman),
        "" if of.top_kept is None else percent(of.top_kept),
        of.note,
    )


def _quintile(of: Quintile) -> tuple[str, ...]:
    return (
        f"{of.by} {of.number}",
        amount(of.low),
        amount(of.high),
        f"{of.n:,}",
        "not known" if of.ratio is None else f"{of.ratio:.2f}",
        _ends(of.ratio_low, of.ratio_high),
        f"{of.flagged * 100:.1f} %",
    )


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
