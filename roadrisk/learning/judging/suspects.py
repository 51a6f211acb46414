"""Facts that know too much: the label itself, or the labels around a tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from roadrisk.columns import Column
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.baselines.densities import learned_codes
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.evaluation import Finding
from roadrisk.learning.judging.measures import auroc

SUSPECTS, NEIGHBOURS = "suspicious facts", "labels of neighbours"
LABEL_ITSELF = 0.98  # correlation
BEST_ALONE = 0.99  # AUROC
FEWEST = 10  # tiles of each kind, below which one fact may part them by chance
RINGS = 3  # tiles; the first is what a fact may know, the others tell what is smooth there
# correlations with the labels around: facts of cities were seen up to 0.62 by themselves, and 0.29 beside
# other facts and the rings farther out; facts made of these labels from 0.8 and from 0.6
AROUND, AROUND_BESIDE_OTHERS, AROUND_OF_THE_PAST = 0.9, 0.5, 0.98
RIDGE = 1e-6

Window = tuple[str, str]


def suspect_findings(
    examples: Examples, amount: FloatArray, high: FloatArray, folds: Folds, ceiling: float | None
) -> tuple[Finding, ...]:
    """Facts, each by itself, that say what is learned better than a fact of a place can.

    Parameters
    ----------
    amount : (N,) the count or value that is learned, or that classes were cut from.
    high : (N,) 1 or 0.
    ceiling : AUROC that no fact can have by itself; None where it is not known.
    """
    limit = min(BEST_ALONE, ceiling) if ceiling is not None else BEST_ALONE
    findings = []
    for column, values in sorted(
        zip(examples.columns, examples.facts.T, strict=True), key=lambda c: c[0].name
    ):
        known = np.isfinite(values)
        alike = _likeness(values[known], amount[known])
        alone = _alone(values[known], high[known]), _alone(np.asarray(known, np.float64), high)
        findings += _suspicions(column, alike, max(alone), limit)
    for column, said in zip(_by_name(examples), _said_by_texts(examples, high, folds), strict=True):
        findings += _suspicions(column, 0.0, _alone(said, high), limit)
    if findings:
        return tuple(findings)
    many = len(examples.columns) + len(examples.text_columns)
    said = f"none of {many} facts is by itself the label (correlation to 0.98, AUROC to {limit:.2f})"
    return (Finding(SUSPECTS, False, said),)


def neighbour_findings(
    examples: Examples, amount: FloatArray, high: FloatArray, label_window: Window | None
) -> tuple[Finding, ...]:
    """Facts that know the labels of the 3 x 3 tiles around a tile.

    What a place is like explains the labels around it in part; other facts, and the labels two and three
    tiles away, explain much of the same part. A fact that was made from the labels around knows their chance,
    too: beside all of these its correlation with their mean stays high (a partial correlation, from the
    inverse of the correlation matrix). Facts of past days may know it rightly, and are suspected only where
    they are the mean itself.

    Parameters
    ----------
    amount, high : as of `suspect_findings`.
    label_window : [from, to); None where the label has none.
    """
    if examples.row is None or examples.col is None:
        return ()
    places = _order(examples)
    columns = [examples.columns[place] for place in places]
    if not columns:
        return ()
    facts = _standard(_filled(examples.facts[:, places]))
    worst = np.zeros((2, len(columns)))  # alone, beside the others
    for label in (high, np.sign(amount) * np.log1p(np.abs(amount))):
        around = _standard(_rings(label, examples.row, examples.col))
        worst = np.maximum(worst, np.abs(_correlations(facts, around[:, 1:], around[:, :1])))
    findings = []
    for column, alone, beside in zip(columns, *worst, strict=True):
        past = bool(column.window and label_window and column.window[1] <= label_window[0])
        knows = alone >= AROUND_OF_THE_PAST if past else alone >= AROUND or beside >= AROUND_BESIDE_OTHERS
        if knows:
            said = (
                f"{column.name} knows the labels of the tiles around (correlation {alone:.2f} with their "
                f"mean, {beside:.2f} beside all else that explains it); leave it out with "
                f"--exclude {column.name}"
            )
            findings.append(Finding(NEIGHBOURS, True, said))
    if findings:
        return tuple(findings)
    best = int(np.argmax(worst[1]))
    said = (
        f"no fact knows the labels of the tiles around; the most is {columns[best].name} with a correlation "
        f"of {worst[1][best]:.2f} with their mean beside all else that explains it"
    )
    return (Finding(NEIGHBOURS, False, said),)


def _suspicions(column: Column, alike: float, alone: float, limit: float) -> list[Finding]:
    said = []
    if alike > LABEL_ITSELF:
        said.append(f"has a correlation of {alike:.3f} with what is learned")
    if alone > limit:
        said.append(f"tells high risk by itself with an AUROC of {alone:.3f}")
    if not said:
        return []
    text = f"{column.name} {' and '.join(said)}; find out what it counts, or --exclude {column.name}"
    return [Finding(SUSPECTS, True, text)]


def _likeness(values: FloatArray, amount: FloatArray) -> float:
    """The larger of the correlations of numbers and of ranks, whatever their sign; 0 where not defined."""
    if len(values) < FEWEST or (values == values[0]).all() or (amount == amount[0]).all():
        return 0.0
    straight = np.corrcoef(values, amount)[0, 1]
    # here, not above: it takes a second
    from scipy.stats import spearmanr

    return float(np.nanmax(np.abs([straight, spearmanr(values, amount).statistic])))


def _alone(values: FloatArray, high: FloatArray) -> float:
    """AUROC of one fact, whichever way it points; 0.5 with too few tiles to tell."""
    if min((high == 1).sum(), (high != 1).sum()) < FEWEST:
        return 0.5
    found = auroc(high, values)
    return max(found, 1 - found)


def _said_by_texts(examples: Examples, high: FloatArray, folds: Folds) -> FloatArray:
    """(T, N) share of high risk that each text has in the training of the fold that a tile is tested in."""
    said = np.full((len(examples.text_columns), len(examples)), float(high.mean()))
    codes = learned_codes(examples)(examples).T
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        for text, code in enumerate(codes):
            for value in np.unique(code[test][~np.isnan(code[test])]):
                known = train[code[train] == value]
                if len(known):
                    said[text, test[code[test] == value]] = high[known].mean()
    return said


def _by_name(examples: Examples) -> list[Column]:
    return sorted(examples.text_columns, key=lambda column: column.name)


def _order(examples: Examples) -> list[int]:
    """Places of the columns that differ between tiles, by name."""
    names = [column.name for column in examples.columns]
    differ = [len(np.unique(v[np.isfinite(v)])) > 1 for v in examples.facts.T]
    return sorted((i for i in range(len(names)) if differ[i]), key=lambda i: names[i])


def _filled(values: FloatArray) -> FloatArray:
    """(N, F) logarithms, the mean of the column where missing."""
    logs = np.sign(values) * np.log1p(np.abs(values))
    return np.where(np.isnan(logs), np.nanmean(logs, axis=0), logs) if values.size else logs


def _standard(values: FloatArray) -> FloatArray:
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _rings(label: FloatArray, row: IntArray, col: IntArray) -> FloatArray:
    """(N, 3) mean label of the 3 x 3 tiles around each, then of the tiles two and three steps away.

    The mean of all where a ring has no tile.
    """
    places = np.column_stack([row, col]).astype(np.float64)
    one, other = cKDTree(places).query_pairs(RINGS, p=np.inf, output_type="ndarray").T
    steps = np.abs(places[one] - places[other]).max(axis=1)
    ring = np.concatenate([np.zeros(len(row)), steps, steps]).astype(np.int64)
    tile = np.concatenate([np.arange(len(row)), one, other])
    seen = np.concatenate([np.arange(len(row)), other, one])
    found = np.full((len(row), RINGS), label.mean())
    for number in range(RINGS):
        inside = np.maximum(ring, 1) == number + 1
        tiles = np.bincount(tile[inside], minlength=len(row))
        sums = np.bincount(tile[inside], weights=label[seen[inside]], minlength=len(row))
        np.divide(sums, tiles, out=found[:, number], where=tiles > 0)
    return found


def _correlations(facts: FloatArray, beside: FloatArray, around: FloatArray) -> FloatArray:
    """(2, F) correlation of each fact with what is around, by itself and beside all else.

    Parameters
    ----------
    beside : (N, B) what else explains what is around.
    around : (N, 1).
    """
    both = np.column_stack([facts, beside, around])
    matrix: NDArray[np.float64] = both.T @ both / len(both)
    # facts that are sums of others would have no inverse
    precision = np.linalg.inv(matrix + RIDGE * np.eye(len(matrix)))
    scale = np.sqrt(np.diag(precision))
    partial = -precision[-1] / scale / scale[-1]
    return np.stack([matrix[-1], partial])[:, : facts.shape[1]]
