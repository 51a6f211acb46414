"""Which files of a folder are pictures, and which are their masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from roadrisk.errors import SourceError
from roadrisk.roads.sources.pictures import ENDINGS

PICTURE_FOLDERS = ("images", "image", "imagery", "sat", "pictures", "input")
MASK_FOLDERS = ("masks", "mask", "map", "gt", "groundtruth", "label", "labels", "roads")
PICTURE_STEMS = ("_sat", "_image", "_img")
MASK_STEMS = ("_mask", "_map", "_label", "_gt")
LAYOUTS = (
    "folders `images` and `masks` with files of the same names, or files X_sat.jpg and X_mask.png in one "
    "folder"
)
_SHOWN = 3

Named = dict[str, Path]


@dataclass(frozen=True)
class Found:
    """The files of a folder.

    Parameters
    ----------
    pairs : name, picture and mask of each, sorted by name.
    told : what is of no pair, a line a thing.
    """

    pairs: tuple[tuple[str, Path, Path], ...]
    told: tuple[str, ...]


def found_pairs(folder: Path) -> Found:
    """Which pictures of a folder go with which masks.

    Raises
    ------
    SourceError : no layout that is understood, two files for one name, or no picture has a mask.
    """
    pictures, masks, other = _named_files(folder)
    if not pictures and not masks:
        raise SourceError(f"{folder} holds no dataset and no pairs of pictures and masks; give {LAYOUTS}")
    maskless = [file for name, file in sorted(pictures.items()) if name not in masks]
    pictureless = [file for name, file in sorted(masks.items()) if name not in pictures]
    both = sorted(pictures.keys() & masks.keys())
    if not both:
        raise SourceError(
            f"{folder}: of {len(pictures):,} pictures and {len(masks):,} masks none are of the same name "
            f"({shown([*maskless[:1], *pictureless[:1]])}); give {LAYOUTS}"
        )
    left_out = (
        ("pictures without a mask, left out", maskless),
        ("masks without a picture, left out", pictureless),
        ("other files", other),
    )
    told = tuple(f"{what}: {len(files):,} ({shown(files)})" for what, files in left_out if files)
    return Found(tuple((name, pictures[name], masks[name]) for name in both), told)


def shown(files: Sequence[Path]) -> str:
    """The names of the first few files."""
    names = [file.name for file in files[:_SHOWN]]
    return ", ".join([*names, *(["..."] if len(files) > _SHOWN else [])])


def _named_files(folder: Path) -> tuple[Named, Named, list[Path]]:
    """Pictures and masks by name, and what is neither."""
    images, masks = _folder_below(folder, PICTURE_FOLDERS), _folder_below(folder, MASK_FOLDERS)
    if images is None or masks is None:
        files = _files(folder)
        named = _without(files, PICTURE_STEMS), _without(files, MASK_STEMS)
        return *named, [f for f in files if all(f not in side.values() for side in named)]
    pictures, labels = _pictures(images), _pictures(masks)
    named = _without(pictures, ("",)), _without(labels, ("",))
    if not named[0].keys() & named[1].keys():
        named = _without(pictures, (*PICTURE_STEMS, "")), _without(labels, (*MASK_STEMS, ""))
    used = {*pictures, *labels}
    return *named, [f for f in (*_files(images), *_files(masks)) if f not in used]


def _folder_below(folder: Path, names: Sequence[str]) -> Path | None:
    there = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name.lower() in names)
    if len(there) > 1:
        raise SourceError(
            f"{folder} has {there[0].name} and {there[1].name}, and either could be meant; "
            "give a folder with one of them"
        )
    return there[0] if there else None


def _files(folder: Path) -> list[Path]:
    """Files but those that are hidden and those that GDAL writes beside pictures."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith(".aux.xml")
    )


def _pictures(folder: Path) -> list[Path]:
    return [file for file in _files(folder) if file.suffix.lower() in ENDINGS]


def _without(files: Iterable[Path], stems: tuple[str, ...]) -> Named:
    """The pictures whose stem ends as one of `stems`, by the rest of it.

    >>> _without([Path("a_sat.jpg"), Path("a_mask.png"), Path("a_sat.txt")], PICTURE_STEMS)
    {'a': PosixPath('a_sat.jpg')}
    """
    named: Named = {}
    for file in files:
        ending = next((end for end in stems if file.stem.lower().endswith(end)), None)
        if ending is None or file.suffix.lower() not in ENDINGS:
            continue
        name = file.stem[: len(file.stem) - len(ending)]
        if name in named:
            raise SourceError(f"{named[name]} and {file} are of the same name; remove one of them")
        named[name] = file
    return named
