"""Made-up but plausible pages of a road model, for their tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scored_examples import HOSTILE

from roadrisk.reporting.roads.report import Learned, LearnedFrom, RoadReport, UnitShown
from roadrisk.roads.model import RoadArchitecture

METHODS = {"all_road": 0.175, "colour": 0.312, "model": 0.643}
MEASURES = {
    "iou": 1.0,
    "precision": 1.15,
    "recall": 1.2,
    "f1": 1.18,
    "relaxed_precision": 1.3,
    "relaxed_recall": 1.33,
    "relaxed_f1": 1.31,
    "apls": 0.9,
}


def metrics_of(methods: dict[str, float], intervals: bool = True) -> dict[str, dict[str, dict[str, Any]]]:
    """Every measure of each method about a level of skill."""
    made: dict[str, dict[str, dict[str, Any]]] = {}
    for n, (method, skill) in enumerate(methods.items()):
        made[method] = {}
        for k, (metric, factor) in enumerate(MEASURES.items()):
            value = skill * factor + 0.0011 * k + 0.0003 * n
            made[method][metric] = {
                "value": value,
                "low": value - 0.031 if intervals else None,
                "high": value + 0.029 if intervals else None,
                "folds": [value - 0.02, value + 0.013, None, value + 0.007, value - 0.004],
            }
    return made


def made_up_unit(key: str, seed: int, side_px: int = 130, noisy: bool = False) -> UnitShown:
    """A street across a field, and another one that is where the street is not."""
    chance = np.random.default_rng(seed)
    high = 256 if noisy else 60
    picture = chance.integers(0, high, (3, side_px, side_px), dtype=np.uint8)
    road, drawn = (np.zeros((side_px, side_px), dtype=bool) for _ in range(2))
    road[side_px // 3 : side_px // 3 + 9] = True
    drawn[side_px // 3 + seed % 9 : side_px // 3 + 9 + seed % 9] = True
    known = np.ones_like(road)
    known[:, -side_px // 8 :] = False
    picture[:, road] += np.uint8(0 if noisy else 120)
    return shown(key, picture, road, drawn, known)


def shown(
    key: str,
    picture: NDArray[np.uint8],
    road: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> UnitShown:
    """A unit with its IoU and its share of road."""
    true, said = road & known, drawn & known
    iou = float((true & said).sum() / (true | said).sum()) if true.any() else None
    return UnitShown(key, iou, float(true.sum() / known.sum()), picture, road, drawn, known)


@cache
def road_report(noisy: bool = False, side_px: int = 130) -> RoadReport:
    """A page with everything on it."""
    units = [made_up_unit(f"satImage_{n:03}", n, side_px, noisy) for n in range(16)]
    empty = made_up_unit("satImage_099", 3, side_px, noisy)
    none = np.zeros_like(empty.road)
    return RoadReport(
        source=LearnedFrom(
            name="road_pairs",
            units=60,
            unit="picture",
            pixels=9_600_000,
            road_share=0.1749,
            metres_per_pixel=None,
            weak=False,
            told=("60 pairs of pictures and masks", "masks are road above 127"),
        ),
        architecture=RoadArchitecture("unet", "resnet18", 3, 2),
        metrics=metrics_of(METHODS),
        level=118,
        iou_by_level=[(n, 0.643 * (1 - ((n - 118) / 255) ** 2)) for n in range(1, 256)],
        learned=tuple(
            Learned(name, tuple(0.9 * 0.95**n + 0.2 for n in range(40)), tuple(0.9 * 0.97**n + 0.3 for n in range(40)), 37)
            for name in ("fold 1", "fold 2", "fold 3", "fold 4", "fold 5", "the last network")
        ),
        rule=("5 folds of whole pictures, drawn by seed 0", "each fold: 39 learn, 9 watch, 12 are judged"),
        worst=tuple(units[8:][::-1]),
        best=tuple(units[:8]),
        without_road=(shown("satImage_099", empty.picture, none, empty.drawn, empty.known),),
        holdout={"boston west": metrics_of({"all_road": 0.1, "model": 0.51})},
        provenance={
            "identity": "a" * 64,
            "settings": {"decoder": "unet", "seed": 0, "crop_px": 192, "loss": "dice"},
            "versions": {"roadrisk": "0.7.0", "torch": "2.9"},
        },
    )  # fmt: skip


@cache
def weak_report() -> RoadReport:
    """Of a dataset whose centre-lines were drawn, with few blocks."""
    whole = road_report()
    source = LearnedFrom("boston", 671, "tile", 43_900_000, 0.11, 0.977, True, ("primary is 12 m wide",))
    return replace(whole, source=source, metrics=metrics_of(METHODS, intervals=False), without_road=())


@cache
def bare_report() -> RoadReport:
    """Of which nothing was kept."""
    source = LearnedFrom("", 1, "picture", 100, 0.0, None, False)
    architecture = RoadArchitecture("fpn", "resnet18", 1, 1)
    return RoadReport(source, architecture, {}, 128, (), (), (), (), ())


@cache
def hostile_report() -> RoadReport:
    """Every text that data can bring into it would run if it were not escaped."""
    whole = road_report()
    source = replace(weak_report().source, name=HOSTILE, unit=HOSTILE, told=(HOSTILE,))
    return replace(
        whole,
        source=source,
        architecture=replace(whole.architecture, encoder=HOSTILE),
        metrics=metrics_of({**METHODS, HOSTILE: 0.9}),
        learned=(replace(whole.learned[0], name=HOSTILE),),
        rule=(HOSTILE,),
        worst=(replace(whole.worst[0], key=HOSTILE),),
        holdout={HOSTILE: whole.metrics},
        provenance={
            **{name: {HOSTILE: HOSTILE} for name in ("settings", "versions", HOSTILE)},
            "identity": HOSTILE,
            "told": [HOSTILE],
        },
    )
