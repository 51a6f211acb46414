"""Old files stay readable; only a newer one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roadrisk.dataset import FORMAT as DATASET_FORMAT
from roadrisk.dataset import read_dataset
from roadrisk.errors import DatasetError, ModelError
from roadrisk.learning.model import FORMAT as MODEL_FORMAT
from roadrisk.learning.model import read_model
from roadrisk.scoring import score

FORMATS = Path(__file__).parent / "formats"


def test_there_is_a_fixture_of_every_format() -> None:
    assert {f.name for f in FORMATS.glob("dataset-*")} == {f"dataset-{n + 1}" for n in range(DATASET_FORMAT)}
    assert {f.name for f in FORMATS.glob("model-*")} == {f"model-{n + 1}" for n in range(MODEL_FORMAT)}


@pytest.mark.parametrize("number", range(1, MODEL_FORMAT + 1))
def test_an_old_model_scores_an_old_dataset_as_it_did(number: int, tmp_path: Path) -> None:
    # copied, since what is computed from pictures is kept beside a dataset
    shutil.copytree(FORMATS / f"dataset-{min(number, DATASET_FORMAT)}", tmp_path / "d")
    score(tmp_path / "d", FORMATS / f"model-{number}", [tmp_path / "risk.csv"])
    then, now = pd.read_csv(FORMATS / f"risk-{number}.csv"), pd.read_csv(tmp_path / "risk.csv")
    assert now["tile_id"].tolist() == then["tile_id"].tolist()
    np.testing.assert_allclose(now["risk"], then["risk"], atol=1e-5)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    for name, file, read, error in (
        (f"dataset-{DATASET_FORMAT}", "dataset.json", read_dataset, DatasetError),
        (f"model-{MODEL_FORMAT}", "model.json", read_model, ModelError),
    ):
        shutil.copytree(FORMATS / name, tmp_path / name)
        manifest = json.loads((tmp_path / name / file).read_text())
        manifest["format"] += 1
        (tmp_path / name / file).write_text(json.dumps(manifest))
        with pytest.raises(error, match="upgrade roadrisk"):  # type: ignore[call-overload]
            read(tmp_path / name)


def test_a_dataset_that_lacks_a_file_says_which(tmp_path: Path) -> None:
    shutil.copytree(FORMATS / f"dataset-{DATASET_FORMAT}", tmp_path / "d")
    (tmp_path / "d" / "tiles.parquet").unlink()
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path / "d")
    assert str(caught.value) == (
        f"{tmp_path / 'd'} lacks tiles.parquet, which its dataset.json names; copy it again or tile again"
    )
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is no dataset: it holds no dataset.json; make one with `roadrisk tile`"
    )
