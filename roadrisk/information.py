"""`info`: what is in a dataset, a model, a road model, a layer or a table, and whether it is whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from roadrisk.dataset import FORMAT, MANIFEST, RUN, Dataset, read_dataset
from roadrisk.errors import DatasetError, RoadriskError, SourceError
from roadrisk.features.labels import Threshold
from roadrisk.maps.fields import period, window_lines
from roadrisk.maps.layer_file import LayerFile
from roadrisk.maps.layer_files import LAYER_SUFFIXES, read_layer
from roadrisk.mosaic.parts import parts_path
from roadrisk.plain_text import TextTable, account_table, plain
from roadrisk.sources.account import Account
from roadrisk.tallies import Tally, columns_table, tally_of

MODEL_MANIFEST, ROAD_MANIFEST = "model.json", "roads.json"
TABLE_SUFFIXES = (".csv", ".parquet")
LAYER_FIELDS = {"tile_id", "risk", "rank", "band"}  # every layer has them
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Info:
    """What `info` found.

    Parameters
    ----------
    kind : `dataset`, `model`, `road model`, `layer` or `table`.
    said : lines and tables for people.
    understood : more of them, for who asks.
    values : the same for programs.
    """

    path: Path
    kind: str
    said: tuple[str | TextTable, ...]
    values: dict[str, Any]
    understood: tuple[str, ...] = ()

    def lines(self, verbose: bool = False, width: int | None = None) -> list[str]:
        """For people.

        Parameters
        ----------
        verbose : also how each source was understood.
        width : of the terminal; None for a pipe, where each row is one line.
        """
        lines: list[str] = []
        more = ("", "how each source was understood", *self.understood) if verbose and self.understood else ()
        for part in (*self.said, *more):
            if isinstance(part, TextTable):
                lines += ["", *part.lines(width)]
            else:
                lines.append(plain(part))
        return lines

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"path": str(self.path), "kind": self.kind, **self.values}


def info(path: Path) -> Info:
    """What is in a dataset, a model, a layer or a table with `image_path`, and whether it is whole.

    Raises
    ------
    RoadriskError : it is none of them, unfinished or damaged.
    """
    try:
        return _info(path)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror or error}; check the path and its rights"
        ) from None


def _info(path: Path) -> Info:
    if not path.exists():
        raise DatasetError(f"{path} does not exist; give a dataset, a model, a layer or a table")
    if path.is_dir():
        if (path / MODEL_MANIFEST).is_file():
            # torch is slow to import, and only a model needs it
            from roadrisk.model_information import told_of_model

            said, values = told_of_model(path)
            return Info(path, "model", tuple(said), values)
        if (path / ROAD_MANIFEST).is_file():
            from roadrisk.road_model_information import told_of_road_model

            said, values = told_of_road_model(path)
            return Info(path, "road model", tuple(said), values)
        if (path / MANIFEST).is_file() or (path / RUN).is_file():
            return dataset_info(read_dataset(path))
        raise DatasetError(
            f"{path} is neither a dataset nor a model: it holds no {MANIFEST}, no {MODEL_MANIFEST} "
            f"and no {ROAD_MANIFEST}"
        )
    suffix = path.suffix.lower()
    if suffix not in LAYER_SUFFIXES:
        raise DatasetError(
            f"{path} is neither a dataset, a model, a layer ({' '.join(LAYER_SUFFIXES)}) "
            "nor a table with image_path"
        )
    if suffix not in TABLE_SUFFIXES:
        return layer_info(read_layer(path))
    layer = read_layer(path)
    names = {field.name for field in layer.fields}
    if "image_path" in names and not layer.ours:
        return table_info(layer)
    if layer.ours or names >= LAYER_FIELDS or (layer.geometry and suffix != ".csv"):
        return layer_info(layer)
    raise SourceError(
        f"{path} is a table without image_path and no layer of roadrisk; "
        "it may be a source of `roadrisk tile`"
    )


def dataset_info(dataset: Dataset) -> Info:
    """What is in a whole dataset.

    Raises
    ------
    DatasetError : its manifest or its tiles are damaged.
    """
    try:
        return _dataset_info(dataset)
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RoadriskError) as error:
        raise DatasetError(
            f"{dataset.path / MANIFEST} is damaged ({type(error).__name__}: {error}); tile again"
        ) from None


def _dataset_info(dataset: Dataset) -> Info:
    manifest = dataset.manifest
    sources, windows = manifest["sources"], manifest["windows"]
    accounts = [Account(**source["account"]) for source in sources]
    rights = tuple(
        (str(r["source"]), r["licence"] or NOT_STATED, r["attribution"] or NOT_STATED)
        for r in manifest["rights"]
    )
    tallies = _tallies(dataset)
    grid = dataset.grid
    files = [dataset.path / name for name in (*manifest["files"], MANIFEST)]
    said: list[str | TextTable] = [
        f"dataset {manifest['name']}: whole, format {manifest['format']} (this roadrisk writes {FORMAT}), "
        f"{len(files):,} files, {sum(f.stat().st_size for f in files) / 1e6:,.1f} MB",
        f"{grid.rows:,} x {grid.cols:,} = {grid.size:,} tiles of {grid.cell_m:,.4g} m ({grid.crs})",
        *window_lines(windows),
        _label_line(dataset),
    ]
    said += manifest.get("warnings", [])
    if (dataset.path / RUN).is_file():
        said.append(
            f"{RUN} is there too: a run is under way, or ended just after it had finished the dataset"
        )
    said += [_views_table(dataset), *_picture_lines(dataset)] if dataset.views else ["no views"]
    said += _drawn_lines(manifest.get("drawn", {}))
    said += [account_table(accounts)]
    said += [TextTable("rights", ("source", "licence", "attribution"), rights)] if rights else []
    said.append(columns_table(dataset.columns, tallies))
    return Info(
        path=dataset.path,
        kind="dataset",
        said=tuple(said),
        understood=tuple(
            line
            for s in sources
            for line in (
                *(f"  {s['name']}: {u}" for u in s["understood"]),
                *(f"  {u}" for u in s.get("said", ())),
            )
        ),
        values={
            "whole": True,
            **{key: manifest[key] for key in ("format", "name", "grid", "views", "windows", "label")},
            **{key: manifest[key] for key in ("sources", "rights")},
            "drawn": manifest.get("drawn", {}),
            "columns": [
                {**column.as_json(), **tally.as_json()}
                for column, tally in zip(dataset.columns, tallies, strict=True)
            ],
        },
    )


def _tallies(dataset: Dataset) -> list[Tally]:
    """One for each column, read one at a time, since there may be a million tiles."""
    file = dataset.path / "tiles.parquet"
    try:
        rows = pq.ParquetFile(file).metadata.num_rows
        if rows != dataset.grid.size:
            raise ValueError(f"{rows} rows for {dataset.grid.size} tiles")
        return [tally_of(pd.read_parquet(file, columns=[c.name])[c.name]) for c in dataset.columns]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{file} is damaged ({reason}); copy the dataset again or tile again") from None


def _label_line(dataset: Dataset) -> str:
    """How the label was cut; what it holds where it was not cut here."""
    cut = dataset.manifest["label"]
    if cut is not None:
        known = {f.name: cut[f.name] for f in fields(Threshold) if f.name in cut}
        return f"label: {cut['measure']}; {Threshold(**known)}"
    meaning = next((c.meaning for c in dataset.columns if c.name == "label"), None)
    return f"label: {meaning}" if meaning else "no label; say what is learned: train --label COLUMN"


VIEW_HEADER = (
    *("view", "tile px", "tiles shown", "m a pixel", "kept as", "least cover"),
    *("parts", "empty", "tiles failed"),
)


def _views_table(dataset: Dataset) -> TextTable:
    rows = []
    for view in dataset.views:
        try:
            parts = pd.read_parquet(dataset.path / parts_path(view.name))
            states = [int((parts["state"] == state).sum()) for state in ("written", "empty")]
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(
                f"{dataset.path / parts_path(view.name)} is damaged ({reason}); tile again"
            ) from None
        size, metres = f"{view.tile_size}", f"{dataset.metres_per_pixel(view.name):.3g}"
        shown = f"{view.neighbourhood} x {view.neighbourhood}" if view.neighbourhood > 1 else "1"
        # format 1 and 2 knew no tiles that failed
        failed = int(parts["failed_tiles"].sum()) if "failed_tiles" in parts else 0
        counts = (f"{count:,}" for count in (*states, failed))
        rows.append((view.name, size, shown, metres, view.compress, f"{view.min_coverage:.0%}", *counts))
    return TextTable("views", VIEW_HEADER, tuple(rows), VIEW_HEADER[1:])


def _picture_lines(dataset: Dataset) -> list[str]:
    """When what a view shows was taken, and how more than 8 bit became 8 bit."""
    said = []
    known = {column.name for column in dataset.columns}
    for view in dataset.views:
        if f"taken_first_{view.name}" in known:
            ends = [f"taken_first_{view.name}", f"taken_last_{view.name}"]
            days = pd.read_parquet(dataset.path / "tiles.parquet", columns=ends)
            dated = days[ends[0]].notna()
            if dated.any():
                said.append(
                    f"{view.name}: taken {days.loc[dated, ends[0]].min()} to "
                    f"{days.loc[dated, ends[1]].max()}, known of {int(dated.sum()):,} tiles"
                )
        if view.stretch is not None:
            spans = ", ".join(f"{low:.5g} to {high:.5g}" for low, high in view.stretch)
            said.append(f"{view.name}: stretched to 8 bit from {spans}")
    return said


def _drawn_lines(drawn: dict[str, dict[str, Any]]) -> list[str]:
    """How a model drew views."""
    said = []
    for view, notes in drawn.items():
        cleaning = [
            f"{words} {notes[name]:g} {unit}"
            for name, words, unit in (
                ("specks_m2", "without pieces below", "m2"),
                ("gaps_m", "gaps closed up to", "m"),
            )
            if notes[name]
        ]
        said.append(
            f"{view}: drawn on {notes['view']} by the road model {notes['model'][:16]}, learned from "
            f"{notes['model_source']}; road from level {notes['level']} of 255 on, "
            f"{', '.join(cleaning) or 'not cleaned'}"
        )
    return said


def layer_info(layer: LayerFile) -> Info:
    """What is in a map file."""
    about = layer.about
    title = f": {about['title']}" if about.get("title") else ""
    count = "features" if layer.features is None else f"{layer.features:,} features"
    said: list[str | TextTable] = [
        f"layer{title}: {count}, {layer.geometry or 'without geometry'}, {layer.crs or 'no CRS'}"
    ]
    if layer.ours:
        said += [f"{word}: {about[word] or NOT_STATED}" for word in ("model", "licence", "attribution")]
        said += window_lines(about["windows"])
    else:
        said.append("it carries no licence, attribution, model or windows of roadrisk")
    rows = tuple(
        (f.name, f.dtype, f.alias, f.unit, period(f.window), f.source, f.description) for f in layer.fields
    )
    header = ("field", "type", "alias", "unit", "window", "source", "meaning")
    said.append(TextTable("fields", header, rows))
    values = {
        "features": layer.features,
        "geometry": layer.geometry or None,
        "crs": layer.crs or None,
        "fields": [asdict(field) for field in layer.fields],
        "about": {k: v for k, v in about.items() if k != "columns"},
    }
    return Info(layer.path, "layer", tuple(said), values)


def table_info(table: LayerFile) -> Info:
    """What a table with `image_path` has, and what it lacks beside a dataset.

    Raises
    ------
    SourceError : it cannot be used.
    """
    from roadrisk.inputs import tiles_of_table

    tiles = tiles_of_table(table.path)
    names = {field.name for field in table.fields}
    tallies = [tally_of(tiles.frame[column.name]) for column in tiles.columns]
    pictures = int(tiles.has_image.sum())
    lacks = ["windows, units and coverage of its columns"]
    if tiles.places is None:
        lacks.append("lon and lat: folds are random, and .csv is the only layer")
    if not {"tile_id", "id"} & names:
        lacks.append("tile_id: rows are known by their pictures")
    if pictures < len(tiles):
        lacks.append(f"pictures of {len(tiles) - pictures:,} rows")
    if "label" not in names:
        lacks.append("a column label: say what is learned with train --label COLUMN")
    facts = [column.name for column in tiles.columns if column.role == "feature"]
    said: tuple[str | TextTable, ...] = (
        f"table {table.path.name}: {len(tiles):,} rows, {pictures:,} with picture "
        f"({tiles.views[0].tile_px} px)",
        f"columns that may be facts: {', '.join(facts) or 'none'}",
        *(f"it lacks {lack}" for lack in lacks),
        columns_table(tiles.columns, tallies),
    )
    columns = [{**c.as_json(), **t.as_json()} for c, t in zip(tiles.columns, tallies, strict=True)]
    values = {"rows": len(tiles), "with_image": pictures, "lacks": lacks, "columns": columns}
    return Info(table.path, "table", said, values)
