"""The same places next year: the City of Boston, by models fitted on 2023 and judged on 2024.

`ROADRISK_DATA=path/to/data python tests/real/boston_next_year.py [--inputs both]` prints Markdown. Without
`--inputs` networks see facts alone; road masks show a sixth of the tiles.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from roadrisk.comparing import contestants
from roadrisk.dataset import Dataset
from roadrisk.gathering import gathered
from roadrisk.inputs import tiles_of_dataset
from roadrisk.learning.judging.intervals import measure_intervals
from roadrisk.learning.judging.measures import measures_of
from roadrisk.learning.loop.devices import fabric_of
from roadrisk.learning.pictures.weights import encoder_weights
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.validation import Training
from roadrisk.next_period import NextPeriodFound, next_period
from roadrisk.region import read_region
from roadrisk.tiling import tile
from roadrisk.training import feeds_of

REGION = Path(__file__).parents[2] / "regions/boston-next-year.toml"
BLOCK_M = 1000.0
MEASURE = "crashes_label"
AT_LEAST = {"any crash": 1, "top fifth": None}
PERCENTS = (5, 10, 20)


def judged(dataset: Dataset, settings: TrainSettings) -> NextPeriodFound:
    """Every model's word on 2024."""
    settings = resolved(settings)
    learned = gathered([tiles_of_dataset(dataset, settings.views)], settings)
    encoder = encoder_weights(settings)
    rivals = contestants(settings, learned)
    training = Training(settings, fabric_of(settings), learned.block, learned.buffer, encoder)
    return next_period(learned, rivals, feeds_of(learned, rivals, encoder, training), training)


def lines(name: str, said: NextPeriodFound) -> Iterator[str]:
    """One label's table in Markdown."""
    tiles, found = said.outcomes, said.found
    intervals = measure_intervals(tiles, found, seed=0)
    blocks = len(set(tiles.block.tolist()))
    yield f"\n### {name}: {len(tiles)} tiles in {blocks} blocks, {tiles.high.mean():.1%} high risk\n"
    hits = " | ".join(f"crashes in the riskiest {percent} %" for percent in PERCENTS)
    yield f"| model | AUROC (95 % interval) | average precision | {hits} |\n|---|---|---|{'---|' * len(PERCENTS)}"
    for model, outputs in found.outputs.items():
        scores = measures_of(tiles, outputs, found.fold)
        low, high = intervals[model]["auroc"]
        rates = " | ".join(f"{scores[f'hit_rate_{percent}']:.3f}" for percent in PERCENTS)
        yield f"| {model} | {scores['auroc']:.3f} ({low:.3f} to {high:.3f}) | {scores['auprc']:.3f} | {rates} |"
    yield f"| ceiling | {said.ceiling_auroc:.3f} | | {'| ' * len(PERCENTS)}"
    yield "\n| ranked by | tiles called hot | of them hot again | crashes next year | mean change of rank |"
    yield "|---|---|---|---|---|"
    for one in said.about.consistency:
        yield (
            f"| {one.model} | {one.tiles} ({one.top_percent} %) | {one.same_places} | "
            f"{one.events_later:,.0f} of {said.about.events:,.0f} | {one.rank_change:.0f} |"
        )
    yield ""
    yield from (f"- {line}" for line in said.told)


def main() -> None:
    """Tile once; fit and judge for each label."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", choices=("facts", "both"), default="facts")
    inputs = parser.parse_args().inputs
    settings = TrainSettings(encoder="aerial-resnet18", inputs=inputs, block_m=BLOCK_M)
    with TemporaryDirectory() as scratch:
        dataset = tile(read_region(REGION), Path(scratch) / "boston").dataset
        for name, at_least in AT_LEAST.items():
            started = time.monotonic()
            label = MEASURE if at_least else None
            found = judged(dataset, replace(settings, label=label, at_least=at_least))
            print(*lines(name, found), sep="\n", flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
