"""Maps in unlucky hands: nothing that is read is written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from roadrisk.errors import LayerError
from roadrisk.explaining import explain
from roadrisk.scorable import check_apart
from roadrisk.scoring import ScoreSettings, score


@pytest.fixture
def read(tmp_path: Path) -> Path:
    """A dataset, a model and roads, none of which is ever opened here."""
    for name in ("dataset/tiles.parquet", "model/report.html", "roads.gpkg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"kept")
    (tmp_path / "link").symlink_to("dataset", target_is_directory=True)
    (tmp_path / "other.gpkg").symlink_to("roads.gpkg")
    return tmp_path


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("dataset/tiles.parquet", "lies in .*dataset, which is read"),
        ("dataset/new.gpkg", "lies in .*dataset, which is read"),
        ("link/tiles.parquet", "lies in .*dataset, which is read"),
        ("dataset/../dataset/tiles.parquet", "lies in .*dataset, which is read"),
        ("model/report.html", "lies in .*model, which is read"),
        ("roads.gpkg", "roads.gpkg is what is read"),
        ("other.gpkg", "other.gpkg is what is read"),
    ],
)
def test_what_is_read_is_never_written_over(read: Path, out: str, told: str) -> None:
    with pytest.raises(LayerError, match=told):
        check_apart([read / "fine.gpkg", read / out], [read / "dataset", read / "model", read / "roads.gpkg"])


def test_files_beside_what_is_read_are_written(read: Path) -> None:
    check_apart([read / "dataset.gpkg", read / "model.html"], [read / "dataset", read / "model"])


def test_a_loop_of_links_is_no_input(read: Path) -> None:
    (read / "loop").symlink_to("loop")
    check_apart([read / "loop"], [read / "dataset"])


def test_score_looks_before_it_works(read: Path) -> None:
    data, model, roads = read / "dataset", read / "model", read / "roads.gpkg"
    with pytest.raises(LayerError, match=r"tiles\.parquet lies in"):
        score(data, model, [data / "tiles.parquet"])
    with pytest.raises(LayerError, match=r"report\.html lies in"):
        score(data, model, [model / "report.html"])
    with pytest.raises(LayerError, match=r"roads\.gpkg is what is read"):
        score(data, model, [roads], ScoreSettings(by="road", roads=roads))
    (read / "risk.top3.gpkg").symlink_to("roads.gpkg")
    with pytest.raises(LayerError, match=r"risk\.top3.gpkg is what is read"):
        score(data, model, [read / "risk.gpkg"], ScoreSettings(by="road", roads=roads, top=3))
    assert all(
        path.read_bytes() == b"kept" for path in (data / "tiles.parquet", model / "report.html", roads)
    )


def test_explain_looks_before_it_works(read: Path) -> None:
    for page in ("model/report.html", "dataset/why.html"):
        with pytest.raises(LayerError, match=r"html lies in .*, which is read; write it beside that folder"):
            explain(read / "dataset", read / "model", "1", read / page)
