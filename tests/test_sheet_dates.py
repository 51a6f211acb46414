"""When a sheet was taken: its own word, the index's, the region file's; the newest is seen."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from sheets import GRID, found, sheet

from roadrisk.errors import SourceError
from roadrisk.imagery.dates import indexed_dates
from roadrisk.source_settings import SheetIndex


def index(path: Path, **columns: list[object]) -> SheetIndex:
    pd.DataFrame(columns).to_csv(path, index=False)
    return SheetIndex(path=str(path), name="FileName", taken="SrcImgDate")


def test_unknown_is_unknown(tmp_path: Path) -> None:
    sheets = found([sheet(tmp_path / "a.tif")])
    assert sheets.found[0].taken is None
    assert "no sheet says when it was taken" in sheets.understood


def test_the_region_file_says(tmp_path: Path) -> None:
    sheets = found([sheet(tmp_path / "a.tif")], taken=(date(2005, 4, 1), date(2005, 5, 12)))
    assert sheets.found[0].taken == ("2005-04-01", "2005-05-12")
    assert "taken 2005-04-01 to 2005-05-12" in sheets.understood


def test_an_index_says_and_the_region_file_says_the_rest(tmp_path: Path) -> None:
    for name in ("m_1_sw.tif", "m_2_sw.tif", "m_3_sw.tif"):
        sheet(tmp_path / name)
    said = index(
        tmp_path / "index.csv",
        FileName=["M_1_SW.tif", "m_2_sw", "m_2_sw", "elsewhere.tif"],
        SrcImgDate=[20210615, 20210701, 20210703, 19990101],
    )
    days = date(2020, 1, 1), date(2020, 12, 31)
    taken = {Path(s.path).name: s.taken for s in found([f"{tmp_path}/*.tif"], index=said, taken=days)}
    assert taken == {
        "m_1_sw.tif": ("2021-06-15", "2021-06-15"),
        "m_2_sw.tif": ("2021-07-01", "2021-07-03"),
        "m_3_sw.tif": ("2020-01-01", "2020-12-31"),
    }


def test_sheets_of_one_name_in_two_folders(tmp_path: Path) -> None:
    for year in ("2019", "2021"):
        sheet(tmp_path / year / "m_1.tif")
    rows = ["D:\\naip\\2021\\M_1.TIF", "2019/m_1.tif", "2019/m_1"]
    said = index(tmp_path / "index.csv", FileName=rows, SrcImgDate=["2021-06-01", "2019-06-01", "2019-06-03"])
    sheets = found([f"{tmp_path}/*/m_1.tif"], index=said)
    assert [one.taken for one in sheets] == [("2019-06-01", "2019-06-03"), ("2021-06-01", "2021-06-01")]


def test_a_sheet_of_which_two_rows_may_tell_is_told(tmp_path: Path) -> None:
    path = sheet(tmp_path / "naip" / "m_1.tif")
    rows = ["2019/m_1.tif", "2021/m_1.tif"]
    said = index(tmp_path / "index.csv", FileName=rows, SrcImgDate=["2019-06-01", "2021-06-01"])
    with pytest.raises(SourceError) as error:
        found([path], index=said)
    assert str(error.value) == (
        f"{tmp_path}/index.csv has 2019/m_1 and 2021/m_1, and either may be {str(path)[:-4].lower()}; write the "
        "sheets' own folders into FileName"
    )


def test_the_newest_is_seen_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        sheet(tmp_path / name)
    said = index(tmp_path / "index.csv", FileName=["a", "b"], SrcImgDate=["2021-06-15", "2019-06-15"])
    order = [Path(s.path).name for s in found([f"{tmp_path}/*.tif"], index=said)]
    assert order == ["c.tif", "b.tif", "a.tif"]
    assert (
        "taken 2019-06-15 to 2021-06-15; 1 sheets do not say when"
        in found([f"{tmp_path}/*.tif"], index=said).understood
    )


def test_a_vector_index(tmp_path: Path) -> None:
    squares = shapely.box(np.arange(2), 0, np.arange(2) + 1, 1)
    frame = geopandas.GeoDataFrame(
        {"FileName": ["a.tif", "b.tif"], "SrcImgDate": pd.to_datetime(["2021-06-15", "2021-06-16"])},
        geometry=squares,
        crs=GRID.crs,
    )
    frame.to_file(tmp_path / "index.gpkg")
    dates = indexed_dates(SheetIndex(path=f"{tmp_path}/index.gpkg", name="FileName", taken="SrcImgDate"))
    assert dates == {"a": ("2021-06-15", "2021-06-15"), "b": ("2021-06-16", "2021-06-16")}


def test_dates_of_days_first(tmp_path: Path) -> None:
    said = index(tmp_path / "i.csv", FileName=["a", "b"], SrcImgDate=["04/03/2021", "25/03/2021"])
    assert indexed_dates(said)["a"] == ("2021-03-04", "2021-03-04")


def test_an_index_of_other_sheets(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif")
    said = index(tmp_path / "i.csv", FileName=["z.tif"], SrcImgDate=["2021-03-04"])
    with pytest.raises(SourceError) as caught:
        found([path], index=said)
    assert str(caught.value) == (
        f"{tmp_path}/i.csv names none of the sheets of {path}: it has z, they are a; name its column of file names "
        "with index.name"
    )


def test_an_index_without_the_column(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.tif")
    said = index(tmp_path / "i.csv", file=["a.tif"], SrcImgDate=["2021-03-04"])
    with pytest.raises(SourceError, match=r"i\.csv has no column 'FileName' \(index\.name\)"):
        found([path], index=said)


def test_a_date_that_cannot_be_read(tmp_path: Path) -> None:
    said = index(tmp_path / "i.csv", FileName=["a", "b"], SrcImgDate=["2021-03-04", "soon"])
    with pytest.raises(SourceError) as caught:
        indexed_dates(said)
    assert str(caught.value) == (
        f"{tmp_path}/i.csv: 1 rows have no date in SrcImgDate, the first is row 1 with 'soon'; mend it, or name "
        "another column with index.taken"
    )
