"""How facts and pictures are made ready: from training rows only, and never from outside the folder."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.columns import Column
from roadrisk.errors import ModelError, SourceError
from roadrisk.learning.kept import Kept
from roadrisk.learning.pictures import (
    FilePictures,
    MosaicPictures,
    file_inside,
    kept_pictures,
    picture_of,
    resized,
)
from roadrisk.learning.preparation import fact_values, learned_preparation


def column(name: str, combine: str = "none", window: tuple[str, str] | None = None) -> Column:
    return Column(name, "float64", "", "feature", combine, name, window=window)  # type: ignore[arg-type]


COLUMNS = (
    column("speed"),
    column("road_m", "sum"),
    column("crashes_past", "sum", ("2020-01-01", "2022-01-01")),
)


def facts(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    values = chance.gamma(2.0, 10.0, (n, 3))
    values[chance.random((n, 3)) < 0.2] = np.nan
    return values, chance.uniform(0.05, 0.3, n)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_training_rows_are_standardised_and_whole(seed: int) -> None:
    values, area = facts(seed)
    prepared = learned_preparation(values, COLUMNS, area).prepared(values, COLUMNS, area)
    assert prepared.dtype == np.float32
    assert np.isfinite(prepared).all()
    np.testing.assert_allclose(prepared.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std(axis=0), 1, atol=1e-5)


def test_sums_are_densities_and_missing_is_the_median() -> None:
    values = np.array([[30.0, 100, 2], [50, 300, 4], [np.nan, np.nan, np.nan], [70, 200, 9]])
    area = np.array([1.0, 2.0, 4.0, 0.5])
    preparation = learned_preparation(values, COLUMNS, area)
    by_name = {fact.column: fact for fact in preparation.facts}
    assert list(by_name) == ["crashes_past", "road_m", "speed"]
    assert by_name["speed"].fill == 50
    assert by_name["road_m"].fill == 150  # of 100, 150, 400 m a km2
    two_years = 731 / 365.25
    assert by_name["crashes_past"].fill == pytest.approx(2 / two_years)  # of 2, 2 and 18 a km2 in two years
    prepared = preparation.prepared(values, COLUMNS, area)
    road = np.array([100.0, 150, 150, 400])
    np.testing.assert_allclose(prepared[:, 1], (road - road.mean()) / road.std(), rtol=1e-6)


def test_a_tile_twice_as_large_with_twice_as_much_is_the_same() -> None:
    values, area = facts(1)
    preparation = learned_preparation(values, COLUMNS, area)
    larger = values * np.array([1.0, 2.0, 2.0])
    np.testing.assert_allclose(
        preparation.prepared(larger, COLUMNS, area * 2),
        preparation.prepared(values, COLUMNS, area),
        rtol=1e-5,
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), columns=st.permutations(range(3)), rows=st.permutations(range(30)))
def test_no_order_of_rows_or_columns_matters(seed: int, columns: list[int], rows: list[int]) -> None:
    values, area = facts(seed)
    preparation = learned_preparation(values, COLUMNS, area)
    turned = tuple(COLUMNS[index] for index in columns)
    assert learned_preparation(values[rows][:, columns], turned, area[rows]) == preparation
    np.testing.assert_array_equal(
        preparation.prepared(values[rows][:, columns], turned, area[rows]),
        preparation.prepared(values, COLUMNS, area)[rows],
    )


def test_columns_that_tell_nothing_are_dropped_and_said() -> None:
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0, np.nan]])
    columns = (column("a"), column("same"), column("empty"))
    preparation = learned_preparation(values, columns, np.ones(2))
    assert [fact.column for fact in preparation.facts] == ["a"]
    assert preparation.dropped == (
        ("empty", "no value in any training tile"),
        ("same", "the same in every training tile"),
    )


def test_a_lacking_column_is_named() -> None:
    values, area = facts(0)
    preparation = learned_preparation(values, COLUMNS, area)
    with pytest.raises(ModelError, match=r"^the model learned from road_m, which the data lacks"):
        preparation.prepared(values[:, [0, 2]], (COLUMNS[0], COLUMNS[2]), area)


def test_a_value_too_far_from_what_was_learned_is_named() -> None:
    values, area = facts(0)
    preparation = learned_preparation(values, COLUMNS, area)
    values[3, 1] = 1e300
    with pytest.raises(ModelError, match=r"^column 'road_m' is too far from what the model learned"):
        preparation.prepared(values, COLUMNS, area)


@pytest.mark.parametrize("values", [[1e308, -1e308, 0], [1e-200, 2e-200, 3e-200]])
def test_a_column_that_cannot_be_standardised_is_named(values: list[float]) -> None:
    with pytest.raises(ModelError, match=r"^column 'a' holds values too extreme .* --exclude a$"):
        learned_preparation(np.array(values)[:, None], (column("a"),), np.ones(3))


def test_fact_values_take_numbers_and_booleans_only() -> None:
    table = pd.DataFrame(
        {
            "n": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "mixed": pd.Series([2, None], dtype=object),
            "empty": pd.Series([None, None], dtype=object),
        }
    )
    values = fact_values(table, ["n", "b", "mixed", "empty"])
    np.testing.assert_array_equal(values, [[1, 1, 2, np.nan], [np.nan] * 4])
    with pytest.raises(
        SourceError, match=r"^column 'surface' is not numbers \(it holds 'paved'\); leave it out"
    ):
        fact_values(pd.DataFrame({"surface": [None, "paved"]}), ["surface"])
    with pytest.raises(SourceError, match=r"^column 'day' is not numbers"):
        fact_values(pd.DataFrame({"day": pd.to_datetime(["2024-01-01"])}), ["day"])
    with pytest.raises(SourceError, match=r"^column 'x' holds infinite values"):
        fact_values(pd.DataFrame({"x": [1.0, np.inf]}), ["x"])


def test_shrinking_averages_and_enlarging_keeps_flat_colour() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    means = picture.reshape(3, 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.abs(resized(picture, 32) - means).max() <= 1
    flat = np.empty((3, 20, 20), np.uint8)
    flat[:] = np.array([10, 128, 250], np.uint8)[:, None, None]
    assert (resized(flat, 49) == flat[:, :1, :1]).all()
    assert resized(picture, 64) is picture


class Counting:
    """A mosaic whose tile is its own place, and that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, row: int, col: int) -> np.ndarray:
        self.reads += 1
        return np.full((3, 16, 16), row * 10 + col, np.uint8)


def mosaic(reader: Counting, n: int = 6) -> MosaicPictures:
    return MosaicPictures(reader, np.arange(n), np.arange(n) % 2, 16, "checksums")


def test_pictures_are_prepared_once_and_only_when_asked_for(tmp_path: Path) -> None:
    reader = Counting()
    kept = kept_pictures(mosaic(reader), tmp_path / "cache")
    assert kept.prepared(np.array([4, 1]))[:, 0, 0, 0].tolist() == [40, 11]
    assert reader.reads == 2
    again = kept_pictures(mosaic(reader), tmp_path / "cache")
    assert again.prepared(np.array([1, 4, 1, 3]))[:, 0, 0, 0].tolist() == [11, 40, 11, 31]
    assert reader.reads == 3
    assert len(again.prepared(np.array([], dtype=np.int64))) == 0


def test_other_pictures_have_another_file(tmp_path: Path) -> None:
    reader = Counting()
    first = kept_pictures(mosaic(reader), tmp_path).kept.path
    fewer = kept_pictures(mosaic(reader, 5), tmp_path).kept.path
    changed = MosaicPictures(reader, np.arange(6), np.arange(6) % 2, 16, "other checksums")
    assert len({first, fewer, kept_pictures(changed, tmp_path).kept.path}) == 3


def test_a_row_is_marked_only_after_it_is_written(tmp_path: Path) -> None:
    def rows(indices: np.ndarray) -> np.ndarray:
        if 40 in indices:
            raise KeyboardInterrupt
        return indices.astype(np.float32)[:, None]

    kept = Kept(tmp_path / "a.f32", 64, (1,), np.dtype(np.float32), rows, "rows")
    with pytest.raises(KeyboardInterrupt):
        kept.fill(np.arange(64))
    marks = np.fromfile(tmp_path / "a.done", np.uint8)
    assert marks[:32].all()
    assert not marks[32:].any()
    whole = Kept(kept.path, 64, (1,), kept.dtype, lambda i: i.astype(np.float32)[:, None], "rows")
    assert whole.rows(np.arange(64))[:, 0].tolist() == list(range(64))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "table"
    inside.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for path in (inside / "a.png", inside / "b.jpg", inside / "c.tif", tmp_path / "secret.png"):
        cv2.imwrite(str(path), picture[..., ::-1])
    cv2.imwrite(str(inside / "grey.png"), picture[..., 0])
    cv2.imwrite(str(inside / "deep.png"), picture.astype(np.uint16) * 256)
    for name in ("a.png", "b.jpg"):
        whole = (inside / name).read_bytes()
        (inside / f"cut-{name}").write_bytes(whole[: len(whole) // 2])
        (inside / f"nearly-{name}").write_bytes(whole[:-20])
    whole = (inside / "b.jpg").read_bytes()
    (inside / "closed-b.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    (inside / "text.png").write_text("not a picture")
    (inside / "vrt.png").write_text(
        '<VRTDataset rasterXSize="40" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path / 'secret.png'}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    return inside


def test_pictures_of_files_are_rgb(folder: Path) -> None:
    wanted = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8).transpose(2, 0, 1)
    assert np.array_equal(picture_of(folder / "a.png"), wanted)
    assert np.array_equal(picture_of(folder / "c.tif"), wanted)
    assert np.array_equal(picture_of(folder / "grey.png"), np.repeat(wanted[:1], 3, axis=0))
    files = FilePictures(folder, ("a.png", "b.jpg"), (1, 2), 20)
    assert files.prepared(np.array([1, 0])).shape == (2, 3, 20, 20)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_palette_is_expanded(tmp_path: Path) -> None:
    index = np.array([[0, 1], [1, 0]], np.uint8)
    with rasterio.open(
        tmp_path / "p.png", "w", driver="PNG", width=2, height=2, count=1, dtype="uint8"
    ) as file:
        file.write(index, 1)
        file.write_colormap(1, {0: (9, 8, 7, 255), 1: (200, 100, 50, 255)})
    assert picture_of(tmp_path / "p.png")[:, 0].tolist() == [[9, 200], [8, 100], [7, 50]]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret.png", "leads out of its folder"),
        ("a/../../secret.png", "leads out of its folder"),
        ("link.png", "leads out of its folder"),
        ("/etc/passwd", "is not relative"),
        ("https://example.org/a.png", "is not relative"),
        ("C:/a.png", "is not relative"),
        ("/vsicurl/https://example.org/a.png", "is not relative"),
        ("..\\secret.png", "leads out of its folder"),
        ("none.png", "no such file"),
    ],
)
def test_no_path_leads_out_of_the_folder(folder: Path, path: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        file_inside(folder, path)


@pytest.mark.parametrize(
    "name", ["cut-a.png", "cut-b.jpg", "nearly-a.png", "nearly-b.jpg", "closed-b.jpg", "text.png", "vrt.png"]
)
def test_a_broken_or_foreign_file_is_named_with_its_row(folder: Path, name: str) -> None:
    files = FilePictures(folder, ("a.png", name), (2, 3), 20)
    with pytest.raises(SourceError, match=rf"^row 3: {name} is not a whole picture; "):
        files.prepared(np.array([0, 1]))


def test_sixteen_bits_are_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^deep.png has uint16 pixels; scale them to 8 bit"):
        picture_of(folder / "deep.png")
