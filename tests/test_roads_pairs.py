"""A folder of pictures with masks: which are pairs, what they hold, and what is refused."""

from __future__ import annotations

import copy
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sheets import RGBA, scene, sheet

from roadrisk.errors import RoadriskError, SourceError
from roadrisk.roads.scenes import Plane, RoadExamples, Truths, Window
from roadrisk.roads.settings import RoadSettings
from roadrisk.roads.sources.examples import examples_at
from roadrisk.roads.sources.pictures import FilePlane, picture_file

HEIGHT, WIDTH = 48, 64
WHOLE = Window(0, 0, HEIGHT, WIDTH)
PICTURE = scene(HEIGHT, WIDTH, 3)
ROAD = np.zeros((HEIGHT, WIDTH), bool)
ROAD[20:28] = True
SETTINGS = RoadSettings()
LAYOUTS = "folders `images` and `masks` with files of the same names, or files X_sat.jpg and X_mask.png in one folder"
WINDOWS = st.builds(
    Window,
    st.integers(-80, 80),
    st.integers(-80, 80),
    st.integers(1, 90),
    st.integers(1, 90),
)


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    """A picture (H, W) or (C, H, W) in the format that the path names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = pixels if pixels.ndim == 2 else pixels[[2, 1, 0, *range(3, len(pixels))]].transpose(1, 2, 0)
    assert cv2.imwrite(str(path), drawn)
    return path


def mask_of(road: NDArray[np.bool_] = ROAD, value: int = 255) -> NDArray[np.uint8]:
    return road.astype(np.uint8) * np.uint8(value)


def folder_of(folder: Path, masks: dict[str, NDArray[np.generic]]) -> Path:
    for n, (name, mask) in enumerate(masks.items()):
        write(folder / "images" / f"{name}.png", np.roll(PICTURE, n, axis=2))
        write(folder / "masks" / f"{name}.png", mask)
    return folder


def said_of(path: Path, settings: RoadSettings = SETTINGS) -> str:
    with pytest.raises(SourceError) as raised:
        examples_at(path, settings)
    return str(raised.value)


LAID_OUT: dict[str, Callable[[str], tuple[str, str]]] = {
    "images and masks": lambda n: (f"images/{n}.png", f"masks/{n}.png"),
    "as in Massachusetts": lambda n: (f"sat/{n}.tiff", f"map/{n}.tif"),
    "as EPFL has them": lambda n: (f"images/{n}.png", f"groundtruth/{n}.png"),
    "in capitals": lambda n: (f"Images/{n}.PNG", f"Masks/{n}.PNG"),
    "as DeepGlobe has them": lambda n: (f"{n}_sat.png", f"{n}_mask.png"),
    "folders and endings": lambda n: (f"images/{n}_img.png", f"labels/{n}_label.png"),
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_a_layout_is_understood(tmp_path: Path, layout: str) -> None:
    for n, name in enumerate(("b", "a")):
        picture, mask = LAID_OUT[layout](name)
        write(tmp_path / picture, np.roll(PICTURE, n, axis=2))
        write(tmp_path / mask, mask_of(np.roll(ROAD, n, axis=0)))
    examples = examples_at(tmp_path, SETTINGS)
    assert examples.key.tolist() == ["a", "b"]
    assert [scene.name for scene in examples.scenes] == ["a", "b"]
    assert (examples.scenes[0].plane.read(WHOLE).pixels == np.roll(PICTURE, 1, axis=2)).all()
    assert (examples.scenes[1].truths.read(WHOLE).road == ROAD).all()
    assert examples.window(1) == WHOLE
    assert examples.told[:-1] == ("2 pictures with masks",)


def test_the_same_stem_is_a_pair_whatever_it_ends_in(tmp_path: Path) -> None:
    write(tmp_path / "images" / "city_sat.png", PICTURE)
    write(tmp_path / "masks" / "city_sat.png", mask_of())
    assert examples_at(tmp_path, SETTINGS).key.tolist() == ["city_sat"]


def test_what_is_of_no_pair_is_told_with_its_number(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    for name in "bcde":
        write(tmp_path / "images" / f"{name}.png", PICTURE)
    write(tmp_path / "masks" / "z.png", mask_of())
    (tmp_path / "masks" / "notes.txt").write_text("by hand")
    assert examples_at(tmp_path, SETTINGS).told == (
        "1 pictures with masks",
        "pictures without a mask, left out: 4 (b.png, c.png, d.png, ...)",
        "masks without a picture, left out: 1 (z.png)",
        "other files: 1 (notes.txt)",
        "nothing says how many metres a pixel is",
    )


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        (RoadSettings(mask="roads"), "--mask"),
        (RoadSettings(view="infrared", widths_m={"primary": 9.0}, block_m=500.0), "--view, --width, --block"),
    ],
)
def test_what_is_of_datasets_is_told_to_change_nothing(
    tmp_path: Path, settings: RoadSettings, flags: str
) -> None:
    folder = folder_of(tmp_path, {"a": mask_of()})
    examples = examples_at(folder, settings)
    assert f"of datasets, and nothing here: {flags}" in examples.told
    assert examples.identity == examples_at(folder, SETTINGS).identity


# --- pictures ---


def whole_of(kind: str, folder: Path) -> tuple[Path, NDArray[np.uint8], NDArray[np.bool_]]:
    """A file of a kind, its pixels and where they are known."""
    valid = scene(HEIGHT, WIDTH, 5)[0] > 100
    if kind == "alpha":
        pixels = np.concatenate([PICTURE, valid[None] * np.uint8(255)])
        return write(folder / "a.png", pixels), PICTURE * valid, valid
    if kind == "tif with a mask":
        options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
        return sheet(folder / "a.tif", PICTURE, mask=valid, **options), PICTURE * valid, valid
    if kind == "tif with nodata":
        pixels = np.where(valid, np.maximum(PICTURE, 1), 0).astype(np.uint8)
        return sheet(folder / "a.tif", pixels, nodata=0), pixels, valid
    if kind == "grey":
        return write(folder / "a.png", PICTURE[0]), PICTURE[:1], np.ones_like(valid)
    bit = (PICTURE[:1] > 100).astype(np.uint8)
    return sheet(folder / "a.tif", bit, nbits=1), bit * np.uint8(255), np.ones_like(valid)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("kind", ["alpha", "tif with a mask", "tif with nodata", "grey", "one bit"])
def test_a_window_is_the_slice_of_the_whole_picture(
    tmp_path_factory: pytest.TempPathFactory, kind: str, keep: bool
) -> None:
    path, pixels, valid = whole_of(kind, tmp_path_factory.mktemp("pictures"))
    plane = FilePlane(picture_file(path), keep)
    assert (plane.bands, plane.height, plane.width) == pixels.shape
    around = np.pad(pixels, ((0, 0), (200, 200), (200, 200))), np.pad(valid, 200)

    @given(WINDOWS)
    def check(window: Window) -> None:
        read = plane.read(window)
        y, x, height, width = window
        there = np.s_[y + 200 : y + 200 + height, x + 200 : x + 200 + width]
        assert (read.pixels == around[0][:, *there]).all()
        assert (read.valid == around[1][there]).all()

    check()


@pytest.mark.parametrize("duplicate", [copy.copy, lambda some: pickle.loads(pickle.dumps(some))])
@pytest.mark.parametrize("keep_bytes", [0, 1 << 20])
def test_a_copy_reads_for_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    duplicate: Callable[[Plane | Truths], Plane | Truths],
    keep_bytes: int,
) -> None:
    monkeypatch.setattr("roadrisk.roads.sources.pairs.KEPT_BYTES", keep_bytes)
    scene = examples_at(folder_of(tmp_path, {"a": mask_of()}), SETTINGS).scenes[0]
    for some in (scene.plane, scene.truths):
        first = some.read(WHOLE)
        other = duplicate(some)
        some.close()
        second, again = other.read(WHOLE), some.read(WHOLE)
        assert all((a == b).all() for a, b in zip(vars_of(first), vars_of(second), strict=True))
        assert all((a == b).all() for a, b in zip(vars_of(first), vars_of(again), strict=True))
        # neither holds a file of the other
        other.close()
        some.read(WHOLE)


def vars_of(read: object) -> tuple[NDArray[np.generic], ...]:
    return tuple(read) if isinstance(read, tuple) else tuple(vars(read).values())


def test_only_as_much_is_kept_as_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = HEIGHT * WIDTH * (3 + 1 + 2)
    monkeypatch.setattr("roadrisk.roads.sources.pairs.KEPT_BYTES", 2 * one)
    examples = examples_at(folder_of(tmp_path, {name: mask_of() for name in "abc"}), SETTINGS)
    planes = [scene.plane for scene in examples.scenes]
    assert [plane.keep for plane in planes if isinstance(plane, FilePlane)] == [True, True, False]


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32619", Affine(0.5, 0, 330000, 0, -0.5, 4690000), 0.5),
        # Web Mercator is 1 / cos(latitude) too long: 42.3 degrees north
        ("EPSG:3857", Affine(1, 0, -7_907_000, 0, -1, 5_206_000), 0.7395),
        # feet
        ("EPSG:2249", Affine(1, 0, 770000, 0, -1, 2950000), 0.3048),
        ("EPSG:4326", Affine(1e-5, 0, -71.06, 0, -1e-5, 42.3), 0.957),
    ],
)
def test_a_pixel_has_ground_metres(tmp_path: Path, crs: str, transform: Affine, metres: float) -> None:
    sheet(tmp_path / "images" / "a.tif", PICTURE, transform, crs)
    write(tmp_path / "masks" / "a.png", mask_of())
    examples = examples_at(tmp_path, SETTINGS)
    assert examples.metres_per_pixel == pytest.approx(metres, rel=2e-3)
    assert examples.told[-1] == f"a pixel is {examples.metres_per_pixel:.3g} m"


def test_metres_are_unknown_where_some_picture_has_none(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    sheet(tmp_path / "images" / "b.tif", PICTURE)
    write(tmp_path / "masks" / "b.png", mask_of())
    examples = examples_at(tmp_path, SETTINGS)
    assert examples.metres_per_pixel is None
    assert examples.told[-1] == "nothing says how many metres a pixel is: 1 of 2 pictures have no place"


# --- masks ---


@pytest.mark.parametrize("above", [0, 127, 254])
@pytest.mark.parametrize("value", [1, 255])
def test_two_values_are_taken_as_they_are(tmp_path: Path, value: int, above: int) -> None:
    folder = folder_of(tmp_path, {"a": mask_of(value=value)})
    examples = examples_at(folder, RoadSettings(mask_above=above))
    assert (examples.scenes[0].truths.read(WHOLE).road == ROAD).all()
    assert examples.road_share.tolist() == [ROAD.mean()]
    assert not any("two-valued" in line for line in examples.told)


def test_greys_are_cut_and_that_is_told(tmp_path: Path) -> None:
    grey = np.where(ROAD, 255, 0).astype(np.uint8)
    grey[19], grey[28] = 128, 127
    folder = folder_of(
        tmp_path, {"a": grey, "b": mask_of(), "c": mask_of(value=1), "d": mask_of(~ROAD & ROAD)}
    )
    examples = examples_at(folder, SETTINGS)
    road = examples.scenes[0].truths.read(WHOLE).road
    assert (road.all(axis=1) == (np.arange(HEIGHT) >= 19) & (np.arange(HEIGHT) < 28)).all()
    assert examples.road_share.tolist() == [9 / HEIGHT, 8 / HEIGHT, 8 / HEIGHT, 0.0]
    assert examples.told[1:-1] == (
        "1 of 4 masks are not two-valued (0/1 or 0/255); above 127 is road (--mask-above) (a.png)",
        "1 of 4 masks are of 0 and 1; 1 is road (c.png)",
        "1 of 4 masks are empty (d.png)",
    )
    assert examples_at(folder, RoadSettings(mask_above=126)).road_share[0] == 10 / HEIGHT


def test_what_jpeg_leaves_next_to_black_is_no_road(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    write(tmp_path / "images" / "b.png", PICTURE)
    noise = mask_of(value=1)
    assert cv2.imwrite(str(tmp_path / "masks" / "b.jpg"), noise, [cv2.IMWRITE_JPEG_QUALITY, 100])
    examples = examples_at(tmp_path, SETTINGS)
    assert examples.road_share[1] == 0
    assert any(line.startswith("1 of 2 masks are empty") for line in examples.told)


def test_a_mask_of_three_equal_bands_is_one(tmp_path: Path) -> None:
    write(tmp_path / "a_sat.jpg", PICTURE)
    write(tmp_path / "a_mask.png", np.repeat(mask_of()[None], 3, axis=0))
    assert (examples_at(tmp_path, SETTINGS).scenes[0].truths.read(WHOLE).road == ROAD).all()


def test_no_data_of_a_mask_is_unknown_but_zero_is_not(tmp_path: Path) -> None:
    marked = mask_of(value=1)
    marked[:10] = 7
    for name, nodata, mask in (("a", 7, marked), ("b", 0, mask_of(value=1))):
        sheet(tmp_path / "images" / f"{name}.tif", PICTURE)
        sheet(tmp_path / "masks" / f"{name}.tif", mask[None], nodata=nodata)
    examples = examples_at(tmp_path, SETTINGS)
    truth = examples.scenes[0].truths.read(WHOLE)
    assert (truth.known == (np.arange(HEIGHT) >= 10)[:, None]).all()
    assert (truth.road & truth.known == ROAD).all()
    assert examples.known_share.tolist() == [38 / HEIGHT, 1.0]
    assert examples.road_share.tolist() == [8 / 38, 8 / HEIGHT]
    assert "1 of 2 masks call 0 no data; it is taken for no road (b.tif)" in examples.told


def test_a_pair_that_is_known_nowhere_is_left_out(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    write(tmp_path / "images" / "b.png", np.concatenate([PICTURE, np.zeros_like(PICTURE[:1])]))
    write(tmp_path / "masks" / "b.png", mask_of())
    examples = examples_at(tmp_path, SETTINGS)
    assert examples.key.tolist() == ["a"]
    assert len(examples.scenes) == 1
    assert "1 of 2 pairs are known nowhere and left out (b.png)" in examples.told


# --- identity ---


def test_the_identity_is_of_what_is_in_the_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "one", {"a": mask_of(), "b": mask_of()})
    other = tmp_path / "two"
    shutil.copytree(folder, other)

    def identity(path: Path, settings: RoadSettings = SETTINGS) -> str:
        return examples_at(path, settings).identity

    assert identity(folder) == identity(other)
    assert identity(folder) != identity(folder, RoadSettings(mask_above=100))
    write(other / "masks" / "b.png", mask_of(np.roll(ROAD, 1, axis=1) ^ np.eye(HEIGHT, WIDTH, dtype=bool)))
    assert identity(folder) != identity(other)


# --- what is refused ---


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert said_of(path) == f"{path} is not there; give a dataset, or a folder of pictures with masks"
    path.write_text("")
    assert said_of(path) == f"{path} is a file; give a dataset, or a folder of pictures with masks"


def test_a_folder_with_nothing(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    assert (
        said_of(tmp_path) == f"{tmp_path} holds no dataset and no pairs of pictures and masks; give {LAYOUTS}"
    )


def test_pictures_without_any_mask(tmp_path: Path) -> None:
    write(tmp_path / "a_sat.png", PICTURE)
    write(tmp_path / "b_sat.png", PICTURE)
    assert said_of(tmp_path) == (
        f"{tmp_path}: of 2 pictures and 0 masks none are of the same name (a_sat.png); give {LAYOUTS}"
    )


def test_names_that_do_not_match(tmp_path: Path) -> None:
    write(tmp_path / "images" / "a.png", PICTURE)
    write(tmp_path / "masks" / "b.png", mask_of())
    assert said_of(tmp_path) == (
        f"{tmp_path}: of 1 pictures and 1 masks none are of the same name (a.png, b.png); give {LAYOUTS}"
    )


def test_two_files_of_one_name(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    write(tmp_path / "images" / "a.jpg", PICTURE)
    images = tmp_path / "images"
    assert said_of(tmp_path) == (
        f"{images / 'a.jpg'} and {images / 'a.png'} are of the same name; remove one of them"
    )


def test_two_folders_of_masks(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    (tmp_path / "labels").mkdir()
    assert said_of(tmp_path) == (
        f"{tmp_path} has labels and masks, and either could be meant; give a folder with one of them"
    )


def test_sizes_that_differ(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()[:, :-1]})
    assert said_of(tmp_path) == (
        f"{tmp_path / 'images' / 'a.png'} has 64 x 48 px and its mask {tmp_path / 'masks' / 'a.png'} has "
        "63 x 48 px; give masks of the size of their pictures"
    )


def test_bands_that_differ(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of(), "b": mask_of()})
    write(tmp_path / "images" / "b.png", PICTURE[0])
    images = tmp_path / "images"
    assert said_of(tmp_path) == (
        f"pictures differ in bands: {images / 'a.png'} has 3, {images / 'b.png'} has 1; "
        "give pictures of the same bands"
    )


def test_a_picture_of_four_colours(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    four = np.concatenate([PICTURE, PICTURE[:1]])
    (tmp_path / "images" / "a.png").unlink()
    path = sheet(tmp_path / "images" / "a.tif", four, photometric="RGB", alpha="no")
    assert said_of(tmp_path) == (
        f"{path} has 4 bands without alpha; give pictures of one band or of three "
        "(gdal_translate -b 1 -b 2 -b 3)"
    )
    sheet(path, four, colours=RGBA)
    assert examples_at(tmp_path, SETTINGS).bands == 3


def test_sixteen_bits(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    path = write(tmp_path / "images" / "a.png", PICTURE.astype(np.uint16) * 256)
    assert said_of(tmp_path) == (
        f"{path} has uint16 pixels; scale them to 8 bit (gdal_translate -ot Byte -scale)"
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_file_that_is_cut_off(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    (tmp_path / "images" / "a.png").unlink()
    path = write(tmp_path / "images" / name, PICTURE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RoadriskError, match="is not a whole picture") as raised:
        examples_at(tmp_path, SETTINGS).scenes[0].plane.read(WHOLE)
    assert str(raised.value) == f"{path} is not a whole picture; save or fetch it again"


def test_a_picture_that_names_other_files_is_none(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": mask_of()})
    secret = shutil.move(tmp_path / "images" / "a.png", tmp_path / "secret.png")
    path = tmp_path / "images" / "a.tif"
    path.write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert said_of(tmp_path) == f"{path} is not a whole picture; save or fetch it again"


def test_a_mask_with_colours(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a": np.stack([mask_of(), mask_of(~ROAD), mask_of()])})
    assert said_of(tmp_path) == (
        f"{tmp_path / 'masks' / 'a.png'} is coloured; give masks of one band (gdal_translate -b 1)"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "no pixel is above 127, the highest is 0; give masks that show roads"),
        (100, "no pixel is above 127, the highest is 100; lower --mask-above, or give masks that show roads"),
    ],
)
def test_masks_that_are_all_empty(tmp_path: Path, value: int, said: str) -> None:
    folder_of(tmp_path, {"a": mask_of(value=value), "b": mask_of(value=0)})
    assert said_of(tmp_path) == f"{tmp_path}: all 2 masks are empty: {said}"


def test_pictures_of_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a_sat.png", np.concatenate([PICTURE, np.zeros_like(PICTURE[:1])]))
    write(tmp_path / "a_mask.png", mask_of())
    assert said_of(tmp_path) == (f"{tmp_path}: all 1 pictures are transparent all over; give other pictures")


# --- real pictures ---


def of_real(examples: RoadExamples, sample: int) -> None:
    """Shares are those of the pixels themselves."""
    for unit in range(0, len(examples), sample):
        scene, window = examples.scenes[examples.scene[unit]], examples.window(unit)
        truth, picture = scene.truths.read(window), scene.plane.read(window)
        known = truth.known & picture.valid
        assert examples.known_share[unit] == pytest.approx(known.mean())
        assert examples.road_share[unit] == pytest.approx((truth.road & known).sum() / known.sum())


def test_sixty_real_pairs(shared_data: Path) -> None:
    examples = examples_at(shared_data / "road_pairs", SETTINGS)
    assert (len(examples), examples.bands, examples.lattice, examples.metres_per_pixel) == (60, 3, None, None)
    assert examples.told == (
        "60 pictures with masks",
        "60 of 60 masks are not two-valued (0/1 or 0/255); above 127 is road (--mask-above) "
        "(satImage_001.png, satImage_002.png, satImage_003.png, ...)",
        "nothing says how many metres a pixel is",
    )
    assert {scene.unit_px for scene in examples.scenes} == {(400, 400)}
    of_real(examples, 20)


def test_real_sheets_with_masks(shared_data: Path) -> None:
    examples = examples_at(shared_data / "boston", SETTINGS)
    assert len(examples) == 38
    assert examples.metres_per_pixel == pytest.approx(1, rel=1e-3)
    said = [re.sub(r" \(.*", "", line) for line in examples.told]
    assert said[:3] == [
        "38 pictures with masks",
        "pictures without a mask, left out: 7",
        "masks without a picture, left out: 127",
    ]
    assert (examples.known_share < 1).any()
    of_real(examples, 20)
