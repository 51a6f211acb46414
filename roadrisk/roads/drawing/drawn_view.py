"""A dataset gains the view `roads`, drawn by a model, and the columns of what is seen of roads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from roadrisk.amending import with_views, without_views
from roadrisk.columns import Fact
from roadrisk.dataset import Dataset, View, read_dataset
from roadrisk.errors import DatasetError, ModelError
from roadrisk.files import digest_of, locked, remove_temporaries
from roadrisk.grid import Part, tiles_per_part
from roadrisk.mosaic.cutting import CutView, cut_from_view
from roadrisk.mosaic.jobs import Target
from roadrisk.mosaic.parts import parts_path
from roadrisk.mosaic.picture import Painter
from roadrisk.mosaic.processes import finished
from roadrisk.progress import Progress
from roadrisk.roads.drawing.artist import Artist, draw_levels
from roadrisk.roads.drawing.cleaning import cleaning_told
from roadrisk.roads.drawing.drawn import Drew, from_level
from roadrisk.roads.drawing.lattice import Lattice
from roadrisk.roads.drawing.levels import LevelsReader
from roadrisk.roads.drawing.painting import Below, LevelPainter, RoadPainter
from roadrisk.roads.lines.seen import FactsJob, PartFacts, drawn_roads, facts_done, seen_facts
from roadrisk.roads.lines.vectors import AboutRoads, VectorsWritten, check_vectors_out, vectors_written
from roadrisk.roads.model import RoadModel
from roadrisk.roads.scenes import PictureKind
from roadrisk.roads.settings import Cleaning
from roadrisk.roads.sources.mosaics import mosaic_of
from roadrisk.viewing import parts_digest, view_files

ROADS, PROBABILITY = "roads", "roads_probability"
COVERAGE = "coverage_seen_roads"
WORK_FOLDER = "views/roads.levels"


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is to be drawn, and with what.

    Parameters
    ----------
    weights : sha256 of the model's manifest, which names that of its weights.
    view : to look at; None is the one that the model learned from.
    probability : whether there is a view of how likely road, too.
    """

    dataset: Dataset
    model: RoadModel
    weights: str
    view: str | None
    probability: bool
    cleaning: Cleaning

    @property
    def seen(self) -> View:
        """The view that is looked at."""
        return self.dataset.view(self.view or self.model.view)

    @property
    def metres_per_pixel(self) -> float:
        """Ground side of a pixel [m]."""
        return self.dataset.metres_per_pixel(self.seen.name)

    @property
    def levels_plan(self) -> str:
        """Identity of what the network says: it is kept while roads are cleaned in other ways."""
        return digest_of([self.dataset.plan, self.seen.name, self.seen.digest, self.weights])

    @property
    def cleaning_px(self) -> tuple[int, int]:
        """The smallest piece that stays, and the widest gap that is closed."""
        scale = self.metres_per_pixel
        return self.cleaning.speck_px(scale), self.cleaning.gap_px(scale)

    @property
    def plan(self) -> str:
        """Identity of the views."""
        return digest_of([self.levels_plan, self.model.level, self.cleaning_px])

    @property
    def notes(self) -> dict[str, Any]:
        """What the manifest keeps of how the views were drawn."""
        return {
            "model": self.weights,
            "model_source": self.model.provenance["source"],
            "view": self.seen.name,
            "level": self.model.level,
            "specks_m2": self.cleaning.specks_m2,
            "gaps_m": self.cleaning.gaps_m,
        }

    def view_of(self, name: str, cut: CutView) -> View:
        """A view that was drawn."""
        seen = self.seen
        return View(
            name,
            seen.tile_size,
            seen.min_coverage,
            parts_digest(cut.parts),
            plan=self.plan,
            coverage=COVERAGE,
        )


def check_drawable(drawing: Drawing, overwrite: bool) -> None:
    """Nothing, if the model fits the view and nothing is in the way.

    Raises
    ------
    ModelError : bands, the size of a pixel or the stretch differ.
    DatasetError : no such view, it is one that is drawn, or a view `roads` is there.
    UsageError : more is to be cleaned than can be seen around a part.
    """
    dataset, model, seen = drawing.dataset, drawing.model, drawing.seen
    drawing.cleaning.check(drawing.metres_per_pixel)
    if seen.name in (ROADS, PROBABILITY):
        raise DatasetError(f"{dataset.path}: the view {seen.name} is what is drawn; name another with --view")
    wrong = PictureKind(3, drawing.metres_per_pixel, seen.stretch).differences(model.kind)
    if wrong:
        raise ModelError(
            f"the model learned from other pictures than {dataset.path} has: {'; '.join(wrong)}; tile the "
            "region as those were, or train a model on it"
        )
    for name in (ROADS, PROBABILITY):
        if name not in {view.name for view in dataset.views}:
            continue
        if name not in dataset.manifest.get("drawn", {}):
            raise DatasetError(
                f"{dataset.path} has a view {name} from a source; tile it again with another name for it"
            )
        if not overwrite:
            raise DatasetError(
                f"{dataset.path} has the view {name} already; give --overwrite to draw it anew"
            )


def drawn_view(
    drawing: Drawing,
    vectorize: Path | None,
    device: torch.device,
    workers: int,
    overwrite: bool,
    progress: Progress,
) -> Drew:
    """Draw, and commit.

    Until the last step readers see the dataset without the view. What the network said of each part is kept
    until then, so that the same call goes on where it stopped.

    Raises
    ------
    RoadriskError : as `check_drawable`, and for what cannot be read or written.
    """
    check_drawable(drawing, overwrite)
    if vectorize is not None:
        check_vectors_out(vectorize)
    folder = drawing.dataset.path
    progress("draw roads", 0, len(drawing.dataset.grid.parts(drawing.seen.tile_size)))
    with locked(folder):
        _check_links(folder)
        remove_temporaries(folder / "views")
        dataset = read_dataset(folder)
        there = [name for name in (ROADS, PROBABILITY) if name in dataset.manifest.get("drawn", {})]
        if there:
            files = [file for name in there for file in files_of(dataset, name)]
            dataset = without_views(dataset, there, files)
        drawing = replace(drawing, dataset=dataset)
        if not drawing.probability:
            _forget(folder, PROBABILITY)
        try:
            drew = _drawn(drawing, vectorize, device, workers, progress)
        except OSError as error:
            raise DatasetError(
                f"cannot write {error.filename or folder} ({error.strerror or error}); mend that and run the "
                "same command again: finished parts are kept"
            ) from error
        shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
    return drew


def _check_links(folder: Path) -> None:
    """Nothing, if no folder that is written to leads elsewhere."""
    for name in (f"views/{ROADS}", f"views/{PROBABILITY}", WORK_FOLDER, "views"):
        if (folder / name).is_symlink():
            raise DatasetError(f"{folder / name} is a link, and what it points to is not ours; remove it")


def _forget(folder: Path, view: str) -> None:
    """Remove what a run that was stopped left of a view that is not drawn this time."""
    shutil.rmtree(folder / "views" / view, ignore_errors=True)
    for file in (folder / "views").glob(f"{view}.*"):
        file.unlink()


def _drawn(
    drawing: Drawing, vectorize: Path | None, device: torch.device, workers: int, progress: Progress
) -> Drew:
    """Draw, paint, measure and commit."""
    dataset, seen, grid = drawing.dataset, drawing.seen, drawing.dataset.grid
    told: list[str] = []
    levels = _levels(drawing, device, told, progress)
    below = Below(dataset.path, seen.name, grid, seen.tile_size, seen.plan or dataset.plan)
    painters: dict[str, Painter] = {
        ROADS: RoadPainter(levels, below, drawing.model.level, *drawing.cleaning_px)
    }
    if drawing.probability:
        painters[PROBABILITY] = LevelPainter(levels, below)
    coverage = dataset.tiles()[seen.coverage_column].to_numpy(float).reshape(grid.shape)
    cut = {}
    for name, painter in painters.items():
        target = Target(dataset.path, name, grid, seen.tile_size, drawing.plan)
        cut[name] = cut_from_view(target, painter, coverage, workers, progress)
    written = [Part(*place) for place in _written(cut[ROADS])]
    facts = _facts(drawing, written, workers, progress)
    vectors = _vectors(drawing, written, vectorize, progress) if vectorize is not None else None
    views = [drawing.view_of(name, one) for name, one in cut.items()]
    files = [file for view in views for file in view_files(view, cut[view.name].parts, grid)]
    amended = with_views(dataset, views, facts, files, drawing.notes)
    return _drew(drawing, amended, facts, vectors, vectorize, told)


def _levels(drawing: Drawing, device: torch.device, told: list[str], progress: Progress) -> LevelsReader:
    """What the network says of every pixel, on disk."""
    dataset, seen = drawing.dataset, drawing.seen
    plane = mosaic_of(dataset, seen.name)
    part_px = tiles_per_part(seen.tile_size) * seen.tile_size
    lattice = Lattice(plane.height, plane.width, part_px, drawing.model.architecture.shrink)
    levels = LevelsReader(dataset.path / WORK_FOLDER, lattice, drawing.levels_plan)
    with closing(plane):
        draw_levels(plane, Artist(drawing.model, device, told.append), levels, progress)
    return levels


def _written(cut: CutView) -> list[list[int]]:
    places: list[list[int]] = (
        cut.parts.loc[cut.parts["state"] == "written", list(Part._fields)].to_numpy().tolist()
    )
    return places


def _facts(drawing: Drawing, parts: list[Part], workers: int, progress: Progress) -> list[Fact]:
    """The columns, from the finished mask."""
    dataset, seen, scale = drawing.dataset, drawing.seen, drawing.metres_per_pixel
    jobs = [
        FactsJob(dataset.path, ROADS, dataset.grid, seen.tile_size, drawing.plan, part, scale)
        for part in parts
    ]

    def measured(ready: Iterable[PartFacts]) -> Iterator[PartFacts]:
        for number, facts in enumerate(ready, start=1):
            yield facts
            progress("measure roads", number, len(jobs))

    with closing(finished(facts_done, jobs, workers)) as ready:
        return seen_facts(dataset.grid, measured(ready), seen.min_coverage)


def _vectors(drawing: Drawing, parts: list[Part], out: Path, progress: Progress) -> VectorsWritten:
    dataset, size = drawing.dataset, drawing.seen.tile_size
    rights = dataset.manifest["rights"]
    about = AboutRoads(
        title=f"Roads drawn from pictures: {dataset.manifest['name']}",
        licence="; ".join(dict.fromkeys(r["licence"] or f"{r['source']}: not stated" for r in rights)),
        attribution="; ".join(dict.fromkeys(r["attribution"] or r["source"] for r in rights)),
        model=drawing.weights[:16],
    )
    with closing(drawn_roads(dataset.path, ROADS, dataset.grid, size, drawing.plan)) as roads:
        return vectors_written(roads.read, dataset.grid, size, parts, out, about, progress)


def _drew(
    drawing: Drawing,
    amended: Dataset,
    facts: list[Fact],
    vectors: VectorsWritten | None,
    out: Path | None,
    told: list[str],
) -> Drew:
    """What is to be said."""
    values = {column.name: array for column, array in facts}
    seen = ~np.isnan(values["seen_road_m"])
    road_km = float(np.nansum(values["seen_road_m"])) / 1000
    share = float(np.nanmean(values["seen_road_share"])) if seen.any() else 0.0
    said = [
        f"{ROADS}: {int(seen.sum()):,} of {amended.grid.size:,} tiles have enough picture; {share:.1%} of "
        f"them is road, with {road_km:,.1f} km of centre-line and "
        f"{int(np.nansum(values['seen_junctions'])):,} junctions",
        from_level(drawing.model.level),
        cleaning_told(*drawing.cleaning_px, drawing.metres_per_pixel),
        *dict.fromkeys(told),
    ]
    result: dict[str, Any] = {
        "dataset": str(amended.path),
        "views": [view.name for view in amended.views],
        "columns": [column.name for column, _ in facts],
        "tiles": int(seen.sum()),
        "road_share": share,
        "road_km": road_km,
    }
    paths = [amended.path]
    if vectors is not None and out is not None:
        paths.append(out)
        said.append(
            f"{out}: {vectors.centrelines:,} centre-lines, {vectors.centreline_m / 1000:,.1f} km, and "
            f"{vectors.polygons:,} polygons, {vectors.polygon_m2 / 1e6:,.2f} km2"
        )
        result["vectors"] = vectors._asdict()
    return Drew(tuple(said), result, paths)


def files_of(dataset: Dataset, name: str) -> list[str]:
    """Names, in the dataset, of everything a view consists of."""
    parts = pd.read_parquet(dataset.path / parts_path(name))
    return view_files(dataset.view(name), parts, dataset.grid)
