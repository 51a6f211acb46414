"""The words of the commands that make maps: score, explain, compare and view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roadrisk.plain_text import plain
from roadrisk.terminal import Json, Quiet, finish, report, shown
from roadrisk.words import names, numbers

SUFFIXES = ".geojson .geojsonl .gpkg .fgb .parquet .pmtiles .tif .csv .html .qml .sld"
SHOWN, WRITTEN = "What is shown", "How it is written"
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]
Out = Annotated[list[Path], typer.Option("-o", "--out", metavar="LAYER", help=f"{SUFFIXES}. Repeats.")]
ModelFolder = Annotated[Path, typer.Option(metavar="MODEL", help="Folder that `roadrisk train` made.")]


def score(
    data: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset, or a table with image_path.")],
    model: ModelFolder,
    out: Out,
    facts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B|all|none",
            help="Columns besides the score; default: those the model learned from.",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="Also what moved each score.", rich_help_panel=SHOWN)
    ] = False,
    bbox: Annotated[
        str | None,
        typer.Option(
            metavar="W S E N",
            help="Only tiles with their middle there; ranks stay those among all.",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="tile|road", help="What is coloured.", rich_help_panel=SHOWN)
    ] = "tile",
    roads: Annotated[
        Path | None,
        typer.Option(
            metavar="SRC",
            help="With --by road: your centre-lines, with all their fields; default: the dataset's.",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="The riskiest once more, as layers (.topN.) and a printable sheet each (.topN.html).",
            rich_help_panel=WRITTEN,
        ),
    ] = None,
    crs: Annotated[
        str | None,
        typer.Option(help="Of .gpkg .fgb .parquet; default: the grid's.", rich_help_panel=WRITTEN),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score every tile and write the risk as layers."""
    from roadrisk.scoring import ScoreSettings
    from roadrisk.scoring import score as scored_tiles

    box, asked = numbers("--bbox", bbox, 4), names(facts)
    settings = ScoreSettings(
        facts=None if asked is None else tuple(asked),
        reasons=reasons,
        bbox=None if box is None else tuple(box),
        by=by,  # type: ignore[arg-type]  # checked there
        roads=roads,
        top=top or 0,
        crs=crs,
        device=device,
    )
    with shown(quiet or as_json) as progress:
        scored = scored_tiles(data, model, out, settings, progress=progress)
    report(scored.lines(), quiet or as_json)
    finish(list(scored.paths), scored.as_json(), as_json)


def explain(
    data: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset, or a table with image_path.")],
    model: ModelFolder,
    tile: Annotated[str, typer.Option(metavar="ID", help="`tile_id` of the tile, as layers have it.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="PAGE.html",
            help="Also a page with a heat map of the picture; needs [explain].",
        ),
    ] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATASET",
            help="What the model learned from, if not DATASET: where like tiles are looked for. Repeats.",
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what moved the score of a tile, and what was observed in tiles like it."""
    import json

    from roadrisk.explaining import explain as explained_tile

    with shown(quiet or as_json) as progress:
        found = explained_tile(
            data, model, tile, out, training=training or [], device=device, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    for line in found.lines():
        typer.echo(plain(line))
    if out is not None:
        typer.echo(str(out))


def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Layer that `roadrisk score` wrote.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another, of the same tiles.")],
    out: Out,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a layer of the change from A to B, with intervals."""
    from roadrisk.changing import compare as compared_layers

    compared = compared_layers(before, after, out)
    report(compared.lines(), quiet or as_json)
    finish(list(compared.paths), compared.as_json(), as_json)


def view(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A layer of `roadrisk score`, or a dataset.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[OTHER]", help="Another, to compare side by side.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Whose pictures are shown; of a dataset its own."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
) -> None:
    """Show a map page on this computer until Ctrl-C; its address is printed."""
    from roadrisk.serving import view as viewed_layers

    viewed_layers([path] if other is None else [path, other], data, port=port, open_browser=not no_open)
