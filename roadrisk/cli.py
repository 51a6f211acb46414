"""The command line: words only. Each command calls the library function of its name.

Nothing heavy is imported before a command runs, so `--help` is instant.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from roadrisk import __version__
from roadrisk.cli_maps import compare, explain, score, view
from roadrisk.cli_roads import app as roads_app
from roadrisk.errors import RoadriskError, UsageError
from roadrisk.plain_text import plain
from roadrisk.terminal import Command, Json, Quiet, Verbose, finish, report, shown
from roadrisk.words import names, numbers, one_region, rows_and_cols, sides, sources, window

app = typer.Typer(
    name="roadrisk",
    help="Turns a metro region into a roadway-risk map: tile it, train on it, score it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# groups of options in `train --help`
LEARNED, SEEN, NETWORK = "What is learned", "What it is learned from", "The network"
TRAINING, MACHINE = "The training", "The machine"
INTERRUPTED = 130  # the exit code that typer makes of Ctrl-C


app.add_typer(roads_app)


@app.command(cls=Command)
def tile(
    region: Annotated[
        list[Path] | None, typer.Argument(metavar="[REGION.toml]", help="Region file; flags override it.")
    ] = None,
    bbox: Annotated[str | None, typer.Option(metavar="W S E N", help="The region's box in degrees.")] = None,
    zoom: Annotated[int | None, typer.Option(help="XYZ tiles of this zoom (EPSG:3857).")] = None,
    cell: Annotated[float | None, typer.Option(metavar="METRES", help="Square cells of this side.")] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="ROWSxCOLS", help="The box cut into equal tiles.")
    ] = None,
    crs: Annotated[
        str | None, typer.Option(help="Of --cell and --shape; default: the box's UTM zone.")
    ] = None,
    tile_size: Annotated[
        int | None, typer.Option(help="Pixels along a tile's side, a multiple of 16.")
    ] = None,
    imagery: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SRC",
            help="Pictures: file, folder, quoted pattern, https:// or s3:// name, tile server "
            "(https://.../{z}/{x}/{y}.png, xyz:NAME) or stac: catalogue. Repeats.",
        ),
    ] = None,
    compress: Annotated[
        str | None,
        typer.Option(metavar="zstd|jpeg", help="How pictures are kept; jpeg is not exact."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(metavar="N", help="Also a view of each tile's N x N neighbourhood; odd, 1 is none."),
    ] = None,
    stretch_of: Annotated[
        str | None,
        typer.Option(metavar="MODEL|DATASET", help="Its stretch of more than 8 bit, not one of our own."),
    ] = None,
    roads: Annotated[
        list[str] | None, typer.Option(metavar="SRC", help="Road centre-lines. Repeats.")
    ] = None,
    crashes: Annotated[
        list[str] | None, typer.Option(metavar="SRC", help="Crashes as dated points. Repeats.")
    ] = None,
    citations: Annotated[
        list[str] | None, typer.Option(metavar="SRC", help="Citations as points. Repeats.")
    ] = None,
    traffic: Annotated[
        list[str] | None, typer.Option(metavar="SRC", help="Volumes (AADT) on lines or at points. Repeats.")
    ] = None,
    areas: Annotated[
        list[str] | None, typer.Option(metavar="SRC", help="Polygons with population facts. Repeats.")
    ] = None,
    area: Annotated[
        str | None, typer.Option(metavar="SRC", help="Polygons: the region's outline inside the box.")
    ] = None,
    label_window: Annotated[
        str | None, typer.Option(metavar="FROM TO", help="Dates [FROM, TO) whose crashes are learned.")
    ] = None,
    feature_window: Annotated[
        str | None, typer.Option(metavar="FROM TO", help="Dates [FROM, TO) whose crashes are facts.")
    ] = None,
    min_coverage: Annotated[
        float | None, typer.Option(help="A tile with less picture counts as without one.")
    ] = None,
    drop_uncovered: Annotated[
        bool, typer.Option("--drop-uncovered", help="Neither train on nor score tiles without picture.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DATASET", help="Folder to make.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that cut pictures; default: all cores.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say tiles, parts, bytes and minutes; write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Cut a region into tiles and join each to its picture, roads, crashes and other facts."""
    file = one_region(region or [])
    flags = {
        "bbox": numbers("--bbox", bbox, 4),
        "zoom": zoom,
        "cell": cell,
        "shape": rows_and_cols(shape),
        "crs": crs,
        "tile_size": tile_size,
        "imagery": sources(imagery),
        "compress": compress,
        "context": context,
        "stretch_of": stretch_of,
        "roads": sources(roads),
        "crashes": sources(crashes),
        "citations": sources(citations),
        "traffic": sources(traffic),
        "areas": sources(areas),
        "area": area,
        "label_window": window("--label-window", label_window),
        "feature_window": window("--feature-window", feature_window),
        "min_coverage": min_coverage,
        "drop_uncovered": drop_uncovered or None,
    }
    from roadrisk.region import Region, read_region, with_flags
    from roadrisk.tiling import tile as tiled_region
    from roadrisk.tiling import tile_plan

    region_ = with_flags(read_region(file) if file else Region(), flags)
    with shown(quiet or as_json) as progress:
        if dry_run:
            plan = tile_plan(region_, workers=workers, progress=progress)
            report(plan.lines(), quiet or as_json)
            finish([], plan.as_json(), as_json)
            return
        if out is None:
            raise UsageError("where to? give -o DATASET")
        tiled = tiled_region(region_, out, overwrite=overwrite, workers=workers, progress=progress)
    report(tiled.lines(verbose), quiet or as_json)
    finish([out], tiled.as_json(), as_json)


@app.command(cls=Command)
def train(
    data: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="Datasets, or a table with image_path.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Folder to make.")],
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What is learned; default: label.", rich_help_panel=LEARNED),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(metavar="VALUE", help="The label's value that is high risk.", rich_help_panel=LEARNED),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="High risk from here; default: the top fifth.", rich_help_panel=LEARNED
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="The label's values, from the least risk to the most.",
            rich_help_panel=LEARNED,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="class|count|value", help="What is said of a tile.", rich_help_panel=LEARNED),
    ] = None,
    exposure: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="What expected counts are proportional to.", rich_help_panel=LEARNED
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="LOSS",
            help="cross-entropy, weighted, focal; mse, huber; negative-binomial, poisson; the task's first.",
            rich_help_panel=LEARNED,
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="both|image|facts|auto",
            help="What the network sees; auto keeps the simplest that is as good.",
            rich_help_panel=SEEN,
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Whose pictures it sees; default: aerial.", rich_help_panel=SEEN),
    ] = None,
    features: Annotated[
        str | None, typer.Option(metavar="A,B", help="Facts to use; default: all.", rich_help_panel=SEEN)
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(metavar="C,D", help="Facts to leave out.", rich_help_panel=SEEN)
    ] = None,
    neighbourhood: Annotated[
        str | None,
        typer.Option(
            metavar="3,7", help="Also the facts of the 3 x 3 and 7 x 7 tiles around.", rich_help_panel=SEEN
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Network that sees pictures: basic, resnet18/34/50, aerial-resnet18 or timm:NAME.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|PATH",
            help="Where its weights come from; follows the encoder.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="none|last|all",
            help="How much of it learns; follows the encoder.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    augment: Annotated[
        bool,
        typer.Option(
            "--augment",
            help="Learn from all flips and quarter turns, score their mean.",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    fusion: Annotated[
        str | None,
        typer.Option(
            metavar="concat|mlp|gate|attention",
            help="How picture and facts are joined.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Parts of the cross-validation; default: 5, or what blocks allow.", rich_help_panel=TRAINING
        ),
    ] = None,
    block: Annotated[
        float | None,
        typer.Option(metavar="METRES", help="Side of a spatial block.", rich_help_panel=TRAINING),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training tiles, at most.", rich_help_panel=TRAINING)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same model.", rich_help_panel=TRAINING)] = None,
    device: Annotated[
        str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.", rich_help_panel=MACHINE)
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="32|bf16|16", help="Bits of a number.", rich_help_panel=MACHINE)
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Processes a machine, as torchrun starts them.", rich_help_panel=MACHINE),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(help="Machines, as torchrun starts them.", rich_help_panel=MACHINE)
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Without the models that it is compared with.", rich_help_panel=TRAINING
        ),
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="These and all other settings as TOML; flags override it.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    holdout: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET", help="A metro that is judged, never learned from.", rich_help_panel=LEARNED
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with a training that was interrupted.", rich_help_panel=TRAINING
        ),
    ] = False,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="csv|tensorboard", help="Write every epoch into MODEL.log/.", rich_help_panel=TRAINING
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Learn risk from the picture and the facts together, and say how good that is."""
    flags = {
        "label": label,
        "positive": positive,
        "at_least": at_least,
        "classes": names(classes),
        "task": task,
        "exposure": exposure,
        "loss": loss,
        "inputs": inputs,
        "views": names(views),
        "features": names(features),
        "exclude": names(exclude),
        "neighbourhood": sides(neighbourhood),
        "encoder": encoder,
        "weights": weights,
        "tune": tune,
        "augment": augment or None,
        "fusion": fusion,
        "folds": folds,
        "block_m": block,
        "epochs": epochs,
        "seed": seed,
        "device": device,
        "precision": precision,
        "devices": devices,
        "nodes": nodes,
        "quick": quick or None,
        "log": log,
    }
    from roadrisk.learning.settings import TrainSettings
    from roadrisk.schema import settings_of
    from roadrisk.training import train as trained_model

    asked = settings_of(TrainSettings, {k: v for k, v in flags.items() if v is not None}, settings)
    with shown(quiet or as_json) as progress:
        trained = trained_model(data, out, asked, holdout=holdout, resume=resume, progress=progress)
    if not trained.first:
        return
    report(trained.lines(verbose), quiet or as_json)
    finish([out], trained.as_json(), as_json)


@app.command(cls=Command)
def tune(
    data: Annotated[list[Path], typer.Argument(metavar="DATASET...", help="As of train.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FILE", help="The best settings, as TOML.")
    ] = Path("tuned.toml"),
    trials: Annotated[
        int, typer.Option(min=1, help="Settings to try, those of earlier runs among them.")
    ] = 30,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="What is searched over, also as encoder=basic+resnet50; default: all that fits.",
        ),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings that are not searched over, as of train.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for better settings, judged on spatial folds inside the training data."""
    from roadrisk.learning.settings import TrainSettings
    from roadrisk.schema import settings_of
    from roadrisk.tuning import tune as tuned_settings

    with shown(quiet or as_json) as progress:
        tuned = tuned_settings(
            data,
            out,
            settings_of(TrainSettings, {}, settings),
            trials=trials,
            search=names(search),
            progress=progress,
        )
    report(tuned.lines(), quiet or as_json)
    finish([out], tuned.as_json(), as_json)


@app.command(cls=Command)
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `roadrisk train` made.")],
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DATASET...]", help="Metros it never saw, or the same tiles with a later label window."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="REPORT.html", help="Report to write.")
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also with other cells, labels and facts, and by income; trains anew on its own DATASET.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Say how good a model is, where it was trained and where it never was."""
    from roadrisk.evaluating import evaluate as evaluated_model

    with shown(quiet or as_json) as progress:
        found = evaluated_model(
            model, data or [], out, robustness=robustness, device=device, progress=progress
        )
    report(found.lines(verbose), quiet or as_json)
    finish(found.paths, found.as_json(), as_json)


for of_maps in (score, explain, compare, view):
    app.command(cls=Command)(of_maps)


@app.command(cls=Command)
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A dataset, a model, a layer or a table.")],
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what is in a dataset, a model or a layer, and whether it is whole."""
    import shutil

    from roadrisk.information import info as info_of

    found = info_of(path)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in found.lines(verbose, width):
        typer.echo(line)


@app.command(cls=Command)
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to make.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed, another metro.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a demo that is there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make up a metro, then tile it, train on it and score it."""
    from roadrisk.demonstration import demo as made_up

    with shown(quiet or as_json) as progress:
        made = made_up(out, seed=seed, overwrite=overwrite, progress=progress)
    report(made.lines(), quiet or as_json)
    finish(made.paths, made.as_json(), as_json)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Say the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"roadrisk {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line: exit 0 done, 1 a clear error in one line, 2 usage."""
    try:
        app()
    except UsageError as error:
        fail(error, 2)
    except RoadriskError as error:
        fail(error, 1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # a second Ctrl-C must not spoil the exit
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            typer.echo(
                "roadrisk: stopped; `tile`, `tune` and `roads apply` run again and `train --resume` go on "
                "where they stopped, other commands start over",
                err=True,
            )
        raise


def fail(error: Exception, code: int) -> None:
    """One line on stderr, then exit."""
    typer.echo(f"roadrisk: {plain(' '.join(str(error).split()))}", err=True)
    sys.exit(code)
