"""The command line: words only. Each command calls the library function of its name.

Nothing heavy is imported before a command runs, so `--help` is instant.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from roadrisk import __version__
from roadrisk.errors import RoadriskError, UsageError

if TYPE_CHECKING:
    from roadrisk.progress import Progress

app = typer.Typer(
    name="roadrisk",
    help="Turns a metro region into a roadway-risk map: tile it, train on it, score it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# options that take several words; click takes one, so they are joined by commas before it looks
SEVERAL_WORDS = {"--bbox": 4, "--label-window": 2, "--feature-window": 2}

ENDS_WORDS = re.compile(r"--?[A-Za-z]|.*\.toml$")  # another flag, or the region file
INTERRUPTED = 130  # the exit code that typer makes of Ctrl-C


class Command(TyperCommand):
    """A command whose `--bbox W S E N` may also be written `--bbox W,S,E,N`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, joined_words(args))


def joined_words(args: list[str]) -> list[str]:
    """Arguments with the words of `--bbox` and the windows joined by commas.

    >>> joined_words(["--bbox", "-93.7", "41.5", "-93.5", "41.7", "-o", "x"])
    ['--bbox=-93.7,41.5,-93.5,41.7', '-o', 'x']
    >>> joined_words(["--bbox=-93.7,41.5,-93.5,41.7"])
    ['--bbox=-93.7,41.5,-93.5,41.7']
    """
    joined, rest = [], list(args)
    while rest:
        word = rest.pop(0)
        if word in SEVERAL_WORDS and rest:
            count = 1 if "," in rest[0] else SEVERAL_WORDS[word]
            taken = list(takewhile(lambda text: not ENDS_WORDS.match(text), rest[:count]))
            rest = rest[len(taken) :]
            word = f"{word}={','.join(taken)}"
        joined.append(word)
    return joined


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of paths.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]


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
        list[Path], typer.Argument(metavar="DATASET", help="A dataset, or a table with image_path.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Folder to make.")],
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What is learned; default: label.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="VALUE", help="The label's value that is high risk.")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="both|image|facts", help="What the network sees.")
    ] = None,
    views: Annotated[
        str | None, typer.Option(metavar="VIEW", help="Whose pictures it sees; default: aerial.")
    ] = None,
    features: Annotated[str | None, typer.Option(metavar="A,B", help="Facts to use; default: all.")] = None,
    exclude: Annotated[str | None, typer.Option(metavar="C,D", help="Facts to leave out.")] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="basic|resnet34", help="Network that sees the picture.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="imagenet|none|PATH", help="Where its weights come from; follows the encoder."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Parts of the cross-validation.")] = None,
    block: Annotated[float | None, typer.Option(metavar="METRES", help="Side of a spatial block.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training tiles.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same model.")] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn risk from the picture and the facts together, and say how good that is."""
    if len(data) > 1:
        raise UsageError("one dataset at a time; several metros in one model are not there yet")
    flags = {
        "label": label,
        "positive": positive,
        "inputs": inputs,
        "views": names(views),
        "features": names(features),
        "exclude": names(exclude),
        "encoder": encoder,
        "weights": weights,
        "folds": folds,
        "block_m": block,
        "epochs": epochs,
        "seed": seed,
        "device": device,
    }
    from roadrisk.learning.settings import settings_from
    from roadrisk.training import train as trained_model

    settings = settings_from({k: v for k, v in flags.items() if v is not None})
    with shown(quiet or as_json) as progress:
        trained = trained_model(data[0], out, settings, progress=progress)
    report(trained.lines(), quiet or as_json)
    finish([out], trained.as_json(), as_json)


@app.command(cls=Command)
def score(
    data: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset, or a table with image_path.")],
    model: Annotated[Path, typer.Option(metavar="MODEL", help="Folder that `roadrisk train` made.")],
    out: Annotated[
        list[Path],
        typer.Option("-o", "--out", metavar="LAYER", help=".geojson .gpkg .parquet .csv .html. Repeats."),
    ],
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score every tile and write the risk as layers."""
    from roadrisk.scoring import score as scored_tiles

    with shown(quiet or as_json) as progress:
        scored = scored_tiles(data, model, out, device=device, progress=progress)
    report(scored.lines(), quiet or as_json)
    finish(out, scored.as_json(), as_json)


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
                "roadrisk: stopped; `tile` run again goes on where it stopped, other commands start over",
                err=True,
            )
        raise


def fail(error: Exception, code: int) -> None:
    """One line on stderr, then exit."""
    typer.echo(f"roadrisk: {' '.join(str(error).split())}", err=True)
    sys.exit(code)


def one_region(given: list[Path]) -> Path | None:
    """The region file among the positional arguments; a pattern that the shell expanded is an error."""
    others = [p for p in given if p.suffix != ".toml"]
    if others:
        raise UsageError(
            f"{others[0]} is not a region file (.toml); if the shell expanded a pattern, quote the pattern: "
            f"--imagery '{others[0].parent / ('*' + others[0].suffix)}'"
        )
    if len(given) > 1:
        raise UsageError(f"one region file at a time; {len(given)} given")
    return given[0] if given else None


def numbers(flag: str, text: str | None, count: int) -> list[float] | None:
    """Numbers separated by commas."""
    if text is None:
        return None
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        raise UsageError(f"{flag} {text.replace(',', ' ')} is not {count} numbers") from None
    if len(values) != count:
        raise UsageError(f"{flag} takes {count} numbers; {len(values)} given")
    return values


def rows_and_cols(text: str | None) -> list[int] | None:
    """`4x6` as rows and columns."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() for p in parts):
        raise UsageError(f"--shape {text} is not ROWSxCOLS, as in 4x4")
    return [int(p) for p in parts]


def window(flag: str, text: str | None) -> list[date] | None:
    """Two ISO dates."""
    if text is None:
        return None
    try:
        dates = [date.fromisoformat(v) for v in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{flag} {text.replace(',', ' ')} is not two dates, as in 2024-01-01 2025-01-01"
        ) from None
    if len(dates) != 2:
        raise UsageError(f"{flag} takes two dates, FROM and TO; {len(dates)} given")
    return dates


def names(text: str | None) -> list[str] | None:
    """A list separated by commas."""
    return None if text is None else [n.strip() for n in text.split(",") if n.strip()]


def sources(paths: list[str] | None) -> list[dict[str, str]] | None:
    """Source flags as the region file writes them."""
    return [{"path": str(Path(p).expanduser()) if p.startswith("~") else p} for p in paths] if paths else None


def report(lines: list[str], quiet: bool) -> None:
    """The summary, on stderr."""
    if not quiet:
        for line in lines:
            typer.echo(line, err=True)


def finish(paths: list[Path], result: dict[str, Any], as_json: bool) -> None:
    """What was written, on stdout: one path a line, or one JSON object."""
    if as_json:
        typer.echo(json.dumps(result))
    else:
        for path in paths:
            typer.echo(str(path))


@contextmanager
def shown(quiet: bool) -> Iterator[Progress]:
    """Progress bars on stderr, one a stage."""
    from roadrisk.progress import silent

    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    bars = Bars(*columns, console=Console(stderr=True))
    try:
        yield stage_bars(bars)
    finally:
        if bars.tasks:
            bars.stop()


def stage_bars(bars: Any) -> Callable[..., None]:
    """A `Progress` that draws a bar for each stage it hears of."""
    tasks: dict[str, Any] = {}

    def heard(stage: str, done: int, total: int, note: str = "") -> None:
        if not tasks:
            bars.start()
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, note=note)
        bars.update(tasks[stage], completed=done, total=total, note=note)

    return heard
