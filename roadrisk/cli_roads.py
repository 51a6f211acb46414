"""The words of `roadrisk roads`: a network that turns pictures into roads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roadrisk.terminal import Command, Json, Quiet, Verbose, finish, report, shown
from roadrisk.words import widths

app = typer.Typer(
    name="roads",
    help="Turn pictures into roads: learn it, then add the view `roads` to a dataset.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

LEARNED, NETWORK, TRAINING = "What is learned from", "The network", "The training"
Device = Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute.")]


@app.command(cls=Command)
def train(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A dataset, or a folder of pictures and masks.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="Folder to make.")],
    view: Annotated[
        str | None,
        typer.Option(help="View of the dataset it looks at; default: aerial.", rich_help_panel=LEARNED),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="VIEW",
            help="View of the dataset that shows roads; default: its centre-lines are drawn.",
            rich_help_panel=LEARNED,
        ),
    ] = None,
    mask_above: Annotated[
        int | None,
        typer.Option(
            metavar="0-254",
            help="A mask of more than two values is road above it; default: 127.",
            rich_help_panel=LEARNED,
        ),
    ] = None,
    width: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=M", help="Width of centre-lines of a class. Repeats.", rich_help_panel=LEARNED
        ),
    ] = None,
    holdout: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE", help="Pictures that are judged, never learned from.", rich_help_panel=LEARNED
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="unet (default), unetplusplus, fpn, ...", rich_help_panel=NETWORK),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Any of segmentation-models-pytorch; default: resnet18.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="none|imagenet", help="Of the encoder; default: none.", rich_help_panel=NETWORK),
    ] = None,
    shrink: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="It sees N x N pixels as one: quicker and coarser; default: 2.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="dice|cldice",
            help="cldice for roads that hold together; default: dice.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the pictures, at most; default: 25.", rich_help_panel=TRAINING),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Parts of the cross-validation; default: 5.", rich_help_panel=TRAINING)
    ] = None,
    block: Annotated[
        float | None,
        typer.Option(
            metavar="METRES", help="Side of a spatial block; default: four tiles.", rich_help_panel=TRAINING
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same model.", rich_help_panel=TRAINING)] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="One network, judged on its validation blocks.", rich_help_panel=TRAINING
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
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with a training that was interrupted.", rich_help_panel=TRAINING
        ),
    ] = False,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Learn to draw roads, and say how good that is on places it did not see."""
    flags = {
        "view": view,
        "mask": mask,
        "mask_above": mask_above,
        "widths_m": widths(width),
        "decoder": decoder,
        "encoder": encoder,
        "weights": weights,
        "shrink": shrink,
        "loss": loss,
        "epochs": epochs,
        "folds": folds,
        "block_m": block,
        "seed": seed,
        "quick": quick or None,
        "device": device,
    }
    from roadrisk.roads.settings import RoadSettings
    from roadrisk.roads.training import train as trained_model
    from roadrisk.schema import settings_of

    asked = settings_of(RoadSettings, {k: v for k, v in flags.items() if v is not None}, settings)
    with shown(quiet or as_json) as progress:
        trained = trained_model(source, out, asked, holdout=holdout, resume=resume, progress=progress)
    report(trained.lines(verbose), quiet or as_json)
    finish([out], trained.as_json(), as_json)


@app.command(cls=Command)
def apply(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A dataset, or a folder of pictures.")],
    model: Annotated[Path, typer.Option(metavar="MODEL", help="Folder that `roadrisk roads train` made.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder of the masks of a folder of pictures."),
    ] = None,
    view: Annotated[
        str | None, typer.Option(help="View of the dataset to look at; default: the model's.")
    ] = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also how likely road, from 0 to 255.")
    ] = False,
    specks: Annotated[
        float | None,
        typer.Option(metavar="M2", min=0, help="Remove pieces smaller than this; default: none."),
    ] = None,
    gaps: Annotated[
        float | None, typer.Option(metavar="M", min=0, help="Close gaps up to so wide; default: none.")
    ] = None,
    vectorize: Annotated[
        Path | None,
        typer.Option(metavar="LAYER.gpkg", help="Also centre-lines and polygons as a layer."),
    ] = None,
    device: Device = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that write and measure; default: all cores.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a view `roads` or masks that are there.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw roads: the view `roads` of a dataset and its columns, or a mask for each picture of a folder."""
    from roadrisk.roads.applying import apply as applied_model
    from roadrisk.roads.settings import Cleaning

    with shown(quiet or as_json) as progress:
        applied = applied_model(
            source,
            model,
            out,
            view=view,
            probability=probability,
            cleaning=Cleaning(specks or 0.0, gaps or 0.0),
            vectorize=vectorize,
            device=device or "auto",
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )
    report(applied.lines(), quiet or as_json)
    finish(applied.paths, applied.as_json(), as_json)
