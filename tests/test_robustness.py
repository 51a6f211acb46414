"""`--robustness`: each change does what it says, and what could not be tried says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.features.events import ENFORCEMENT
from roadrisk.gathering import Gathered, gathered
from roadrisk.inputs import cache_of, tiles_of_dataset
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.changed import Said, Trial, stability, trial
from roadrisk.learning.judging.measures import auroc_fold_mean
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.validation import Training
from roadrisk.region import read_region
from roadrisk.relearning import boosted, network_learner, without_columns
from roadrisk.robustness import Robustness, robustness
from roadrisk.sources.demo import made_up_metro
from roadrisk.tiling import tile

SIDE_TILES = 4


def fact(name: str, source: str, combine: str = "sum", withheld: str = "") -> Column:
    return Column(name, "float64", "", "feature", combine, "", source, withheld=withheld)  # type: ignore[arg-type]


PLANTED = (
    fact("truth_m", "truth"),
    fact("junk_m", "junk"),
    fact("stops", "stops", withheld=ENFORCEMENT),
    fact("tracts_population", "tracts"),
    fact("tracts_white", "tracts"),
    fact("tracts_income", "tracts", "mean"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A made-up metro that is large enough for tiles twice as wide."""
    folder = tmp_path_factory.mktemp("larger")
    region = made_up_metro(folder / "metro", seed=7, rows=24, cols=24).region
    return tile(read_region(region), folder / "dataset", workers=1).dataset


def learned_from(
    dataset: Dataset, columns: tuple[Column, ...] = PLANTED, **given: object
) -> tuple[Gathered, TrainSettings]:
    """The made-up metro with facts whose worth is known."""
    tiles = tiles_of_dataset(dataset, ["aerial"])
    chance = np.random.default_rng(0)
    n = len(tiles)
    events = tiles.frame["crashes_label"].to_numpy(float)
    known = {
        "truth_m": np.nan_to_num(events) * chance.uniform(0.5, 1.5, n),
        "junk_m": chance.random(n),
        "stops": chance.random(n),
        "tracts_population": chance.uniform(10, 20, n),
        "tracts_white": chance.uniform(0, 10, n),
        "tracts_income": chance.gamma(9, 5000, n),
    }
    kept = {column.name: known[column.name] for column in columns}
    tiles = replace(tiles, frame=tiles.frame.assign(**kept), columns=(*tiles.columns, *columns))
    asked: dict[str, object] = {
        "inputs": "facts",
        "encoder": "basic",
        "block_m": SIDE_TILES * dataset.grid.cell_m,
        "folds": 3,
    }
    settings = resolved(TrainSettings(**(asked | given)))  # type: ignore[arg-type]
    return gathered([tiles], settings), settings


def folds_of(learned: Gathered) -> Folds:
    assert learned.holding_out is not None
    return learned.holding_out.plan.folds


@pytest.fixture(scope="module")
def tried(dataset: Dataset) -> tuple[Gathered, Robustness, list[tuple[int, int, str]]]:
    names = ("road_m", *(column.name for column in PLANTED))
    learned, settings = learned_from(dataset, features=names)
    told: list[tuple[int, int, str]] = []
    found = robustness(
        learned,
        settings,
        folds_of(learned),
        boosted,
        "facts",
        lambda stage, done, total, note="": told.append((done, total, note)),
    )
    return learned, found, told


def by_name(found: Robustness) -> dict[str, Trial]:
    return {one.name: one for one in found.trials}


# --- one trial ----------------------------------------------------------------------------------------------


def said(seed: int, blocks: int = 30) -> Said:
    chance = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), 8)
    high = (np.random.default_rng(0).random(len(block)) < 0.3).astype(float)
    return Said(high + chance.normal(0, 1, len(block)), high, block % 4, block)


def test_a_difference_is_of_the_same_draws() -> None:
    was, now = said(1), said(2)
    found = trial("changed", "facts", now, 0, was)
    scores = [auroc_fold_mean(one.high, one.order, one.fold) for one in (now, was)]
    assert found.auroc == pytest.approx(scores[0])
    assert found.difference == pytest.approx(scores[0] - scores[1])
    assert found.difference_low is not None
    assert found.difference_high is not None
    assert found.difference_low < found.difference < found.difference_high
    itself = trial("changed", "facts", now, 0, replace(now, order=2 * now.order))
    assert (itself.difference, itself.difference_low, itself.difference_high) == (0, 0, 0)


def test_each_side_is_judged_by_its_own_label() -> None:
    was = said(1)
    turned = replace(was, high=1 - was.high)
    found = trial("changed", "facts", turned, 0, was)
    before = auroc_fold_mean(was.high, was.order, was.fold)
    assert found.difference == pytest.approx((1 - before) - before)
    assert found.spearman == pytest.approx(1)


def test_below_20_blocks_there_is_no_interval() -> None:
    found = trial("changed", "facts", said(2, 19), 0, said(1, 19))
    assert (found.low, found.high, found.difference_low, found.difference_high) == (None,) * 4
    assert str(found) == (
        f"changed (facts): AUROC {found.auroc:.3f}, a difference of {found.difference:+.3f}; ranks correlate by "
        f"{found.spearman:.2f}, {100 * (found.top_kept or 0):.0f} % of the top 5 % stay"
    )


def test_stability_by_hand() -> None:
    before = np.arange(40.0)
    after = before.copy()
    after[[39, 0]] = after[[0, 39]]
    # of the two riskiest of 40 one stays
    assert stability(before, after)["top_kept"] == 0.5
    assert stability(before, -before) == {"spearman": -1.0, "top_kept": 0.0}
    # all tied: a twentieth stays by chance
    assert stability(before, np.zeros(40)) == {"spearman": None, "top_kept": pytest.approx(0.05)}


# --- all of them --------------------------------------------------------------------------------------------


def test_every_change_is_tried(tried: tuple[Gathered, Robustness, list[tuple[int, int, str]]]) -> None:
    learned, found, _ = tried
    assert [(one.name, one.model) for one in found.trials] == [
        ("as it is", "facts"),
        ("tiles twice as wide", "facts"),
        ("tiles twice as wide, moved by half a tile", "facts"),
        ("label cut one event higher", "facts"),
        ("label cut one event lower", "facts"),
        ("citations removed", "facts"),
        ("all facts", "boosting"),
        ("facts of junk removed", "boosting"),
        ("facts of roads removed", "boosting"),
        ("facts of stops removed", "boosting"),
        ("facts of tracts removed", "boosting"),
        ("facts of truth removed", "boosting"),
    ]
    assert all(one.auroc is not None for one in found.trials)
    t = learned.label.threshold
    assert t is not None
    share = 100 * float((learned.events >= t + 1).mean())
    assert by_name(found)["label cut one event higher"].note == f"{t + 1:g} or more, {share:.1f} % of tiles"


def test_what_the_label_follows_is_missed_and_what_tells_nothing_is_not(
    tried: tuple[Gathered, Robustness, list[tuple[int, int, str]]],
) -> None:
    trials = by_name(tried[1])
    whole, lost = trials["all facts"], trials["facts of truth removed"]
    assert whole.auroc is not None
    assert lost.difference is not None
    assert lost.difference_high is not None
    assert whole.auroc > 0.9
    assert lost.difference < -0.15
    assert lost.difference_high < 0
    for name in ("facts of junk removed", "citations removed", "facts of stops removed"):
        assert abs(trials[name].difference or 0) < 0.05
    # `stops` are the only citations
    assert trials["citations removed"].auroc == trials["facts of stops removed"].auroc


def test_minutes_are_told_before_each_change(
    tried: tuple[Gathered, Robustness, list[tuple[int, int, str]]],
) -> None:
    told = tried[2]
    assert [done for done, _, _ in told] == list(range(len(told)))
    assert {total for _, total, _ in told} == {len(told) - 1}
    assert told[0][2].startswith("tiles twice as wide, about ")
    assert all(note.endswith(" min left") for _, _, note in told[:-1])


def test_fifths_of_income_and_minorities_and_what_they_mean(
    tried: tuple[Gathered, Robustness, list[tuple[int, int, str]]],
) -> None:
    learned, found, _ = tried
    assert [one.by for one in found.quintiles] == ["income"] * 5 + ["minority share"] * 5
    assert sum(one.n for one in found.quintiles) == 2 * len(learned.examples)
    assert sum(one.observed for one in found.quintiles) == 2 * learned.high.sum()
    assert found.said == (
        "income is tracts_income",
        "minority share is 1 - tracts_white / tracts_population",
        "crashes of some groups are reported less than those of others, which would look the same here",
    )
    assert json.loads(json.dumps(found.as_json()))["trials"][0]["name"] == "as it is"
    assert len(found.lines()) == len(found.trials) + 10 + 3


def test_a_network_that_is_too_sure_is_judged_by_its_calibrated_chances(dataset: Dataset) -> None:
    """Groups differ in observed / predicted by what a map of chances would say of them."""
    learned, settings = learned_from(dataset)
    folds = folds_of(learned)

    def sure(learned: Gathered, settings: TrainSettings, folds: Folds, name: str) -> np.ndarray:
        return 3 * boosted(learned, settings, folds, name) + 4  # says high risk nearly everywhere

    found = robustness(learned, settings, folds, sure, "facts").quintiles
    incomes = [one for one in found if one.by == "income"]
    assert incomes
    observed, predicted = (sum(getattr(one, name) for one in incomes) for name in ("observed", "predicted"))
    assert observed / predicted == pytest.approx(1, abs=0.1)


def test_ranks_that_follow_the_wide_cells_stay(dataset: Dataset) -> None:
    learned, settings = learned_from(dataset, ())

    def by_cell(asked: Gathered, settings: TrainSettings, folds: Folds, name: str) -> np.ndarray:
        assert asked.tiles.lattice is not None
        row, col, step_m = asked.tiles.lattice
        factor = round(2 * dataset.grid.cell_m / step_m)
        place = row[asked.known] // factor * 1000 + col[asked.known] // factor
        return (place - place.min()).astype(float)[:, None]

    trials = by_name(robustness(learned, settings, folds_of(learned), by_cell, "facts"))
    wide = trials["tiles twice as wide"]
    assert (wide.spearman, wide.top_kept) == (pytest.approx(1), pytest.approx(1, abs=0.03))
    moved = trials["tiles twice as wide, moved by half a tile"]
    assert moved.spearman is not None
    assert moved.top_kept is not None
    assert 0.9 < moved.spearman < 1
    assert wide.note.startswith("compared on ")
    # larger tiles are other tiles
    assert (wide.difference, moved.difference) == (None, None)


def test_a_larger_tile_is_cut_to_the_top_fifth(dataset: Dataset) -> None:
    learned, settings = learned_from(dataset, ())
    seen: list[Gathered] = []

    def noted(asked: Gathered, settings: TrainSettings, folds: Folds, name: str) -> np.ndarray:
        seen.append(asked)
        return boosted(asked, settings, folds, name)

    robustness(learned, settings, folds_of(learned), noted, "facts")
    _, wide, moved, higher, lower, *_ = seen
    for cells in (wide, moved):
        assert len(cells.examples) < len(learned.examples) / 2
        assert cells.high.mean() == pytest.approx(0.2, abs=0.05)
        assert "crashes_label" not in [column.name for column in cells.examples.columns]
    t = learned.label.threshold
    assert t is not None
    np.testing.assert_array_equal(higher.examples.label, (learned.events >= t + 1).astype(float))
    np.testing.assert_array_equal(lower.high, (learned.events >= t - 1).astype(float))


def test_the_picture_is_removed_where_there_is_one(dataset: Dataset) -> None:
    learned, settings = learned_from(dataset, (), inputs="both")
    asked: list[tuple[str, str]] = []

    def noted(of: Gathered, settings: TrainSettings, folds: Folds, name: str) -> np.ndarray:
        asked.append((name, settings.sees))
        return boosted(of, settings, folds, name)

    found = robustness(learned, settings, folds_of(learned), noted, "fused")
    assert ("robustness picture removed", "facts") in asked
    assert {sees for name, sees in asked if name != "robustness picture removed"} == {"both"}
    assert by_name(found)["picture removed"].difference == 0


def test_what_cannot_be_tried_says_why(dataset: Dataset) -> None:
    learned, settings = learned_from(dataset, (), task="count", label="crashes_label")
    lines = robustness(learned, settings, folds_of(learned), boosted, "facts").lines()
    assert "label cut one event higher: not tried: what is learned was not cut from events" in lines
    assert "citations removed: not tried: no citations are among the facts" in lines
    assert "facts of roads removed: not tried: there are no facts besides" in lines
    assert "no facts of areas hold a mean income, so errors by income are not known" in lines


def test_high_risk_is_never_a_tile_without_events(dataset: Dataset) -> None:
    learned, settings = learned_from(dataset, (), label="crashes_label", at_least=1)
    found = by_name(robustness(learned, settings, folds_of(learned), boosted, "facts"))
    assert str(found["label cut one event lower"]) == (
        "label cut one event lower: not tried: high risk would be tiles without any event"
    )


def test_classes_as_they_stand_have_no_larger_tiles(dataset: Dataset) -> None:
    learned, settings = learned_from(dataset, ())
    plain = replace(learned, label=replace(learned.label, measure=None, threshold=None))
    found = by_name(robustness(plain, settings, folds_of(learned), boosted, "facts"))
    assert found["tiles twice as wide"].note == "classes as they stand say nothing of larger tiles"


def test_columns_are_taken_out_by_name(dataset: Dataset) -> None:
    learned, _ = learned_from(dataset)
    fewer = without_columns(learned.examples, {"junk_m", "road_m"})
    kept = [column.name for column in fewer.columns]
    assert set(kept) == {column.name for column in learned.examples.columns} - {"junk_m", "road_m"}
    for place, column in enumerate(fewer.columns):
        own = learned.examples.facts[:, learned.examples.columns.index(column)]
        np.testing.assert_array_equal(fewer.facts[:, place], own)


@pytest.mark.slow
def test_networks_look_at_larger_tiles(dataset: Dataset, tmp_path: Path) -> None:
    learned, settings = learned_from(dataset, (), inputs="both", epochs=1)
    training = Training(settings, fabric_of(settings), learned.block, learned.buffer)
    found = robustness(learned, settings, folds_of(learned), network_learner(training), "fused")
    assert cache_of(dataset.path).is_dir()
    for name in ("as it is", "tiles twice as wide", "tiles twice as wide, moved by half a tile"):
        assert by_name(found)[name].auroc is not None
