"""What pictures add to facts in Boston: every model on the same folds, each with its interval.

`ROADRISK_DATA=path/to/data make boston` prints Markdown. It fails where the fused model is certainly below the
best of those that it was promised to reach (`REACHED`), or the facts network certainly below the best baseline
on the facts (`ON_FACTS`); what else is certainly above the fused model is named. All is what `train` says in
`model.json`; only what the road share of the mask alone says is added.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.gathering import counts_from, gathered
from roadrisk.grid import FloatArray
from roadrisk.inputs import tiles_of_dataset
from roadrisk.learning.baselines.judged import number_out_of_fold
from roadrisk.learning.examples import Examples
from roadrisk.learning.folds import Folds
from roadrisk.learning.judging.ceiling import Ceiling
from roadrisk.learning.judging.differences import paired_differences
from roadrisk.learning.judging.evaluation import Difference, Evaluation
from roadrisk.learning.judging.judged import Judged, Metrics, judged
from roadrisk.learning.judging.measured import BASELINES, NETWORKS
from roadrisk.learning.judging.outcomes import Outcomes
from roadrisk.learning.judging.predictions import OutOfFold, outcomes_of
from roadrisk.learning.model import Model
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.region import read_region
from roadrisk.tiling import tile
from roadrisk.training import train

REGION = Path(__file__).parents[2] / "regions/boston-pictures.toml"
MEASURE = "massdot_2024_label"
TOP_FIFTH = TrainSettings(encoder="aerial-resnet18", block_m=3000.0)
LABELS = {"any crash": replace(TOP_FIFTH, label=MEASURE, at_least=1), "top fifth": TOP_FIFTH}
ROAD, MASK, FUSED, FACTS = "road_length", "mask_share", "fused", "facts"
ORDER = ("base_rate", ROAD, MASK, *BASELINES[2:], *NETWORKS)
ON_FACTS = (ROAD, "logistic", "boosting")
REACHED = (*ON_FACTS, MASK, "image", FACTS)
SEED = TOP_FIFTH.seed


@dataclass(frozen=True, eq=False)
class Found:
    """What `train` found of one label, the road share of the mask among the models.

    Parameters
    ----------
    said : what every model says of tiles in spatial blocks that it did not see.
    """

    outcomes: Outcomes
    said: OutOfFold
    metrics: Metrics
    evaluation: Evaluation

    def best(self, names: Sequence[str]) -> str:
        """Of these models the one of the highest AUROC within folds of spatial blocks."""
        scores = self.metrics["spatial"]
        return max(
            (name for name in names if name in scores), key=lambda name: scores[name]["auroc_fold_mean"]
        )

    def promised(self) -> list[Difference]:
        """The fused model less the best that it is to reach, and the facts network less the best on facts."""
        return self.differences([(FUSED, self.best(REACHED)), (FACTS, self.best(ON_FACTS))])

    def above(self) -> list[str]:
        """Models that are certainly above the fused one."""
        others = [(FUSED, name) for name in self.said.outputs if name != FUSED]
        return [one.b for one in self.differences(others) if below(one)]

    def differences(self, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
        """Of these pairs, on all tiles."""
        made = paired_differences(self.outcomes, self.said, pairs, "spatial", SEED)
        return [one for one in made if one.tiles == "all"]


def found(model: Model, dataset: Dataset) -> Found:
    """What is in a model, and what the road share of the mask says on the same folds."""
    splits = {
        split: outcomes_of(
            model.out_of_fold, split, model.architecture.task, counts_from(model.provenance["label"])
        )
        for split in ("spatial", "random")
    }
    buffers = {"spatial": model.provenance["buffer_tiles"], "random": 0}
    share = mask_share(dataset, splits["spatial"][0])
    alone = {
        split: (of, OutOfFold(said.fold, {ROAD: said.outputs[ROAD], MASK: by_share(share, of, said, buffer)}))
        for (split, (of, said)), buffer in zip(splits.items(), buffers.values(), strict=True)
    }
    ceilings = {
        split: Ceiling(*(of[FUSED][f"ceiling_{metric}"] for metric in Ceiling._fields))
        for split, of in model.metrics.items()
    }
    return with_mask(model, splits["spatial"], alone["spatial"][1], judged(alone, ceilings, MASK, SEED))


def with_mask(model: Model, spatial: tuple[Outcomes, OutOfFold], alone: OutOfFold, mask: Judged) -> Found:
    """The model's scores and the mask's side by side."""
    outcomes, said = spatial
    metrics = {split: {**of, MASK: mask.metrics[split][MASK]} for split, of in model.metrics.items()}
    own, its = model.evaluation, mask.evaluation
    evaluation = replace(
        own,
        intervals={split: {**of, MASK: its.intervals[split][MASK]} for split, of in own.intervals.items()},
        road_to_ceiling={
            split: {**of, MASK: its.road_to_ceiling[split][MASK]} for split, of in own.road_to_ceiling.items()
        },
    )
    return Found(
        outcomes, OutOfFold(said.fold, {**said.outputs, MASK: alone.outputs[MASK]}), metrics, evaluation
    )


def mask_share(dataset: Dataset, outcomes: Outcomes) -> FloatArray:
    """(N,) share of each tile that its mask calls road."""
    if outcomes.row is None or outcomes.col is None:
        raise ValueError("tiles of a dataset have places")
    reader, grid = dataset.reader("aerial"), dataset.grid
    places = zip(outcomes.row - grid.y0, outcomes.col - grid.x0, strict=True)
    return np.array([(reader.read(row, col)[0] > 127).mean() for row, col in places])


def by_share(share: FloatArray, outcomes: Outcomes, said: OutOfFold, buffer: int) -> FloatArray:
    """(N, 1) logits from the share alone, as `road_length` says them from metres of road."""
    folds = Folds(said.fold, int(said.fold.max()) + 1, outcomes.row, outcomes.col, buffer)
    return number_out_of_fold(share * outcomes.area_km2, bare(outcomes), folds, outcomes.task)


def bare(outcomes: Outcomes) -> Examples:
    """Tiles of which nothing is known but label, area and place."""
    n = len(outcomes)
    nothing, none, picture = np.empty((n, 0)), np.empty((n, 0), object), np.empty((n, 0), np.int64)
    label, area_km2 = outcomes.label, outcomes.area_km2
    return Examples(
        key=outcomes.key,
        label=label,
        facts=nothing,
        columns=(),
        texts=none,
        text_columns=(),
        area_km2=area_km2,
        views=(),
        pictures=(),
        picture=picture,
        row=outcomes.row,
        col=outcomes.col,
        exposure=np.ones(n),
    )


def lines(name: str, model: Model, of: Found, rule: str) -> Iterator[str]:
    """One label in Markdown.

    Parameters
    ----------
    rule : what blocks would be if none were asked for.
    """
    blocks = 0 if of.outcomes.block is None else len(np.unique(of.outcomes.block))
    share = of.outcomes.label.mean()
    yield f"\n### {name}: {len(of.outcomes):,} tiles in {blocks} blocks, {share:.1%} high risk\n"
    yield from table(of)
    yield "\n| paired difference | AUROC within folds (95 % interval) |\n|---|---|"
    pairs = [(one.a, one.b) for one in of.evaluation.differences if one.tiles == "all"]
    others = [(FACTS, "boosting"), (FACTS, "logistic"), (MASK, ROAD), ("image", MASK)]
    first = [(one.a, one.b) for one in of.promised()]
    for one in of.differences(list(dict.fromkeys([*first, *pairs, *others]))):
        yield f"| {one.a} - {one.b}{' (promised)' if (one.a, one.b) in first else ''} | {told(one)} |"
    yield f"\n- certainly above {FUSED}: {', '.join(of.above()) or 'none'}"
    yield f"- {of.evaluation.picture}"
    yield from (f"- LEAK? {finding.text}" for finding in of.evaluation.findings if finding.leak)
    yield from (f"- {note}" for note in model.provenance["notes"])
    yield f"- folds: {of.evaluation.folds.rule if of.evaluation.folds else ''}"
    yield f"- the rule alone: {rule}"


def table(of: Found) -> Iterator[str]:
    """Every model's scores, and the ceiling."""
    spatial, random = of.metrics["spatial"], of.metrics["random"]
    ends, ways = of.evaluation.intervals["spatial"], of.evaluation.road_to_ceiling["spatial"]
    yield (
        "| model | AUROC (95 % interval) | within folds (95 % interval) | AP | Brier | calibrated Brier / ECE "
        "| crashes in 10 % of area / road | road to ceiling | AUROC in random folds, within them |"
    )
    yield f"|{'---|' * 9}"
    for model in sorted(spatial, key=ORDER.index):
        its = spatial[model]
        scored = [
            f"{its[metric]:.3f} ({ends[model][metric][0]:.3f} to {ends[model][metric][1]:.3f})"
            for metric in ("auroc", "auroc_fold_mean")
        ]
        way = f"{ways[model]:.0%}" if model in ways else ""
        cells = [
            model,
            *scored,
            f"{its['auprc']:.3f}",
            f"{its['brier']:.3f}",
            f"{its['brier_calibrated']:.3f} / {its['ece_calibrated']:.3f}",
            f"{its['hit_rate_10']:.3f} / {its['hit_rate_10_road']:.3f}",
            way,
            f"{random[model]['auroc']:.3f} / {random[model]['auroc_fold_mean']:.3f}",
        ]
        yield f"| {' | '.join(cells)} |"
    pooled, within = (
        [f"{scores[FUSED][f'ceiling_{metric}']:.3f}" for scores in (spatial, random)]
        for metric in Ceiling._fields
    )
    yield f"| ceiling | {pooled[0]} | {within[0]} | | | | | | {pooled[1]} / {within[1]} |"


def below(one: Difference) -> bool:
    """Whether the interval is wholly under 0."""
    return one.high is not None and one.high < 0


def told(one: Difference) -> str:
    """As `+0.021 (0.008 to 0.034)`."""
    if one.low is None or one.high is None:
        raise SystemExit("fewer than 20 blocks have a label: the data is not whole")
    return f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def ruled(dataset: Dataset, settings: TrainSettings) -> str:
    """The blocks that `train` would choose by itself."""
    settings = resolved(replace(settings, block_m=None))
    try:
        held = gathered([tiles_of_dataset(dataset, settings.views)], settings).holding_out
    except ModelError as error:
        return str(error)
    if held is None:
        raise ValueError("tiles of a dataset have places")
    plan = held.plan
    counts = f"{plan.blocks} blocks, {plan.blocks_with_positives} of them with high risk"
    return "; ".join((plan.rule, counts, *plan.told))


def main() -> None:
    """Tile once; train and judge for each label."""
    begun = time.monotonic()
    failed: list[str] = []
    with TemporaryDirectory() as scratch:
        dataset = tile(read_region(REGION), Path(scratch) / "boston").dataset
        print(f"tiled in {time.monotonic() - begun:.0f} s", flush=True)
        for number, (name, settings) in enumerate(LABELS.items()):
            started = time.monotonic()
            model = train(dataset.path, Path(scratch) / f"model-{number}", settings).model
            trained_s = time.monotonic() - started
            of = found(model, dataset)
            print(*lines(name, model, of, ruled(dataset, settings)), sep="\n")
            print(f"- trained in {trained_s:.0f} s", flush=True)
            failed += [f"{name}: {one.a} is below {one.b}" for one in of.promised() if below(one)]
    print(f"\nall in {(time.monotonic() - begun) / 60:.1f} minutes")
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
