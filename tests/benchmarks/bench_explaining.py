"""Why each tile has its score, beside the score itself: `make bench` prints seconds and tiles a second.

Facts alone, so that no reading of pictures hides the work; TILES sets how many tiles.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from explaining_examples import CPU, model_of, tiles

from roadrisk.learning.explaining.reasons import reasons_fields
from roadrisk.learning.model import fold_outputs, scores

TILES = int(os.environ.get("TILES", "20000"))
SMALL = tiles()
BARE = replace(SMALL, views=(), pictures=(), picture=SMALL.picture[:, :0])
MODEL = model_of(BARE)
MANY = replace(
    BARE.taken(np.arange(TILES) % len(BARE)), key=np.array([f"many {k}" for k in range(TILES)], object)
)


@pytest.mark.benchmark(group=f"{TILES:,} tiles that no fold saw, facts alone, three folds")
@pytest.mark.parametrize("what", ["score", "reasons"])
def test_reasons_beside_scores(benchmark: Any, what: str) -> None:
    outputs = fold_outputs(MODEL.architecture, MODEL.fold_models, MANY, [], CPU)
    said = scores(MODEL, MANY, outputs)
    if what == "score":
        benchmark.pedantic(
            fold_outputs, (MODEL.architecture, MODEL.fold_models, MANY, [], CPU), rounds=3, iterations=1
        )
    else:
        benchmark.pedantic(reasons_fields, (MODEL, MANY, [], said, CPU), rounds=3, iterations=1)
    benchmark.extra_info["tiles_a_second"] = TILES / benchmark.stats.stats.min
