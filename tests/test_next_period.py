from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from period_examples import place, tiled
from scipy import stats

from roadrisk.comparing import contestants
from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.gathering import Gathered, gathered
from roadrisk.inputs import Tiles, tiles_of_dataset, tiles_of_table
from roadrisk.known_before import periods_of_all, two_windows
from roadrisk.learning.baselines.past import COUNTS, Prior, amount_outputs, count_outputs, density_outputs
from roadrisk.learning.examples import Examples
from roadrisk.learning.judging.measures import auroc, deviance
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task
from roadrisk.learning.validation import Training
from roadrisk.next_period import NextPeriodFound, next_period
from roadrisk.periods import Periods, periods_of
from roadrisk.source_settings import EventSource
from roadrisk.training import feeds_of

Y = {year: date(year, 1, 1) for year in range(2000, 2027)}
QUICK = {"inputs": "facts", "epochs": 12, "learning_rate": 3e-3, "block_m": 1500.0}


def learned_of(datasets: Sequence[Dataset], **settings: Any) -> tuple[Gathered, TrainSettings]:
    asked = resolved(TrainSettings(**{**QUICK, **settings}))
    return gathered([tiles_of_dataset(one, asked.views) for one in datasets], asked), asked


def found_of(learned: Gathered, settings: TrainSettings) -> NextPeriodFound:
    training = Training(settings, fabric_of(settings), learned.block, learned.buffer)
    rivals = contestants(settings, learned)
    return next_period(learned, rivals, feeds_of(learned, rivals, None, training), training)


def areas_under(found: NextPeriodFound) -> dict[str, float]:
    return {n: auroc(found.outcomes.high, said[:, 0]) for n, said in found.found.outputs.items()}


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Half a crash a tile and year, at a rate that persists."""
    folder = tmp_path_factory.mktemp("sparse")
    region = place(folder, mean=0.5, hidden=0.8, seed=3, nearest=True, kernels_m=(700.0,))
    return tiled(region, folder / "dataset", label_window=(Y[2024], Y[2025]))


@pytest.fixture(scope="module")
def any_crash(sparse: Dataset) -> NextPeriodFound:
    return found_of(*learned_of([sparse], label="crashes_label", at_least=1))


def test_the_past_of_a_place_beats_its_facts_where_risk_persists(any_crash: NextPeriodFound) -> None:
    scores = areas_under(any_crash)
    assert set(scores) == {
        *("past_counts", "kernel_density", "empirical_bayes", "road_length"),
        *("logistic", "logistic_with_past", "boosting", "boosting_with_past", "facts", "facts_with_past"),
    }
    for name in ("logistic", "boosting", "facts"):
        assert scores[f"{name}_with_past"] > scores[name] + 0.03
    assert scores["empirical_bayes"] > max(scores["past_counts"], scores["road_length"]) + 0.03
    assert any_crash.ceiling_auroc is not None
    assert scores["empirical_bayes"] - 0.02 < any_crash.ceiling_auroc < 0.95


@pytest.mark.slow
def test_without_anything_that_persists_the_past_adds_nothing(tmp_path: Path) -> None:
    dataset = tiled(
        place(tmp_path, mean=1.0, hidden=0.0, seed=4), tmp_path / "d", label_window=(Y[2024], Y[2025])
    )
    scores = areas_under(found_of(*learned_of([dataset], label="crashes_label", at_least=2)))
    assert scores["logistic_with_past"] < scores["logistic"] + 0.02
    assert scores["empirical_bayes"] > scores["past_counts"] + 0.03


def test_empirical_bayes_foretells_counts_better_than_counts_and_than_facts(sparse: Dataset) -> None:
    found = found_of(*learned_of([sparse], task="count", label="crashes_label"))
    said = {name: np.exp(of[:, 0]) for name, of in found.found.outputs.items()}
    count = found.outcomes.label
    losses = {name: deviance(count, expected) for name, expected in said.items()}
    best = losses["empirical_bayes"]
    assert best < min(losses[name] for name in ("past_counts", "regression", "boosting", "road_length"))
    assert said["empirical_bayes"].sum() == pytest.approx(count.sum(), rel=0.1)
    assert "regression_with_past" in losses
    assert found.ceiling_auroc is None


def test_what_is_told(any_crash: NextPeriodFound, sparse: Dataset) -> None:
    about = any_crash.about
    assert (about.fitted, about.judged) == (("2023-01-01", "2024-01-01"), ("2024-01-01", "2025-01-01"))
    assert about.past_fitted == ("2018-01-01", "2023-01-01")
    assert about.past_judged == ("2018-01-01", "2024-01-01")
    assert about.tiles == len(any_crash.outcomes) == len(any_crash.found.fold)
    assert about.events == any_crash.outcomes.events.sum() > 0
    assert [(one.model, one.top_percent) for one in about.consistency] == [
        (model, percent) for model in ("past_counts", "empirical_bayes", "facts") for percent in (5, 10)
    ]
    by = {(one.model, one.top_percent): one for one in about.consistency}
    assert by["empirical_bayes", 10].events_later > by["past_counts", 10].events_later * 0.95
    told = any_crash.told
    assert told[:2] == (
        "next period: fitted on 2023-01-01 to before 2024-01-01, judged on 2024-01-01 to before 2025-01-01",
        "next period, left out: crashes_past_nearest_m: a distance to the nearest of a longer past is "
        "shorter, which no rate makes up for",
    )
    assert sum(line.startswith(("empirical_bayes: ", "kernel_density: ")) for line in told) == 2


def test_both_windows_are_counted_right(sparse: Dataset) -> None:
    learned, settings = learned_of([sparse])
    periods = periods_of_all(learned.tiles, "crashes_label")
    order = np.argsort(learned.examples.key)
    windows = two_windows(learned, periods, settings, order)
    rows = pd.read_parquet(sparse.path / "events/crashes.parquet")
    frame = sparse.tiles().iloc[learned.known[order]]
    index = pd.MultiIndex.from_frame(frame[["row", "col"]])

    def counted(first: int, last: int) -> np.ndarray:
        those = rows[rows["time"].dt.year.between(first, last)]
        return those.groupby(["row", "col"]).size().reindex(index, fill_value=0).to_numpy(float)

    np.testing.assert_array_equal(windows.fitted.measure, counted(2023, 2023))
    np.testing.assert_array_equal(windows.judged.measure, counted(2024, 2024))
    np.testing.assert_array_equal(windows.before, counted(2022, 2022))
    np.testing.assert_array_equal(windows.fitted.past, counted(2018, 2022))
    np.testing.assert_array_equal(windows.judged.past, counted(2018, 2023))
    # one definition of high risk
    assert learned.label.threshold is not None
    np.testing.assert_array_equal(windows.fitted.facts.label, counted(2023, 2023) >= learned.label.threshold)
    np.testing.assert_array_equal(windows.judged.facts.label, learned.examples.label[order])
    # pasts of other lengths are of one length
    for side, count in ((windows.fitted, counted(2018, 2022)), (windows.judged, counted(2018, 2023))):
        assert side.with_past is not None
        names = [column.name for column in side.with_past.columns]
        assert "crashes_past" not in [column.name for column in side.facts.columns]
        days = (Y[2023] - Y[2018]).days / ((Y[2023] if side is windows.fitted else Y[2024]) - Y[2018]).days
        values = side.with_past.facts[:, names.index("crashes_past")]
        np.testing.assert_allclose(values, count * days)
        column = side.with_past.columns[names.index("crashes_past")]
        assert column.window == ("2018-01-01", "2023-01-01")
    assert windows.judged.densities[0].mean() == pytest.approx(windows.fitted.densities[0].mean(), rel=0.1)


@pytest.mark.slow
def test_no_order_of_rows_changes_a_score(sparse: Dataset) -> None:
    learned, settings = learned_of([sparse], label="crashes_label", at_least=1, epochs=2)
    mixed = np.random.default_rng(0).permutation(len(learned.examples))
    again = replace(
        learned,
        known=learned.known[mixed],
        examples=learned.examples.taken(mixed),
        road_m=None if learned.road_m is None else learned.road_m[mixed],
    )
    one, other = found_of(learned, settings), found_of(again, settings)
    np.testing.assert_array_equal(one.outcomes.key[mixed], other.outcomes.key)
    for name, said in one.found.outputs.items():
        np.testing.assert_array_equal(said[mixed], other.found.outputs[name], err_msg=name)
    assert one.about == other.about
    assert one.ceiling_auroc == other.ceiling_auroc


def test_facts_of_days_inside_the_fitted_window_are_left_out(tmp_path: Path) -> None:
    region = place(tmp_path, mean=0.5)
    tickets = EventSource(
        str(tmp_path / "crashes.csv"), name="tickets", x="x", y="y", crs=region.crs, date="date"
    )
    dataset = tiled(
        replace(region, citations=(tickets,)),
        tmp_path / "d",
        label_window=(Y[2024], Y[2025]),
        windows={"leak": (Y[2023], Y[2024]), "early": (Y[2020], Y[2022])},
    )
    asked = ("road_m", "tickets_leak", "tickets_early")  # the first is the fitted window's crashes themselves
    learned, settings = learned_of([dataset], features=asked, label="crashes_label", at_least=1)
    assert "tickets_leak" in [column.name for column in learned.columns]
    order = np.argsort(learned.examples.key)
    windows = two_windows(learned, periods_of_all(learned.tiles, "crashes_label"), settings, order)
    names = [column.name for column in windows.fitted.facts.columns]
    assert names == [column.name for column in windows.judged.facts.columns] == ["road_m", "tickets_early"]
    assert "next period, left out: tickets_leak: nothing of them is known before 2023-01-01" in windows.told


def test_other_dated_facts_are_left_out_where_they_know_the_fitted_window(sparse: Dataset) -> None:
    learned, settings = learned_of([sparse])
    late = tuple(
        replace(column, window=("2022-06-01", "2023-06-01")) if column.name == "road_m_primary" else column
        for column in learned.tiles.columns
    )
    learned = replace(learned, tiles=replace(learned.tiles, columns=late))
    order = np.argsort(learned.examples.key)
    windows = two_windows(learned, periods_of_all(learned.tiles, "crashes_label"), settings, order)
    for side in (windows.fitted, windows.judged):
        assert "road_m_primary" not in [column.name for column in side.facts.columns]
    assert (
        "next period, left out: road_m_primary: of days from 2023-01-01 on, when what is learned here begins"
        in windows.told
    )


def test_two_years_are_enough_without_models_that_learn_from_the_past(tmp_path: Path) -> None:
    region = place(tmp_path, years=(2023, 2024))
    dataset = tiled(region, tmp_path / "d", label_window=(Y[2024], Y[2025]))
    assert periods_of(dataset, "crashes_label") == Periods(
        "crashes", (Y[2023], Y[2024]), (Y[2024], Y[2025]), None, (Y[2023], Y[2024])
    )
    found = found_of(*learned_of([dataset]))
    assert set(found.found.outputs) == {"empirical_bayes", "road_length", "logistic", "boosting", "facts"}
    assert found.about.past_fitted is None
    assert found.told[0] == (
        "next period: fitted on 2023-01-01 to before 2024-01-01, judged on 2024-01-01 to before 2025-01-01; "
        "crashes does not tell all of a window before that, so no model learns from the past: past_counts, "
        "kernel_density and models with the past are not there"
    )


def test_pictures_are_looked_at_too(dataset: Dataset) -> None:
    found = found_of(*learned_of([dataset], inputs="both", encoder="basic", epochs=1, block_m=None))
    assert {"fused", "image", "facts", "empirical_bayes"} <= set(found.found.outputs)
    assert all(np.isfinite(said).all() for said in found.found.outputs.values())


@pytest.mark.slow
def test_metros_are_judged_together_where_their_windows_agree(tmp_path: Path, sparse: Dataset) -> None:
    from period_examples import WEST

    there = tiled(
        place(tmp_path / "a", mean=0.5, seed=9, west=WEST + 0.3, kernels_m=(700.0,), nearest=True),
        tmp_path / "there",
        label_window=(Y[2024], Y[2025]),
    )
    both = found_of(*learned_of([there, sparse], epochs=2))
    assert len(both.outcomes) > len(sparse.tiles())
    assert set(both.outcomes.dataset) == {there.plan, sparse.plan}
    assert areas_under(both)["kernel_density"] > 0.6
    earlier = tiled(
        place(tmp_path / "b", mean=0.5, seed=8, west=WEST + 0.6, years=range(2019, 2025)),
        tmp_path / "earlier",
        label_window=(Y[2024], Y[2025]),
    )
    learned, settings = learned_of([sparse, earlier], epochs=2)
    with pytest.raises(ModelError) as caught:
        found_of(learned, settings)
    paths = [metro.path for metro in learned.tiles.metros]
    assert str(caught.value) == (
        f"{paths[0]} and {paths[1]} tell of other windows or other sources of crashes_label, so they have no "
        "next period in common; train on each alone to judge it"
    )


# what cannot be judged ----------------------------------------------------------------------------------------


def refused(dataset: Dataset, measure: str = "crashes_label") -> str:
    with pytest.raises(ModelError) as caught:
        periods_of(dataset, measure)
    return str(caught.value)


def test_too_short_a_past_is_refused(tmp_path: Path) -> None:
    dataset = tiled(place(tmp_path, years=(2024,)), tmp_path / "d", label_window=(Y[2024], Y[2025]))
    assert refused(dataset) == (
        f"{tmp_path / 'd'}: crashes is dated 2024-01-01 to 2024-12-31, so it does not tell all of 2023-01-01 to "
        "before 2024-01-01, which models of the next period would be fitted on; tile with earlier events"
    )


def test_a_fitted_window_without_events_is_refused(tmp_path: Path) -> None:
    dataset = tiled(place(tmp_path, years=(2022, 2024)), tmp_path / "d", label_window=(Y[2024], Y[2025]))
    assert refused(dataset) == (
        f"{tmp_path / 'd'}: no event of crashes falls in 2023-01-01 to before 2024-01-01, so nothing can be "
        "learned there; tile with another --label-window"
    )


def test_a_later_window_without_events_is_refused(sparse: Dataset, tmp_path: Path) -> None:
    import shutil

    from roadrisk.dataset import read_dataset

    shutil.copytree(sparse.path, tmp_path / "d")
    path = tmp_path / "d/events/crashes.parquet"
    rows = pd.read_parquet(path)
    rows[rows["time"] < "2024-01-01"].to_parquet(path)
    assert refused(read_dataset(tmp_path / "d")) == (
        f"{tmp_path / 'd'}: no event of crashes falls in 2024-01-01 to before 2025-01-01, so nothing can be "
        "judged there; tile with another --label-window"
    )


def test_what_counts_no_dated_events_is_refused(sparse: Dataset, tmp_path: Path) -> None:
    assert refused(sparse, "road_m") == (
        f"{sparse.path}: road_m counts no events that the dataset keeps, so there is no next period to judge; "
        "learn a count of events, such as crashes_label"
    )
    region = place(tmp_path)
    points = EventSource(str(tmp_path / "crashes.csv"), x="x", y="y", crs=region.crs, undated=True)
    dataset = tiled(replace(region, crashes=(points,)), tmp_path / "d")
    label = replace(next(c for c in dataset.columns if c.name == "crashes_count"), role="label")
    columns = tuple(label if c.name == label.name else c for c in dataset.columns)
    assert refused(replace(dataset, columns=columns), "crashes_count") == (
        f"{tmp_path / 'd'}: crashes, which crashes_count is made from, has no dates, so there is no next period "
        "to judge; tile with dated events"
    )


def test_a_fitted_window_of_one_class_is_refused(sparse: Dataset) -> None:
    learned, settings = learned_of([sparse], label="crashes_label", at_least=1)
    learned = replace(learned, label=replace(learned.label, threshold=99.0))
    with pytest.raises(ModelError) as caught:
        found_of(learned, settings)
    assert str(caught.value) == (
        f"{sparse.path}: all {len(learned.examples):,} tiles are low risk by "
        "crashes_label from 2023-01-01 to before 2024-01-01, so no model of the next period can be fitted; "
        "tile with another --label-window"
    )


def test_tables_and_classes_as_they_stand_are_refused(sparse: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("tile_id,image_path,crashes\na,,1\n")
    tiles: Tiles = tiles_of_table(path)
    with pytest.raises(ModelError) as caught:
        periods_of_all(tiles, "crashes")
    assert str(caught.value) == f"{path} keeps no events with dates, so there is no next period to judge"
    learned, settings = learned_of([sparse])
    learned = replace(learned, label=replace(learned.label, measure=None))
    with pytest.raises(ModelError) as caught:
        found_of(learned, settings)
    assert str(caught.value) == (
        f"{sparse.path}: label counts no events, so there is no next period to judge; learn a count of events, "
        "or classes that are cut from one"
    )


# what the past says -------------------------------------------------------------------------------------------


def examples(label: Any, exposure: Any = 1.0) -> Examples:
    label = np.asarray(label, float)
    n = len(label)
    none = np.empty((n, 0))
    key = np.arange(n).astype(str).astype(object)
    return Examples(
        *(key, label, none, (), np.empty((n, 0), object), (), np.ones(n), (), (), np.empty((n, 0), np.int64)),
        *(np.arange(n), np.zeros(n, np.int64), np.broadcast_to(exposure, n).astype(float)),
    )


def test_a_gamma_posterior_is_bayes_rule() -> None:
    """By numbers: the mean and the variance of mu given counts of three periods."""
    prior = Prior(np.array([2.0, 0.5]), np.array([0.6, 1.5]), "")
    count, periods = np.array([9.0, 0.0]), 3.0
    known = prior.posterior(count, periods)
    mu = np.exp(np.linspace(-30, 5, 200_001))
    for i in range(2):
        shape = 1 / prior.k[i]
        density = stats.gamma.pdf(mu, shape, scale=prior.mean[i] / shape)
        density *= stats.poisson.pmf(count[i], mu * periods) * mu  # of steps of the logarithm
        density /= density.sum()
        mean = (mu * density).sum()
        assert known.mean[i] == pytest.approx(mean, rel=1e-3)
        assert known.k[i] * mean**2 == pytest.approx(((mu - mean) ** 2 * density).sum(), rel=1e-3)


def test_chances_of_reaching_a_threshold_are_those_of_gammas_of_poissons() -> None:
    known = Prior(np.array([2.0, 0.5, 1.2, 900.0]), np.array([0.6, 1.5, 0.0, 0.01]), "")
    said = count_outputs(Task(), known, 3.0)[:, 0]
    chance = np.random.default_rng(0)
    drawn = chance.poisson(chance.gamma(1 / 0.6, 2.0 * 0.6, 400_000))
    assert 1 / (1 + np.exp(-said[0])) == pytest.approx((drawn >= 3).mean(), abs=0.003)
    assert 1 / (1 + np.exp(-said[2])) == pytest.approx(stats.poisson.sf(2, 1.2))
    assert np.isfinite(said).all()
    assert said.argmax() == 3
    np.testing.assert_allclose(count_outputs(COUNTS, known, None)[:, 0], np.log(known.mean))


def test_one_amount_says_what_a_logistic_regression_does() -> None:
    from sklearn.linear_model import LogisticRegression

    chance = np.random.default_rng(1)
    amount, asked = chance.poisson(2.0, 400).astype(float), np.arange(8.0)
    label = (chance.random(400) < 1 / (1 + np.exp(1.5 - amount))).astype(float)
    said = amount_outputs(Task(), examples(label), amount, examples(np.zeros(8)), asked)[:, 0]
    logs = np.log1p(amount)
    x, other = ((np.log1p(one)[:, None] - logs.mean()) / logs.std() for one in (amount, asked))
    expected = LogisticRegression(C=1.0, tol=1e-8).fit(x, label).decision_function(other)
    np.testing.assert_allclose(said, expected, rtol=1e-4)
    same = amount_outputs(Task(), examples(label), np.ones(400), examples(np.zeros(8)), asked)
    np.testing.assert_allclose(same[:, 0], np.log(label.mean() / (1 - label.mean())))


def test_of_several_densities_the_one_that_tells_most_is_taken() -> None:
    chance = np.random.default_rng(2)
    rate = chance.gamma(1.0, 1.0, 500)
    label = (chance.random(500) < 1 - np.exp(-rate)).astype(float)
    train, noise = examples(label), chance.gamma(1.0, 1.0, 500)
    said, best = density_outputs(Task(), train, [noise, rate, noise**2], train, [noise, rate, noise**2])
    assert best == 1
    assert auroc(label, said[:, 0]) == auroc(label, rate)
