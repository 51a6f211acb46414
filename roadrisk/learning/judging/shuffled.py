"""Labels shuffled within blocks: what a score is made of besides the tiles themselves."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.baselines.densities import densities, learned_codes
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.evaluation import Finding
from roadrisk.learning.judging.measures import auroc_fold_mean

SHUFFLED = "shuffled labels"
TIMES = 20
PENALTY = 10.0


def shuffled_label_findings(
    examples: Examples, high: FloatArray, block: IntArray | None, folds: Folds, seed: int
) -> tuple[Finding, ...]:
    """How well a logistic regression on the facts says labels that were shuffled within each block.

    Parameters
    ----------
    high : (N,) 1 or 0.
    block : (N,) number of each tile's block; None where tiles have no place, which are then one block.
    """
    if not examples.columns and not examples.text_columns:
        return ()
    order = np.argsort(examples.key, kind="stable")
    examples, folds, high = examples.taken(order), folds.taken(order), high[order]
    block = np.zeros(len(high), np.int64) if block is None else block[order]
    real, *found = shuffled_aurocs(examples, high, block, folds, seed)
    where = "blocks" if block.any() else "all tiles"
    said = (
        f"a regression on the facts has an AUROC of {real:.3f}, and of {np.mean(found):.3f} "
        f"({min(found):.3f} to {max(found):.3f}) on labels shuffled within {where} {TIMES} times: so much is "
        "told by what whole blocks are like; shuffling also breaks a fact that knows the label, so this "
        "cannot find one"
    )
    if real <= max(found):
        said = f"the facts tell tiles no better than shuffled ones; {said}"
    return (Finding(SHUFFLED, False, said),)


def shuffled_aurocs(
    examples: Examples, high: FloatArray, block: IntArray, folds: Folds, seed: int
) -> tuple[float, ...]:
    """AUROC within folds of the labels as they are, then of 20 shuffles of them.

    Parameters
    ----------
    examples : by key.
    """
    labels = np.stack([high, *(shuffled_within(high, block, seed, turn) for turn in range(TIMES))])
    said = np.empty(labels.shape)
    with threadpool_limits(limits=1):
        for k in range(folds.count):
            train, test = folds.train_rows(k), folds.test_rows(k)
            seen, asked = _design(examples.taken(train), examples.taken(test))
            for turn, label in enumerate(labels):
                learner = LogisticRegression(C=1 / PENALTY, solver="newton-cholesky", tol=1e-6, max_iter=50)
                said[turn, test] = learner.fit(seen, label[train]).decision_function(asked)
    return tuple(auroc_fold_mean(labels[turn], said[turn], folds.fold) for turn in range(len(said)))


def shuffled_within(label: FloatArray, block: IntArray, seed: int, turn: int) -> FloatArray:
    """(N,) labels that change places within each block.

    >>> shuffled_within(np.array([1.0, 1, 0, 0]), np.array([3, 3, 5, 5]), 0, 0).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    drawn = np.lexsort((np.random.default_rng([seed, turn]).random(len(label)), block))
    out = np.empty(len(label))
    out[np.argsort(block, kind="stable")] = label[drawn]
    return out


def _design(train: Examples, unseen: Examples) -> tuple[FloatArray, FloatArray]:
    """Columns of the regression, made as training tiles teach: logarithms, flags of what misses, texts."""
    codes = learned_codes(train)
    logs = [np.sign(v) * np.log1p(np.abs(v)) for v in (densities(train), densities(unseen))]
    kept = [j for j, column in enumerate(logs[0].T) if len(np.unique(column[np.isfinite(column)])) > 1]
    mean, spread = np.nanmean(logs[0][:, kept], axis=0), np.nanstd(logs[0][:, kept], axis=0)
    kinds = [np.unique(column[~np.isnan(column)]) for column in codes(train).T]
    designs = []
    for log, coded in zip(logs, (codes(train), codes(unseen)), strict=True):
        numbers = np.nan_to_num((log[:, kept] - mean) / spread)
        hot = [coded[:, j : j + 1] == kind for j, kind in enumerate(kinds)]
        designs.append(np.hstack([numbers, np.isnan(log), *hot]).astype(np.float64))
    return designs[0], designs[1]
