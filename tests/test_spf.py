"""Safety performance functions: a planted one is found, and it is named for what it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import nbinom

from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.learning.baselines.spf import (
    SpfFacts,
    covered_share,
    spf_facts,
    spf_out_of_fold,
    spf_outputs,
)
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, spatial_folds
from roadrisk.learning.tasks import Task
from roadrisk.region import read_region
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile

N, SIDE = 900, 30
B0, B1, K = -16.0, 1.1, 0.5
COUNT, CLASS, VALUE = Task("count", "poisson", ()), Task(), Task("value", "mse", ())
THREE = Task("class", "cross-entropy", ("low", "middle", "high"))


def planted(seed: int = 0) -> tuple[SpfFacts, np.ndarray, np.ndarray]:
    """N tiles, what is true of them, and counts."""
    chance = np.random.default_rng(seed)
    road_m, aadt = chance.gamma(2.0, 500.0, N) + 10, np.exp(chance.normal(8.5, 1.0, N))
    mean = road_m * np.exp(B0 + B1 * np.log(aadt))
    return SpfFacts(road_m, aadt), mean, chance.poisson(mean * chance.gamma(1 / K, K, N)).astype(float)


def examples_of(label: np.ndarray) -> Examples:
    row, col = np.divmod(np.arange(N), SIDE)
    key = np.array([f"26919/250/{c}/{r}" for r, c in zip(row, col, strict=True)], dtype=object)
    facts, texts, ones = np.empty((N, 0)), np.empty((N, 0), object), np.ones(N)
    return Examples(key, label, facts, (), texts, (), ones, (), (), np.full((N, 0), -1), row, col, ones)


def folds_of(examples: Examples) -> Folds:
    assert examples.row is not None
    assert examples.col is not None
    high = (examples.label > np.median(examples.label)).astype(float)
    return spatial_folds(examples.row, examples.col, high, 3, 0, block=3)


def out_of_fold(task: Task, count: np.ndarray, facts: SpfFacts, threshold: float | None = None) -> np.ndarray:
    label = count if task.kind == "count" else (count >= (threshold or 1)).astype(float)
    examples = examples_of(label)
    found = spf_out_of_fold(examples, folds_of(examples_of(count)), task, count, threshold, facts).outputs
    assert found is not None
    return found


def test_a_planted_function_is_found() -> None:
    facts, mean, count = planted()
    said = spf_outputs(COUNT, facts, count, facts)
    assert said.shape == (N, 1)
    np.testing.assert_allclose(said[:, 0], np.log(mean), atol=0.35)
    # in proportion to length, and to a power of the traffic
    twice = spf_outputs(COUNT, facts, count, SpfFacts(np.array([500.0, 1000.0, 500.0]), np.full(3, 4000.0)))
    assert np.exp(twice[1, 0] - twice[0, 0]) == pytest.approx(2.0)
    assert twice[2, 0] == twice[0, 0]


def test_it_is_the_regression_of_statsmodels_with_length_as_offset() -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    facts, _, count = planted()
    assert facts.aadt is not None
    x = statsmodels.add_constant(np.log(facts.aadt))
    theirs = statsmodels.NegativeBinomial(count, x, offset=np.log(facts.road_m))
    fit = theirs.fit(disp=0, method="bfgs", maxiter=1000, start_params=[B0, B1, K])
    mean = fit.predict(x, offset=np.log(facts.road_m))
    np.testing.assert_allclose(spf_outputs(COUNT, facts, count, facts)[:, 0], np.log(mean), atol=1e-3)


def test_without_volumes_it_is_of_a_power_of_length() -> None:
    chance = np.random.default_rng(0)
    road_m = chance.gamma(2.0, 500.0, 20_000) + 10
    count = chance.poisson(np.exp(-4.0) * road_m**0.8).astype(float)
    said = spf_outputs(COUNT, SpfFacts(road_m), count, SpfFacts(np.array([100.0, 1000.0])))[:, 0]
    assert said[0] == pytest.approx(-4.0 + 0.8 * np.log(100.0), abs=0.05)
    assert (said[1] - said[0]) / np.log(10) == pytest.approx(0.8, abs=0.03)


def test_tiles_with_less_known_are_said_by_what_is() -> None:
    facts, _, count = planted()
    assert facts.aadt is not None
    unseen = SpfFacts(np.array([800.0, 800.0, np.nan, 0.0]), np.array([5000.0, np.nan, 5000.0, 5000.0]))
    said = spf_outputs(COUNT, facts, count, unseen)[:, 0]
    assert said[1] == spf_outputs(COUNT, SpfFacts(facts.road_m), count, SpfFacts(np.array([800.0])))[0, 0]
    assert said[2] == pytest.approx(np.log(count.mean()))
    assert said[0] - said[3] == pytest.approx(np.log(800.0))  # no road counts as a metre of it
    # tiles without a volume teach nothing of traffic
    holed, lengths = facts.aadt.copy(), facts.road_m.copy()
    holed[::3], lengths[1::3] = np.nan, np.nan
    kept = np.arange(N) % 3 == 2
    less = spf_outputs(COUNT, SpfFacts(lengths, holed), count, unseen)[0, 0]
    few = spf_outputs(COUNT, facts.taken(np.flatnonzero(kept)), count[kept], unseen)[0, 0]
    assert less == pytest.approx(few)


@pytest.mark.parametrize("threshold", [1, 3, 2.5])
def test_a_class_is_the_chance_of_as_many_events(threshold: float) -> None:
    facts, _, count = planted()
    said = spf_outputs(CLASS, facts, count, facts, threshold)[:, 0]
    mean = np.exp(spf_outputs(COUNT, facts, count, facts)[:, 0])
    chance = 1 / (1 + np.exp(-said))
    assert chance.mean() == pytest.approx((count >= threshold).mean(), abs=0.03)
    # some k makes all of these chances of these means
    k = K + np.linspace(-0.2, 0.2, 401)[:, None]
    exact = nbinom.sf(np.ceil(threshold) - 1, 1 / k, 1 / (1 + k * mean))
    assert np.abs(exact - chance).max(axis=1).min() < 1e-3
    assert (np.argsort(said) == np.argsort(mean)).all()


def test_a_class_of_tiles_without_length_is_the_base_rate() -> None:
    facts, _, count = planted()
    said = spf_outputs(CLASS, facts, count, SpfFacts(np.array([np.nan])), 2)
    share = (count >= 2).mean()
    assert said[0, 0] == pytest.approx(np.log(share / (1 - share)))
    never = spf_outputs(CLASS, facts, np.zeros(N), SpfFacts(np.array([np.nan, 500.0])), 2)
    assert never[0, 0] == pytest.approx(np.log(0.5 / (N - 0.5)))
    assert np.isfinite(never).all()


def test_chances_too_small_for_a_number_stay_finite() -> None:
    facts, _, count = planted()
    said = spf_outputs(CLASS, facts, count, SpfFacts(np.array([1.0, 1e9]), np.array([1.0, 1e6])), 500)
    assert np.isfinite(said).all()
    assert said[0, 0] < -100
    assert said[1, 0] > 10


def test_out_of_fold_every_tile_is_said_by_its_own_facts() -> None:
    facts, mean, count = planted()
    np.testing.assert_allclose(out_of_fold(COUNT, count, facts)[:, 0], np.log(mean), atol=0.5)
    chance = 1 / (1 + np.exp(-out_of_fold(CLASS, count, facts, 2.0)[:, 0]))
    exact = nbinom.sf(1, 1 / K, 1 / (1 + K * mean))
    np.testing.assert_allclose(chance, exact, atol=0.12)


@pytest.mark.parametrize(("task", "threshold"), [(COUNT, None), (CLASS, 2.0)])
def test_no_tile_teaches_its_own_answer(task: Task, threshold: float | None) -> None:
    facts, _, count = planted()
    folds = folds_of(examples_of(count))
    first = out_of_fold(task, count, facts, threshold)
    for k in range(folds.count):
        test = folds.test_rows(k)
        other = count.copy()
        other[test] = 50.0
        examples = examples_of(other if task is COUNT else (other >= 2).astype(float))
        again = spf_out_of_fold(examples, folds, task, other, threshold, facts).outputs
        assert again is not None
        assert (again[test] == first[test]).all()
        assert (np.delete(again, test, axis=0) != np.delete(first, test, axis=0)).any()


def test_the_order_of_rows_changes_nothing() -> None:
    facts, _, count = planted()
    rows = np.random.default_rng(1).permutation(N)
    examples = examples_of(count)
    folds = folds_of(examples)
    first = spf_out_of_fold(examples, folds, COUNT, count, None, facts).outputs
    second = spf_out_of_fold(
        examples.taken(rows), folds.taken(rows), COUNT, count[rows], None, facts.taken(rows)
    ).outputs
    assert first is not None
    assert second is not None
    assert (second == first[rows]).all()


def test_what_it_was_made_of_is_told() -> None:
    facts, _, count = planted()
    examples = examples_of(count)

    def told(known: SpfFacts) -> tuple[str, tuple[str, ...]]:
        found = spf_out_of_fold(examples, folds_of(examples), COUNT, count, None, known)
        return found.name, found.told

    line = "spf: a negative binomial of traffic, in proportion to length of road"
    assert told(facts) == ("spf", (line,))
    assert facts.aadt is not None
    road_m, aadt = facts.road_m.copy(), facts.aadt.copy()
    aadt[:7], road_m[5:8] = np.nan, np.nan
    assert told(SpfFacts(road_m, aadt))[1] == (
        f"{line}; 5 of 900 tiles have no volume and are said by their length; 3 of 900 tiles have no known "
        "length and are given the base rate",
    )
    assert told(SpfFacts(facts.road_m)) == (
        "spf_length",
        ("spf_length: a negative binomial of length of road alone",),
    )


def test_where_there_can_be_none_the_reason_is_told() -> None:
    facts, _, count = planted()
    examples = examples_of(np.minimum(count, 1))
    nowhere = SpfFacts(np.full(N, np.nan))
    for task, events, threshold, known, line in (
        (VALUE, count, None, facts, "spf is not there: values are no counts"),
        (THREE, count, 2.0, facts, "spf is not there: it tells two classes apart, not 3"),
        (CLASS, count, None, facts, "spf is not there: the classes are not cut from counts of events"),
        (CLASS, count + 0.5, 2.0, facts, "spf is not there: the events are weighted, and it is of counts"),
        (
            CLASS,
            np.minimum(count, 1),
            2.0,
            facts,
            "spf is not there: the classes are not cut from counts of events",
        ),
        (COUNT, count, None, nowhere, "spf_length is not there: no length of road is known"),
        (COUNT, count, None, None, "spf_length is not there: no length of road is known"),
    ):
        found = spf_out_of_fold(examples, folds_of(examples_of(count)), task, events, threshold, known)
        assert found.outputs is None
        assert found.told == (line,)


def columns_of(*names: str, role: str = "feature") -> list[Column]:
    """As the traffic of a dataset has them."""
    made = []
    for name in names:
        volume = (f"{name}_aadt", "float64", "vehicles/day", role, "mean", "Volume.")
        made.append(Column(*volume, name, None, (f"{name}_m",)))  # type: ignore[arg-type]
        made.append(Column(f"{name}_m", "float64", "m", "info", "sum", "Metres.", name))
    return made


def frame_of(**given: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"road_m": [100.0, 100.0, 200.0, np.nan], **given})


def test_volumes_count_from_four_fifths_of_the_road() -> None:
    columns = columns_of("counts")
    just = frame_of(counts_m=[100.0, 20.0, 200.0, 0.0], counts_aadt=[900.0, 800.0, 700.0, np.nan])
    found, told = spf_facts(just, columns)
    assert found is not None
    assert (found.name, told) == ("spf", "counts_aadt covers 80.0 % of road metres")
    np.testing.assert_array_equal(found.aadt, just["counts_aadt"])
    # more of one tile's road than there is does not make up for another's
    less, told = spf_facts(just.assign(counts_m=[500.0, 19.0, 200.0, 0.0]), columns)
    assert less is not None
    assert (less.name, told) == ("spf_length", "counts_aadt covers 79.8 % of road metres, less than 80 %")
    assert less.aadt is None
    assert covered_share(np.zeros(3), np.ones(3)) == 0.0


def test_of_several_sources_that_counts_which_covers_most() -> None:
    frame = frame_of(
        a_m=[100.0, 100.0, 150.0, 0.0], a_aadt=[1.0] * 4, b_m=[100.0, 100.0, 200.0, 0.0], b_aadt=[2.0] * 4
    )
    found, told = spf_facts(frame, columns_of("a", "b"))
    assert found is not None
    assert found.aadt is not None
    assert (found.aadt[0], told) == (2.0, "b_aadt covers 100.0 % of road metres")


def test_volumes_of_after_the_label_window_are_not_known() -> None:
    frame = frame_of(late_m=[100.0, 100.0, 200.0, 0.0], late_aadt=[1.0] * 4)
    found, told = spf_facts(frame, columns_of("late", role="info"))
    assert found is not None
    assert (found.name, told) == ("spf_length", "no volume of traffic is known")
    nothing = spf_facts(frame.drop(columns="road_m"), columns_of("late"))
    assert nothing == (None, "no length of road is known")


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with volumes on its roads."""
    folder: Path = tmp_path_factory.mktemp("counted")
    metro = made_up_metro(folder / "metro", seed=7, rows=12, cols=12)
    text = metro.region.read_text()
    before, _, rest = text.partition("[[imagery]]")
    without = rest.partition("[[roads]]")
    traffic = '\n[[traffic]]\npath = "roads.gpkg"\nname = "volumes"\nyear = 2022\n'
    metro.region.write_text(f"{before}[[roads]]{without[2]}{traffic}")
    return tile(read_region(metro.region), folder / "dataset", workers=1).dataset


def test_a_dataset_with_volumes_has_an_spf(counted: Dataset) -> None:
    frame = pd.read_parquet(counted.path / "tiles.parquet")
    frame = frame[frame["eligible"]]
    facts, told = spf_facts(frame, counted.columns)
    assert facts is not None
    assert (facts.name, told) == ("spf", "volumes_aadt covers 100.0 % of road metres")
    said = spf_outputs(COUNT, facts, frame["crashes_label"].to_numpy(dtype=float), facts)
    assert np.isfinite(said).all()
    expected = frame["crashes_label"].groupby(pd.qcut(said[:, 0], 4)).mean()
    assert expected.is_monotonic_increasing
