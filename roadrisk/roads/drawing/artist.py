"""Drawing: a network looks at a plane, window by window, and says of every pixel how likely it is road."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadrisk.errors import DatasetError
from roadrisk.learning.loop.memory import as_memory_allows
from roadrisk.mosaic.picture import Mask
from roadrisk.nets.road_inference import drawing_form
from roadrisk.progress import Progress, silent
from roadrisk.roads.drawing.drawn import Drawn
from roadrisk.roads.drawing.lattice import CORE_STRIDES, STRIDE_PX, Lattice, Place
from roadrisk.roads.drawing.levels import CERTAIN, STEPS, LevelsReader, PartSums
from roadrisk.roads.model import RoadModel
from roadrisk.roads.normal import Normal
from roadrisk.roads.scenes import Plane, Window, within

WINDOWS_AT_ONCE = {"cpu": 1, "cuda": 2}  # one window gives all cores enough to do
FEWER = "out of memory: fewer windows are drawn at a time from here on, which gives the same roads"

Told = Callable[[str], None]


def nobody(line: str) -> None:
    """A listener that does not listen."""


class Artist:
    """A model ready to draw.

    Parameters
    ----------
    told : hears when windows must be drawn fewer at a time.
    """

    def __init__(self, model: RoadModel, device: torch.device, told: Told = nobody) -> None:
        self.shrink = model.architecture.shrink
        self.batch = self._at_once = WINDOWS_AT_ONCE.get(device.type, 1)
        self.normal = Normal(model.mean, model.std)
        self._form, self._device, self._told = drawing_form(model.network().to(device)), device, told

    def probabilities(self, seen: Tensor) -> NDArray[np.float32]:
        """(B, bands, H, W) -> (B, H, W) of road.

        Raises
        ------
        ModelError : one window does not fit into memory.
        """
        if not len(seen):
            return np.empty((0, *seen.shape[2:]), np.float32)

        def drawn(at_once: int) -> Tensor:
            with torch.inference_mode():
                logits = [
                    self._form(seen[first : first + at_once].to(self._device))
                    for first in range(0, len(seen), at_once)
                ]
                return torch.cat(logits).sigmoid_()[:, 0].cpu()  # (B, H, W)

        said, self._at_once = as_memory_allows(drawn, self._at_once, lambda _: self._told(FEWER))
        numbers: NDArray[np.float32] = said.numpy()
        return numbers


def draw_levels(plane: Plane, artist: Artist, reader: LevelsReader, progress: Progress = silent) -> None:
    """Draw a whole plane, part by part, into the files that `reader` reads.

    Each window is drawn once, and one without a picture not at all. Files of the same plan that are there and
    whole are kept, so a run that was stopped goes on. Memory is that of a part and some windows.

    Raises
    ------
    DatasetError : a picture cannot be read, or a file cannot be written.
    ModelError : one window does not fit into memory.
    """
    lattice = reader.lattice
    try:
        reader.folder.mkdir(parents=True, exist_ok=True)
        parts = list(lattice.parts())
        left = [part for part in parts if not reader.is_whole(part)]
        looks = _ahead(look for part in left for look in _looks(plane, lattice, artist, part))
        done = len(parts) - len(left)
        with ThreadPoolExecutor(1) as writer, closing(looks):
            writing: Future[None] | None = None
            for part, of_part in groupby(looks, key=lambda look: look.part):
                progress("draw roads", done, len(parts))
                sums = _sums(lattice, lattice.reach(part), artist, of_part)
                if writing is not None:
                    writing.result()
                writing, done = writer.submit(reader.write, part, sums), done + 1
            if writing is not None:
                writing.result()
        progress("draw roads", done, len(parts))
    except OSError as error:
        raise DatasetError(
            f"cannot write {error.filename or reader.folder} ({error.strerror or error}); mend that and run "
            "the same command again: finished parts are kept"
        ) from error


def draw_picture(plane: Plane, artist: Artist) -> Drawn:
    """What is said of a whole plane, which fits into memory.

    Raises
    ------
    ModelError : one window does not fit into memory.
    """
    lattice = Lattice(plane.height, plane.width, CORE_STRIDES * STRIDE_PX * artist.shrink, artist.shrink)
    whole = Window(0, 0, plane.height, plane.width)
    looks = _ahead(look for part in lattice.parts() for look in _looks(plane, lattice, artist, part))
    with closing(looks):
        sums, valid = _sums(lattice, whole, artist, looks)
    sums += STEPS // 2
    sums //= STEPS
    return Drawn(sums.astype(np.uint8), valid)


class _Look(NamedTuple):
    """Windows of one part and one size, as the network sees them.

    Parameters
    ----------
    valid : (H, W) of each window.
    seen : (B, bands, H, W) of those that have a picture, in their order.
    """

    part: Place
    cores: list[Place]
    valid: list[Mask]
    seen: Tensor


def _looks(plane: Plane, lattice: Lattice, artist: Artist, part: Place) -> Iterator[_Look]:
    """What there is to see in a part; which windows come together depends on nothing but the lattice."""
    by_size: dict[tuple[int, int], list[Place]] = {}
    for core in lattice.cores(part):
        window = lattice.window(core)
        by_size.setdefault((window.height, window.width), []).append(core)
    for size, cores in by_size.items():
        for first in range(0, len(cores), artist.batch):
            some = cores[first : first + artist.batch]
            pictures = [plane.read(lattice.window(core)) for core in some]
            seen = [artist.normal.of(picture) for picture in pictures if picture.valid.any()]
            stacked = _stacked(seen) if seen else torch.empty(0, plane.bands, *size)
            yield _Look(part, some, [picture.valid for picture in pictures], stacked)


def _stacked(seen: list[NDArray[np.float32]]) -> Tensor:
    """(B, bands, H, W); one window is not copied."""
    return torch.from_numpy(seen[0][None] if len(seen) == 1 else np.stack(seen))


def _ahead(looks: Iterator[_Look]) -> Generator[_Look]:
    """The same; while one is worked on, the next is read in a thread of its own."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, looks, None)
        while (look := following.result()) is not None:
            following = reader.submit(next, looks, None)
            yield look


def _sums(lattice: Lattice, reach: Window, artist: Artist, looks: Iterable[_Look]) -> PartSums:
    """What windows say, weighted and summed over the pixels of `reach`."""
    summed = np.zeros((reach.height, reach.width), np.uint16)
    known = np.zeros(summed.shape, bool)
    for look in looks:
        said = iter(artist.probabilities(look.seen))
        for core, valid in zip(look.cores, look.valid, strict=True):
            if not valid.any():
                continue
            window = lattice.window(core)
            there, here = within(window, reach), within(reach, window)
            summed[there] += _share(next(said), valid, *lattice.weights(core))[here]
            known[there] |= valid[here]
    return PartSums(summed, known)


def _share(
    said: NDArray[np.float32], valid: Mask, down: NDArray[np.float32], across: NDArray[np.float32]
) -> NDArray[np.uint16]:
    """(H, W) what a window adds, in steps of 1 / `CERTAIN`; (H, W) `said` is written over."""
    said *= down[:, None]
    said *= across * np.float32(CERTAIN)
    said *= valid
    return np.rint(said, out=said).astype(np.uint16)
