"""What feeds the image branch: turned pictures, and features of a frozen encoder that are made once."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mosaics import SMALL, TILE, holed, write_mosaic
from torch import Tensor
from torchvision.models import resnet18
from torchvision.transforms.functional import normalize

from roadrisk.learning.batches import TURNS
from roadrisk.learning.pictures.feeds import ImageFeed, frozen_features, scoring_feed, training_feed
from roadrisk.learning.pictures.kept import ROWS_AT_ONCE
from roadrisk.learning.pictures.pixels import as_tensor, turned
from roadrisk.learning.pictures.sources import CachedPictures, MosaicPictures, PicturePreparation
from roadrisk.learning.pictures.weights import State, weights_identity
from roadrisk.mosaic.reader import MosaicReader
from roadrisk.progress import silent

SIZE_PX = 32
CPU = torch.device("cpu")
PREPARATION = PicturePreparation(SIZE_PX, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIDE = 12  # of the made-up mosaic, in tiles


@dataclass(frozen=True)
class Noise:
    """Tiles of noise; tells which tiles were read."""

    seed: int
    read_tiles: list[tuple[int, int]]

    def read(self, row: int, col: int) -> np.ndarray:
        self.read_tiles.append((row, col))
        chance = np.random.default_rng([self.seed, row, col])
        return chance.integers(0, 256, (3, SIZE_PX, SIZE_PX), dtype=np.uint8)


def noise(tiles: Sequence[int], seed: int = 0) -> MosaicPictures:
    row, col = np.divmod(np.array(tiles), SIDE)
    return MosaicPictures(Noise(seed, []), row, col, SIZE_PX, f"noise {seed}")


def read_of(pictures: MosaicPictures) -> list[tuple[int, int]]:
    assert isinstance(pictures.reader, Noise)
    return pictures.reader.read_tiles


@pytest.fixture(scope="module")
def state() -> State:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        whole = resnet18(weights=None).state_dict()
    return {name: value for name, value in whole.items() if not name.startswith("fc.")}


def features_of(
    pictures: MosaicPictures, cache: Path, state: State, indices: Sequence[int], turns: Sequence[int] = ()
) -> np.ndarray:
    """Made and kept; under all eight turns where some are asked for."""
    feed = frozen_features(CachedPictures(pictures, cache), PREPARATION, "resnet18", state, bool(turns), CPU)
    return feed.rows(np.array(indices), np.array(turns or [0] * len(indices)))


def whole(feed: ImageFeed, indices: Sequence[int], turns: Sequence[int] | None = None) -> Tensor:
    rows = np.array(indices, np.int64)
    feed.ready(rows, silent)
    return feed.tensors(rows, np.array(turns or [0] * len(indices), np.int64))


@given(st.lists(st.integers(0, TURNS - 1), min_size=1, max_size=20), st.booleans())
def test_turns_are_those_of_numpy(turns: list[int], bands_last: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (len(turns), 3, 5, 5), dtype=np.uint8)
    given = torch.from_numpy(pixels)
    if bands_last:
        given = given.to(memory_format=torch.channels_last)
    out = turned(given, np.array(turns)).numpy()
    for picture, turn, found in zip(pixels, turns, out, strict=True):
        mirrored = picture[:, :, ::-1] if turn >= 4 else picture
        assert np.array_equal(found, np.rot90(mirrored, turn % 4, axes=(1, 2)))


def test_the_eight_turns_are_all_there_are() -> None:
    picture = torch.arange(9).reshape(1, 1, 3, 3).expand(TURNS, 1, 3, 3)
    every = {tuple(one.flatten().tolist()) for one in turned(picture, np.arange(TURNS))}
    assert len(every) == TURNS
    assert tuple(range(9)) == tuple(turned(picture, np.arange(TURNS))[0].flatten().tolist())
    for turn in range(TURNS):
        again = turned(turned(picture, np.arange(TURNS)), np.full(TURNS, turn))
        assert {tuple(one.flatten().tolist()) for one in again} == every


def test_pixels_are_prepared_as_torchvision_does() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    wanted = normalize(pixels / 255, list(PREPARATION.mean), list(PREPARATION.std))
    assert torch.equal(as_tensor(pixels, PREPARATION), wanted)
    assert torch.equal(as_tensor(pixels, PicturePreparation(16)), pixels / 255)


def test_features_are_those_of_torchvision(tmp_path: Path, state: State) -> None:
    body = resnet18(weights=None)
    body.fc = torch.nn.Identity()  # type: ignore[assignment]
    body.load_state_dict(state)
    pictures = noise(range(4))
    pixels = torch.from_numpy(pictures.prepared(np.arange(4)).copy()) / 255
    with torch.no_grad():
        wanted = body.eval()(normalize(pixels, list(PREPARATION.mean), list(PREPARATION.std))).numpy()
    found = features_of(pictures, tmp_path, state, range(4))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_features_are_made_once_and_shared(tmp_path: Path, state: State) -> None:
    first = noise(range(40))
    rows = features_of(first, tmp_path, state, [3, 0, 3])
    assert sorted(read_of(first)) == [(0, 0), (0, 3)]
    again = noise(range(40))
    assert np.array_equal(features_of(again, tmp_path, state, [0, 3]), rows[:2][::-1])
    assert not read_of(again)


def test_a_picture_has_the_same_features_in_any_company(tmp_path: Path, state: State) -> None:
    alone = features_of(noise(range(70)), tmp_path / "alone", state, [37])
    crowd = features_of(noise(range(70)), tmp_path / "crowd", state, range(70))
    assert np.array_equal(alone, crowd[[37]])


def test_the_encoder_is_given_whole_batches_only(tmp_path: Path, state: State) -> None:
    source = CachedPictures(noise(range(70)), tmp_path)
    feed = frozen_features(source, PREPARATION, "resnet18", state, False, CPU)
    encoder, shapes = feed.network(), []
    encoder.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    watched = replace(feed, network=lambda: encoder)
    for count in (1, 40, 70):
        watched.fill(np.arange(count))
    assert shapes == [(ROWS_AT_ONCE, 3, SIZE_PX, SIZE_PX)] * 4


def test_scoring_finds_what_training_made(tmp_path: Path, state: State) -> None:
    """Training has labelled tiles only, in another list than the region's."""
    labelled, region = noise([30, 7, 11, 12]), noise(range(40))
    trained = training_feed([CachedPictures(labelled, tmp_path)], PREPARATION, "resnet18", state, False, CPU)
    known = whole(trained, range(4))
    feed = scoring_feed([CachedPictures(region, tmp_path)], PREPARATION, "resnet18", state, False, CPU)
    assert torch.equal(whole(feed, [30, 7, 11, 12]), known)
    assert not read_of(region)
    assert len(whole(feed, range(40))) == 40
    assert len(read_of(region)) == 36


def test_what_would_change_features_names_another_file(tmp_path: Path, state: State) -> None:
    def path(
        pictures: MosaicPictures, preparation: PicturePreparation = PREPARATION, state: State = state
    ) -> Path:
        made = frozen_features(CachedPictures(pictures, tmp_path), preparation, "resnet18", state, False, CPU)
        return made.kept[0].path

    moved = state | {"bn1.running_mean": state["bn1.running_mean"] + 1}
    paths = [
        path(noise([1])),
        path(noise([1], seed=1)),
        path(noise([1]), state=moved),
        path(noise([1]), replace(PREPARATION, std=(0.2, 0.2, 0.2))),
    ]
    assert len(set(paths)) == 4
    assert path(noise([2, 3])) == paths[0]


def test_a_picture_is_read_once_for_all_its_turns(tmp_path: Path, state: State) -> None:
    pictures = noise(range(5))
    indices = np.repeat(np.arange(5), TURNS)
    turns = np.tile(np.arange(TURNS), 5)
    features = features_of(pictures, tmp_path, state, indices.tolist(), turns.tolist())
    assert len(read_of(pictures)) == 5

    class Turned:
        """The same mosaic, each tile already turned so."""

        def __init__(self, turn: int) -> None:
            self.turn = turn

        def read(self, row: int, col: int) -> np.ndarray:
            tile = torch.from_numpy(Noise(0, []).read(row, col))[None]
            return turned(tile, np.array([self.turn]))[0].numpy()

    for turn in range(TURNS):
        other = replace(pictures, reader=Turned(turn), mosaic=f"turned {turn}")
        wanted = features_of(other, tmp_path, state, range(5))
        assert np.array_equal(features[turns == turn], wanted)


def test_a_plain_run_and_an_augmented_one_share_turn_0(tmp_path: Path, state: State) -> None:
    plain = features_of(noise(range(3)), tmp_path, state, range(3))
    augmented = noise(range(5))
    features = features_of(augmented, tmp_path, state, range(5), [0] * 5)
    assert np.array_equal(features[:3], plain)
    assert len(list(tmp_path.iterdir())) == TURNS
    again = noise(range(5))
    assert np.array_equal(features_of(again, tmp_path, state, range(5)), features)
    assert not read_of(again)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("feed_of", [training_feed, scoring_feed])
def test_metros_are_one_list_and_keep_their_own(
    tmp_path: Path, state: State, frozen: bool, feed_of: object
) -> None:
    def feed(*sources: CachedPictures) -> ImageFeed:
        return feed_of(sources, PREPARATION, "resnet18", state if frozen else None, True, CPU)  # type: ignore[operator]

    a, b = (CachedPictures(noise(range(3), seed), tmp_path / f"{seed}.cache") for seed in (1, 2))
    both = feed(a, b)
    indices, turns = [4, 0, 3, 1, 4, 5], [1, 0, 7, 2, 3, 0]
    found = whole(both, indices, turns)
    first, second = feed(a), feed(b)
    wanted = [(first, 0, 0), (first, 1, 2), (second, 0, 7), (second, 1, 1), (second, 1, 3), (second, 2, 0)]
    alone = [whole(source, [index], [turn])[0] for source, index, turn in wanted]
    order = [3, 0, 2, 1, 4, 5]
    assert torch.equal(found, torch.stack([alone[n] for n in order]))
    assert len(whole(both, [])) == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made == (set() if feed_of is scoring_feed and not frozen else {"1.cache", "2.cache"})


def test_kept_pictures_are_those_that_are_read(tmp_path: Path) -> None:
    source = [CachedPictures(noise(range(6)), tmp_path)]
    kept = training_feed(source, PREPARATION, "basic", None, True, CPU)
    read = scoring_feed(source, PREPARATION, "basic", None, True, CPU)
    indices, turns = [5, 0, 5, 2], [0, 3, 6, 0]
    assert torch.equal(whole(kept, indices, turns), whole(read, indices, turns))
    assert whole(read, indices, turns).is_contiguous(memory_format=torch.channels_last)


def test_the_weights_stay_as_they_were(tmp_path: Path, state: State) -> None:
    before = weights_identity(state)
    features_of(noise(range(3)), tmp_path, state, range(3), [0, 1, 2])
    assert weights_identity(state) == before


def test_progress_counts_pictures(tmp_path: Path, state: State) -> None:
    said: list[tuple[str, int, int]] = []
    feed = training_feed(
        [CachedPictures(noise(range(70)), tmp_path)], PREPARATION, "resnet18", state, False, CPU
    )
    feed.ready(np.arange(40), lambda *step: said.append(step[:3]))
    assert [total for _, _, total in said] == [40, 40]
    assert said[-1] == ("look at pictures", 40, 40)
    said.clear()
    feed.ready(np.arange(40), lambda *step: said.append(step[:3]))
    assert not said


def test_threads_read_a_mosaic_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # so that a part is closed while another thread may read it
    monkeypatch.setattr("roadrisk.mosaic.reader.OPEN_PARTS", 1)
    monkeypatch.setattr("roadrisk.grid.tiles_per_part", lambda tile_size: 1)
    monkeypatch.setattr("roadrisk.mosaic.parts.tiles_per_part", lambda tile_size: 1)
    assert len(write_mosaic(tmp_path, SMALL, TILE, holed())) > 10
    row, col = (places.ravel() for places in np.indices(SMALL.shape))
    reader = MosaicReader(tmp_path, "aerial", SMALL, TILE, "plan")
    pictures = MosaicPictures(reader, row, col, 48, "checksums")
    wanted = pictures.prepared(np.arange(len(row)))
    orders = [np.random.default_rng(seed).permutation(len(row)) for seed in range(60)]
    with ThreadPoolExecutor(6) as threads:
        for order, found in zip(orders, threads.map(pictures.prepared, orders), strict=True):
            assert np.array_equal(found, wanted[order])
    assert threading.active_count() < 6
