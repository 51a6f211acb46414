"""What an evaluation says besides its table, a line a thing, for people."""

from __future__ import annotations

from roadrisk.learning.judging.evaluation import Evaluation
from roadrisk.learning.judging.judged import Metrics
from roadrisk.learning.tasks import Task

LEAK = "LEAK?"
NOT_JUDGED = "the same place in the next period is not judged"  # a note begins so, and says why


def evaluation_lines(
    metrics: Metrics, evaluation: Evaluation, task: Task, own: str, verbose: bool = False
) -> list[str]:
    """What to doubt first, then what was found.

    Parameters
    ----------
    own : name of the model that is kept.
    verbose : also what each check found, and what the model draws on.
    """
    said = [f"{LEAK} {found.check}: {found.text}" for found in evaluation.findings if found.leak]
    said += [evaluation.picture] if evaluation.picture else []
    said += [f"--inputs auto: {evaluation.chosen}"] if evaluation.chosen else []
    said += _optimism_lines(metrics, task, own)
    if evaluation.folds is not None:
        said.append(f"folds: {evaluation.folds.rule}")
    if verbose:
        said += [f"{found.check}: {found.text}" for found in evaluation.findings if not found.leak]
        said += [
            f"without {of.group}, {of.metric} is {of.loss:.3f} worse ({of.low:.3f} to {of.high:.3f})"
            for of in evaluation.importance
        ]
    return said


def _optimism_lines(metrics: Metrics, task: Task, own: str) -> list[str]:
    """How far random folds flatter."""
    if "spatial" not in metrics:
        if "random" not in metrics:
            return []
        return [
            "folds are random: the table does not say where its rows lie, so neighbours may flatter the score"
        ]
    name = "auroc_fold_mean" if task.kind == "class" else "spearman"
    random, spatial = (metrics[split].get(own, {}).get(name) for split in ("random", "spatial"))
    if random is None or spatial is None:
        return []
    gap = f"within folds, random ones score {random - spatial:+.3f} against spatial ones"
    return [f"{gap}: quote the spatial score"]
