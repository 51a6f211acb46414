"""Scores of drawn roads: as others compute them, honest where nothing is defined, the same in any order."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from roadrisk.errors import SourceError
from roadrisk.mosaic.picture import Picture
from roadrisk.roads.judging.baselines import ColourRule, all_road, colour_rule
from roadrisk.roads.judging.measures import (
    METRICS,
    UnitCounts,
    UnitJudged,
    best_level,
    differences,
    histogram,
    iou_at,
    near_px,
    scores,
    unit_counts,
    units_table,
)
from roadrisk.roads.scenes import RoadExamples, Scene, Truth, Window
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.sources.pairs import pair_examples

SIDE = 12
WHOLE = (slice(0, SIDE), slice(0, SIDE))
masks = arrays(bool, (SIDE, SIDE))


def everywhere(road: np.ndarray) -> Truth:
    return Truth(road, np.ones_like(road))


def counted(drawn: np.ndarray, road: np.ndarray, near: float = 3.0) -> UnitCounts:
    core = (slice(0, road.shape[0]), slice(0, road.shape[1]))
    return unit_counts(drawn, everywhere(road), np.ones_like(road), core, near)


def alone(counts: UnitCounts, apls: float | None = None, line_px: float = 0.0) -> dict[str, float | None]:
    """Values of a single unit."""
    table = units_table([UnitJudged("model", "a", 0, 0, counts, apls, line_px)])
    return {metric: score["value"] for metric, score in scores(table, 0)["model"].items()}


def judged(seed: int, units: int = 60, methods: tuple[str, ...] = ("model", "colour")) -> pd.DataFrame:
    """Units of made-up counts, three to a block."""
    chance = np.random.default_rng(seed)
    made = []
    for method in methods:
        for unit in range(units):
            road, drawn = (int(pixels) for pixels in chance.integers(50, 500, 2))
            both = int(chance.integers(0, min(road, drawn)))
            near = [int(chance.integers(both, pixels + 1)) for pixels in (drawn, road)]
            counts = UnitCounts(1000, road, drawn, both, *near)
            apls, line = float(chance.random()), float(chance.random() * 100)
            made.append(UnitJudged(method, f"u{unit:02d}", unit // 3 % 5, unit // 3, counts, apls, line))
    return units_table(made)


@given(masks, masks)
@settings(max_examples=50)
def test_plain_scores_are_those_of_scikit_learn(drawn: np.ndarray, road: np.ndarray) -> None:
    found = alone(counted(drawn, road))
    if not road.any():
        assert set(found.values()) == {None}
        return
    truth, said = road.ravel(), drawn.ravel()
    assert found["iou"] == pytest.approx(jaccard_score(truth, said))
    assert found["f1"] == pytest.approx(f1_score(truth, said))
    assert found["recall"] == pytest.approx(recall_score(truth, said))
    if said.any():
        assert found["precision"] == pytest.approx(precision_score(truth, said))
    else:
        assert found["precision"] is None


@given(
    arrays(bool, (4, SIDE, SIDE)), st.sampled_from([0.0, 0.99, 1.0, 2**0.5, 2.0, 5**0.5, 3.0, 13**0.5, 7.3])
)
@settings(max_examples=40)
def test_relaxed_counts_are_those_of_all_pairs_of_pixels(four: np.ndarray, near: float) -> None:
    drawn, road, known, valid = four
    core = (slice(2, 9), slice(3, 12))
    counts = unit_counts(drawn, Truth(road, known), valid, core, near)
    counts_of = known & valid
    true, said = np.argwhere(road & counts_of), np.argwhere(drawn & counts_of)

    def found(pixels: np.ndarray, others: np.ndarray) -> int:
        inside = pixels[(pixels >= (2, 3)).all(axis=1) & (pixels < (9, 12)).all(axis=1)]
        return int((cdist(inside, others) <= near).any(axis=1).sum()) if len(others) else 0

    assert (counts.drawn_near, counts.road_near) == (found(said, true), found(true, said))
    assert counts.known == counts_of[core].sum()
    assert counts.road == (road & counts_of)[core].sum()
    assert counts.drawn == (drawn & counts_of)[core].sum()
    assert counts.both == (road & drawn & counts_of)[core].sum()


@given(masks, masks)
@settings(max_examples=40)
def test_relaxed_scores_grow_from_the_plain_ones_with_what_is_near(
    drawn: np.ndarray, road: np.ndarray
) -> None:
    exact = counted(drawn, road, 0.0)
    assert exact.drawn_near == exact.road_near == exact.both
    by_distance = [counted(drawn, road, near) for near in (0.0, 1.0, 1.5, 2.0, 3.0, 20.0)]
    for closer, wider in pairwise(by_distance):
        assert closer.drawn_near <= wider.drawn_near <= wider.drawn
        assert closer.road_near <= wider.road_near <= wider.road
    if drawn.any() and road.any():
        assert by_distance[-1].drawn_near == exact.drawn
        assert by_distance[-1].road_near == exact.road


def test_a_road_drawn_beside_itself_by_hand() -> None:
    road, drawn = np.zeros((2, 20, 30), bool)
    road[:, 10:12] = True  # two columns, and the same two columns four to the right
    drawn[:, 14:16] = True
    found = alone(counted(drawn, road, 3.0))
    # column 14 is three from 11, column 15 is four; column 11 is three from 14, column 10 is four
    assert found["relaxed_precision"] == found["relaxed_recall"] == found["relaxed_f1"] == 0.5
    assert found["iou"] == found["f1"] == found["precision"] == 0.0


def test_a_perfect_drawing_scores_one() -> None:
    road = np.zeros((20, 20), bool)
    road[5:8] = True
    assert alone(counted(road, road), 1.0, 20.0) == dict.fromkeys(METRICS, 1.0)


def test_nothing_drawn_has_no_precision_and_no_f1_but_zero() -> None:
    road = np.zeros((20, 20), bool)
    road[5:8] = True
    found = alone(counted(np.zeros_like(road), road))
    assert found["precision"] is found["relaxed_precision"] is None
    assert found["recall"] == found["f1"] == found["iou"] == found["relaxed_f1"] == 0.0


def test_false_roads_of_a_unit_without_roads_count_only_beside_units_with() -> None:
    nothing, stripe = np.zeros((2, 10, 10), bool)
    stripe[3:5] = True
    empty = UnitJudged("model", "empty", 0, 0, counted(stripe, nothing), None, 0.0)
    whole = UnitJudged("model", "whole", 1, 1, counted(stripe, stripe), 1.0, 10.0)
    found = scores(units_table([empty, whole]), 0)["model"]
    assert found["iou"] == {"value": 0.5, "low": None, "high": None, "folds": [None, 1.0]}
    assert found["apls"] == {"value": 1.0, "low": None, "high": None, "folds": [None, 1.0]}


def test_pixels_around_the_core_help_and_do_not_count() -> None:
    road, drawn = np.zeros((2, 10, 20), bool)
    road[:, 12] = True
    drawn[:, 9] = True
    core = (slice(0, 10), slice(0, 10))
    counts = unit_counts(drawn, everywhere(road), np.ones_like(road), core, 3.0)
    assert counts == UnitCounts(known=100, road=0, drawn=10, both=0, drawn_near=10, road_near=0)
    unknown = Truth(road, np.arange(20)[None] < np.full((10, 1), 12))
    assert unit_counts(drawn, unknown, np.ones_like(road), core, 3.0).drawn_near == 0


def test_near_is_three_metres_and_three_pixels_without_a_scale() -> None:
    assert [near_px(scale) for scale in (1.0, 0.5, 1.2, None)] == [3.0, 6.0, 2.5, 3.0]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_the_best_level_is_as_good_as_any_by_scikit_learn(seed: int) -> None:
    chance = np.random.default_rng(seed)
    level = chance.choice([0, 1, 7, 90, 128, 200, 254, 255], (SIDE, SIDE)).astype(np.uint8)
    road, known, valid = chance.random((3, SIDE, SIDE)) < 0.7
    counts = histogram(level, Truth(road, known), valid)
    inside = known & valid
    assert counts.sum() == inside.sum()
    assert counts[1].sum() == (road & inside).sum()
    by_hand = {
        least: jaccard_score(road[inside], level[inside] >= least, zero_division=0)
        for least in [0, *np.unique(level[inside]).tolist(), 255]
    }
    assert {least: iou_at(counts, least) for least in by_hand} == pytest.approx(by_hand)
    best = best_level(counts)
    assert 1 <= best <= 255
    assert iou_at(counts, best) == pytest.approx(max(by_hand[least] for least in by_hand if least))


def test_the_level_is_in_the_middle_of_equally_good_ones() -> None:
    counts = np.zeros((2, 256), np.int64)
    assert best_level(counts) == 128
    assert iou_at(counts, 128) is None
    counts[0, 100], counts[1, 200] = 10, 10
    assert best_level(counts) == (101 + 200) // 2
    counts[1, 255] = 10
    assert best_level(counts) == (101 + 200) // 2
    counts[0, 0], counts[0, 100] = 10, 0
    assert best_level(counts) == (1 + 200) // 2
    counts[1, 200], counts[0, 254] = 0, 10
    assert best_level(counts) == 255
    counts[0, 255] = 1
    assert iou_at(counts, 255) == 10 / 11


def test_scores_are_sums_pooled_and_of_each_fold() -> None:
    table = judged(3)
    model = table[table["method"] == "model"]
    found = scores(table, 0)["model"]
    both, road, drawn = (model[name].sum() for name in ("both", "road", "drawn"))
    assert found["iou"]["value"] == both / (road + drawn - both)
    for fold, rows in model.groupby("fold"):
        of_fold = found["f1"]["folds"][fold]
        assert of_fold == 2 * rows["both"].sum() / (rows["road"].sum() + rows["drawn"].sum())
    weighted = np.average(model["apls"], weights=model["line_px"])
    assert found["apls"]["value"] == pytest.approx(weighted, rel=1e-12)


def test_intervals_are_those_of_drawing_blocks_one_by_one() -> None:
    table = judged(5, methods=("model",))
    chance = np.random.default_rng(11)
    drawn = chance.multinomial(20, np.full(20, 1 / 20), 1000)
    by_block = [rows for _, rows in table.groupby("block")]
    values = []
    for times in drawn:
        rows = pd.concat([one for one, often in zip(by_block, times, strict=True) for _ in range(often)])
        both = rows["both"].sum()
        values.append(both / (rows["road"].sum() + rows["drawn"].sum() - both))
    low, high = np.quantile(values, [0.025, 0.975])
    found = scores(table, 11)["model"]["iou"]
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["low"] < found["value"] < found["high"]


def test_no_order_of_units_changes_a_bit() -> None:
    table = judged(7)
    shuffled = table.sample(frac=1, random_state=1)
    assert scores(table, 4) == scores(shuffled, 4)
    assert differences(table, "model", "colour", "apls", 4) == differences(
        shuffled, "model", "colour", "apls", 4
    )
    assert scores(table, 4) != scores(table, 5)


def test_units_stand_in_one_order_and_a_missing_apls_stays_missing() -> None:
    counts = UnitCounts(9, 3, 3, 3, 3, 3)
    units = [UnitJudged(method, key, 0, 0, counts, None, 0.0) for method in "ba" for key in "zy"]
    table = units_table(units)
    assert (table["method"] + table["key"]).tolist() == ["ay", "az", "by", "bz"]
    assert table["apls"].isna().all()
    assert units_table(units[::-1]).equals(table)


def test_fewer_than_twenty_blocks_give_no_interval() -> None:
    enough, few = judged(1, units=60), judged(1, units=57)
    assert all(score["low"] is not None for score in scores(enough, 0)["model"].values())
    assert all(score["low"] is score["high"] is None for score in scores(few, 0)["model"].values())
    assert differences(few, "model", "colour", "iou", 0)["low"] is None


def test_a_difference_is_paired_on_the_same_draws() -> None:
    table = judged(9, methods=("model",))
    twin = table.assign(method="twin")
    both = pd.concat([table, twin])
    same = differences(both, "model", "twin", "relaxed_f1", 0)
    assert (same["value"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    # one more right pixel of each hundred: far less than a draw of blocks moves either
    better = pd.concat([table, twin.assign(both=np.minimum(twin["both"] + 2, twin["road"]))])
    found = differences(better, "twin", "model", "recall", 0)
    assert found["low"] > 0
    alone = scores(better, 0)
    assert alone["model"]["recall"]["high"] > alone["twin"]["recall"]["low"]
    assert found["value"] == pytest.approx(
        alone["twin"]["recall"]["value"] - alone["model"]["recall"]["value"]
    )
    assert len(found["folds"]) == 5


def test_no_road_anywhere_is_not_defined() -> None:
    table = judged(2).assign(road=0, both=0, road_near=0, apls=np.nan)
    for score in scores(table, 0)["model"].values():
        assert score == {"value": None, "low": None, "high": None, "folds": [None] * 5}


@dataclass(frozen=True)
class Shown:
    """A picture in memory."""

    pixels: np.ndarray
    valid: np.ndarray

    @property
    def height(self) -> int:
        return int(self.valid.shape[0])

    @property
    def width(self) -> int:
        return int(self.valid.shape[1])

    @property
    def bands(self) -> int:
        return len(self.pixels)

    def read(self, window: Window) -> Picture:
        rows, cols = _slices(window)
        return Picture(self.pixels[:, rows, cols], self.valid[rows, cols])

    def close(self) -> None: ...


@dataclass(frozen=True)
class Known:
    """Roads in memory."""

    truth: Truth

    def read(self, window: Window) -> Truth:
        rows, cols = _slices(window)
        return Truth(self.truth.road[rows, cols], self.truth.known[rows, cols])

    def close(self) -> None: ...


def _slices(window: Window) -> tuple[slice, slice]:
    return slice(window.y, window.y + window.height), slice(window.x, window.x + window.width)


def pictured(pixels: np.ndarray, road: np.ndarray, known: np.ndarray | None = None) -> RoadExamples:
    """Units of 16 pixels, cut from pictures (N, bands, 32, 32)."""
    scenes = tuple(
        Scene(
            f"p{which}",
            Shown(of, np.ones(of.shape[1:], bool)),
            Known(Truth(roads, np.ones_like(roads) if known is None else known[which])),
            (16, 16),
        )
        for which, (of, roads) in enumerate(zip(pixels, road, strict=True))
    )
    scene, row, col = (index.ravel() for index in np.indices((len(scenes), 2, 2)))
    keys = np.array([f"{s}/{r}/{c}" for s, r, c in zip(scene, row, col, strict=True)], object)
    share = np.ones(len(scene))
    return RoadExamples(
        "made up",
        "",
        scenes,
        scene,
        row,
        col,
        keys,
        keys,
        share,
        share,
        None,
        pixels.shape[1],
        None,
        None,
        (),
    )


def test_everything_is_road_but_what_is_not_known() -> None:
    valid = np.random.default_rng(0).random((9, 9)) < 0.5
    drawn = all_road(valid)
    assert (drawn == valid).all()
    assert drawn is not valid


def test_a_planted_colour_is_found_whatever_the_order() -> None:
    chance = np.random.default_rng(0)
    road = chance.random((3, 32, 32)) < 0.2
    green = np.stack([chance.integers(0, 60, road.shape), chance.integers(90, 200, road.shape)], axis=1)
    pixels = np.concatenate([green, green[:, :1]], axis=1).astype(np.uint8)
    grey = chance.integers(100, 140, road.shape).astype(np.uint8)
    grey = np.where(road, grey, np.where(chance.random(road.shape) < 0.5, 99, 140))
    pixels = np.where((road | (chance.random(road.shape) < 0.2))[:, None], grey[:, None], pixels).astype(
        np.uint8
    )
    examples = pictured(pixels, road)
    rule = colour_rule(examples, np.arange(len(examples)))
    assert rule == ColourRule(100, 140, 4, 3)
    assert (rule.drawn(pixels[0], np.ones((32, 32), bool)) == road[0]).all()
    assert not rule.drawn(pixels[0], np.zeros((32, 32), bool)).any()
    assert colour_rule(examples, np.arange(len(examples))[::-1]) == rule
    assert str(rule) == ("Road is where brightness is 100 to 139 and saturation below 4, each of 0 to 255.")


@pytest.mark.parametrize("bands", [1, 3])
def test_no_limits_on_the_grid_are_better(bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadrisk.roads.judging.baselines.STEP", 32)
    monkeypatch.setattr("roadrisk.roads.judging.baselines.BINS", 8)
    chance = np.random.default_rng(bands)
    pixels = chance.integers(0, 256, (2, bands, 32, 32)).astype(np.uint8)
    road = (pixels.mean(axis=1) + chance.normal(0, 40, (2, 32, 32))) > 150
    known = chance.random((2, 32, 32)) < 0.8
    rows = np.array([0, 3, 5])  # of two pictures, not all
    examples = pictured(pixels, road, known)
    rule = colour_rule(examples, rows)
    of = [(examples.scenes[examples.scene[row]], examples.window(int(row))) for row in rows]
    read = [(scene.plane.read(window), scene.truths.read(window)) for scene, window in of]

    def iou(one: ColourRule) -> float:
        drawn = [one.drawn(picture.pixels, picture.valid)[truth.known] for picture, truth in read]
        return float(jaccard_score(np.concatenate([t.road[t.known] for _, t in read]), np.concatenate(drawn)))

    limits = range(0, 257, 32)
    every = [ColourRule(a, b, c, bands) for a in limits for b in limits if b > a for c in limits[1:]]
    assert iou(rule) == max(iou(one) for one in every) > 0.4
    if bands == 1:
        assert rule.colourful == 32
        assert "saturation" not in str(rule)


def test_many_pixels_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((1, 1, 32, 32), 200, np.uint8)
    road = np.zeros((1, 32, 32), bool)
    road[:, ::2, ::2] = True
    examples = pictured(pixels, road)
    assert colour_rule(examples, np.arange(4)).brightest == 204
    pixels[:, :, 1::2] = 16  # none of the rows that are looked at
    pixels[:, :, :, 1::2] = 16
    road[:, 1::2] = True
    monkeypatch.setattr("roadrisk.roads.judging.baselines.PIXELS", 256)
    assert colour_rule(pictured(pixels, road), np.arange(4)) == ColourRule(0, 204, 4, 1)


def test_a_rule_needs_roads() -> None:
    examples = pictured(np.zeros((1, 3, 32, 32), np.uint8), np.zeros((1, 32, 32), bool))
    with pytest.raises(SourceError) as error:
        colour_rule(replace(examples, name="pairs/"), np.arange(4))
    assert str(error.value) == "pairs/ has no road in the units to learn from; give masks with roads"


def test_real_roads_have_a_colour_that_is_better_than_all_road(shared_data: Path) -> None:
    examples = pair_examples(shared_data / "road_pairs", RoadSettings())
    rule = colour_rule(examples, np.arange(0, 60, 4))
    assert 50 < rule.darkest < rule.brightest < 150
    judged = []
    for unit in range(1, 60, 2):
        scene, window = examples.scenes[examples.scene[unit]], examples.window(unit)
        picture, truth = scene.plane.read(window), scene.truths.read(window)
        core = slice(0, window.height), slice(0, window.width)
        methods = {"all_road": all_road(picture.valid), "colour": rule.drawn(picture.pixels, picture.valid)}
        for method, drawn in methods.items():
            counts = unit_counts(drawn, truth, picture.valid, core, near_px(examples.metres_per_pixel))
            judged.append(UnitJudged(method, str(examples.key[unit]), 0, unit, counts, None, 0.0))
    examples.close()
    table = units_table(judged)
    found = scores(table, 0)
    share = table[table["method"] == "all_road"]
    assert found["all_road"]["iou"]["value"] == share["road"].sum() / share["known"].sum()
    assert found["colour"]["iou"]["value"] == pytest.approx(0.28, abs=0.04)
    better = differences(table, "colour", "all_road", "relaxed_f1", 0)
    assert better["low"] is not None
    assert better["low"] > 0.05
