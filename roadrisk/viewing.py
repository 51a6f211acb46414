"""A region's pictures: found, fetched, cut into views, and joined to its tiles."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roadrisk.columns import Column, Combine, Fact
from roadrisk.dataset import View, forgotten_after_error, read_dataset
from roadrisk.errors import RegionError, SourceError
from roadrisk.files import digest_of, identity_of
from roadrisk.grid import Grid, Part
from roadrisk.imagery.finding import found_views
from roadrisk.imagery.given import Download
from roadrisk.imagery.names import gdal_name, is_remote, public_name
from roadrisk.imagery.sheets import Sheet, Sheets, Stretch
from roadrisk.imagery.tiles.archives import is_archive
from roadrisk.imagery.tiles.servers import is_server, planned_download
from roadrisk.mosaic.context import ContextPainter, context_block
from roadrisk.mosaic.cutting import CutView, Days, cut_from_view, cut_view
from roadrisk.mosaic.estimating import Estimate, estimate
from roadrisk.mosaic.jobs import Target
from roadrisk.mosaic.overview import overview_path, vrt_files
from roadrisk.mosaic.parts import part_path, parts_path
from roadrisk.mosaic.picture import Spent, summed
from roadrisk.progress import Progress, silent
from roadrisk.region import Region
from roadrisk.sources.account import Account

CONTEXT = "context"


@dataclass(frozen=True)
class ViewsPlan:
    """What a region's views would take: `--dry-run`.

    Parameters
    ----------
    understood : of each view whose sheets are at hand, how its sources were read.
    estimates : of the same views.
    downloads : of each tile server, which has to be asked first.
    elsewhere : archives that are not opened for it.
    """

    understood: dict[str, tuple[str, ...]]
    estimates: dict[str, Estimate]
    downloads: tuple[Download, ...]
    elsewhere: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        said = []
        for fetched in self.downloads:
            said.append(
                f"{fetched.source}: {fetched.tiles:,} tiles, {fetched.kept:,} of them here already, "
                f"{fetched.left:,} to ask for: about {fetched.bytes / 1e6:,.1f} MB and "
                f"{fetched.minutes:.1f} minutes at {fetched.rate_per_s:g} a second"
            )
            said += [f"{fetched.source}: {term}" for term in fetched.terms]
        said += [
            f"{name}: what the region needs of it is fetched when it is tiled" for name in self.elsewhere
        ]
        for view, e in self.estimates.items():
            said += [f"{view}: {'; '.join(self.understood[view])}"]
            said.append(
                f"{view}: {e.parts:,} parts, {e.parts_with_picture:,} with picture; about "
                f"{e.bytes / 1e6:,.0f} MB and {e.minutes:.1f} minutes"
            )
        return said or ["no imagery given: nothing to cut"]


@dataclass(frozen=True)
class Viewed:
    """What a region's pictures came to.

    Parameters
    ----------
    facts : columns with their (size,) values.
    files : names, in the dataset, of everything the views consist of.
    said : what is to be said of each view, by its name.
    spent : seconds of all processes.
    """

    views: tuple[View, ...]
    facts: list[Fact]
    files: tuple[str, ...]
    said: dict[str, tuple[str, ...]]
    spent: Spent


def views_plan(region: Region, grid: Grid, workers: int, progress: Progress = silent) -> ViewsPlan:
    """What fetching and cutting the region's pictures would take; nothing is kept but a few sample tiles."""
    served = [source for source in region.imagery if is_server(source.path)]
    archives = [s for s in region.imagery if is_archive(s.path) and is_remote(gdal_name(s.path))]
    downloads = tuple(planned_download(source, grid, region.tile_size, progress) for source in served)
    waiting = {source.view for source in (*served, *archives)}
    at_hand = replace(region, imagery=tuple(s for s in region.imagery if s.view not in waiting))
    sheets = sheets_of(at_hand, grid, progress)
    estimates = {
        view: estimate(some, grid, region.tile_size, workers, region.compress)
        for view, some in sheets.items()
    }
    return ViewsPlan(
        {view: some.understood for view, some in sheets.items()},
        estimates,
        downloads,
        tuple(public_name(s.path) for s in archives),
    )


def sheets_of(region: Region, grid: Grid, progress: Progress = silent) -> dict[str, Sheets]:
    """The sheets of each of the region's views.

    Raises
    ------
    SourceError : as `found_views`.
    RegionError : `stretch_of` holds no stretch of a view of more than 8 bit.
    """
    stretches = stretches_of(Path(region.stretch_of)) if region.stretch_of else {}
    unknown = {source.view for source in region.imagery} - set(stretches)
    if region.stretch_of and region.imagery and unknown:
        raise RegionError(
            f"{region.stretch_of} knows no stretch of the view {min(unknown)}; leave out --stretch-of, or "
            "name the model or dataset that was made with it"
        )
    _check_applicable(region)
    return found_views(region.imagery, grid, region.tile_size, stretches, progress)


def _check_applicable(region: Region) -> None:
    """Nothing, if nothing is said of a source that it does not have."""
    for source in region.imagery:
        served, archived = is_server(source.path), is_archive(source.path)
        if source.zoom is not None and not (served or archived):
            raise RegionError(f"{source.path} is no tile server and no archive of tiles; leave `zoom` out")
        if source.tms and not served:
            raise RegionError(f"{source.path} is no tile server; leave `tms` out")


def stretches_of(path: Path) -> dict[str, Stretch]:
    """How pixels of more than 8 bit became 8 bit, by view, in a dataset or a model.

    Raises
    ------
    RegionError : the folder is neither.
    """
    if (path / "model.json").is_file():
        try:
            known = json.loads((path / "model.json").read_text(encoding="utf-8"))["provenance"]["stretches"]
            return {view: tuple((float(a), float(b)) for a, b in spans) for view, spans in known.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise RegionError(
                f"{path} is no model that knows a stretch; name another for --stretch-of"
            ) from None
    if not path.is_dir():
        raise RegionError(f"no such model or dataset: {path}; give --stretch-of the -o of `train` or `tile`")
    return {view.name: view.stretch for view in read_dataset(path).views if view.stretch is not None}


def view_plans(sheets: dict[str, Sheets]) -> dict[str, Any]:
    """Each view with what decides its bytes: its sheets, how they are read, and the stretch."""
    return {
        view: {
            "stretch": [list(span) for span in some.stretch or ()],
            "sheets": [
                {
                    **sheet.identity,
                    "bands": list(sheet.bands.colours),
                    "taken": list(sheet.taken or ()),
                    "place": digest_of([sheet.crs, *sheet.to_crs[:6], sheet.width, sheet.height]),
                }
                for sheet in some
            ],
        }
        for view, some in sheets.items()
    }


def cut_views(
    region: Region,
    out: Path,
    sheets: dict[str, Sheets],
    grid: Grid,
    plan_hash: str,
    workers: int,
    progress: Progress,
) -> Viewed:
    """Cut every view and write it; the columns that tell of it.

    Raises
    ------
    SourceError, DatasetError : as `cut_view`; a sheet that is another by now.
    """
    targets = {view: Target(out, view, grid, region.tile_size, plan_hash, region.compress) for view in sheets}
    cut = {view: cut_view(targets[view], some, workers, progress) for view, some in sheets.items()}
    with forgotten_after_error(out):
        _check_unchanged(sheet for some in sheets.values() for sheet in some)
    views = [_view(region, targets[view], cut[view], sheets[view].stretch) for view in cut]
    if region.context > 1 and views:
        of = targets[views[0].name]
        block = context_block(of.tile_size, region.context)
        target = replace(of, view=CONTEXT, tile_size=block)
        painter = ContextPainter(out, of.view, grid, of.tile_size, plan_hash, block)
        cut[CONTEXT] = cut_from_view(target, painter, cut[of.view].coverage, workers, progress)
        seen = _view(region, target, cut[CONTEXT], views[0].stretch)
        views.append(replace(seen, neighbourhood=region.context))
    facts = [fact for view in cut for fact in _coverage_facts(view, cut[view])]
    facts += [fact for view in sheets for fact in _date_facts(view, cut[view])]
    facts += _dropped(region, next(iter(cut), ""), cut)
    return Viewed(
        views=tuple(views),
        facts=facts,
        files=tuple(name for view in views for name in view_files(view, cut[view.name].parts, grid)),
        said={view: tuple(_said(region, view, cut[view])) for view in sheets},
        spent=summed(one.spent for one in cut.values()),
    )


def view_files(view: View, parts: pd.DataFrame, grid: Grid) -> list[str]:
    """Names, in the dataset, of everything a view consists of."""
    places = parts.loc[parts["state"] == "written", list(Part._fields)].to_numpy().tolist()
    written = [Part(*place) for place in places]
    return [
        *(part_path(view.name, part) for part in written),
        *vrt_files(view.name, written, grid, view.tile_size),
        overview_path(view.name),
        parts_path(view.name),
    ]


def parts_digest(parts: pd.DataFrame) -> str:
    """Digest of the parts' checksums."""
    written = parts[parts["state"] == "written"]
    return digest_of(written[["row", "col", "sha256"]].to_numpy().tolist())


def sheet_account(view: str, sheets: Sheets) -> Account:
    """What became of the sheets of a view."""
    return Account(view, len(sheets) + sheets.outside, len(sheets), {}, sheets.outside)


def pictured_later(facts: Iterable[Fact], label_from: str) -> list[str]:
    """What is to be said of pictures taken after the label begins: they may show what it caused."""
    said = []
    for column, values in facts:
        if not column.name.startswith("taken_last_"):
            continue
        later = sum(day is not None and day >= label_from for day in values)
        if later:
            said.append(
                f"{column.source}: the picture of {later:,} tiles was taken after the label begins "
                f"({label_from}); it may show what the crashes led to"
            )
    return said


def _check_unchanged(sheets: Iterable[Sheet]) -> None:
    """Nothing, if the files are still those that the plan names: else two pictures may be mixed."""
    for sheet in sheets:
        parts = (sheet.identity, *sheet.identity.get("beside", ()))
        if any("mtime_ns" in part and _is_another(part) for part in parts):
            raise SourceError(
                f"{sheet.path} changed while it was cut, and what was cut is removed; run the same command "
                "again when nobody writes it"
            )


def _is_another(known: dict[str, Any]) -> bool:
    """Whether a file is there and is another than the one known."""
    file = Path(known["path"])
    return file.is_file() and not identity_of(file, hashed=False).items() <= known.items()


def _view(region: Region, target: Target, cut: CutView, stretch: Stretch | None) -> View:
    digest = parts_digest(cut.parts)
    return View(target.view, target.tile_size, region.min_coverage, digest, target.compress, stretch)


def _coverage_facts(view: str, cut: CutView) -> list[Fact]:
    meaning = f"Share of the tile that the {view} picture covers; missing where it could not be read."
    column = Column(f"coverage_{view}", "float64", "share", "info", "mean", meaning, view)
    return [(column, cut.coverage.ravel())]


def _date_facts(view: str, cut: CutView) -> list[Fact]:
    return [
        _date_fact(view, "first", "Earliest", "min", cut.first),
        _date_fact(view, "last", "Latest", "max", cut.last),
    ]


def _date_fact(view: str, end: str, said: str, combine: Combine, dates: Days) -> Fact:
    meaning = f"{said} day on which what the {view} picture shows was taken; missing where not known."
    values = np.datetime_as_string(dates.ravel()).astype(object)
    values[np.isnat(dates.ravel())] = None
    return Column(f"taken_{end}_{view}", "object", "", "info", combine, meaning, view), values


def _dropped(region: Region, view: str, cut: dict[str, CutView]) -> list[Fact]:
    if not region.drop_uncovered or not cut:
        return []
    meaning = (
        f"Less than {region.min_coverage:g} of the tile has a picture ({view}): "
        "neither trained on nor scored."
    )
    column = Column("dropped", "bool", "", "info", "none", meaning, view)
    return [(column, ~(cut[view].coverage.ravel() >= region.min_coverage))]


def _said(region: Region, view: str, cut: CutView) -> list[str]:
    covered = int((cut.coverage >= region.min_coverage).sum())
    dropped = "; the others are dropped" if region.drop_uncovered else ""
    said = [f"{view}: {covered:,} tiles have at least {region.min_coverage:.0%} of a picture{dropped}"]
    if not np.nansum(cut.coverage):
        said.append(
            f"{view}: no tile shows anything: where they meet the grid, the sheets are blank or transparent"
        )
    if cut.failed.any():
        said.append(
            f"{view}: {int(cut.failed.sum()):,} tiles failed and count as without a picture: "
            f"{'; '.join(cut.reasons)}"
        )
    return said
