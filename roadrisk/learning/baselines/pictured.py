"""Baselines that look at pictures through a frozen encoder: boosting, and a linear probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadrisk.grid import FloatArray
from roadrisk.learning.baselines.boosting import Growth, boosted_outputs
from roadrisk.learning.baselines.regression import linear_outputs
from roadrisk.learning.baselines.tuning import Sample
from roadrisk.learning.folds import Folds
from roadrisk.learning.tasks import Task

PARTS = 32  # principal components of the features that trees are given
# of squared coefficients of standardised features, as in `regression`; there are hundreds
PROBE_PENALTIES = (100.0, 1e3, 1e4, 1e5)
# Newton's method is for tens of columns, features come in hundreds
LBFGS: dict[str, Any] = {"solver": "lbfgs", "tol": 1e-5, "max_iter": 1000}


def has_features(features: FloatArray) -> NDArray[np.bool_]:
    """(N,) whether a tile has a picture."""
    return np.asarray(np.isfinite(features).all(axis=1) & (features.shape[1] > 0))


def boosted_with_pictures(
    task: Task, train: Sample, unseen: Sample, growths: Sequence[Growth]
) -> list[FloatArray]:
    """(n, K) outputs of boosting on the facts and the principal components of the features, for each growth.

    Components are learned on training tiles; a tile without a picture has none, which trees take as missing.
    """
    parts = principal_parts(train.features)
    more = parts(train.features), parts(unseen.features)
    return boosted_outputs(task, train.examples, unseen.examples, growths, more)


def principal_parts(features: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """How (n, D) features become (n, P) principal components, as (N, D) training features teach it.

    P is at most `PARTS`, and less than the tiles with a picture; features that are the same in all training
    tiles are left out. Rows of NaN stay such.
    """
    from sklearn.decomposition import PCA

    scale = _learned_scale(features)
    seen = scale(features[has_features(features)])
    count = min(PARTS, len(seen) - 1, seen.shape[1])
    if count < 1:
        return lambda others: np.empty((len(others), 0))
    learned = PCA(count, svd_solver="randomized", random_state=0).fit(seen)

    def parts(others: FloatArray) -> FloatArray:
        known = has_features(others)
        found = np.full((len(others), count), np.nan)
        if known.any():
            found[known] = learned.transform(scale(others[known]))
        return found

    return parts


def probed_outputs(task: Task, train: Sample, unseen: Sample, penalties: Sequence[float]) -> list[FloatArray]:
    """(n, K) outputs of a regression on the features for each penalty, of tiles that all have a picture."""
    scale = _learned_scale(train.features)
    seen, asked = scale(train.features), scale(unseen.features)
    label, exposure = train.examples.label, train.examples.exposure
    return [
        linear_outputs(task, seen, label, exposure, asked, unseen.examples.exposure, penalty, LBFGS)
        for penalty in penalties
    ]


def can_be_probed(train: Sample, inner: Folds) -> bool:
    """Whether there is something to learn from in each inner fold of training tiles with a picture."""
    label = train.examples.label
    return all(
        len(inner.test_rows(k)) > 0 and len(np.unique(label[inner.train_rows(k)])) > 1
        for k in range(inner.count)
    )


def _learned_scale(features: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """How features are standardised, as those of training tiles with a picture teach it."""
    seen = features[has_features(features)].astype(np.float64)
    if not len(seen):
        return lambda others: np.empty((len(others), 0))
    kept = np.ptp(seen, axis=0) > 0
    mean, std = seen[:, kept].mean(axis=0), seen[:, kept].std(axis=0)
    return lambda others: np.asarray((others[:, kept] - mean) / std, np.float64)
