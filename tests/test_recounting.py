from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from period_examples import place, tiled

from roadrisk.dataset import Dataset, read_dataset
from roadrisk.errors import DatasetError, UsageError
from roadrisk.features.windows import Window, Windows
from roadrisk.inputs import Tiles, tiles_of_dataset, tiles_of_table
from roadrisk.learning.facts.choosing import DEFAULT
from roadrisk.recounting import recounted
from roadrisk.region import Region
from roadrisk.source_settings import Coverage, EventSource, LabelSettings
from roadrisk.sources import stored

FORMATS = Path(__file__).parent / "formats"


def years(first: int, after: int) -> Window:
    return date(first, 1, 1), date(after, 1, 1)


ASKED = Windows(years(2024, 2025), years(2018, 2024), {"late": years(2022, 2024)})
THEN = Windows(years(2022, 2023), years(2019, 2022), {"late": years(2021, 2022)})


def of_region(windows: Windows) -> dict[str, object]:
    return {
        "label_window": windows.label,
        "feature_window": windows.feature,
        "windows": dict(windows.named),
    }


@pytest.fixture(scope="module", autouse=True)
def many_batches() -> Iterator[None]:
    """Rows in many batches, whose sums of weights differ in the last bit where others are summed first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_BATCH_ROWS", 700)
        yield


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """Crashes with all that can be asked of them, and citations and signals beside them."""
    folder = tmp_path_factory.mktemp("place")
    own = place(
        folder,
        severity="severity",
        by=("mode",),
        weights="usdot-2022-ka",  # depends on the severities before the label
        kernels_m=(700.0,),
        nearest=True,
        coverage=Coverage(path=str(folder / "half.gpkg")),
    )
    import geopandas
    import shapely

    rows = pd.read_csv(folder / "crashes.csv")
    middle = rows["x"].median()
    half = shapely.box(rows["x"].min() - 500, rows["y"].min() - 500, middle, rows["y"].max() + 500)
    geopandas.GeoDataFrame(geometry=[half], crs=own.crs).to_file(folder / "half.gpkg")
    rows[rows["date"] >= "2020"].sample(2000, random_state=0).to_csv(folder / "tickets.csv", index=False)
    rows[["x", "y"]].sample(50, random_state=1).to_csv(folder / "signals.csv", index=False)
    at = {"x": "x", "y": "y", "crs": own.crs}
    return replace(
        own,
        citations=(EventSource(str(folder / "tickets.csv"), date="date", **at),),
        points=(EventSource(str(folder / "signals.csv"), nearest=True, by=(), **at),),
    )


@pytest.fixture(scope="module")
def rich(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiled(region, tmp_path_factory.mktemp("rich") / "dataset", **of_region(ASKED))


def tiles_of(dataset: Dataset) -> Tiles:
    return tiles_of_dataset(dataset, ())


def test_recounting_for_the_datasets_own_windows_changes_no_bit(rich: Dataset) -> None:
    tiles = tiles_of(rich)
    again = recounted(tiles, ASKED)
    assert {"crashes_past_kernel_700m", "crashes_past_nearest_m", "crashes_label_weighted"} < set(again.frame)
    assert {"crashes_late_mode_bicycle", "citations_past", "points_count_nearest_m"} < set(again.frame)
    assert again.columns == tiles.columns
    pd.testing.assert_frame_equal(again.frame, tiles.frame, check_exact=True)


@pytest.mark.parametrize(
    "windows",
    [
        THEN,
        Windows(years(2023, 2024), years(2018, 2023)),
        Windows(years(2021, 2022)),
        Windows((date(2022, 3, 1), date(2022, 9, 5)), (date(2017, 5, 1), date(2022, 2, 1))),
    ],
)
def test_recounting_is_tiling_anew(region: Region, rich: Dataset, windows: Windows, tmp_path: Path) -> None:
    anew = tiles_of(tiled(region, tmp_path / "anew", **of_region(windows)))
    again = recounted(tiles_of(rich), windows)
    cut = (DEFAULT,)  # each at a threshold of its own
    names = [column.name for column in anew.columns if column.name not in cut]
    assert [column for column in again.columns if column.name not in cut] == [
        column for column in anew.columns if column.name not in cut
    ]
    pd.testing.assert_frame_equal(again.frame[names], anew.frame[names], check_exact=True)


def test_the_label_keeps_its_threshold(rich: Dataset) -> None:
    t = rich.manifest["label"]["t"]
    again = recounted(tiles_of(rich), THEN).frame
    known = again["eligible"] & again["crashes_label"].notna()
    assert again.loc[known, "label"].eq(again.loc[known, "crashes_label"] >= t).all()
    assert again.loc[~known, "label"].isna().all()
    assert not again["crashes_label"].equals(rich.tiles()["crashes_label"])


def test_a_rate_is_of_the_windows_own_events(region: Region, tmp_path: Path) -> None:
    dataset = tiled(region, tmp_path / "rate", label=LabelSettings(per="road_m"), **of_region(ASKED))
    again = recounted(tiles_of(dataset), THEN)
    frame = again.frame[again.frame["eligible"]]
    pd.testing.assert_series_equal(
        frame["label_rate"], frame["crashes_label"] / frame["road_m"], check_names=False, check_exact=True
    )
    assert {c.name: c.window for c in again.columns}["label_rate"] == ("2022-01-01", "2023-01-01")


def test_without_the_sources_word_there_is_no_label(rich: Dataset) -> None:
    again = recounted(tiles_of(rich), Windows(years(2010, 2011), years(2008, 2009)))
    assert not {"crashes_label", "label", "crashes_past", "citations_past"} & set(again.frame)
    assert {"eligible", "road_m", "points_count"} < set(again.frame)


def test_no_window_of_facts_reaches_into_the_label(rich: Dataset) -> None:
    with pytest.raises(UsageError) as caught:
        recounted(tiles_of(rich), Windows(years(2022, 2023), years(2018, 2023)))
    assert str(caught.value) == (
        "crashes_past tells of 2018-01-01 to before 2023-01-01, which reaches into the label window "
        "(2022-01-01 to before 2023-01-01), so a model would know what it is to learn; end its window on "
        "2022-01-01 or before, or leave it out"
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_datasets_of_every_format_can_be_recounted(number: int) -> None:
    tiles = tiles_of(read_dataset(FORMATS / f"dataset-{number}"))
    again = recounted(tiles, Windows(years(2024, 2025)))
    pd.testing.assert_frame_equal(again.frame, tiles.frame, check_exact=True)
    before = recounted(tiles, Windows(years(2023, 2024))).frame["crashes_label"]
    assert before.sum() > 0
    assert not before.equals(tiles.frame["crashes_label"])


def _broken(dataset: Dataset, out: Path, change: Callable[[Path], None]) -> Tiles:
    shutil.copytree(dataset.path, out)
    change(out)
    return tiles_of(read_dataset(out))


def test_damaged_events_are_named(rich: Dataset, tmp_path: Path) -> None:
    tiles = _broken(
        rich, tmp_path / "d", lambda out: (out / "events/crashes.parquet").write_bytes(b"no") and None
    )
    with pytest.raises(
        DatasetError, match=r"events/crashes.parquet is damaged \(.*\); copy the dataset again"
    ):
        recounted(tiles, THEN)


def test_events_without_dates_of_their_own_are_named(rich: Dataset, tmp_path: Path) -> None:
    def change(out: Path) -> None:
        path = out / "events/crashes.parquet"
        pd.read_parquet(path).drop(columns=["time", "by_mode"]).to_parquet(path)

    tiles = _broken(rich, tmp_path / "d", change)
    with pytest.raises(DatasetError) as caught:
        recounted(tiles, THEN)
    path = tmp_path / "d/events/crashes.parquet"
    assert str(caught.value) == f"{path} lacks time, by_mode; copy the dataset again or tile again"


def test_settings_that_are_none_are_named(rich: Dataset, tmp_path: Path) -> None:
    def change(out: Path) -> None:
        manifest = json.loads((out / "dataset.json").read_text())
        manifest["plan"]["sources"]["crashes"]["nearest"] = [1]
        (out / "dataset.json").write_text(json.dumps(manifest))

    tiles = _broken(rich, tmp_path / "d", change)
    with pytest.raises(DatasetError) as caught:
        recounted(tiles, THEN)
    assert str(caught.value) == (
        f"{tmp_path / 'd'}, its source crashes: nearest: input should be a valid boolean, not [1]"
    )


def test_tables_keep_no_events(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("tile_id,image_path,crashes\na,,1\n")
    with pytest.raises(UsageError) as caught:
        recounted(tiles_of_table(path), THEN)
    assert str(caught.value) == f"{path} keeps no events of its own to count for other windows"
