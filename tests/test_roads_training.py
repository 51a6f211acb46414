"""Learning roads: what is held out is not learned, the same seed gives the same weights, also after a break."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from roadrisk.errors import ModelError, UsageError
from roadrisk.grid import IntArray
from roadrisk.learning.architecture import seeded
from roadrisk.learning.loop.checkpoints import Checkpoints
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.pictures.weights import State
from roadrisk.mosaic.picture import Picture
from roadrisk.roads.learning.crops import batches, cutting_of, drawn_crops, normal_of, turned
from roadrisk.roads.learning.dealing import dealt
from roadrisk.roads.learning.fitting import Fitted, fitted, levels_of_units, loop_settings, watched_once
from roadrisk.roads.normal import Normal
from roadrisk.roads.scenes import RoadExamples, Scene, Truth, Window
from roadrisk.roads.settings import RoadSettings

CPU = torch.device("cpu")
TILE = 32


@dataclass(frozen=True, eq=False)
class Held:
    """Pictures and truth in memory; `layers` are pixels (bands, H, W), valid, road and known (H, W)."""

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    road: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @property
    def height(self) -> int:
        return self.valid.shape[0]

    @property
    def width(self) -> int:
        return self.valid.shape[1]

    @property
    def bands(self) -> int:
        return self.pixels.shape[0]

    def read(self, window: Window) -> Picture:
        return Picture(self.cut(self.pixels * self.valid, window), self.cut(self.valid, window))

    def cut(self, layer: NDArray[Any], window: Window) -> NDArray[Any]:
        y, x, height, width = window
        cut = np.zeros((*layer.shape[:-2], height, width), layer.dtype)
        top, left = max(0, y), max(0, x)
        there = layer[..., top : max(0, y + height), left : max(0, x + width)]
        cut[..., top - y : top - y + there.shape[-2], left - x : left - x + there.shape[-1]] = there
        return cut

    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class HeldTruths:
    held: Held

    def read(self, window: Window) -> Truth:
        held = self.held
        return Truth(held.cut(held.road & held.known, window), held.cut(held.known, window))

    def close(self) -> None: ...


def streets(height: int, width: int, seed: int, known: float = 1.0) -> Held:
    """Bright streets on dark ground, and dark ones that are no streets."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(60, 120, (3, height, width))
    road = np.zeros((height, width), bool)
    for at in chance.integers(4, min(height, width) - 8, 3 + height // 64):
        road[at : at + 5] = True
    for at in chance.integers(4, min(height, width) - 8, 3 + width // 64):
        road[:, at : at + 5] = True
    pixels += 90 * road
    return Held(
        pixels.astype(np.uint8), np.ones((height, width), bool), road, chance.random((height, width)) < known
    )


def examples_of(held: list[Held], unit: int | None = None) -> RoadExamples:
    """Whole pictures; of one also the tiles, `unit` pixels wide."""
    scenes = tuple(
        Scene(f"p{n:02d}", of, HeldTruths(of), (unit, unit) if unit else (of.height, of.width))
        for n, of in enumerate(held)
    )
    if unit:
        row, col = np.divmod(
            np.arange(held[0].height // unit * (held[0].width // unit)), held[0].width // unit
        )
        scene, lattice = np.zeros(len(row), np.int64), (row + 7, col + 100, 50.0)
    else:
        scene, lattice = np.arange(len(held)), None
        row = col = np.zeros(len(held), np.int64)
    key = np.array(
        [f"{scenes[s].name}/{r:02d}/{c:02d}" for s, r, c in zip(scene, row, col, strict=True)], object
    )
    made = RoadExamples(
        "made up", "1", scenes, scene, row, col, key, key, np.zeros(len(key)), np.zeros(len(key)),
        lattice, 3, None, None, (),
    )  # fmt: skip
    truths = [scenes[scene[n]].truths.read(made.window(n)) for n in range(len(made))]
    seen = [scenes[scene[n]].plane.read(made.window(n)).valid & truths[n].known for n in range(len(made))]
    share = [(t.road & s).sum() / max(1, s.sum()) for t, s in zip(truths, seen, strict=True)]
    return replace(made, road_share=np.array(share), known_share=np.array([s.mean() for s in seen]))


def reordered(examples: RoadExamples, order: IntArray) -> RoadExamples:
    """The same units in other rows."""
    names = ("scene", "row", "col", "key", "content", "road_share", "known_share")
    lattice = examples.lattice
    if lattice:
        lattice = (lattice[0][order], lattice[1][order], lattice[2])
    return replace(examples, lattice=lattice, **{name: getattr(examples, name)[order] for name in names})


class SmallNN(nn.Module):
    """Sees five pixels around each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(8, 1, 3, padding=1),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, H, W)."""
        return self.layers(pictures)  # type: ignore[no-any-return]


QUICK = RoadSettings(
    shrink=1, crop_px=64, batch_size=4, epochs=4, learning_rate=0.03, device="cpu", patience=4, folds=3
)


def small_network() -> SmallNN:
    with seeded(5):
        return SmallNN()


def learned_from(
    examples: RoadExamples,
    learned: IntArray,
    watched: IntArray,
    settings: RoadSettings = QUICK,
    seed: int = 3,
    network: nn.Module | None = None,
    **given: Any,
) -> Fitted:
    fabric = fabric_of(loop_settings(settings))
    network = network or small_network()
    normal = normal_of(examples, learned)
    return fitted(network, examples, learned, watched, normal, settings, seed, fabric, **given)


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def pictures() -> RoadExamples:
    return examples_of([streets(96, 80 + 16 * (n % 2), n) for n in range(6)])


@pytest.fixture(scope="module")
def tiles() -> RoadExamples:
    return examples_of([streets(256, 256, 0, known=0.9)], TILE)


# what is learned from


def test_pixels_are_normalised_by_what_is_known_of_the_units_learned_from(tiles: RoadExamples) -> None:
    rows = np.array([40, 3, 17])
    held = tiles.scenes[0].plane
    assert isinstance(held, Held)
    known = [
        (held.pixels[:, w.y : w.y + TILE, w.x : w.x + TILE], held.known[w.y : w.y + TILE, w.x : w.x + TILE])
        for w in map(tiles.window, rows)
    ]
    values = np.concatenate([pixels[:, mask] for pixels, mask in known], axis=1)
    normal = normal_of(tiles, rows)
    assert normal.mean == pytest.approx(values.mean(axis=1))
    assert normal.std == pytest.approx(values.std(axis=1))
    assert normal == normal_of(tiles, rows[::-1])


def test_a_band_of_one_value_is_zero_and_none_known_is_an_error() -> None:
    held = streets(64, 64, 0)
    held.pixels[1] = 77
    flat = examples_of([held])
    normal = normal_of(flat, np.array([0]))
    assert (normal.mean[1], normal.std[1]) == (77, 1)
    held.known[:] = False
    with pytest.raises(ModelError, match="made up: no pixel that is learned from is known; check pictures"):
        normal_of(flat, np.array([0]))


@given(st.integers(0, 50), st.sampled_from([64, 96]), st.integers(1, 3))
def test_crops_have_their_middle_in_a_unit_and_lie_in_the_plane(seed: int, crop: int, shrink: int) -> None:
    examples = examples_of([streets(320, 256, 1)], TILE)
    rows = np.random.default_rng(seed).permutation(len(examples))[:9]
    settings = replace(QUICK, crop_px=crop, shrink=shrink, batch_size=3)
    crops, side = drawn_crops(examples, rows, settings, seed, 1), crop * shrink
    units = {(int(examples.row[row]), int(examples.col[row])) for row in rows}
    assert len(crops) == 3 * max(1, -(-(9 * TILE * TILE) // (3 * side * side)))
    for _, y, x, turn, *_ in crops:
        assert min(y, 320 - side) <= y <= max(0, 320 - side)
        assert 0 <= turn < 8
        inside = 0 < y < 320 - side and 0 < x < 256 - side
        assert not inside or ((y + side // 2) // TILE, (x + side // 2) // TILE) in units
    assert crops == drawn_crops(examples, rows[::-1], settings, seed, 1)
    assert crops != drawn_crops(examples, rows, settings, seed, 2)


def test_an_epoch_covers_all_that_is_known(tiles: RoadExamples) -> None:
    settings = replace(QUICK, batch_size=1)
    middles = [
        ((crop.y + 32) // 64, (crop.x + 32) // 64)
        for crop in drawn_crops(tiles, np.arange(len(tiles)), settings, 0, 1)
    ]
    assert len(middles) == 15, "0.9 of 65,536 pixels in crops of 4,096"
    assert len(set(middles)) > 6


def test_all_eight_turns_come_and_take_picture_and_truth_with_them(tiles: RoadExamples) -> None:
    rows = np.arange(len(tiles))
    cutting = cutting_of(tiles, rows, Normal((0.0,) * 3, (1.0,) * 3), QUICK)
    crops = [crop for epoch in range(9) for crop in drawn_crops(tiles, rows, QUICK, 0, epoch)]
    assert {crop.turn for crop in crops} == set(range(8))
    held = tiles.scenes[0].plane
    assert isinstance(held, Held)
    batch = cutting.batch(crops)
    for n, crop in enumerate(crops):
        window = Window(crop.y, crop.x, 64, 64)
        pixels = turned(held.cut(held.pixels, window), crop.turn) * crop.gain + crop.offset
        assert np.allclose(batch.pictures[n].numpy(), pixels, atol=1e-3)
        assert np.array_equal(batch.known[n, 0], turned(held.cut(held.known, window), crop.turn))
        assert np.array_equal(batch.road[n, 0], turned(held.cut(held.road & held.known, window), crop.turn))
    square = np.arange(6).reshape(2, 3)
    assert len({turned(square, turn).tobytes() + bytes(turned(square, turn).shape) for turn in range(8)}) == 8


def test_brightness_and_contrast_differ_from_crop_to_crop(tiles: RoadExamples) -> None:
    crops = drawn_crops(tiles, np.arange(len(tiles)), QUICK, 0, 1)
    gains, offsets = np.array([(crop.gain, crop.offset) for crop in crops]).T
    assert 0.8 <= gains.min() < 0.9 < 1.1 < gains.max() <= 1.2
    assert -0.3 <= offsets.min() < -0.15 < 0.15 < offsets.max() <= 0.3


def test_only_units_that_are_learned_from_are_known(tiles: RoadExamples) -> None:
    rows = np.flatnonzero((tiles.row + tiles.col) % 3 == 0)
    held = tiles.scenes[0].plane
    assert isinstance(held, Held)
    board = np.zeros((8, 8), bool)
    board[tiles.row[rows], tiles.col[rows]] = True
    learned = np.kron(board, np.ones((TILE, TILE), bool)) & held.known
    crops = drawn_crops(tiles, rows, QUICK, 1, 1)
    batch = cutting_of(tiles, rows, normal_of(tiles, rows), QUICK).batch(crops)
    for n, crop in enumerate(crops):
        expected = turned(held.cut(learned, Window(crop.y, crop.x, 64, 64)), crop.turn)
        assert np.array_equal(batch.known[n, 0].numpy() > 0, expected)
        assert not (batch.road[n, 0].numpy() > expected).any()


def test_a_picture_smaller_than_the_crop_is_surrounded_by_what_is_not_known() -> None:
    examples = examples_of([streets(40, 50, 0)])
    crops = drawn_crops(examples, np.array([0]), QUICK, 0, 1)
    batch = cutting_of(examples, np.array([0]), normal_of(examples, np.array([0])), QUICK).batch(crops)
    assert batch.known.sum((1, 2, 3)).tolist() == [40 * 50] * len(crops)
    assert not (batch.pictures * (1 - batch.known)).any(), "0 where nothing is known"


def test_batches_read_ahead_are_those_read_at_once(tiles: RoadExamples) -> None:
    rows = np.arange(len(tiles))
    cutting = cutting_of(tiles, rows, normal_of(tiles, rows), QUICK)
    crops = drawn_crops(tiles, rows, QUICK, 0, 1)
    ahead = list(batches(cutting, crops, 4))
    assert [len(batch.pictures) for batch in ahead] == [4] * (len(crops) // 4)
    whole = cutting.batch(crops)
    assert torch.equal(torch.cat([batch.pictures for batch in ahead]), whole.pictures)
    assert torch.equal(torch.cat([batch.known for batch in ahead]), whole.known)


# the loop


def test_it_learns_streets_and_the_level_from_which_on_there_is_one(pictures: RoadExamples) -> None:
    settings = replace(QUICK, epochs=12)
    network, told = small_network(), list[Epoch]()
    found = learned_from(
        pictures, np.arange(4), np.array([4]), settings, network=network, after_epoch=told.append
    )
    assert tuple(told) == found.epochs
    assert [epoch.number for epoch in found.epochs] == list(range(1, len(found.epochs) + 1))
    assert max(epoch.watched_score or 0 for epoch in found.epochs) > 0.8
    assert same(network.state_dict(), found.state)
    ((row, drawn),) = levels_of_units(
        network, pictures, np.array([5]), normal_of(pictures, np.arange(4)), 1, CPU
    )
    road = pictures.scenes[5].truths.read(pictures.window(5)).road
    said = drawn.level >= found.level
    assert row == 5
    assert (said & road).sum() / (said | road).sum() > 0.8


@pytest.mark.parametrize("loss", ["dice", "cldice"])
def test_the_weights_are_those_of_the_epoch_with_the_lowest_watched_loss(
    pictures: RoadExamples, loss: Any
) -> None:
    settings = replace(QUICK, epochs=5, learning_rate=0.3, schedule="constant", loss=loss)
    network = small_network()
    learned, watched = np.arange(4), np.array([4, 5])
    found = learned_from(pictures, learned, watched, settings, network=network)
    losses = [epoch.watched_loss for epoch in found.epochs]
    normal = normal_of(pictures, learned)
    network.load_state_dict(found.state)
    again = watched_once(network, pictures, watched, normal, settings, CPU)
    assert again.loss == min(losses)  # type: ignore[type-var]
    assert again.histogram.sum() == sum(of.plane.height * of.plane.width for of in pictures.scenes[4:])


def test_training_stops_when_the_watched_loss_no_longer_falls(pictures: RoadExamples) -> None:
    settings = replace(QUICK, epochs=40, learning_rate=0.5, schedule="constant", patience=2)
    epochs = learned_from(pictures, np.arange(4), np.array([4]), settings).epochs
    losses = [epoch.watched_loss for epoch in epochs]
    assert len(epochs) < 40
    assert losses.index(min(losses)) == len(epochs) - 3  # type: ignore[type-var]


def test_same_seed_same_weights_whatever_the_order_of_rows(pictures: RoadExamples) -> None:
    learned, watched = np.arange(4), np.array([4, 5])
    first = learned_from(pictures, learned, watched)
    torch.manual_seed(99)
    assert same(first.state, learned_from(pictures, learned[::-1], watched[::-1]).state)
    assert not same(first.state, learned_from(pictures, learned, watched, seed=4).state)
    turned_round = reordered(pictures, np.arange(6)[::-1])
    again = learned_from(turned_round, 5 - learned, 5 - watched)
    assert same(first.state, again.state)
    assert first.level == again.level


def test_what_is_held_out_is_not_learned_from(tiles: RoadExamples) -> None:
    learned = np.flatnonzero(tiles.col < 4)
    watched = np.flatnonzero(tiles.col == 7)
    first = learned_from(tiles, learned, watched).state

    def with_other_truth(col: int) -> RoadExamples:
        held = tiles.scenes[0].plane
        assert isinstance(held, Held)
        road = held.road.copy()
        road[:, col * TILE : (col + 1) * TILE] ^= True
        scene = replace(tiles.scenes[0], truths=HeldTruths(replace(held, road=road)))
        return replace(tiles, scenes=(scene,))

    assert same(first, learned_from(with_other_truth(4), learned, watched).state), "next to what is learned"
    assert not same(first, learned_from(with_other_truth(3), learned, watched).state)


class StoppedError(Exception):
    """Stands for a kill at an epoch."""


@pytest.mark.parametrize("last", [1, 3, 5])
def test_a_broken_training_goes_on_to_the_same_weights(
    tmp_path: Path, pictures: RoadExamples, last: int
) -> None:
    settings, parts = replace(QUICK, epochs=5), (np.arange(4), np.array([4, 5]))
    whole = learned_from(pictures, *parts, settings)

    def stop(epoch: Epoch) -> None:
        if epoch.number == last:
            raise StoppedError

    checkpoints = Checkpoints(tmp_path, "fold-1")
    with pytest.raises(StoppedError):
        learned_from(pictures, *parts, settings, checkpoints=checkpoints, after_epoch=stop)
    told = list[Epoch]()
    resumed = learned_from(pictures, *parts, settings, checkpoints=checkpoints, after_epoch=told.append)
    assert same(whole.state, resumed.state)
    assert whole.level == resumed.level
    assert [epoch.watched_loss for epoch in told] == [epoch.watched_loss for epoch in whole.epochs]
    with pytest.raises(ModelError, match="is of another training"):
        learned_from(pictures, *parts, settings, seed=8, checkpoints=checkpoints)
    with pytest.raises(ModelError, match="is of another training"):
        learned_from(replace(pictures, identity="2"), *parts, settings, checkpoints=checkpoints)


def test_a_loss_that_is_not_finite_is_one_line(pictures: RoadExamples) -> None:
    class Astray(SmallNN):
        def forward(self, pictures: Tensor) -> Tensor:
            return super().forward(pictures) * float("inf")

    with pytest.raises(
        ModelError,
        match=r"^training went astray: the loss is nan in epoch 1, batch 1; use a smaller learning_rate in --settings$",
    ):
        learned_from(pictures, np.arange(4), np.array([4]), network=Astray())


def test_a_network_that_cannot_take_the_crops_says_so_before_anything_is_read(pictures: RoadExamples) -> None:
    class Picky(SmallNN):
        def forward(self, pictures: Tensor) -> Tensor:
            if pictures.shape[-1] != 224:
                raise RuntimeError(f"Input width ({pictures.shape[-1]}) is not 224. Really")
            return super().forward(pictures)

    with pytest.raises(
        UsageError,
        match=r"^the network cannot learn from crops of 64 x 64 px, 4 at once \(Input width \(64\) is not 224\); ",
    ):
        learned_from(pictures, np.arange(4), np.array([4]), network=Picky())


# what is drawn of units


def test_a_tile_is_drawn_as_in_one_large_window(tiles: RoadExamples) -> None:
    network, normal = small_network().eval(), normal_of(tiles, np.arange(len(tiles)))
    plane = tiles.scenes[0].plane
    picture = plane.read(Window(0, 0, 256, 256))
    with torch.no_grad():
        whole = network(torch.from_numpy(normal.of(picture))[None])[0, 0].sigmoid().numpy()
    rows = np.array([0, 27, 63, 7])
    for row, drawn in levels_of_units(network, tiles, rows, normal, 1, CPU, halo_px=3):
        y, x, *_ = tiles.window(row)
        level = np.pad(np.rint(whole * 255), 3)[y : y + TILE + 6, x : x + TILE + 6]
        assert np.abs(drawn.level - level).max() <= 1
        inside = np.pad(np.ones((256, 256), bool), 3)[y : y + TILE + 6, x : x + TILE + 6]
        assert np.array_equal(drawn.valid, inside)
        assert not drawn.level[~inside].any()


def test_pictures_of_any_size_are_drawn_whole() -> None:
    examples = examples_of([streets(96, 80, 0), streets(30, 333, 1)])
    normal, sizes = Normal((90.0,) * 3, (30.0,) * 3), list[tuple[int, ...]]()

    class Asking(SmallNN):
        def forward(self, pictures: Tensor) -> Tensor:
            sizes.append(tuple(pictures.shape[2:]))
            return super().forward(pictures)

    drawn = dict(levels_of_units(Asking(), examples, np.array([1, 0]), normal, 2, CPU))
    assert [of.level.shape for of in drawn.values()] == [(30, 333), (96, 80)]
    assert sizes == [(256, 384), (256, 256)], "multiples of 64, and at least 256"


# folds


def test_pictures_are_dealt_whole_and_alike() -> None:
    examples = examples_of([streets(64, 64, n) for n in range(23)])
    deal = dealt(examples, replace(QUICK, folds=4))
    assert (deal.count, deal.rule) == (4, "23 pictures dealt to 4 folds")
    assert sorted(deal.block) == list(range(23))
    tested = [deal.tested(k) for k in range(4)]
    assert sorted(np.concatenate(tested)) == list(range(23))
    assert {len(rows) for rows in tested} == {5, 6}
    shares = np.array([examples.road_share[rows].mean() for rows in tested])
    spread = examples.road_share.max() - examples.road_share.min()
    assert np.ptp(shares) < spread / 3
    for k in (0, 1, 2, 3, None):
        learned, watched = deal.parts(k)
        trained = set(range(23)) - (set(tested[k]) if k is not None else set())
        assert set(deal.trained(k)) == trained == set(learned) | set(watched)
        assert not set(learned) & set(watched)
        assert len(watched) in (3, 4, 5)
        assert abs(examples.road_share[watched].mean() - examples.road_share[learned].mean()) < spread / 4


def test_blocks_of_tiles_are_kept_whole_and_apart() -> None:
    examples = examples_of([streets(640, 640, 3)], TILE)
    deal = dealt(examples, replace(QUICK, folds=4, block_m=200.0))
    assert deal.rule == "30 blocks of 4 x 4 tiles (200 m) dealt to 4 folds, buffer 1 tile"
    assert all(len(np.unique(deal.fold[deal.block == block])) == 1 for block in np.unique(deal.block))

    def apart(some: IntArray, others: IntArray) -> int:
        """Least number of steps from one of some to one of others."""
        place = np.stack([examples.row, examples.col], axis=1)
        return int(np.abs(place[some][:, None] - place[others][None]).max(axis=2).min())

    for k in (0, 1, 2, 3, None):
        learned, watched = deal.parts(k)
        assert apart(learned, watched) > 1
        assert 0.04 < len(watched) / len(deal.trained(k)) < 0.4
        share = examples.road_share
        assert abs(share[watched].mean() - share[deal.trained(k)].mean()) < 0.5 * share.std()
        if k is not None:
            assert apart(deal.trained(k), deal.tested(k)) > 1
            assert set(learned) | set(watched) <= set(deal.trained(k))


@pytest.mark.parametrize("unit", [None, TILE])
def test_no_order_of_rows_changes_the_folds(unit: int | None) -> None:
    held = [streets(384, 384, 0)] if unit else [streets(64, 64, n) for n in range(12)]
    examples = examples_of(held, unit)
    order = np.random.default_rng(1).permutation(len(examples))
    first, second = dealt(examples, QUICK), dealt(reordered(examples, order), QUICK)
    assert np.array_equal(first.fold[order], second.fold)
    assert np.array_equal(first.block[order], second.block)
    for k in (1, None):
        for ours, theirs in zip(first.parts(k), second.parts(k), strict=True):
            assert set(ours) == set(order[theirs])


def test_other_seeds_deal_otherwise() -> None:
    examples = examples_of([streets(64, 64, n) for n in range(12)])
    assert not np.array_equal(dealt(examples, QUICK).fold, dealt(examples, replace(QUICK, seed=1)).fold)


def test_without_folds_there_is_the_last_network_alone(pictures: RoadExamples) -> None:
    deal = dealt(pictures, replace(QUICK, quick=True, folds=50))
    assert deal.count == 0
    assert deal.rule == "6 pictures, no folds: judged on what the network was watched on"
    learned, watched = deal.parts(None)
    assert sorted([*learned, *watched]) == list(range(6))


def test_too_few_units_are_told(pictures: RoadExamples, tiles: RoadExamples) -> None:
    with pytest.raises(
        ModelError, match=r"^6 pictures are too few for 7 folds; use fewer --folds, --quick or more of them$"
    ):
        dealt(pictures, replace(QUICK, folds=7))
    with pytest.raises(
        ModelError,
        match=r"^6 blocks of 4 x 4 tiles \(200 m\) are too few for 7 folds; use a smaller --block, fewer --folds,",
    ):
        dealt(tiles, replace(QUICK, folds=7))
    alone = examples_of([streets(64, 64, 0)])
    with pytest.raises(
        ModelError,
        match=r"^1 units to learn from are too few to watch some of them; give more tiles or pictures$",
    ):
        dealt(alone, replace(QUICK, quick=True)).parts(None)


def test_a_region_of_few_blocks_is_watched_in_narrower_ones(tiles: RoadExamples) -> None:
    learned, watched = dealt(tiles, replace(QUICK, folds=2)).parts(0)
    assert len(learned) >= len(watched) > 0
