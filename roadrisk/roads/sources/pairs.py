"""A folder of pictures with a mask each, as examples to learn roads from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roadrisk.errors import SourceError
from roadrisk.files import HASHED_BELOW_BYTES, digest_of, sha256_of
from roadrisk.grid import IntArray
from roadrisk.roads.scenes import RoadExamples, Scene, Window
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.sources.pairing import Found, found_pairs, shown
from roadrisk.roads.sources.pictures import FilePlane, FileTruths, PictureFile, picture_file

KEPT_BYTES = 256 << 20
_COUNTED_PX = 4_000_000
# JPEG writes a grey mask as colours that are nearly equal
_NEARLY_GREY = 32


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture with its mask, and the values of the mask.

    Parameters
    ----------
    values : (256,) pixels of each value of the mask where both are known.
    """

    name: str
    picture: FilePlane
    mask: FilePlane
    values: IntArray

    @property
    def known_px(self) -> int:
        return int(self.values.sum())

    @property
    def highest(self) -> int:
        """The highest value of the mask."""
        return int(np.flatnonzero(self.values).max(initial=0))

    @property
    def is_two_valued(self) -> bool:
        """Whether the mask is 0/1 or 0/255."""
        return not self.values[1:255].any() or self.is_zero_one

    @property
    def is_zero_one(self) -> bool:
        """Whether 1 means road; in a file that changes pixels, it is next to black."""
        return not self.mask.file.lossy and self.highest == 1

    def above(self, mask_above: int) -> int:
        """The value above which the mask is road."""
        return 0 if self.is_zero_one else mask_above

    def road_px(self, mask_above: int) -> int:
        return int(self.values[self.above(mask_above) + 1 :].sum())


def pair_examples(folder: Path, settings: RoadSettings) -> RoadExamples:
    """The pictures of a folder whose masks are there too, sorted by name.

    The identity is of names and bytes: a copy of the folder elsewhere has the same.

    Raises
    ------
    SourceError : nothing is paired, a file is no picture of 8 bit, pictures and masks differ in size,
        pictures in their bands, a mask is coloured, no mask shows road, or no picture is known.
    """
    found, above = found_pairs(folder), settings.mask_above
    given = {
        "--view": settings.view != RoadSettings().view,
        "--mask": settings.mask,
        "--width": settings.widths_m,
        "--block": settings.block_m,
    }
    of_datasets = [flag for flag, value in given.items() if value]
    content = {name: (_bytes_of(picture), _bytes_of(mask)) for name, picture, mask in found.pairs}
    every = _pairs(found)
    _check_roads(folder, every, above)
    pairs = [pair for pair in every if pair.known_px]
    sides = np.array([(pair.picture.height, pair.picture.width) for pair in pairs])
    known_px = np.array([pair.known_px for pair in pairs], float)
    metres, metres_said = _metres([pair.picture.file for pair in pairs])
    return RoadExamples(
        name=folder.resolve().name,
        identity=digest_of({"pairs": content, "mask_above": above}),
        scenes=tuple(_scene(pair, above) for pair in pairs),
        scene=np.arange(len(pairs), dtype=np.int64),
        row=np.zeros(len(pairs), np.int64),
        col=np.zeros(len(pairs), np.int64),
        key=np.array([pair.name for pair in pairs], dtype=object),
        content=np.array([digest_of(content[pair.name][0][1:]) for pair in pairs], dtype=object),
        road_share=np.array([pair.road_px(above) for pair in pairs]) / known_px,
        known_share=known_px / sides.prod(axis=1),
        lattice=None,
        bands=pairs[0].picture.bands,
        metres_per_pixel=metres,
        stretch=None,
        told=(
            f"{len(pairs):,} pictures with masks",
            *found.told,
            *_masks_said(every, above),
            *([f"of datasets, and nothing here: {', '.join(of_datasets)}"] if of_datasets else []),
            metres_said,
        ),
    )


def _pairs(found: Found) -> list[Pair]:
    """Pairs whose sizes and bands fit, the first of them kept in memory as far as there is room."""
    files = [(name, picture_file(picture), picture_file(mask)) for name, picture, mask in found.pairs]
    _check_sizes(files)
    _check_bands([picture for _, picture, _ in files])
    decoded = np.cumsum([p.height * p.width * (p.bands + m.bands + 2) for _, p, m in files])
    pairs = []
    for (name, picture, mask), total in zip(files, decoded.tolist(), strict=True):
        keep = total <= KEPT_BYTES
        planes = FilePlane(picture, keep), FilePlane(mask, keep, zero_is_known=True)
        pairs.append(Pair(name, *planes, _counted(*planes)))
    return pairs


def _scene(pair: Pair, mask_above: int) -> Scene:
    truths = FileTruths(pair.mask, pair.above(mask_above))
    return Scene(pair.name, pair.picture, truths, (pair.picture.height, pair.picture.width))


def _check_sizes(files: Sequence[tuple[str, PictureFile, PictureFile]]) -> None:
    for _, picture, mask in files:
        if (picture.height, picture.width) != (mask.height, mask.width):
            raise SourceError(
                f"{picture.path} has {picture.said} and its mask {mask.path} has {mask.said}; "
                "give masks of the size of their pictures"
            )


def _check_bands(pictures: Sequence[PictureFile]) -> None:
    for picture in pictures:
        if picture.bands != pictures[0].bands:
            raise SourceError(
                f"pictures differ in bands: {pictures[0].path} has {pictures[0].bands}, {picture.path} has "
                f"{picture.bands}; give pictures of the same bands"
            )


def _check_roads(folder: Path, pairs: Sequence[Pair], mask_above: int) -> None:
    if not any(pair.known_px for pair in pairs):
        raise SourceError(
            f"{folder}: all {len(pairs):,} pictures are transparent all over; give other pictures"
        )
    if not any(pair.road_px(mask_above) for pair in pairs):
        highest = max(pair.highest for pair in pairs)
        hint = "lower --mask-above, or " if highest else ""
        raise SourceError(
            f"{folder}: all {len(pairs):,} masks are empty: no pixel is above {mask_above}, the highest is "
            f"{highest}; {hint}give masks that show roads"
        )


def _counted(picture: FilePlane, mask: FilePlane) -> IntArray:
    """(256,) pixels of each value of a mask where both are known."""
    values = np.zeros(256, np.int64)
    step = max(1, _COUNTED_PX // picture.width)
    for y in range(0, picture.height, step):
        window = Window(y, 0, min(step, picture.height - y), picture.width)
        read = mask.read(window)
        lowest, highest = read.pixels.min(axis=0), read.pixels.max(axis=0)
        if mask.bands > 1 and (highest - lowest)[read.valid].max(initial=0) > _NEARLY_GREY:
            raise SourceError(f"{mask.file.path} is coloured; give masks of one band (gdal_translate -b 1)")
        known = read.valid if picture.file.whole else read.valid & picture.read(window).valid
        values += np.bincount(highest[known], minlength=256)
    mask.close()
    picture.close()
    return values


def _masks_said(pairs: Sequence[Pair], above: int) -> list[str]:
    """What is remarkable about masks, with their number."""
    known = [pair for pair in pairs if pair.known_px]
    remarkable = (
        (
            [p for p in pairs if not p.is_two_valued],
            f"masks are not two-valued (0/1 or 0/255); above {above} is road (--mask-above)",
        ),
        ([p for p in pairs if p.is_zero_one], "masks are of 0 and 1; 1 is road"),
        ([p for p in pairs if p.mask.file.nodata == 0], "masks call 0 no data; it is taken for no road"),
        ([p for p in known if not p.road_px(above)], "masks are empty"),
        ([p for p in pairs if not p.known_px], "pairs are known nowhere and left out"),
    )
    return [
        f"{len(some):,} of {len(pairs):,} {what} ({shown([pair.mask.file.path for pair in some])})"
        for some, what in remarkable
        if some
    ]


def _metres(pictures: Sequence[PictureFile]) -> tuple[float | None, str]:
    """Ground side of a pixel [m], the middle one where pictures differ, and what is said of it."""
    metres = [p.metres_per_pixel for p in pictures if p.metres_per_pixel is not None]
    if len(metres) < len(pictures):
        return None, "nothing says how many metres a pixel is" + (
            f": {len(pictures) - len(metres):,} of {len(pictures):,} pictures have no place" if metres else ""
        )
    middle = float(np.median(metres))
    spread = "" if max(metres) <= 1.01 * min(metres) else f" ({min(metres):.3g} to {max(metres):.3g})"
    return middle, f"a pixel is {middle:.3g} m{spread}"


def _bytes_of(path: Path) -> list[str | int]:
    """What tells a file from another, wherever it lies."""
    stat = path.stat()
    if stat.st_size < HASHED_BELOW_BYTES:
        return [path.name, sha256_of(path)]
    return [path.name, stat.st_size, stat.st_mtime_ns]
