"""The check for leaks: each leak that is planted is named, and clean tiles raise no alarm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, uniform_filter

from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.gathering import gathered
from roadrisk.inputs import tiles_of_dataset
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds, spatial_folds
from roadrisk.learning.judging import duplicates, shuffled
from roadrisk.learning.judging.duplicates import alike_facts, duplicate_findings, seen_in_training
from roadrisk.learning.judging.evaluation import Finding
from roadrisk.learning.judging.intervals import block_of
from roadrisk.learning.judging.leaks import leak_findings, picture_date_findings, window_findings
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.shared_events import shared_event_findings
from roadrisk.learning.judging.shuffled import shuffled_aurocs, shuffled_label_findings, shuffled_within
from roadrisk.learning.judging.suspects import neighbour_findings, suspect_findings
from roadrisk.learning.pictures.sources import CachedPictures, MosaicPictures
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.tasks import Task

SIDE, PX = 24, 8
WINDOW = ("2024-01-01", "2025-01-01")
COLUMNS = (
    Column("road_m", "float64", "m", "feature", "sum", "Road.", "roads"),
    Column("road_m_primary", "float64", "m", "feature", "sum", "Primary road.", "roads"),
    Column("speed", "float64", "km/h", "feature", "mean", "Speed.", "roads"),
)


@dataclass(frozen=True)
class Noise:
    """A picture of noise for every tile; `copied` shows another's, `blank` one grey."""

    copied: dict[tuple[int, int], tuple[int, int]]
    blank: frozenset[tuple[int, int]] = frozenset()

    def read(self, row: int, col: int) -> np.ndarray:
        if (row, col) in self.blank:
            return np.full((3, PX, PX), 90, np.uint8)
        row, col = self.copied.get((row, col), (row, col))
        return np.random.default_rng([row, col]).integers(0, 255, (3, PX, PX), dtype=np.uint8)


def city(seed: int = 0, pictures: Noise | None = None) -> tuple[Examples, Outcomes, Folds]:
    """Tiles whose crashes follow roads, and a field that no fact tells of."""
    chance = np.random.default_rng(seed)
    row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
    n = len(row)
    centre = gaussian_filter(chance.normal(size=(SIDE, SIDE)), 3).ravel() * 8
    road_m = np.exp(centre / 2 + chance.normal(0, 0.5, n)) * 500
    primary = road_m * chance.beta(1, 4, n) * (chance.random(n) < 0.5)
    speed = np.where(chance.random(n) < 0.1, np.nan, chance.normal(50, 10, n))
    events = chance.poisson(np.exp(np.log(road_m / 500) + 0.4 * centre + primary / 800)).astype(float)
    high = (events >= np.quantile(events, 0.8)).astype(float)
    key = np.array([f"26919/250/{c}/{r}" for r, c in zip(row, col, strict=True)], dtype=object)
    shown = MosaicPictures(pictures or Noise({}), row, col, PX, "noise")
    examples = Examples(
        key=key,
        label=high,
        facts=np.stack([road_m, primary, speed], axis=1),
        columns=COLUMNS,
        texts=chance.choice(np.array(["field", "shops", None], object), (n, 1)),
        text_columns=(Column("use", "object", "", "feature", "mode", "Land use."),),
        area_km2=np.full(n, 0.0625),
        views=("aerial",),
        pictures=((CachedPictures(shown, Path()),),),
        picture=np.arange(n)[:, None],
        row=row + 1000,
        col=col - 7,
        exposure=np.ones(n),
    )
    outcomes = Outcomes(
        Task(),
        key,
        np.full(n, "city"),
        high,
        high,
        events,
        float(events[high == 1].min()),
        examples.area_km2,
        road_m,
        np.ones(n, bool),
        np.ones(n, bool),
        row,
        col,
        block_of(row, col, 4),
    )
    return examples, outcomes, spatial_folds(examples.row, examples.col, high, 5, 0)  # type: ignore[arg-type]


def with_fact(examples: Examples, values: np.ndarray, name: str = "planted", **about: Any) -> Examples:
    column = Column(name, "float64", "", "feature", "mean", "Planted.", **about)
    facts = np.column_stack([examples.facts, values])
    return replace(examples, facts=facts, columns=(*examples.columns, column))


def checked(examples: Examples, outcomes: Outcomes, folds: Folds, **given: Any) -> tuple[Finding, ...]:
    asked: dict[str, Any] = {
        "label_window": WINDOW,
        "label_sources": ["crashes"],
        "taken_last": {"aerial": np.full(len(examples), "2023-05-01", object)},
        "events": (),
        "seed": 0,
    }
    return leak_findings(examples, outcomes, folds, **(asked | given))


def leaks(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(finding.check, finding.text) for finding in findings if finding.leak]


@pytest.mark.parametrize("seed", range(5))
def test_clean_tiles_raise_no_alarm(seed: int) -> None:
    findings = checked(*city(seed))
    assert leaks(findings) == []
    checks = [finding.check for finding in findings]
    assert checks == [
        "picture dates",
        "feature windows",
        "duplicates",
        "duplicates",
        "suspicious facts",
        "labels of neighbours",
        "shuffled labels",
    ]


def test_the_made_up_metro_raises_no_alarm(dataset: Dataset) -> None:
    tiles = tiles_of_dataset(dataset, ["aerial"])
    learned = gathered([tiles], resolved(TrainSettings(inputs="facts", block_m=4 * dataset.grid.cell_m)))
    events = {"crashes": pd.read_parquet(dataset.path / "events" / "crashes.parquet")}
    assert learned.holding_out is not None
    findings = checked(
        learned.examples, learned.outcomes, learned.holding_out.plan.folds, events=[events], taken_last={}
    )
    assert leaks(findings) == []


# --- a fact that is the label -------------------------------------------------------------------------------


def test_a_count_of_the_label_window_is_named() -> None:
    examples, outcomes, folds = city()
    planted = with_fact(examples, outcomes.events, "tows")
    first, *_ = leaks(checked(planted, outcomes, folds))
    assert first == (
        "suspicious facts",
        "tows has a correlation of 1.000 with what is learned and tells high risk by itself with an AUROC of "
        "1.000; find out what it counts, or --exclude tows",
    )


@pytest.mark.parametrize("disguise", ["noisy", "bent", "upside down", "partly known"])
def test_a_disguised_count_is_named(disguise: str) -> None:
    examples, outcomes, folds = city()
    events, chance = outcomes.events, np.random.default_rng(1)
    values = {
        "noisy": events + chance.normal(0, 0.05 * events.std(), len(events)),
        "bent": np.exp(np.minimum(events, 300) / 7),
        "upside down": -np.sqrt(events),
        "partly known": np.where(chance.random(len(events)) < 0.5, events, np.nan),
    }[disguise]
    found = suspect_findings(with_fact(examples, values), events, outcomes.high, folds, None)
    [named] = [finding.text for finding in found if finding.leak]
    assert named.startswith("planted has a correlation of ")


def test_a_fact_that_only_risky_tiles_have_is_named() -> None:
    examples, outcomes, folds = city()
    values = np.where(outcomes.high == 1, 5.0, np.nan)
    [found] = suspect_findings(with_fact(examples, values), outcomes.events, outcomes.high, folds, None)
    assert found.leak
    assert found.text.startswith("planted tells high risk by itself with an AUROC of 1.000")


def test_a_text_that_is_the_label_is_named() -> None:
    examples, outcomes, folds = city()
    texts = np.where(outcomes.high == 1, "black spot", "quiet").astype(object)[:, None]
    [found] = suspect_findings(replace(examples, texts=texts), outcomes.events, outcomes.high, folds, None)
    assert (found.leak, found.text.split()[0]) == (True, "use")


def test_no_fact_is_better_than_the_ceiling() -> None:
    examples, outcomes, folds = city()
    chance = np.random.default_rng(0)
    values = outcomes.high + chance.normal(0, 0.35, len(examples))
    asked = with_fact(examples, values), outcomes.events, outcomes.high, folds
    assert not suspect_findings(*asked, None)[0].leak
    [found] = suspect_findings(*asked, 0.9)
    assert found.leak
    assert "AUROC of 0.9" in found.text


# --- a fact that knows its neighbours -----------------------------------------------------------------------


def around(values: np.ndarray, side: int = 3) -> np.ndarray:
    square = values.reshape(SIDE, SIDE)
    return (
        uniform_filter(square, side, mode="constant")
        / uniform_filter(np.ones_like(square), side, mode="constant")
    ).ravel()


@pytest.mark.parametrize("kind", ["mean", "without itself", "noisy", "of counts"])
@pytest.mark.parametrize("seed", range(3))
def test_a_label_smoothed_neighbour_is_named(kind: str, seed: int) -> None:
    examples, outcomes, folds = city(seed)
    mean = around(outcomes.high)
    tiles = around(np.ones(SIDE * SIDE)) * 9
    values = {
        "mean": mean,
        "without itself": (9 * mean - outcomes.high) / np.maximum(tiles - 1, 1),
        "noisy": mean + np.random.default_rng(0).normal(0, 0.05, len(mean)),
        "of counts": around(outcomes.events),
    }[kind]
    planted = with_fact(examples, values)
    found = leaks(neighbour_findings(planted, outcomes.events, outcomes.high, WINDOW))
    assert [(check, text.split()[0]) for check, text in found] == [("labels of neighbours", "planted")]
    assert found[0][1].endswith("leave it out with --exclude planted")
    if (kind, seed) == ("mean", 0):
        assert leaks(checked(planted, outcomes, folds)) == found


def test_two_neighbours_nearly_alike_are_both_named() -> None:
    examples, outcomes, _ = city()
    mean = around(outcomes.high)
    nearly = mean + np.random.default_rng(0).normal(0, 0.005, len(mean))
    twice = with_fact(with_fact(examples, mean), nearly, "again")
    found = neighbour_findings(twice, outcomes.events, outcomes.high, WINDOW)
    assert [finding.text.split()[0] for finding in found] == ["again", "planted"]


def test_counts_of_the_past_may_know_their_neighbours() -> None:
    examples, outcomes, _ = city()
    chance = np.random.default_rng(0)
    values = around(chance.poisson(outcomes.events * 3).astype(float))
    asked = outcomes.events, outcomes.high, WINDOW
    past = with_fact(examples, values, window=("2021-01-01", "2024-01-01"))
    assert not any(finding.leak for finding in neighbour_findings(past, *asked))
    assert any(finding.leak for finding in neighbour_findings(with_fact(examples, values), *asked))


# --- the same tile twice ------------------------------------------------------------------------------------


def far_apart(folds: Folds) -> tuple[int, int]:
    """A tested row of the first fold, and one that it learns from."""
    return int(folds.test_rows(0)[0]), int(folds.train_rows(0)[-1])


def test_a_duplicated_tile_is_named() -> None:
    examples, outcomes, folds = city()
    tested, trained = far_apart(folds)
    facts, texts = examples.facts.copy(), examples.texts.copy()
    facts[tested, 2] = 51.5
    facts[tested, 1] = 17.25
    facts[trained], texts[trained] = facts[tested], texts[tested]
    copied = replace(examples, facts=facts, texts=texts)
    [(check, text)] = leaks(checked(copied, outcomes, folds))
    assert check == "duplicates"
    assert text.startswith("2 tested tiles have the very facts of a tile that their fold learned from, as ")
    assert examples.key[tested] in text
    assert examples.key[trained] in text


def test_a_duplicated_picture_is_named() -> None:
    _, _, folds = city()
    tested, trained = far_apart(folds)
    place = {n: (n // SIDE, n % SIDE) for n in (tested, trained)}
    copied = city(pictures=Noise({place[tested]: place[trained]}))
    [(check, text)] = leaks(checked(*copied))
    assert check == "duplicates"
    assert text.startswith("2 tested tiles have the very picture (aerial) of a tile")


def test_blank_pictures_and_plain_facts_are_no_duplicates() -> None:
    blank = frozenset((row, col) for row in range(SIDE) for col in range(0, SIDE, 2))
    examples, outcomes, folds = city(pictures=Noise({}, blank))
    facts = examples.facts.copy()
    facts[::2] = [64.25, 0.0, 50.0]  # one straight street across
    facts[1::4] = 0.0
    plain = replace(examples, facts=facts)
    assert (alike_facts(plain)[::2] == -1).all()
    assert (alike_facts(plain)[1::4] == -1).all()
    assert leaks(checked(plain, outcomes, folds)) == []


def test_facts_that_differ_in_rounding_alone_are_alike() -> None:
    examples, _, _ = city()
    facts = examples.facts[[0, 0, 1]].copy()
    facts[:, 1:] = [[1.5, 2.5], [1.5, 2.5], [7.5, 3.5]]
    facts[1] *= 1 + 1e-15
    group = alike_facts(replace(examples.taken(np.array([0, 0, 1])), facts=facts, texts=np.full((3, 1), "a")))
    assert (group[0] == group[1], group[0] == group[2]) == (True, False)


def test_twins_on_one_side_are_not_named() -> None:
    folds = Folds(np.array([0, 0, 1, 1, 2]), 3, np.array([0, 0, 1, 9, 20]), np.zeros(5, int), 1)
    # row 0 is in the buffer of the second fold
    assert seen_in_training(np.array([4, 4, 6, -1, 8]), folds).tolist() == []
    assert seen_in_training(np.array([4, -1, 4, -1, -1]), folds).tolist() == []
    assert seen_in_training(np.array([4, -1, -1, 4, 4]), folds).tolist() == [[0, 3], [3, 4], [4, 0]]


def test_a_sample_of_pictures_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PICTURES", 100)
    examples, _, folds = city()
    *_, found = duplicate_findings(examples, folds, 0)
    assert found.text.endswith("; 100 of 576 pictures were compared")


# --- the same crash in two sources --------------------------------------------------------------------------


def crashes(n: int, year: int = 2024, seed: int = 0, file: str = "state.csv") -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    minutes = chance.integers(0, 360 * 24 * 60, n)
    return pd.DataFrame(
        {
            "x": 300_000 + chance.uniform(0, 5000, n),
            "y": 4_600_000 + chance.uniform(0, 5000, n),
            "time": pd.Timestamp(f"{year}-01-01") + pd.to_timedelta(minutes, "min"),
            "source_file": file,
            "source_row": np.arange(n),
        }
    )


def column_of(source: str, window: tuple[str, str] | None) -> Column:
    return Column(f"{source}_count", "float64", "events", "feature", "sum", "", source, window)


def shared(city_events: pd.DataFrame, window: tuple[str, str] | None = WINDOW) -> list[Finding]:
    events = {"state": crashes(50), "city": city_events}
    return list(shared_event_findings(events, ["state"], WINDOW, [column_of("city", window)]))


@pytest.mark.parametrize(
    ("metres", "seconds", "same"), [(0.0, 0, True), (0.9, 59, True), (1.5, 0, False), (0.0, 90, False)]
)
def test_one_crash_in_two_sources_is_named(metres: float, seconds: int, same: bool) -> None:
    other = crashes(50, seed=1, file="city.csv")
    seen = crashes(50).iloc[:3]
    seen = seen.assign(
        x=seen["x"] + metres, time=seen["time"] + pd.Timedelta(seconds=seconds), source_file="city.csv"
    )
    [found] = shared(pd.concat([other, seen.assign(source_row=[90, 91, 92])]))
    assert found.leak == same
    if same:
        assert found.text == (
            "3 of 53 events of city, which facts are made from, are events of the label (the same row of a file, "
            "or within a metre and a minute); leave the facts of city out"
        )


def test_the_same_rows_of_a_file_are_named_without_dates_too() -> None:
    again = crashes(50).assign(time=pd.NaT)
    again["x"] += 3000.0
    [found] = shared(again, None)
    assert found.leak
    assert found.text.startswith("50 of 50 events of city")


def test_undated_points_on_the_labels_crashes_are_named() -> None:
    on_crashes = crashes(50).assign(time=pd.NaT, source_file="spots.csv")
    [found] = shared(on_crashes, None)
    assert found.leak
    assert found.text.startswith("50 of 50 points of city, which have no date, lie within a metre of events")
    mixed = pd.concat(
        [on_crashes, crashes(50, seed=3, file="spots.csv").assign(time=pd.NaT, source_row=np.arange(60, 110))]
    )
    assert not shared(mixed, None)[0].leak


def test_events_before_the_label_window_are_another_crash() -> None:
    later = crashes(50, file="city.csv").assign(source_row=np.arange(50, 100))
    past = pd.concat([crashes(50, 2023, file="city.csv"), later])
    [found] = shared(past, ("2023-01-01", "2024-01-01"))
    assert not found.leak
    assert found.text == "none of the 50 events of the label window is an event of city"


# --- dates --------------------------------------------------------------------------------------------------


def test_a_picture_of_the_label_window_is_named() -> None:
    examples, _, _ = city()
    days = np.full(len(examples), "2023-12-31", object)
    [found] = picture_date_findings(examples, {"aerial": days}, WINDOW)
    assert not found.leak
    days[:3], days[3:10] = ["2024-01-01", "2024-07-04", "2024-02-02"], None
    [found] = picture_date_findings(examples, {"aerial": days}, WINDOW)
    assert found.leak
    assert found.text == (
        "aerial: 3 of 576 pictures were taken after the label window starts (2024-01-01), the last on "
        "2024-07-04; use older pictures or a later window; of 7 pictures nobody says when they were taken"
    )


def test_tiles_without_a_picture_have_no_date() -> None:
    examples, _, _ = city()
    picture = examples.picture.copy()
    picture[0] = -1
    days = np.full(len(examples), "2023-12-31", object)
    days[0] = "2024-07-04"
    [found] = picture_date_findings(replace(examples, picture=picture), {"aerial": days}, WINDOW)
    assert not found.leak


def test_what_has_no_dates_is_said() -> None:
    examples, _, _ = city()
    [undated] = picture_date_findings(examples, {}, WINDOW)
    assert undated.text == "aerial: pictures have no dates, so it cannot be told which came first"
    [found] = window_findings(examples.columns, None)
    assert (found.leak, found.text) == (
        False,
        "the label has no window, so it cannot be told whether facts are older",
    )
    [found] = window_findings(examples.columns, WINDOW)
    assert (
        found.text == "no fact of 3 tells of days from 2024-01-01 on; 3 without dates are taken to be older"
    )


def test_a_fact_of_days_of_the_label_is_named() -> None:
    examples, outcomes, folds = city()
    late = with_fact(examples, examples.facts[:, 0] * 2, "tows", window=("2023-06-01", "2024-01-02"))
    assert leaks(checked(late, outcomes, folds)) == [
        (
            "feature windows",
            "tows tells of 2023-06-01 to before 2024-01-02, and the label of days from 2024-01-01; leave it out "
            "with --exclude tows",
        )
    ]


# --- shuffled labels ----------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.integers(0, 19), st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_labels_change_places_within_their_block(seed: int, turn: int, blocks: list[int]) -> None:
    block = np.array(blocks)
    label = np.random.default_rng(seed).integers(0, 5, len(block)).astype(float)
    drawn = shuffled_within(label, block, seed, turn)
    for one in np.unique(block):
        assert sorted(drawn[block == one]) == sorted(label[block == one])


def test_shuffled_labels_are_told_by_their_blocks_alone() -> None:
    examples, outcomes, folds = city()
    order = np.argsort(examples.key)
    ordered = examples.taken(order), outcomes.high[order]
    whole = np.zeros(len(order), np.int64)
    assert outcomes.block is not None
    real, *within = shuffled_aurocs(*ordered, outcomes.block[order], folds.taken(order), 0)
    _, *anywhere = shuffled_aurocs(*ordered, whole, folds.taken(order), 0)
    assert len(within) == shuffled.TIMES == 20
    assert real > max(within)
    assert abs(np.mean(anywhere) - 0.5) < 0.03
    # blocks are rich or poor in roads, and their share of risky tiles stays
    assert np.mean(within) > np.mean(anywhere) + 0.05
    [found] = shuffled_label_findings(examples, outcomes.high, outcomes.block, folds, 0)
    assert not found.leak
    assert found.text == (
        f"a regression on the facts has an AUROC of {real:.3f}, and of {np.mean(within):.3f} ({min(within):.3f} to "
        f"{max(within):.3f}) on labels shuffled within blocks 20 times: so much is told by what whole blocks are "
        "like; shuffling also breaks a fact that knows the label, so this cannot find one"
    )


def test_facts_that_tell_nothing_are_said_to() -> None:
    examples, outcomes, folds = city()
    chance = np.random.default_rng(4)
    noise = replace(
        examples, facts=chance.normal(size=examples.facts.shape), texts=examples.texts[:, :0], text_columns=()
    )
    [found] = shuffled_label_findings(noise, outcomes.high, outcomes.block, folds, 0)
    assert found.text.startswith("the facts tell tiles no better than shuffled ones; a regression")


def test_no_order_of_rows_or_columns_changes_a_finding() -> None:
    examples, outcomes, folds = city()
    facts = examples.facts.copy()
    facts[::5] = [123.4, 5.5, 49.75]  # many twins, of which one is named
    examples = replace(examples, facts=facts, texts=np.full((len(facts), 1), "a"))
    order = np.random.default_rng(5).permutation(len(examples))
    columns = [2, 0, 1]
    other = replace(
        examples, facts=examples.facts[:, columns], columns=tuple(examples.columns[c] for c in columns)
    ).taken(order)
    before = checked(examples, outcomes, folds)
    after = checked(other, outcomes.taken(order), folds.taken(order))
    assert after == before
    assert len(leaks(before)) == 1
