"""What pictures add to facts in Boston: every model on the same folds, each with its interval.

`ROADRISK_DATA=path/to/data make boston` prints Markdown; it fails where the fused model is certainly below the
best of the others, or the facts network certainly below the best baseline on the facts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from roadrisk.dataset import Dataset
from roadrisk.grid import FloatArray, IntArray
from roadrisk.learning.baselines.judged import number_out_of_fold
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import BUFFER_TILES, Folds, block_tiles
from roadrisk.learning.judging.intervals import (
    Interval,
    WeightedMeasure,
    auroc_within,
    block_of,
    difference_interval,
    interval,
    weighted_auroc,
)
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Task
from roadrisk.region import read_region
from roadrisk.tiling import tile
from roadrisk.training import train

REGION = Path(__file__).parents[2] / "regions/boston-pictures.toml"
BLOCK_M = 3000.0
MEASURE = "massdot_2024_label"
TOP_FIFTH = TrainSettings(encoder="aerial-resnet18", block_m=BLOCK_M)
LABELS = {"any crash": replace(TOP_FIFTH, label=MEASURE, at_least=1), "top fifth": TOP_FIFTH}
MASK, FUSED, FACTS = "mask_share", "fused", "facts"
ORDER = ("base_rate", "road_length", MASK, "logistic", "boosting", "image", FACTS, FUSED)
ON_FACTS = ("road_length", "logistic", "boosting")


@dataclass(frozen=True, eq=False)
class Judged:
    """What every model says of N tiles that it did not see.

    Parameters
    ----------
    outputs : by model, (N,) logits.
    block : (N,) of 3 km.
    random : by model, the AUROC where folds are dealt by chance and neighbours flatter.
    """

    label: FloatArray
    fold: IntArray
    block: IntArray
    outputs: Mapping[str, FloatArray]
    random: Mapping[str, float]

    @property
    def measures(self) -> dict[str, WeightedMeasure]:
        """The AUROC of all pairs of tiles, and of those that one model scored."""
        return {"AUROC": weighted_auroc, "within folds": auroc_within(self.fold)}

    def best(self, names: tuple[str, ...]) -> str:
        """Of these models the one of the highest AUROC."""
        return max(names, key=lambda name: _auroc(self.label, self.outputs[name]))

    def difference(self, a: str, b: str, measure: WeightedMeasure) -> Interval:
        """Of a's score less b's."""
        found = difference_interval(measure, self.label, self.outputs[a], self.outputs[b], self.block, seed=0)
        return _there(found)


def judged(dataset: Dataset, model: Path) -> Judged:
    """Out-of-fold predictions of a model on disk, and what the road share of the mask alone says."""
    every = pd.read_parquet(model / "folds.parquet")
    table = every.query("split == 'spatial'")
    said = table.pivot(index="key", columns="model", values="output")
    about = table.drop_duplicates("key").set_index("key").loc[said.index]
    tiles = dataset.tiles().set_index("tile_id").loc[said.index]
    rows, cols = tiles["row"].to_numpy(), tiles["col"].to_numpy()
    row, col = dataset.grid.y0 + rows, dataset.grid.x0 + cols
    label, fold = about["label"].to_numpy(float), about["fold"].to_numpy()
    reader = dataset.reader("aerial")
    share = np.array([(reader.read(r, c)[0] > 127).mean() for r, c in zip(rows, cols, strict=True)])
    area_km2 = dataset.grid.area_km2(rows, cols)
    examples = _of_labels(said.index.to_numpy(object), label, area_km2, row, col)
    folds = Folds(fold, int(fold.max()) + 1, row, col, BUFFER_TILES)
    outputs = {str(name): said[name].to_numpy(float) for name in said}
    outputs[MASK] = number_out_of_fold(share * area_km2, examples, folds, Task())[:, 0]
    block = block_of(row, col, block_tiles(BLOCK_M, dataset.grid.cell_m))
    random = {
        str(name): _auroc(of["label"].to_numpy(float), of["output"].to_numpy(float))
        for name, of in every.query("split == 'random'").groupby("model")
    }
    return Judged(label, fold, block, outputs, random)


def lines(name: str, found: Judged) -> Iterator[str]:
    """One label's table in Markdown."""
    blocks = len(np.unique(found.block))
    yield f"\n### {name}: {len(found.label)} tiles in {blocks} blocks, {found.label.mean():.1%} high risk\n"
    yield "| model | AUROC (95 % interval) | within folds | random folds |\n|---|---|---|---|"
    for model in sorted(found.outputs, key=_place):
        scores = [
            str(_there(interval(measure, found.label, found.outputs[model], found.block, seed=0)))
            for measure in found.measures.values()
        ]
        chance = f"{found.random[model]:.3f}" if model in found.random else ""
        yield f"| {model} | {' | '.join(scores)} | {chance} |"
    yield "\n| paired difference | AUROC (95 % interval) | within folds |\n|---|---|---|"
    for a, b in differences(found):
        scores = [str(found.difference(a, b, measure)) for measure in found.measures.values()]
        yield f"| {a} - {b} | {' | '.join(scores)} |"


def differences(found: Judged) -> list[tuple[str, str]]:
    """Pairs of models to compare: the promises first."""
    others = tuple(name for name in ORDER if name in found.outputs and name != FUSED)
    promised = [(FUSED, found.best(others)), (FACTS, found.best(ON_FACTS))]
    return list(dict.fromkeys([*promised, (FUSED, FACTS), (FUSED, "boosting"), ("image", MASK)]))


def broken(found: Judged) -> list[str]:
    """Promises that do not hold: differences wholly under 0."""
    return [
        f"{a} is below {b}"
        for a, b in differences(found)[:2]
        if found.difference(a, b, weighted_auroc).high < 0
    ]


def _of_labels(
    key: np.ndarray, label: FloatArray, area_km2: FloatArray, row: IntArray, col: IntArray
) -> Examples:
    n = len(key)
    nothing, none = np.empty((n, 0)), np.empty((n, 0), object)
    picture = np.empty((n, 0), np.int64)
    return Examples(key, label, nothing, (), none, (), area_km2, (), (), picture, row, col, np.ones(n))


def _auroc(label: FloatArray, output: FloatArray) -> float:
    return float(weighted_auroc(label, output, np.ones((1, len(label))))[0])


def _there(found: Interval | None) -> Interval:
    if found is None:
        raise SystemExit("fewer than 20 blocks have a label: the data is not whole")
    return found


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def main() -> None:
    """Tile once; train and judge for each label."""
    failed: list[str] = []
    with TemporaryDirectory() as scratch:
        dataset = tile(read_region(REGION), Path(scratch) / "boston").dataset
        for number, (name, settings) in enumerate(LABELS.items()):
            started = time.monotonic()
            model = train(dataset.path, Path(scratch) / f"model-{number}", settings).path
            found = judged(dataset, model)
            print(*lines(name, found), sep="\n", flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
            failed += [f"{name}: {what}" for what in broken(found)]
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
