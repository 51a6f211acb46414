"""Tiles that are in a fold's test and its training under two names."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from roadrisk.features.labels import rounded
from roadrisk.grid import FloatArray, IntArray
from roadrisk.imagery.picture_files import Pixels
from roadrisk.learning.baselines.densities import learned_codes
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.evaluation import Finding
from roadrisk.learning.pictures.feeds import by_part

DUPLICATES = "duplicates"
FEWEST_MEASURES = 3  # one straight street across makes rows of one length alike
BLANK_LEVELS = 8  # grey levels
MOST_PICTURES = 5000  # some seconds of reading
AT_ONCE = 64


def duplicate_findings(examples: Examples, folds: Folds, seed: int) -> tuple[Finding, ...]:
    """Tiles of a fold's test that have the very facts or the very picture of a tile of its training.

    Parameters
    ----------
    folds : of the same rows.
    seed : of the sample of pictures, where there are more than 5,000 of a view.
    """
    findings = []
    if examples.columns:
        alike = alike_facts(examples)
        unlike = int((alike < 0).sum())
        untold = f"; {unlike:,} tiles with too few measures to tell are not compared" if unlike else ""
        findings.append(_finding("facts", alike, examples, folds, untold))
    for view, name in enumerate(examples.views):
        seen = np.flatnonzero(examples.picture[:, view] >= 0)
        told = ""
        if len(seen) > MOST_PICTURES:
            by_key = seen[np.argsort(examples.key[seen], kind="stable")]
            drawn = np.random.default_rng([seed, view]).choice(len(seen), MOST_PICTURES, replace=False)
            told, seen = f"; {MOST_PICTURES:,} of {len(seen):,} pictures were compared", by_key[drawn]
        if len(seen):
            alike = np.full(len(examples), -1)
            alike[seen] = alike_pictures(examples, view, seen)
            findings.append(
                _finding(f"picture ({name})" if name else "picture", alike, examples, folds, told)
            )
    return tuple(findings)


def alike_facts(examples: Examples) -> IntArray:
    """(N,) number of the group of tiles with the same facts, -1 for tiles whose facts are too plain to tell.

    Plain is a row with fewer than three different numbers that are not whole: zeros, counts and the length of
    one straight street are alike in many tiles. Numbers that agree to 12 digits are the same.
    """
    by_name = sorted(range(len(examples.columns)), key=lambda index: examples.columns[index].name)
    numbers = np.stack([rounded(examples.facts[:, index]) for index in by_name], axis=1) + 0.0
    rows = np.hstack([numbers, learned_codes(examples)(examples)])
    _, group = np.unique(np.where(np.isnan(rows), np.inf, rows), axis=0, return_inverse=True)
    return np.where(_measures(numbers) >= FEWEST_MEASURES, group.reshape(-1), -1)


def alike_pictures(examples: Examples, view: int, rows: IntArray) -> IntArray:
    """(n,) number of the group of these rows with the same pixels, -1 for a picture of hardly one colour.

    Parameters
    ----------
    rows : (n,) that have a picture in the view.
    """
    sources = examples.pictures[view]
    indices = examples.picture[rows, view]
    digests = np.zeros(len(rows), "S32")
    for part, at, inside in by_part([len(source.pictures) for source in sources], indices):
        for first in range(0, len(at), AT_ONCE):
            pixels = sources[part].pictures.prepared(inside[first : first + AT_ONCE])
            digests[at[first : first + AT_ONCE]] = [_digest(picture) for picture in pixels]
    _, group = np.unique(digests, return_inverse=True)
    return np.where(digests == b"", -1, group.reshape(-1))


def seen_in_training(alike: IntArray, folds: Folds) -> IntArray:
    """(n, 2) rows of tested tiles, each with the first row like it that its fold learns from.

    Parameters
    ----------
    alike : (N,) number of each row's group, -1 for none.

    Examples
    --------
    >>> folds = Folds(np.array([0, 0, 1, 1]), 2)
    >>> seen_in_training(np.array([7, 3, 7, -1]), folds).tolist()
    [[0, 2], [2, 0]]
    """
    pairs = []
    for k in range(folds.count):
        train, test = folds.train_rows(k), folds.test_rows(k)
        train = train[alike[train] >= 0]
        groups, first = np.unique(alike[train], return_index=True)
        twins = test[np.isin(alike[test], groups)]
        pairs.append(np.stack([twins, train[first[np.searchsorted(groups, alike[twins])]]], axis=1))
    found = np.concatenate(pairs)
    return np.asarray(found[np.argsort(found[:, 0])])


def _finding(what: str, alike: IntArray, examples: Examples, folds: Folds, told: str) -> Finding:
    pairs = seen_in_training(alike, folds)
    if not len(pairs):
        return Finding(DUPLICATES, False, f"no tested tile has the {what} of a training tile{told}")
    tested, trained = examples.key[pairs[np.argmin(examples.key[pairs[:, 0]])]]
    return Finding(
        DUPLICATES,
        True,
        f"{len(pairs):,} tested tiles have the very {what} of a tile that their fold learned from, "
        f"as {tested} has that of {trained}; keep one of each{told}",
    )


def _measures(numbers: FloatArray) -> IntArray:
    """(N,) different numbers of each row that are not whole."""
    broken = np.sort(np.where(numbers != np.round(numbers), numbers, np.nan), axis=1)  # NaN come last
    different: NDArray[np.bool_] = np.diff(broken, axis=1, prepend=-np.inf) > 0
    return np.asarray(different.sum(axis=1))


def _digest(picture: Pixels) -> bytes:
    """Of (3, size, size); empty for a picture of hardly one colour."""
    bands = picture.reshape(len(picture), -1)
    if (bands.max(axis=1).astype(int) - bands.min(axis=1) <= BLANK_LEVELS).all():
        return b""
    return hashlib.blake2b(np.ascontiguousarray(picture).tobytes(), digest_size=16).hexdigest().encode()
