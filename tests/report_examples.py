"""Made-up but plausible reports of every task, for the tests of the report and its benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from scored_examples import HOSTILE

from roadrisk.columns import Column
from roadrisk.learning.judging.calibration import Calibration
from roadrisk.learning.judging.dispersion import Dispersion
from roadrisk.learning.judging.evaluation import (
    Consistency,
    Cure,
    Curves,
    Difference,
    Evaluation,
    Finding,
    FoldsTold,
    Importance,
    NextPeriod,
    Place,
    Reliability,
)
from roadrisk.learning.tasks import Task
from roadrisk.plain_text import TextTable
from roadrisk.reporting.report import FoldMap, Report

CLASS = Task()
COUNT = Task("count", "negative-binomial", (), "road_m")
VALUE = Task("value", "mse", ())
SIDE = 54  # tiles along a side of the region
NETWORKS = {"fused": 0.82, "image": 0.71, "facts": 0.80}
BASELINES = {
    "base_rate": 0.50,
    "road_length": 0.74,
    "logistic": 0.775,
    "spf_length": 0.76,
    "boosting": 0.805,
    "boosting_with_image": 0.81,
    "stack": 0.815,
}
LATER = {
    "past_counts": 0.83,
    "kernel_density": 0.79,
    "empirical_bayes": 0.87,
    "fused": 0.82,
    "facts": 0.81,
    "fused_with_past": 0.875,
}
COLUMNS = (
    Column("road_m", "float64", "m", "feature", "sum", "Ground length of all roads in the tile.", "roads"),
    Column(
        "road_m_primary",
        "float64",
        "m",
        "feature",
        "sum",
        "Length of roads of class primary in the tile.",
        "roads",
    ),
    Column(
        "intersections", "int64", "", "feature", "sum", "Places where three streets or more meet.", "roads"
    ),
    Column("vkm_day", "float64", "km/day", "exposure", "sum", "Vehicle-kilometres a day.", "traffic"),
    Column("population", "float64", "people", "feature", "sum", "People who live in the tile.", "areas"),
    Column(
        "citations_past",
        "float64",
        "events",
        "feature",
        "sum",
        "Citations before the label window.",
        "citations",
        ("2020-01-01", "2024-01-01"),
        withheld="citations measure enforcement as well as behaviour",
    ),
)
PROVENANCE: dict[str, Any] = {
    "datasets": [{"name": "Boston & around", "identity": "0123456789abcdef" * 4}],
    "tiles": SIDE * SIDE,
    "high_risk_tiles": 590,
    "tiles_with_image": 2701,
    "label": {
        "column": "label",
        "measure": "crashes_label",
        "threshold": 6.0,
        "positive": None,
        "meaning": "High risk: crashes_label is at least 6. Missing where the tile is not eligible.",
        "unit": "events",
        "window": ["2024-01-01", "2025-01-01"],
    },
    "windows": {"label": ["2024-01-01", "2025-01-01"], "feature": ["2020-01-01", "2024-01-01"]},
    "cell_m": 250.0,
    "views": ["aerial"],
    "metres_per_pixel": {"aerial": 0.977},
    "stretches": {},
    "warnings": ["aerial: pictures of 2024-06-11 lie in the label window, which starts 2024-01-01"],
    "notes": ["spatial fused: the loss still fell in the last epoch"],
    "choices": ["spatial boosting: 31 leaves, 0.05 learning rate"],
    "facts": ["road_m", "road_m_primary", "intersections", "vkm_day", "population"],
    "left_out": {"citations_past": "citations measure enforcement as well as behaviour"},
    "asked_for": {"vkm_day": "asked for by --features"},
    "block_tiles": 6,
    "buffer_tiles": 1,
    "settings": {"task": "class", "encoder": "resnet34", "folds": 5, "seed": 0, "exclude": [], "label": None},
    "encoder_weights": "resnet34-imagenet sha256 b627a593",
    "versions": {"roadrisk": "0.6.0", "torch": "2.14.1", "numpy": "2.4.6"},
}


def full_report(task: Task = CLASS, curve_points: int = 60) -> Report:
    """Everything that a report can hold."""
    chance = np.random.default_rng(3)
    models = NETWORKS | BASELINES
    metrics = {
        "spatial": {name: _measures(task, skill) for name, skill in models.items()},
        "random": {name: _measures(task, skill + 0.045) for name, skill in models.items()},
        "temporal": {name: _measures(task, skill) for name, skill in LATER.items()},
    }
    if task.kind == "class":
        metrics["spatial"]["fused"] |= {"brier_calibrated": 0.1241, "ece_calibrated": 0.0172}
    kept = [key for key in PROVENANCE["settings"] if key != "task"]
    settings = {"task": task.kind, **{key: PROVENANCE["settings"][key] for key in kept}}
    label = PROVENANCE["label"]
    if task.kind != "class":
        what = "Events counted in crashes_label." if task.kind == "count" else "Mean speed over the limit."
        unit = "events" if task.kind == "count" else "km/h"
        column = "crashes_label" if task.kind == "count" else "speeding"
        label = {
            **label,
            "column": column,
            "measure": column,
            "threshold": None,
            "meaning": what,
            "unit": unit,
        }
    return Report(
        name="Boston & around",
        model="fused",
        task=task,
        metrics=metrics,
        evaluation=_evaluation(task, metrics, chance, curve_points),
        provenance={**PROVENANCE, "settings": settings, "label": label},
        columns=COLUMNS,
        folds=(_fold_map(),),
        calibration=_calibration() if task.kind == "class" else None,
        dispersion=Dispersion("k/length", 0.42) if task.kind == "count" else None,
        pictures={(key, "aerial"): _jpeg(chance) for key in _keys()},
        robustness=_robustness(),
    )


def bare_report(task: Task = CLASS) -> Report:
    """What is known of a model of the first format, quickly trained from a table without places."""
    provenance = {"datasets": [{"name": "table", "identity": "ab"}], "label": {"column": "risky"}}
    return Report(
        "table", "fused", task, {"random": {"fused": _measures(task, 0.7)}}, Evaluation(), provenance
    )


def hostile_report() -> Report:
    """Every text that data can bring into a report is one that would run if it were not escaped."""
    report = full_report()
    found, about = report.evaluation, dict(report.provenance)
    about["datasets"] = [{"name": HOSTILE, "identity": HOSTILE}]
    about |= {name: [HOSTILE] for name in ("warnings", "notes", "choices", "facts")}
    about |= {"left_out": {HOSTILE: HOSTILE}, "settings": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}}
    about |= {"label": {"column": HOSTILE, "meaning": HOSTILE, "unit": HOSTILE}, HOSTILE: {HOSTILE: HOSTILE}}
    about["windows"] = {**about["windows"], HOSTILE: (HOSTILE, HOSTILE)}
    place = Place("riskiest", HOSTILE, -71.1, 42.3, 0.9, 3.0, ((HOSTILE, HOSTILE),))
    curves = {name: dict(of) for name, of in found.curves.items()}
    own = curves["spatial"].pop("fused")
    found = replace(
        found,
        curves={**curves, "spatial": {"fused": own, HOSTILE: own}},
        picture=HOSTILE,
        chosen=HOSTILE,
        folds=replace(_folds_told(), rule=HOSTILE),
        differences=(replace(found.differences[0], a=HOSTILE, b=HOSTILE, metric=HOSTILE),),
        findings=(Finding(HOSTILE, True, HOSTILE), Finding(HOSTILE, False, HOSTILE)),
        importance=(Importance(HOSTILE, "auroc", 0.1, 0.0, 0.2, (HOSTILE,)),),
        places=(place, replace(place, list="underrated")),
    )
    metrics = {**report.metrics, "spatial": {**report.metrics["spatial"], HOSTILE: _measures(CLASS, 0.99)}}
    hostile = Column(HOSTILE, "float64", HOSTILE, "feature", "sum", HOSTILE, HOSTILE)
    table = TextTable(HOSTILE, (HOSTILE,), ((HOSTILE,),))
    folds = (replace(_fold_map(), name=HOSTILE),)
    return replace(
        report,
        name=HOSTILE,
        metrics=metrics,
        evaluation=found,
        provenance=about,
        columns=(hostile,),
        folds=folds,
        pictures={(HOSTILE, HOSTILE): _jpeg(np.random.default_rng(0))},
        robustness=(table,),
    )


def _measures(task: Task, skill: float) -> dict[str, float | int | None]:
    found: dict[str, float | int | None] = {"n": SIDE * SIDE, "n_with_image": 2701}
    if task.kind == "class":
        found |= {"auroc": skill - 0.004, "auroc_fold_mean": skill, "auprc": 2 * skill - 1 + 0.1}
        found |= {"brier": 0.17 - 0.06 * skill, "ece": 0.12 - 0.09 * skill, "ceiling_auroc": 0.962}
        found |= {"ceiling_auroc_fold_mean": 0.958}
    elif task.kind == "count":
        found |= {"deviance": 3.1 - 2 * skill, "mae": 2.9 - 1.3 * skill, "spearman": 2 * skill - 1}
    else:
        found |= {
            "rmse": 9.1 - 5 * skill,
            "mae": 6.9 - 4 * skill,
            "r2": 2 * skill - 1.1,
            "spearman": 2 * skill - 1,
        }
    for percent in (1, 5, 10, 20):
        hits = (percent / 100) ** (1.6 - 1.3 * skill)
        found |= {f"hit_rate_{percent}": hits, f"pai_{percent}": hits * 100 / percent, f"pei_{percent}": hits}
        found |= {f"hit_rate_{percent}_road": hits * 0.8}
    return found


def _evaluation(task: Task, metrics: Any, chance: Any, points: int) -> Evaluation:
    shown = ("auroc", "auroc_fold_mean", "auprc", "brier", "ece", "deviance", "mae", "rmse", "r2", "spearman")
    half = {"hit_rate_10": 0.03, "hit_rate_10_road": 0.03}
    intervals = {
        split: {
            model: {
                name: (value - half.get(name, 0.028), value + half.get(name, 0.028))
                for name, value in found.items()
                if name in (*shown, *half)
            }
            for model, found in models.items()
        }
        for split, models in metrics.items()
    }
    metric = "auroc_fold_mean" if task.kind == "class" else "spearman"
    return Evaluation(
        intervals=intervals,
        differences=(
            Difference("spatial", metric, "fused", "facts", "all", 0.021, 0.008, 0.034, 2916, 590, 81),
            Difference("spatial", metric, "fused", "facts", "covered", 0.012, -0.004, 0.027, 2103, 488, 64),
            Difference("spatial", "brier", "fused", "boosting", "all", -0.006, -0.011, -0.001, 2916, 590, 81),
            Difference("temporal", metric, "fused_with_past", "empirical_bayes", "all", 0.005, None, None, 700, 90, 18),
        ),
        picture="The picture helps: +0.021 AUROC (95 % 0.008 to 0.034) over the facts alone.",
        chosen="--inputs auto kept both: facts alone lose 0.31, both 0.28 with a standard error of 0.01.",
        curves={
            split: {name: _curves(task, _skill(name, split), points, name == "fused") for name in models if name != "base_rate"}
            for split, models in metrics.items()
            if split != "random"
        },
        road_to_ceiling={"spatial": {name: (s - 0.74) / (0.958 - 0.74) for name, s in (NETWORKS | BASELINES).items() if s > 0.74}},
        folds=_folds_told(),
        importance=(
            Importance("roads", metric, 0.112, 0.10, 0.124, ("road_m", "road_m_primary", "intersections")),
            Importance("traffic", metric, 0.034, 0.027, 0.041, ("vkm_day",)),
            Importance("aerial", metric, 0.021, 0.013, 0.029, ()),
            Importance("areas", metric, -0.002, -0.006, 0.003, ("population",)),
        ),
        findings=(
            Finding("image date", False, "aerial pictures are of 2023 and before the label window 2024"),
            Finding("duplicates", False, "no two tiles of different folds are the same"),
            Finding("permutations", False, "20 permutations within blocks reach 0.497 AUROC on average, 0.531 at most"),
        ),
        next_period=NextPeriod(
            ("2023-01-01", "2024-01-01"),
            ("2024-01-01", "2025-01-01"),
            ("2019-01-01", "2023-01-01"),
            ("2020-01-01", "2024-01-01"),
            2916,
            11873.0,
            tuple(Consistency(name, 5, 146, 3100.0 - n * 90, 81 - n, 112.0 + n * 15) for n, name in enumerate(("empirical_bayes", "past_counts", "fused"))),
        ),
        places=tuple(_place(task, n, name) for name in ("riskiest", "underrated") for n in range(10)),
    )  # fmt: skip


def _skill(name: str, split: str) -> float:
    return ({**NETWORKS, **BASELINES} if split != "temporal" else LATER)[name]


def _curves(task: Task, skill: float, points: int, own: bool) -> Curves:
    x = np.linspace(0, 1, points)
    power = (1 - skill) / skill
    rising = tuple(zip(x.tolist(), (x**power).tolist(), strict=True))
    precision = 0.2 + (1 - x) ** (2.2 - 2 * skill) * (skill - 0.4)
    lift = np.minimum(np.diff((x + 1e-4) ** power, append=1.001) * points, 12)
    bins = 15 if task.kind == "class" else 10
    middle = (np.arange(bins) + 0.5) / bins
    top = 0.8 if task.kind == "class" else 14.0
    said = top * middle**2
    happened = np.clip(said + np.sin(np.arange(bins)) * 0.06 * top * np.sqrt(middle), 0, None)
    wide = 0.02 * top + 0.1 * happened
    reliability = tuple(
        Reliability(
            194,
            float(p),
            float(o),
            float(max(o - w, 0)),
            float(min(o + w, 1.0) if task.kind == "class" else o + w),
        )
        for p, o, w in zip(said, happened, wide, strict=True)
    )
    cure = ()
    if task.kind == "count" and own:
        far = np.linspace(0, 30, points)
        sums = np.cumsum(np.random.default_rng(5).normal(size=points)) * 12
        bound = 2 * 70 * np.sqrt(np.clip(far / 30 * (1 - far / 30), 0, None))
        cure = tuple(
            Cure(by, tuple(zip((far * scale).tolist(), sums.tolist(), strict=True)),
                 tuple(zip((far * scale).tolist(), bound.tolist(), strict=True)), 0.07)
            for by, scale in (("expected", 1.0), ("road_m", 150.0))
        )  # fmt: skip
    ranks = task.kind == "class"
    return Curves(
        roc=rising if ranks else (),
        precision_recall=tuple(zip(x.tolist(), precision.tolist(), strict=True)) if ranks else (),
        reliability=reliability,
        lift=tuple(zip(x.tolist(), lift.tolist(), strict=True)),
        hit_rate=rising,
        hit_rate_road=tuple(zip(x.tolist(), (x ** (power * 1.3)).tolist(), strict=True)),
        cure=cure,
    )


def _folds_told() -> FoldsTold:
    far = np.linspace(250, 6000, 24)
    percents = np.arange(0, 101, 5)
    return FoldsTold(
        rule="Blocks of 6 x 6 tiles (1,500 m): four of the widest views are 1,000 m, the facts' residuals are alike "
        "up to 1,400 m (from 2,000 sampled tiles). Five folds of whole blocks, the same number of high-risk tiles "
        "in each as far as it goes.",
        block_m=1500.0,
        buffer_m=250.0,
        folds=5,
        blocks=81,
        blocks_with_positives=63,
        left_share=0.71,
        range_m=1400.0,
        correlogram=tuple(zip(far.tolist(), (0.42 * np.exp(-far / 700) - 0.01).tolist(), strict=True)),
        sampled=2000,
        to_training=tuple((float(p), 500 + 9.0 * p) for p in percents),
        map_to_training=tuple((float(p), 4.0 * p) for p in percents),
    )


def _fold_map() -> FoldMap:
    row, col = np.divmod(np.arange(SIDE * SIDE), SIDE)
    inside = (row - 27) ** 2 + (col - 25) ** 2 < 29**2
    row, col = row[inside], col[inside]
    of_block = np.random.default_rng(1).permutation(81) % 5
    return FoldMap("Boston & around", row + 6000, col + 4000, of_block[(row // 6) * 9 + col // 6])


def _calibration() -> Calibration:
    knots = tuple((x, 0.8 * x - 0.3) for x in (-5.0, -1.0, 0.0, 1.0, 5.0))
    return Calibration("platt", knots, SIDE * SIDE, 590)


def _keys() -> list[str]:
    return [f"19/1580{n:02d}/193021" for n in range(20)]


def _place(task: Task, n: int, name: Any) -> Place:
    key = _keys()[n + 10 * (name == "underrated")]
    predicted = {"class": 0.97 - 0.02 * n, "count": 41.0 - n, "value": 31.2 - n}[task.kind]
    if name == "underrated":
        predicted /= 9
    facts = (
        ("Road (m)", f"{2310 - 90 * n:,} m"),
        ("Intersections", "14"),
        ("Vehicle-kilometres a day", "31,204 km/day"),
    )
    return Place(name, key, -71.06 + n / 100, 42.35 - n / 100, predicted, 44.0 - 2 * n, facts)


def _jpeg(chance: Any) -> bytes:
    """Noise over blocks, which takes about as many bytes as a picture from above."""
    coarse = chance.integers(40, 200, (12, 12, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (192, 192), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    noisy = np.clip(smooth + chance.normal(0, 12, (192, 192, 3)), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _robustness() -> tuple[TextTable, ...]:
    return (
        TextTable(
            "another grid",
            ("grid", "Spearman of ranks", "top 5 % that stays"),
            (("cells of 500 m", "0.87", "71 %"), ("half a tile aside", "0.91", "78 %")),
            ("Spearman of ranks", "top 5 % that stays"),
        ),
        TextTable(
            "each group of facts removed",
            ("removed", "AUROC"),
            (("roads", "0.741"), ("traffic", "0.809")),
            ("AUROC",),
        ),
    )
