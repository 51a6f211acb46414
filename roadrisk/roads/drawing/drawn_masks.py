"""A folder of pictures gets a mask of roads each, drawn by a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rasterio.io import MemoryFile

from roadrisk.errors import ModelError, SourceError, UsageError
from roadrisk.files import digest_of, identity_of, locked, remove_temporaries, whole_file, write_json
from roadrisk.mosaic.picture import Pixels
from roadrisk.progress import Progress
from roadrisk.roads.drawing.artist import Artist, draw_picture
from roadrisk.roads.drawing.cleaning import cleaned, cleaning_told
from roadrisk.roads.drawing.drawn import Drew, from_level
from roadrisk.roads.model import RoadModel
from roadrisk.roads.scenes import PictureKind
from roadrisk.roads.settings import Cleaning
from roadrisk.roads.sources.pictures import ENDINGS, FilePlane, PictureFile, opened, picture_file

RECORD = "drawn.json"
PROBABILITY = "probability"
TIFF = (".tif", ".tiff")
ROAD = np.uint8(255)
MOST_PX = 500_000_000  # of a picture, which is drawn whole


@dataclass(frozen=True)
class Masked:
    """A picture, and the file that its mask goes to.

    Parameters
    ----------
    name : of the mask, inside the folder of masks.
    """

    picture: PictureFile
    name: str


def drawn_masks(
    source: Path,
    model: RoadModel,
    weights: str,
    out: Path,
    probability: bool,
    cleaning: Cleaning,
    device: torch.device,
    overwrite: bool,
    progress: Progress,
) -> Drew:
    """Draw a mask for each picture.

    A mask is a `.tif` with the picture's place where the picture is one, else a `.png`: 255 road, 0 elsewhere
    and where nothing is known. Masks of the same model and settings that are there are kept.

    Parameters
    ----------
    weights : sha256 of the model's manifest, which names that of its weights.

    Raises
    ------
    SourceError : no picture, one that cannot be read, or two whose masks would be one file.
    ModelError : a picture of other bands or pixels than the model learned from.
    UsageError : the masks would lie among the pictures, or are there and of another model.
    """
    jobs = _masked(source)
    _check_fit(jobs, model)
    for job in jobs:
        cleaning.check(job.picture.metres_per_pixel)
    if source.resolve() in (out.resolve(), (out / PROBABILITY).resolve()):
        raise UsageError(f"-o {out} is the folder of the pictures; give another for the masks")
    plan = digest_of([weights, model.level, asdict(cleaning), probability])
    progress("draw roads", 0, len(jobs))
    _make_folders(out, probability)
    told: list[str] = []
    artist = Artist(model, device, told.append)
    with locked(out):
        remove_temporaries(out)
        done = _kept(out, plan, overwrite)
        kept = 0
        # first, so that a folder in which a run was stopped is known for ours
        _record(out, plan, done)
        for number, job in enumerate(jobs):
            identity = identity_of(job.picture.path, hashed=False)
            files = [out / job.name, *([out / PROBABILITY / job.name] if probability else [])]
            if done.get(job.name) == identity and all(file.is_file() for file in files):
                kept += 1
            else:
                _draw(job, model, artist, out, probability, cleaning)
                done[job.name] = identity
                _record(out, plan, done)
            progress("draw roads", number + 1, len(jobs))
    said = [f"{len(jobs):,} masks in {out}" + (f", {kept:,} of them were there" if kept else "")]
    scale = jobs[0].picture.metres_per_pixel
    said += [
        from_level(model.level),
        cleaning_told(cleaning.speck_px(scale), cleaning.gap_px(scale), scale),
        *dict.fromkeys(told),
    ]
    paths = [out / job.name for job in jobs]
    return Drew(tuple(said), {"masks": len(jobs), "kept": kept}, paths)


def _record(out: Path, plan: str, masks: dict[str, Any]) -> None:
    """Keep which masks are there, and of which pictures."""
    try:
        write_json(out / RECORD, {"plan": plan, "masks": masks})
    except OSError as error:
        raise SourceError(
            f"cannot write {out / RECORD} ({error.strerror}); make room, and run it again"
        ) from None


def _masked(source: Path) -> list[Masked]:
    """The pictures of a folder, in the order of their names."""
    if not source.is_dir():
        what = "is a file" if source.exists() else "is not there"
        raise SourceError(f"{source} {what}; give a dataset, or a folder of pictures")
    files = sorted(f for f in source.iterdir() if f.suffix.lower() in ENDINGS and f.is_file())
    if not files:
        raise SourceError(f"{source} holds no pictures; known are {', '.join(ENDINGS)}")
    jobs = [Masked(picture_file(f), f.stem + (".tif" if f.suffix.lower() in TIFF else ".png")) for f in files]
    _check_names(jobs)
    for job in jobs:
        if job.picture.height * job.picture.width > MOST_PX:
            raise SourceError(
                f"{job.picture.path} has {job.picture.said}, more than {MOST_PX // 1_000_000} million "
                "pixels; tile it into a dataset, which is drawn part by part"
            )
    return jobs


def _check_fit(jobs: Iterable[Masked], model: RoadModel) -> None:
    for job in jobs:
        own = PictureKind(job.picture.bands, job.picture.metres_per_pixel, model.stretch)
        wrong = own.differences(model.kind)
        if wrong:
            raise ModelError(
                f"the model learned from other pictures than {job.picture.path}: {'; '.join(wrong)}; give "
                "pictures like those, or train a model on these"
            )


def _check_names(jobs: Iterable[Masked]) -> None:
    seen: dict[str, Path] = {}
    for job in jobs:
        if job.name in seen:
            raise SourceError(
                f"{seen[job.name]} and {job.picture.path.name} would both get the mask {job.name}; rename one"
            )
        seen[job.name] = job.picture.path


def _make_folders(out: Path, probability: bool) -> None:
    try:
        (out / PROBABILITY if probability else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"cannot make the folder {out} ({error.strerror}); choose another -o") from None


def _kept(out: Path, plan: str, overwrite: bool) -> dict[str, Any]:
    """The masks that are there and of this plan, each with the picture that it is of."""
    record = out / RECORD
    if not record.is_file():
        others = [file for file in out.iterdir() if file.name != PROBABILITY]
        if others and not overwrite:
            raise UsageError(f"{out} is not empty; give --overwrite, or another -o")
        return {}
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        masks = dict(known["masks"]) if known["plan"] == plan else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        masks = None
    if masks is None and not overwrite:
        raise UsageError(f"{out} holds masks of another model or cleaning; give --overwrite, or another -o")
    return masks or {}


def _draw(
    job: Masked, model: RoadModel, artist: Artist, out: Path, probability: bool, cleaning: Cleaning
) -> None:
    plane = FilePlane(job.picture)
    try:
        drawn = draw_picture(plane, artist)
    finally:
        plane.close()
    scale = job.picture.metres_per_pixel
    road = cleaned(
        (drawn.level >= model.level) & drawn.valid,
        drawn.valid,
        cleaning.speck_px(scale),
        cleaning.gap_px(scale),
    )
    if probability:
        _write(out / PROBABILITY / job.name, drawn.level, job.picture.path)
    _write(out / job.name, road * ROAD, job.picture.path)


def _write(path: Path, values: Pixels, picture: Path) -> None:
    """Write (H, W) whole, with the picture's place where the file can hold one."""
    body = _tiff(values, picture) if path.suffix == ".tif" else cv2.imencode(".png", values)[1].tobytes()
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(body)
    except OSError as error:
        raise SourceError(f"cannot write {path} ({error.strerror}); make room, and run it again") from None


def _tiff(values: Pixels, picture: Path) -> bytes:
    height, width = values.shape
    with opened(picture) as source, MemoryFile(ext=".tif") as memory:
        place = {"crs": source.crs, "transform": source.transform} if source.crs else {}
        with memory.open(
            driver="GTiff", height=height, width=width, count=1, dtype="uint8", compress="deflate", **place
        ) as target:
            target.write(values, 1)
        return bytes(memory.getbuffer())
