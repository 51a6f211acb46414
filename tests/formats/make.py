"""Make the fixtures of the newest formats that are not there: `python tests/formats/make.py`.

Every released format of a dataset and a model stays readable; these files are what an earlier release
wrote, and `tests/test_formats.py` reads them.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from roadrisk import score, tile, train
from roadrisk.dataset import FORMAT as DATASET_FORMAT
from roadrisk.learning.model import FORMAT as MODEL_FORMAT
from roadrisk.learning.settings import TrainSettings
from roadrisk.region import read_region
from roadrisk.sources.demo import made_up_metro

HERE = Path(__file__).parent

if __name__ == "__main__":
    dataset, model = HERE / f"dataset-{DATASET_FORMAT}", HERE / f"model-{MODEL_FORMAT}"
    if not dataset.exists():
        with tempfile.TemporaryDirectory() as scratch:
            metro = made_up_metro(Path(scratch) / "metro", seed=1, rows=8, cols=8)
            tile(replace(read_region(metro.region), name="format fixture"), dataset)
    if not model.exists():
        train(dataset, model, TrainSettings(encoder="basic", folds=2, epochs=1))
        (model / "report.html").unlink()  # for people; nothing reads it
        score(dataset, model, [HERE / f"risk-{MODEL_FORMAT}.csv"])
        shutil.rmtree(dataset.with_name(dataset.name + ".cache"))
