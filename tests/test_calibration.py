"""Logits become chances: by the book, on tiles that the calibration did not see, never out of order."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from roadrisk.learning.judging.calibration import (
    LOGIT_MOST,
    Calibration,
    fitted_calibration,
    leave_one_fold_out,
    logit_of_riskiest,
    spread_difference,
)
from roadrisk.learning.judging.dispersion import Dispersion
from roadrisk.learning.model import Model, read_model, write_model
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Task, probabilities
from roadrisk.scoring import score
from roadrisk.training import train

FORMATS = Path(__file__).parent / "formats"

CHANCE = np.random.default_rng(0)


def planted(
    n: int, slope: float = 0.5, intercept: float = -1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) labels, and (N,) logits that are wrong by a known line."""
    chance = np.random.default_rng(seed)
    of = chance.normal(-0.5, 2, n)
    return (chance.random(n) < expit(slope * of + intercept)).astype(float), of


def platt_targets(label: np.ndarray) -> np.ndarray:
    positives = label.sum()
    return np.asarray(
        np.where(label == 1, (positives + 1) / (positives + 2), 1 / (len(label) - positives + 2))
    )


class Said(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that says what it is given."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Said:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x[:, 0])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x[:, 0] > 0)


def test_platt_is_the_likeliest_sigmoid_of_his_targets() -> None:
    label, of = planted(400)
    calibration = fitted_calibration(label, of)
    assert calibration.method == "platt"
    assert (calibration.tiles, calibration.positives) == (400, int(label.sum()))
    target = platt_targets(label)
    # a soft target is two tiles that weigh what it says
    twice = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(
        np.tile(of, 2)[:, None], np.repeat([1, 0], 400), sample_weight=np.concatenate([target, 1 - target])
    )
    np.testing.assert_allclose(calibration.probability(of), twice.predict_proba(of[:, None])[:, 1], atol=1e-6)


def test_platt_is_scikit_learns() -> None:
    label, of = planted(400)
    said = FrozenEstimator(Said().fit(of[:, None], label))
    theirs = CalibratedClassifierCV(said, method="sigmoid").fit(of[:, None], label)
    np.testing.assert_allclose(
        fitted_calibration(label, of).probability(of), theirs.predict_proba(of[:, None])[:, 1], atol=1e-4
    )


def test_isotonic_is_scikit_learns() -> None:
    label, of = planted(4000, intercept=0.0)
    calibration = fitted_calibration(label, of)
    assert calibration.method == "isotonic"
    bounds = platt_targets(label)
    theirs = IsotonicRegression(y_min=bounds.min(), y_max=bounds.max()).fit(of, label)
    np.testing.assert_allclose(calibration.probability(of), theirs.predict(of), atol=1e-12)
    # level beyond
    far = calibration.probability(np.array([-1e9, of.min(), of.max(), 1e9]))
    assert far[0] == far[1]
    assert far[2] == far[3]


def test_isotonic_needs_a_thousand_positives() -> None:
    of = np.linspace(-3, 3, 3000)
    label = (np.arange(3000) >= 2001).astype(float)  # 999
    assert fitted_calibration(label, of).method == "platt"
    label[0] = 1
    assert fitted_calibration(label, of).method == "isotonic"


@pytest.mark.parametrize("n", [1500, 6000])
def test_planted_miscalibration_is_undone(n: int) -> None:
    label, of = planted(n, 0.4, -0.7)
    fold = np.arange(n) % 5
    before, after = expit(of), leave_one_fold_out(label, of, fold)
    true = expit(0.4 * of - 0.7)
    assert np.mean((after - label) ** 2) < np.mean((before - label) ** 2) - 0.02
    assert np.abs(after - true).mean() < 0.25 * np.abs(before - true).mean()
    assert np.abs(fitted_calibration(label, of).probability(of) - true).mean() < 0.03


@pytest.mark.parametrize("n", [600, 6000])
def test_a_fold_is_calibrated_without_its_own_labels(n: int) -> None:
    label, of = planted(n)
    fold = np.random.default_rng(3).integers(0, 4, n)
    found = leave_one_fold_out(label, of, fold)
    own = fold == 2
    turned = np.where(own, 1 - label, label)
    assert np.array_equal(leave_one_fold_out(turned, of, fold)[own], found[own])
    assert not np.array_equal(leave_one_fold_out(turned, of, fold)[~own], found[~own])
    others = fitted_calibration(label[~own], of[~own])
    if others.method == fitted_calibration(label, of).method:
        np.testing.assert_allclose(found[own], others.probability(of[own]), rtol=1e-12)


numbers = st.floats(-50, 50, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    of=arrays(float, 60, elements=numbers),
    label=arrays(float, 60, elements=st.sampled_from([0.0, 1.0])),
    other=arrays(float, 60, elements=numbers),
    asked=arrays(float, 40, elements=st.floats(-1e6, 1e6)),
)
def test_chances_are_inside_and_in_order(
    of: np.ndarray, label: np.ndarray, other: np.ndarray, asked: np.ndarray
) -> None:
    calibration = fitted_calibration(label, of, np.arange(60) // 3, 0, other)
    asked = np.sort(np.concatenate([asked, of]))
    chance = calibration.probability(asked)
    ends = calibration.model_spread(asked)
    assert ends is not None
    for one in (chance, *ends):
        assert (one > 0).all()
        assert (one < 1).all()
        assert (np.diff(one) >= -1e-15).all()
    assert (ends[0] <= chance).all()
    assert (chance <= ends[1]).all()


def test_isotonic_chances_are_inside_and_in_order() -> None:
    label, of = planted(3000, 3.0, 0.0)
    calibration = fitted_calibration(label, of, np.arange(3000) // 30, 0, of + 0.1)
    asked = np.linspace(-30, 30, 5000)
    ends = calibration.model_spread(asked)
    assert ends is not None
    for one in (calibration.probability(asked), *ends):
        assert (one > 0).all()
        assert (one < 1).all()
        assert (np.diff(one) >= -1e-15).all()


def test_a_model_worse_than_chance_is_levelled_not_turned() -> None:
    label, of = planted(500, slope=-1.0)
    calibration = fitted_calibration(label, of)
    assert calibration.level
    assert not fitted_calibration(1 - label, of).level
    chance = calibration.probability(np.linspace(-5, 5, 50))
    assert np.ptp(chance) == 0
    assert chance[0] == pytest.approx(label.mean(), abs=0.005)


def test_one_class_or_one_logit_is_its_share() -> None:
    level = fitted_calibration(np.array([1.0, 0, 0, 0]), np.full(4, 2.5)).probability(np.array([2.5, -9, 9]))
    np.testing.assert_allclose(level, np.mean([2 / 3, 1 / 5, 1 / 5, 1 / 5]))
    none = fitted_calibration(np.zeros(8), np.linspace(-1, 1, 8)).probability(np.array([0.0]))
    np.testing.assert_allclose(none, 0.1)  # 1 / (8 + 2)


@pytest.mark.parametrize("n", [700, 5000])
def test_no_order_of_rows_changes_a_bit(n: int) -> None:
    label, of = planted(n)
    of = of.round(1)  # with ties
    block, other, fold = np.arange(n) // 20, of + np.random.default_rng(1).normal(size=n), np.arange(n) % 3
    turned = np.random.default_rng(2).permutation(n)
    one = fitted_calibration(label, of, block, 7, other)
    again = fitted_calibration(label[turned], of[turned], block[turned], 7, other[turned])
    assert one == again
    assert np.array_equal(
        leave_one_fold_out(label, of, fold)[turned],
        leave_one_fold_out(label[turned], of[turned], fold[turned]),
    )
    assert one.spread
    assert fitted_calibration(label, of, block, 8, other).spread != one.spread


def test_without_blocks_or_random_folds_there_is_no_spread() -> None:
    label, of = planted(400)
    few, many = np.arange(400) % 19, np.arange(400) % 20
    for calibration in (
        fitted_calibration(label, of),
        fitted_calibration(label, of, many),
        fitted_calibration(label, of, None, 0, of),
        fitted_calibration(label, of, few, 0, of),
    ):
        assert calibration.spread == ()
        assert calibration.model_spread(of) is None
    assert fitted_calibration(label, of, many, 0, of).spread


def test_the_spread_of_fold_models_is_found() -> None:
    chance = np.random.default_rng(5)
    true = chance.normal(size=20_000)
    label = (chance.random(len(true)) < expit(true)).astype(float)
    spatial, random = (true + chance.normal(0, 0.6, len(true)) for _ in range(2))
    block = np.arange(len(true)) // 20
    calibration = fitted_calibration(label, spatial, block, 0, random)
    assert calibration.logit_sd == pytest.approx(0.6, abs=0.01)
    # with so many blocks the spread is that of fold models: one like them is inside 9 times in 10
    at = np.full(5000, 0.4)
    like = calibration.probability(at + chance.normal(0, 0.6, len(at)))
    ends = calibration.model_spread(at)
    assert ends is not None
    assert np.mean((ends[0] <= like) & (like <= ends[1])) == pytest.approx(0.9, abs=0.03)


def test_the_spread_of_draws_is_that_of_a_regression() -> None:
    """Where every block is one tile and fold models agree, draws differ as the sigmoid's own error says."""
    label, of = planted(2000, 0.6, -1.5)
    calibration = fitted_calibration(label, of, np.arange(2000), 0, of)
    at = np.array([-2.0, 0.0, 1.0])
    low, high = (logit(end) for end in calibration.model_spread(at) or ())
    design = np.stack([np.ones(2000), of], axis=1)
    weight = expit(0.6 * of - 1.5) * (1 - expit(0.6 * of - 1.5))
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    points = np.stack([np.ones(3), at], axis=1)
    error = np.sqrt(np.einsum("ij,jk,ik->i", points, covariance, points))
    np.testing.assert_allclose((high - low) / (2 * 1.645 * error), 1, atol=0.2)


def test_the_logit_of_the_riskiest_is_against_all_others() -> None:
    three = Task("class", "cross-entropy", ("low", "middle", "high"))
    outputs = CHANCE.normal(size=(50, 3)) * 3
    found = logit_of_riskiest(three, outputs)
    np.testing.assert_allclose(expit(found), probabilities(three, outputs)[:, -1], rtol=1e-12)
    assert np.array_equal(logit_of_riskiest(Task(), outputs[:, :1]), outputs[:, 0])


def test_new_tiles_that_differ_are_told_of_with_both_numbers() -> None:
    trained = CHANCE.normal(-2, 1, 500)
    assert spread_difference(trained, CHANCE.normal(-2, 1, 400)) == ""
    assert spread_difference(trained, trained[:29] + 9) == ""  # too few to tell
    assert spread_difference(trained[:29], trained + 9) == ""
    for new in (trained + 0.6, trained - 0.6, (trained + 2) * 1.6 - 2, (trained + 2) * 0.6 - 2):
        said = spread_difference(trained, new)
        assert f"logits of 500 new tiles are {new.mean():.2f} +- {new.std():.2f}; those of 500 " in said
        assert f"out of fold, are {trained.mean():.2f} +- {trained.std():.2f}: the calibration was" in said
    for new in (trained + 0.4, (trained + 2) * 1.4 - 2, (trained + 2) * 0.7 - 2):
        assert spread_difference(trained, new) == ""


@pytest.mark.parametrize("n", [300, 3000])
def test_what_is_read_back_is_what_was_fitted(n: int) -> None:
    label, of = planted(n)
    calibration = fitted_calibration(label, of, np.arange(n) // 10, 0, of + CHANCE.normal(size=n))
    plain = json.loads(json.dumps(asdict(calibration), allow_nan=False))
    assert TypeAdapter(Calibration).validate_python(plain) == calibration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "beta"}, "method"),
        ({"knots": []}, "a calibration without knots"),
        ({"knots": [[0.0, "1"]]}, "knots"),
        ({"knots": [[0.0, float("nan")]]}, "knots"),
        ({"knots": [[0.0, 1.0], [0.0, 2.0]]}, "must rise"),
        ({"knots": [[0.0, 1.0], [1.0, 0.9]]}, "must rise"),
        ({"knots": [[0.0, LOGIT_MOST * 1.001]]}, "inside"),
        ({"spread": [[0.0, 1.0, 0.5]]}, "below its high"),
        ({"spread": [[0.0, 0.0, 1.0], [1.0, -1.0, 1.0]]}, "must rise"),
        ({"logit_sd": -1.0}, "logit_sd"),
        ({"tiles": "many"}, "tiles"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    plain = asdict(Calibration("platt", ((-1.0, 0.0), (1.0, 1.0)), 10, 5, 0.1, ((0.0, -1.0, 1.0),)))
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Calibration).validate_python(json.loads(json.dumps(plain)) | change)


def test_the_spread_is_around_the_chance() -> None:
    """Draws can all lie on one side of what all tiles say together."""
    aside = Calibration("platt", ((-1.0, -1.0), (1.0, 1.0)), 9, 1, 0.0, ((-1.0, 0.5, 0.6), (1.0, 0.5, 0.6)))
    low, high = aside.model_spread(np.array([-1.0, 1.0])) or ()
    np.testing.assert_allclose(logit(low), [-1.0, 0.5])
    np.testing.assert_allclose(logit(high), [0.6, 1.0])


def test_a_tile_that_is_not_scored_has_no_chance() -> None:
    label, of = planted(300)
    calibration = fitted_calibration(label, of, np.arange(300) // 10, 0, of)
    unknown = np.array([np.nan])
    assert np.isnan(calibration.probability(unknown)).all()
    assert np.isnan(calibration.model_spread(unknown) or 0).all()
    assert replace(calibration, spread=()).model_spread(of) is None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # copied, since what is computed from pictures is kept beside a dataset
    return Path(shutil.copytree(FORMATS / "dataset-3", tmp_path_factory.mktemp("data") / "d"))


@pytest.fixture(scope="module")
def classes(dataset: Path) -> Model:
    """A model with places whose fold models are far from sure of themselves."""
    model = read_model(FORMATS / "model-5")
    own = own_rows(model)
    of = own["output"].to_numpy()
    label = (np.random.default_rng(1).random(len(of)) < expit(3 * (of - of.mean()) / of.std())).astype(float)
    block, other = np.arange(len(of)) // 3, of + np.random.default_rng(0).normal(0, 0.2, len(of))
    return replace(model, calibration=fitted_calibration(label, of, block, 0, other))


@pytest.fixture(scope="module")
def counts(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    asked = TrainSettings(inputs="facts", task="count", label="crashes_label", folds=2, epochs=1, quick=True)
    return train(dataset, tmp_path_factory.mktemp("trained") / "model", asked).model


def own_rows(model: Model) -> pd.DataFrame:
    table = model.out_of_fold
    return table[(table["split"] == model.split) & (table["model"] == model.name)].reset_index(drop=True)


def layer(model: Model, dataset: Path, scratch: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """What is scored from files alone, and what is told of it."""
    write_model(model, scratch / "model")
    told = score(dataset, scratch / "model", [scratch / "risk.csv"]).told
    return pd.read_csv(scratch / "risk.csv").set_index("tile_id", drop=False), told


def test_training_tiles_are_scored_as_they_were_calibrated(
    classes: Model, dataset: Path, tmp_path: Path
) -> None:
    found, told = layer(classes, dataset, tmp_path)
    own = own_rows(classes)
    assert classes.calibration is not None
    ends = classes.calibration.model_spread(own["output"].to_numpy())
    assert ends is not None
    at = found.loc[own["key"]]
    chance = classes.calibration.probability(own["output"].to_numpy())
    for name, values in (("risk", chance), ("risk_low", ends[0]), ("risk_high", ends[1])):
        np.testing.assert_allclose(at[name], values, atol=1e-5)
    assert told == ()


def test_a_model_that_orders_nothing_says_so(classes: Model, dataset: Path, tmp_path: Path) -> None:
    flat = replace(classes, calibration=Calibration("platt", ((0.0, -1.0),), 63, 13))
    found, told = layer(flat, dataset, tmp_path)
    assert found["risk"].nunique() == 1
    assert found["rank"].nunique() > 50
    assert told == (
        "out of fold the model orders tiles no better than chance: all have the same risk, ranks mean nothing",
    )


def test_tiles_unlike_those_of_training_are_told_of(classes: Model, dataset: Path, tmp_path: Path) -> None:
    # as if other tiles had been learned from, of which the models said more
    table = classes.out_of_fold
    others = replace(
        classes, out_of_fold=table.assign(key="elsewhere/" + table["key"], output=table["output"] + 3)
    )
    found, told = layer(others, dataset, tmp_path)
    assert not found["in_training"].any()
    said = [line for line in told if line.startswith("logits of ")]
    assert len(said) == 1
    trained = own_rows(others)["output"]
    assert f"out of fold, are {trained.mean():.2f} +- {trained.std(ddof=0):.2f}: the calibration" in said[0]
    (tmp_path / "old").mkdir()
    assert layer(replace(others, calibration=None), dataset, tmp_path / "old")[1] == ()


@pytest.mark.parametrize("form", ["k", "k/length", "k/mu"])
def test_a_count_model_scores_what_counts_are_worth(
    counts: Model, dataset: Path, tmp_path: Path, form: str
) -> None:
    spread = Dispersion(form, 0.6)  # type: ignore[arg-type]
    found, told = layer(replace(counts, dispersion=spread), dataset, tmp_path)
    assert told == ()
    known = found.dropna(subset="observed")
    k = spread.of(known["expected"], known["road_m"].to_numpy())
    weight = 1 / (1 + k * known["expected"])
    np.testing.assert_allclose(known["eb"], weight * known["expected"] + (1 - weight) * known["observed"])
    np.testing.assert_allclose(known["excess"], known["eb"] - known["expected"], atol=1e-9)
    assert known["observed"].sum() == found["crashes_label"][known.index].sum()
    unseen = found[found["observed"].isna()]
    assert len(unseen)
    assert unseen[["eb", "eb_low", "eb_high", "excess"]].isna().all(axis=None)
    assert unseen[["expected_low", "expected_high", "next_low", "next_high"]].notna().all(axis=None)
    assert (found["expected_low"] < found["expected_high"]).all()
    assert found["risk"].between(0, 1).all()
    by_expected = found.sort_values("expected", ascending=False, kind="stable")["rank"]
    assert by_expected.is_monotonic_increasing


def test_a_tile_whose_road_is_unknown_has_no_risk_where_counts_vary_by_it(
    counts: Model, dataset: Path, tmp_path: Path
) -> None:
    lost = Path(shutil.copytree(dataset, tmp_path / "d"))
    table = pyarrow.parquet.read_table(lost / "tiles.parquet")
    road_m = table["road_m"].to_pylist()
    at = table.column_names.index("road_m")
    table = table.set_column(at, "road_m", pyarrow.array([None, None, *road_m[2:]], pyarrow.float64()))
    pyarrow.parquet.write_table(table, lost / "tiles.parquet")
    found, told = layer(replace(counts, dispersion=Dispersion("k/length", 0.6)), lost, tmp_path)
    assert told == ("2 tiles have no known road_m, by which counts vary: their risk is not known",)
    assert found["expected"].notna().all()
    unknown = ["risk", "rank", "risk_low", "expected_high", "eb", "next_low"]
    assert found[unknown].isna().all(axis=1).tolist() == [True, True] + [False] * (len(found) - 2)
