"""From a region to a layer by way of roads: tile, roads train, roads apply, train, score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio

from roadrisk import roads
from roadrisk.dataset import Dataset, read_dataset
from roadrisk.errors import DatasetError, ModelError, RoadriskError, UsageError
from roadrisk.learning.settings import TrainSettings
from roadrisk.roads.lines.seen import FactsJob, facts_done
from roadrisk.roads.model import read_road_model
from roadrisk.roads.scenes import Window
from roadrisk.roads.settings import Cleaning, RoadSettings
from roadrisk.roads.sources.mosaics import mosaic_of
from roadrisk.scoring import score
from roadrisk.training import train

# of tiles of 64 px in the made-up metro a road is a few pixels wide: nothing to shrink
TINY = RoadSettings(
    encoder="resnet18", shrink=1, crop_px=64, batch_size=16, epochs=2, folds=2, block_m=1000.0, quick=True
)
RISK = TrainSettings(encoder="basic", inputs="both", epochs=1, folds=2, batch_size=64, quick=True)
SEEN = ["coverage_seen_roads", "seen_road_share", "seen_road_m", "seen_junctions", "seen_road_width_m"]


@pytest.fixture(scope="module")
def road_model(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has looked at the metro for two epochs; tests only read it."""
    out = tmp_path_factory.mktemp("roads") / "model"
    roads.train(dataset.path, out, TINY)
    return out


@pytest.fixture(scope="module")
def drawn(dataset: Dataset, road_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The metro with roads drawn, likelihoods too; tests only read it."""
    folder = tmp_path_factory.mktemp("drawn")
    shutil.copytree(dataset.path, folder / "d")
    layer = folder / "roads.gpkg"
    roads.apply(folder / "d", road_model, probability=True, vectorize=layer, workers=1)
    return read_dataset(folder / "d")


def test_the_dataset_gains_the_view_and_its_columns(
    drawn: Dataset, dataset: Dataset, road_model: Path
) -> None:
    assert [view.name for view in drawn.views] == ["aerial", "roads", "roads_probability"]
    tiles, before = drawn.tiles(), dataset.tiles()
    pd.testing.assert_frame_equal(tiles[before.columns], before)
    assert [name for name in tiles if name not in before] == SEEN
    mask, likely, aerial = (drawn.reader(name) for name in ("roads", "roads_probability", "aerial"))
    level = read_road_model(road_model).level
    for row, col in tiles[["row", "col"]].to_numpy().tolist():
        pixels, valid = mask.read(row, col), mask.valid(row, col)
        assert (valid == aerial.valid(row, col)).all()
        # white and black in all colours, and white exactly where road is likely enough
        assert (pixels == ((likely.read(row, col)[0] >= level) & valid) * np.uint8(255)).all()
        seen = tiles.iloc[row * drawn.grid.cols + col]
        if valid.mean() >= 0.9:
            assert seen["seen_road_share"] == pytest.approx((pixels[0][valid] > 0).mean())
        else:
            assert np.isnan(seen["seen_road_share"])
    assert not (drawn.path / "views/roads.levels").exists()


def test_centre_lines_are_those_of_the_columns(drawn: Dataset) -> None:
    file = drawn.path.parent / "roads.gpkg"
    assert {name for name, _ in pyogrio.list_layers(file)} == {"centrelines", "polygons"}
    lines = geopandas.read_file(file, layer="centrelines")
    assert lines.crs == drawn.grid.crs
    view, grid = drawn.view("roads"), drawn.grid
    scale = drawn.metres_per_pixel("roads")
    facts = [
        facts_done(FactsJob(drawn.path, "roads", grid, view.tile_size, view.plan, part, scale))
        for part in grid.parts(view.tile_size)
    ]
    road_m = sum(of_part.road_m.sum() for of_part in facts)
    # of a network that has hardly learned: columns smooth its ragged roads more than lines do
    assert lines["length_m"].sum() == pytest.approx(road_m, rel=0.1)
    known = drawn.tiles()["seen_road_m"]
    assert known.sum() == pytest.approx(sum(of.road_m[of.coverage >= 0.9].sum() for of in facts))


def test_roads_and_pictures_are_learned_and_scored(drawn: Dataset, tmp_path: Path) -> None:
    for views in (("roads",), ("aerial", "roads")):
        model = tmp_path / "-".join(views)
        train(drawn.path, model, TrainSettings(**{**RISK.__dict__, "views": views}))
        score(drawn.path, model, [tmp_path / f"{model.name}.csv"])
        layer = pd.read_csv(tmp_path / f"{model.name}.csv")
        assert len(layer) == drawn.grid.size
        assert layer["risk"].notna().all()
        assert "seen_road_m" in layer


def test_applying_again_is_said_and_the_same(drawn: Dataset, road_model: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn.path, tmp_path / "d")
    with pytest.raises(DatasetError) as refused:
        roads.apply(tmp_path / "d", road_model)
    assert str(refused.value) == (
        f"{tmp_path / 'd'} has the view roads already; give --overwrite to draw it anew"
    )
    before = read_dataset(tmp_path / "d")
    roads.apply(tmp_path / "d", road_model, overwrite=True, workers=1)
    after = read_dataset(tmp_path / "d")
    # without likelihoods this time: that view is gone, with its files
    assert [view.name for view in after.views] == ["aerial", "roads"]
    assert not list((tmp_path / "d").glob("views/roads_probability*"))
    assert after.view("roads") == before.view("roads")
    pd.testing.assert_frame_equal(after.tiles(), before.tiles())


def test_cleaning_is_said_and_done(
    dataset: Dataset, road_model: Path, drawn: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(dataset.path, tmp_path / "d")
    specks_m2 = 400 * dataset.metres_per_pixel("aerial") ** 2
    applied = roads.apply(tmp_path / "d", road_model, cleaning=Cleaning(specks_m2), workers=1)
    assert any("pieces of fewer than 400 px" in line for line in applied.lines())
    cleaned = read_dataset(tmp_path / "d")
    assert cleaned.manifest["drawn"]["roads"]["specks_m2"] == specks_m2

    def pieces(of: Dataset) -> list[int]:
        side = of.grid.rows * of.view("roads").tile_size
        with closing(mosaic_of(of, "roads")) as plane:
            mask = plane.read(Window(0, 0, side, side)).pixels[0]
        return sorted(
            cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, cv2.CC_STAT_AREA].tolist()
        )

    assert min(pieces(drawn)) < 400
    assert pieces(cleaned) == [size for size in pieces(drawn) if size >= 400]


def test_interrupted_it_goes_on(
    dataset: Dataset, road_model: Path, drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the last step, the dataset is as it was; then the same call gives the same bytes."""
    shutil.copytree(dataset.path, tmp_path / "d")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("roadrisk.roads.drawing.drawn_view.seen_facts", stopped)
        with pytest.raises(KeyboardInterrupt):
            roads.apply(tmp_path / "d", road_model, probability=True, workers=1)
    assert read_dataset(tmp_path / "d").manifest == dataset.manifest
    kept = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "d/views/roads.levels").iterdir()}
    assert kept
    monkeypatch.setattr(
        "roadrisk.roads.drawing.artist.Artist.probabilities", stopped
    )  # nothing is drawn twice
    roads.apply(tmp_path / "d", road_model, probability=True, workers=1)
    assert read_dataset(tmp_path / "d").views == drawn.views


def test_a_folder_of_pictures_gets_masks(dataset: Dataset, road_model: Path, tmp_path: Path) -> None:
    reader, folder = dataset.reader("aerial"), tmp_path / "pictures"
    folder.mkdir()
    tile = reader.read(3, 4)
    cv2.imwrite(str(folder / "a.png"), tile[::-1].transpose(1, 2, 0))
    place = {"crs": dataset.grid.crs, "transform": dataset.grid.picture_transform(64)}
    with rasterio.open(
        folder / "b.tif", "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", **place
    ) as b:
        b.write(tile)
    applied = roads.apply(folder, road_model, tmp_path / "masks", probability=True)
    assert applied.paths == [tmp_path / "masks/a.png", tmp_path / "masks/b.tif"]
    mask = cv2.imread(str(tmp_path / "masks/a.png"), cv2.IMREAD_UNCHANGED)
    likely = cv2.imread(str(tmp_path / "masks/probability/a.png"), cv2.IMREAD_UNCHANGED)
    assert (mask == (likely >= read_road_model(road_model).level) * 255).all()
    with rasterio.open(tmp_path / "masks/b.tif") as written:
        assert (written.read(1) == mask).all()
        assert (written.crs, written.transform) == (place["crs"], place["transform"])
    again = roads.apply(folder, road_model, tmp_path / "masks", probability=True)
    assert again.lines()[0] == f"2 masks in {tmp_path / 'masks'}, 2 of them were there"


def test_pictures_are_not_written_over(dataset: Dataset, road_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "x/probability"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), dataset.reader("aerial").read(3, 4).transpose(1, 2, 0))
    for out in (folder, tmp_path / "x"):
        assert refused(UsageError, folder, road_model, out, probability=True) == (
            f"-o {out} is the folder of the pictures; give another for the masks"
        )


def test_what_cannot_be_drawn_removes_nothing(drawn: Dataset, road_model: Path) -> None:
    assert refused(DatasetError, drawn.path, road_model, view="roads", overwrite=True) == (
        f"{drawn.path}: the view roads is what is drawn; name another with --view"
    )
    too_much = Cleaning(specks_m2=1e9)
    refused(UsageError, drawn.path, road_model, overwrite=True, cleaning=too_much)
    assert read_dataset(drawn.path).manifest == drawn.manifest


def refused(error: type[RoadriskError], source: Path, model: Path, *given: object, **settings: object) -> str:
    with pytest.raises(error) as raised:
        roads.apply(source, model, *given, **settings)  # type: ignore[arg-type]
    return str(raised.value)


def test_what_does_not_fit_is_one_line(dataset: Dataset, road_model: Path, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    grey = tmp_path / "grey/g.png"
    cv2.imwrite(str(grey), np.zeros((64, 64), np.uint8))
    out = tmp_path / "out"
    assert refused(ModelError, grey.parent, road_model, out) == (
        f"the model learned from other pictures than {grey}: they have 1 band, not 3; give pictures like those, "
        "or train a model on these"
    )
    assert not out.exists()
    assert refused(UsageError, dataset.path, road_model, out) == (
        f"{dataset.path} is a dataset, which gains a view; leave out -o {out}"
    )
    assert refused(UsageError, grey.parent, road_model) == (
        f"{grey.parent} is no dataset; for the masks of a folder of pictures give -o DIR"
    )
    assert refused(UsageError, grey.parent, road_model, out, vectorize=tmp_path / "x.gpkg") == (
        "--vectorize needs a dataset, whose pictures lie on the ground; leave it out"
    )
    assert refused(UsageError, grey.parent, road_model, out, view="aerial") == (
        f"{grey.parent} is no dataset and has no views; leave out --view aerial"
    )
    assert refused(UsageError, dataset.path, road_model, cleaning=Cleaning(specks_m2=1e9)).endswith(
        "px; 0 to 4,096 px are removed"
    )
    assert refused(UsageError, dataset.path, road_model, cleaning=Cleaning(gaps_m=np.nan)) == (
        "--gaps comes to nan px; 0 to 256 px are closed"
    )
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/run.json").write_text("{}")
    assert refused(DatasetError, tmp_path / "begun", road_model).startswith(
        f"{tmp_path / 'begun'} is unfinished"
    )
    assert refused(ModelError, dataset.path, dataset.path) == (
        f"{dataset.path} is no road model: it has no roads.json; give the folder that `roadrisk roads train` wrote"
    )
    coarse = tmp_path / "coarse"
    shutil.copytree(road_model, coarse)
    manifest = json.loads((coarse / "roads.json").read_text())
    manifest["metres_per_pixel"] *= 2
    (coarse / "roads.json").write_text(json.dumps(manifest))
    here = dataset.metres_per_pixel("aerial")
    assert refused(ModelError, dataset.path, coarse) == (
        f"the model learned from other pictures than {dataset.path} has: a pixel is {here:.3g} m, not "
        f"{2 * here:.3g}; tile the region as those were, or train a model on it"
    )


def test_the_commands_say_it(
    roadrisk: Callable[..., object], dataset: Dataset, road_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset.path, tmp_path / "d")
    run = roadrisk("roads", "apply", tmp_path / "d", "--model", road_model, "--json", "--workers", 1)
    said = json.loads(run.out)  # type: ignore[attr-defined]
    assert said["paths"] == [str(tmp_path / "d")]
    assert said["columns"] == SEEN
    run = roadrisk("roads", "train", tmp_path / "d", "-o", tmp_path / "m", "--width", "residential")
    assert run.code == 2  # type: ignore[attr-defined]
    assert run.err == "roadrisk: --width residential is not CLASS=METRES, as in residential=7\n"  # type: ignore[attr-defined]
