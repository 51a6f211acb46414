"""Pictures made ready: shrunk by averaging, whole, and never from outside the folder."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from roadrisk.errors import SourceError
from roadrisk.imagery.picture_files import file_inside, picture_of
from roadrisk.learning.pictures.sources import FilePictures, resized


def test_shrinking_averages_and_enlarging_keeps_flat_colour() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    means = picture.reshape(3, 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.abs(resized(picture, 32) - means).max() <= 1
    flat = np.empty((3, 20, 20), np.uint8)
    flat[:] = np.array([10, 128, 250], np.uint8)[:, None, None]
    assert (resized(flat, 49) == flat[:, :1, :1]).all()
    assert resized(picture, 64) is picture


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
