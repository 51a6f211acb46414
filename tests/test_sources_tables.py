from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from roadrisk.errors import SourceError
from roadrisk.files import identity_of
from roadrisk.source_settings import AreaSource, PointTable, TableSource
from roadrisk.sources import tables, text_tables
from roadrisk.sources.tables import Table, as_text, table_at, tables_at

ROWS = [("a", "b b", ""), ("1", "x, y", "é"), ("2", 'say "so"', "3\n4"), ("", "", "")]


def text_of(rows: list[tuple[str, ...]], delimiter: str = ",", end: str = "\n", quoted: bool = False) -> str:
    def field(value: str) -> str:
        needs = quoted or any(c in value for c in (delimiter, '"', "\n", "\r"))
        return '"' + value.replace('"', '""') + '"' if needs else value

    return "".join(delimiter.join(map(field, row)) + end for row in rows)


def frame_of(table: Table) -> pd.DataFrame:
    return pd.concat([frame for frame, _ in table.read(table.columns)], ignore_index=True)


def rows_of(table: Table) -> list[tuple[str, ...]]:
    return [tuple("" if pd.isna(v) else v for v in row) for row in frame_of(table).itertuples(index=False)]


def written(folder: Path, content: str | bytes, name: str = "a.csv") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refusal(path: str, names: tuple[str, ...] = ()) -> str:
    with pytest.raises(SourceError) as raised:
        frame_of(table_at(path, names=names))
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("delimiter", "word"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "bar")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_any_text(tmp_path: Path, end: str, delimiter: str, word: str, encoding: str) -> None:
    rows = [("id", "what", "more"), *ROWS]
    table = table_at(written(tmp_path, text_of(rows, delimiter, end).encode(encoding)))
    assert table.columns == rows[0]
    assert rows_of(table) == ROWS
    said = {"latin-1": "not UTF-8, so read as Latin-1", "utf-16": "UTF-16"}.get(encoding, "UTF-8")
    assert table.understood == f"{word}-separated, {said}"
    assert table.delimiter == delimiter


words = st.text(st.sampled_from('ab1,;"\n\r é|'), max_size=6).map(str.strip)


@given(
    st.lists(st.tuples(words, words, words), min_size=1, max_size=20),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from([16, 64, 1 << 20]),
)
def test_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    delimiter: str,
    end: str,
    quoted: bool,
    block: int,
) -> None:
    # a quote inside a bare word is not how CSV is written, and a row of nothing is a blank line
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(text_of([("id", "b", "c"), *rows], delimiter, end, quoted).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tables, "_BLOCK_BYTES", max(block, 4 * max(len(str(row)) for row in rows) + 64))
        read = rows_of(table_at(str(path)))
    # Arrow drops a line feed inside a word where a block begins with it
    assert [tuple(v.replace("\r\n", "\r") for v in row) for row in read] == [
        tuple(v.replace("\r\n", "\r") for v in row) for row in rows
    ]


def test_both_readers_agree(tmp_path: Path) -> None:
    rows = [("1", "x", "NULL"), ("2", "", "y"), ("", "None", "-")]
    plain = table_at(written(tmp_path, text_of([("a", "b", "c"), *rows])))
    spaced = text_of([("a", "b", "c"), *rows], quoted=True).replace(',"', ', "')
    slow = table_at(written(tmp_path, spaced, "b.csv"))
    expected = [("1", "x", ""), ("2", "", "y"), ("", "None", "-")]
    assert rows_of(plain) == rows_of(slow) == expected
    pd.testing.assert_frame_equal(frame_of(plain), frame_of(slow))
    assert frame_of(plain)["c"].isna().tolist() == [True, False, False]


def test_quotes_after_blanks(tmp_path: Path) -> None:
    path = written(tmp_path, 'a, b\n1, "x, y"\n 2 , z\n')
    assert table_at(path).columns == ("a", "b")
    assert rows_of(table_at(path)) == [("1", "x, y"), ("2", "z")]
    path = written(tmp_path, 'a, b\n1, "x, y"\n2, z, w\n')
    assert refusal(path) == " is not a table: line 3 has 3 fields, the header 2; mend that line"
    named = written(tmp_path, '1, "x, y"\n2, z\n')
    assert rows_of(table_at(named, names=("a", "b"))) == [("1", "x, y"), ("2", "z")]


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("a,b,\n1,2,\n", ("a", "b", "Unnamed: 2"), [("1", "2", "")]),
        (",b,\n7,2,3\n", ("Unnamed: 0", "b", "Unnamed: 2"), [("7", "2", "3")]),
        ("\n\r\na,b\n\n1,2\n\n", ("a", "b"), [("1", "2")]),
        ('"a\nx",b\n1,"2\n3"\n4,5\n', ("a\nx", "b"), [("1", "2\n3"), ("4", "5")]),
        ("a\n1\n2\n", ("a",), [("1",), ("2",)]),
        ('a,b\n5\' 6",x\n3",y\n', ("a", "b"), [("5' 6\"", "x"), ('3"', "y")]),
        ("a,b\n5' 6\",x\n3,y\n", ("a", "b"), [("5' 6\"", "x"), ("3", "y")]),
        ("a;b,c\n1;2\n", ("a;b", "c"), None),
    ],
)
def test_odd_headers_and_rows(
    tmp_path: Path, text: str, columns: tuple[str, ...], rows: list[tuple[str, ...]] | None
) -> None:
    table = table_at(written(tmp_path, text))
    assert table.columns == columns
    if rows is not None:
        assert rows_of(table) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", " is not a table: line 3 has 1 field, the header 2; mend that line"),
        ("a,b\n1,2\n\n3,4,5\n", " is not a table: line 4 has 3 fields, the header 2; mend that line"),
        ('a,b\n1,"x\ny"\n3\n', " is not a table: line 4 has 1 field, the header 2; mend that line"),
        ("a,b\r1,2\r3\r", " is not a table: line 3 has 1 field, the header 2; mend that line"),
        ("a,b\n1,2,\n", ": its rows have more fields than its header has names; mend the header line"),
        ('a,b\n1,"2\n3,4\n5,6\n', " is not a table: line 4: unexpected end of data; mend its quotes"),
        ("a, b,a\n1,2,3\n", " names the column 'a' twice; rename one"),
        ("", " is empty; export it again"),
        (" \n \n", " is empty; export it again"),
        (
            "x,null,42.36,-71.08\nx,null,42.37,-71.09\n",
            " has no header line: it begins 'x', 'null', '42.36', '-71.08'; name its 4 columns with `columns` in the "
            "region file",
        ),
    ],
)
def test_text_that_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(written(tmp_path, text)) == message


def test_a_row_far_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_tables, "_BLOCK_BYTES", 256)
    path = written(tmp_path, "a,b\n" + "1,2\n" * 1000 + "1,2,3\n" + "1,2\n" * 1000)
    assert refusal(path).startswith(" is not a table: line 1002 has 3 fields")
    table = table_at(path)
    with pytest.raises(SourceError, match="line 1002"):
        list(table.read(["a"]))


def test_names_for_a_file_without_header(tmp_path: Path) -> None:
    path = written(tmp_path, "k,42.36,-71.08\nm,42.37,-71.09\n")
    source = PointTable(path, columns=("kind", "lat", "lon"))
    assert rows_of(tables_at(source)[0]) == [("k", "42.36", "-71.08"), ("m", "42.37", "-71.09")]
    with pytest.raises(SourceError) as raised:
        tables_at(PointTable(path, columns=("lat", "lon")))
    assert str(raised.value) == (
        f"{path}: `columns` names 2 columns, but its first row has 3 fields: 'k', '42.36', '-71.08'; name each"
    )
    with pytest.raises(SourceError, match="names the column 'lat' twice"):
        tables_at(PointTable(path, columns=("lat", "lat", "lon")))
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="this file names its columns, so leave it out"):
        tables_at(PointTable(str(tmp_path / "a.parquet"), columns=("a",)))


def test_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n1,2\n" * 1)
    assert rows_of(table_at(written(tmp_path, packed, "a.csv.gz"))) == [("1", "2")]
    assert refusal(written(tmp_path, b"a,b\n", "b.csv.gz")).startswith("cannot read ")
    assert "export it again" in refusal(
        written(tmp_path, gzip.compress(b"a,b\n1,2\n" * 999)[:-9], "c.csv.gz")
    )


def real_bytes(folder: Path, kind: str) -> bytes:
    points = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 1)], crs=4326)
    path = folder / f"real.{kind}"
    if kind == "parquet":
        points.to_parquet(path)
    elif kind == "sqlite":
        with sqlite3.connect(path) as base:
            base.execute("create table a (b)")
    else:
        points.to_file(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("a.csv", "gpkg", "a GeoPackage or another SQLite database; name it .gpkg"),
        ("a.csv", "sqlite", "a GeoPackage or another SQLite database; name it .gpkg"),
        ("a.csv", "parquet", "Parquet; name it .parquet"),
        ("a.txt", "fgb", "FlatGeobuf; name it .fgb"),
        ("a.csv", "geojson", "GeoJSON; name it .geojson"),
        ("a.tsv", "shp", "a Shapefile; name it .shp, beside its .shx and .dbf"),
        ("a.parquet", "gpkg", "a GeoPackage or another SQLite database; name it .gpkg"),
        ("a.parquet", "geojson", "GeoJSON; name it .geojson"),
    ],
)
def test_real_files_by_another_name(tmp_path: Path, name: str, kind: str, said: str) -> None:
    assert refusal(written(tmp_path, real_bytes(tmp_path, kind), name)).endswith(f": it looks like {said}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"PK\x03\x04..", "a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV"),
        ("a.csv", b"\x89PNG\r\n\x1a\n", "a PNG picture; give the table"),
        (
            "a.csv",
            b"<!DOCTYPE html><html>",
            "a web page, perhaps an error or a log-in page; download it again",
        ),
        (
            "a.csv",
            "a,b\n1,2\n".encode("utf-16-le"),
            "binary data; download or export it again, text in UTF-8",
        ),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; fetch the file itself"),
        ("a.geojson", b"\n<html><h1>404", "a web page, perhaps an error or a log-in page; download it again"),
        ("a.geojson", b'{"error": {"code": 4}}', """JSON that begins '{"error": {"code": 4}}'; download"""),
        (
            "a.geojson",
            b'{"type": "FeatureCollection", "fea',
            "the right kind of file, but damaged or cut off",
        ),
        ("a.gpkg", b"lon,lat\n1,2\n", "text that begins 'lon,lat 1,2'; if it is CSV, name it .csv"),
        ("a.gpkg", b"", "an empty file; download or export it again"),
        ("a.gpkg", b"\x01\x02\xff", "binary data"),
        ("a.parquet", b"lon,lat\n1,2\n", "text that begins 'lon,lat 1,2'; if it is CSV, name it .csv"),
        ("a.parquet", b"PAR1....", "the right kind of file, but damaged or cut off"),
        ("a.shp", b"GIF89a", "text that begins 'GIF89a'"),
    ],
)
def test_bytes_by_another_name(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    assert f": it looks like {said}" in refusal(written(tmp_path, content, name))


def test_files_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.csv", "a.csv", "c.csv"):
        written(tmp_path, f"n\n{name}\n", name)

    def names(*paths: str) -> list[str]:
        return [table.path.name for table in tables_at(TableSource(paths))]

    assert names(str(tmp_path / "*.csv")) == ["a.csv", "b.csv", "c.csv"]
    assert names(str(tmp_path / "c.csv"), str(tmp_path / "[ab].csv")) == ["c.csv", "a.csv", "b.csv"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names("~/a.csv", "~/[bc].csv") == ["a.csv", "b.csv", "c.csv"]
    (tmp_path / "[ab].csv").write_text("n\n1\n")
    assert names(str(tmp_path / "[ab].csv")) == ["[ab].csv"]
    for paths, message in [
        (("~/x*.csv",), "no file matches ~/x*.csv; check the pattern and its folder"),
        (("~/a.csv", "~/x.csv"), f"no such file: {tmp_path}/x.csv"),
        (
            ("~/a.csv", "~/?.csv"),
            f"{tmp_path}/a.csv is given twice in one source; its rows would count twice, name it once",
        ),
    ]:
        with pytest.raises(SourceError) as raised:
            names(*paths)
        assert str(raised.value) == message


def test_layers(tmp_path: Path) -> None:
    points = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 1)], crs=4326)
    path = str(tmp_path / "a.gpkg")
    for layer in ("one", "two"):
        points.rename(columns={"a": layer}).to_file(path, layer=layer)
    assert tables_at(AreaSource(path, layer="two"))[0].columns == ("two",)
    for layer, message in [
        (None, f"{path} has layers one, two; name one with `layer` in the region file"),
        ("tow", f"{path} has no layer 'tow'; name one of one, two"),
    ]:
        with pytest.raises(SourceError) as raised:
            tables_at(AreaSource(path, layer=layer))
        assert str(raised.value) == message


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 20_000)
    path = written(tmp_path, "a,b\n" + f"{'x' * 100},1\n" * 1_200_000)
    before = top = pa.total_allocated_bytes()
    read = 0
    for frame, _ in table_at(path).read(["a"]):
        read += len(frame)
        top = max(top, pa.total_allocated_bytes())
    assert read == 1_200_000
    assert top - before < 0.6 * Path(path).stat().st_size


# typed files

POINTS = 300
IDS = [None, *(2**60 + i for i in range(POINTS - 1))]


def points_file(folder: Path, kind: str) -> Path:
    """Points with large ids, one of which is null."""
    path = folder / f"points.{kind}"
    ids = pd.array(IDS, dtype="Int64")
    shapes = geopandas.points_from_xy(np.arange(POINTS) / 10, np.arange(POINTS) / 9)
    points = geopandas.GeoDataFrame({"number": ids, "text": "a word"}, geometry=shapes, crs=4326)
    if kind == "parquet":
        points.to_parquet(path)
    elif kind == "csv":
        points.drop(columns="geometry").to_csv(path, index=False)
    else:
        points.to_file(path)
    return path


def parquet(folder: Path, columns: dict[str, Any], geo: bytes | None = None) -> str:
    path = str(folder / "a.parquet")
    table = pa.table(columns)
    pq.write_table(table if geo is None else table.replace_schema_metadata({b"geo": geo}), path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "gpkg", "fgb", "geojson", "csv"])
def test_ids_beside_a_null_stay_exact(tmp_path: Path, kind: str) -> None:
    texts = as_text(frame_of(table_at(str(points_file(tmp_path, kind))))["number"])
    # FlatGeobuf has its own order
    assert sorted(map(str, texts)) == sorted(map(str, IDS))


def test_integers_of_any_width_and_in_dictionaries(tmp_path: Path) -> None:
    kinds = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
    columns = {str(kind): pa.array([1, None, 100], kind) for kind in kinds}
    columns["dictionary"] = pa.array([2**60 + 1, None, 2**60 + 2]).dictionary_encode()
    frame = frame_of(table_at(parquet(tmp_path, columns)))
    for name in columns:
        expected = [2**60 + 1, None, 2**60 + 2] if name == "dictionary" else [1, None, 100]
        assert as_text(frame[name]).tolist() == [None if v is None else str(v) for v in expected]


def test_text_of_numbers_does_not_depend_on_the_others() -> None:
    numbers = [1.0, 2.5, np.nan, np.inf, 1e300, -3.0, 2.0**53]
    whole = as_text(pd.Series(numbers)).tolist()
    assert whole == ["1", "2.5", None, "inf", "1e+300", "-3", "9007199254740992"]
    assert [as_text(pd.Series([n]))[0] for n in numbers] == whole
    assert as_text(pd.Series([True, None, False], dtype="boolean")).tolist() == ["True", None, "False"]
    assert as_text(pd.Series([], dtype=float)).tolist() == []


def test_an_index_that_pandas_noted_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": [3, 9, 4], "a": [1, 2, 3]}).set_index("id").to_parquet(path)
    frame = frame_of(table_at(str(path)))
    assert sorted(frame.columns) == ["a", "id"]
    assert frame["id"].tolist() == [3, 9, 4]
    assert [len(f) for f, _ in table_at(str(path)).read([])] == [3]


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (pa.array([["K"], None]), "lists or records"),
        (pa.array([{"a": 1}, None]), "lists or records"),
        (pa.array([b"\xff", None]), "bytes"),
        (pa.array([b"\xff", None]).dictionary_encode(), "bytes"),
        (pa.array([b"ab", None], pa.binary(2)), "bytes"),
    ],
)
def test_columns_that_are_neither_text_nor_numbers(tmp_path: Path, values: pa.Array, held: str) -> None:
    path = parquet(tmp_path, {"a": [1, 2], "kind": values})
    assert refusal(path) == f": the column 'kind' holds {held}, neither text nor numbers; write it as text"
    assert [frame["a"].tolist() for frame, _ in table_at(path).read(["a"])] == [[1, 2]]


@pytest.mark.parametrize(
    ("geo", "said"),
    [
        (b"{}", "KeyError 'primary_column'"),
        (b"{", "JSONDecodeError "),
        (b"\xff", "UnicodeDecodeError "),
        (b"[]", "TypeError "),
        (b"[" * 99_999, "RecursionError "),
        (b'{"primary_column": "wkb", "columns": {}}', "KeyError 'wkb'"),
        (b'{"primary_column": "x", "columns": {"x": {"encoding": "WKB"}}}', "KeyError "),
        (
            b'{"primary_column": "wkb", "columns": {"wkb": {"encoding": "WKB", "crs": {"a": 1}}}}',
            "CRSError ",
        ),
    ],
)
def test_metadata_that_are_not_geoparquet(tmp_path: Path, geo: bytes, said: str) -> None:
    message = refusal(parquet(tmp_path, {"a": [1], "wkb": [shapely.Point(0, 1).wkb]}, geo))
    assert message.startswith(f": its metadata `geo` is not as GeoParquet asks ({said}")
    assert message.endswith("); write it again as GeoParquet")


@pytest.mark.parametrize(("column", "encoding"), [("a", "WKB"), ("wkb", "point")])
def test_geometry_that_is_not_wkb(tmp_path: Path, column: str, encoding: str) -> None:
    geo = {"primary_column": column, "columns": {column: {"encoding": encoding}}}
    path = parquet(tmp_path, {"a": [1.0], "wkb": [shapely.Point(0, 1).wkb]}, json.dumps(geo).encode())
    assert refusal(path) == ": its geometry is not WKB; write it again as GeoParquet with WKB geometry"


@pytest.mark.parametrize(
    "crs", ['LOCAL_CS["drawing",UNIT["m",1]]', "EPSG:5703", "EPSG:4978", "IAU_2015:30100"]
)
@pytest.mark.parametrize("kind", ["parquet", "gpkg"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_crs_that_is_not_of_the_earth_is_none(tmp_path: Path, kind: str, crs: str) -> None:
    points = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(0, 1)], crs=crs)
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        points.to_parquet(path)
    else:
        points.to_file(path)
    assert table_at(str(path)).crs is None


# damage


def test_a_damaged_page_loses_no_rows_in_silence(tmp_path: Path) -> None:
    path = points_file(tmp_path, "gpkg")
    content, size = path.read_bytes(), 4096
    messages = set()
    for page in {match.start() // size * size for match in re.finditer(b"a word", content)}:
        path.write_bytes(content[:page] + b"\xff" * size + content[page + size :])
        messages.add(refusal(str(path)))
    assert all(
        m.startswith(" is damaged: ") and m.endswith("; download or export it again") for m in messages
    )
    # GDAL itself has nothing to say about this one
    assert " is damaged: it says it holds 300 rows, and only 78 can be read; download or export it again" in (
        messages
    )


def test_a_cut_table_beside_a_shapefile(tmp_path: Path) -> None:
    path = points_file(tmp_path, "shp")
    table = path.with_suffix(".dbf")
    whole = bytearray(table.read_bytes())
    table.write_bytes(whole[: len(whole) // 2])
    assert refusal(str(path)).startswith(" is damaged: it says it holds 300 rows, and only 149 can be read;")
    # a row that was deleted is no loss
    start, width = (int(n) for n in np.frombuffer(whole, "<u2", 2, offset=8))
    whole[start + 5 * width] = ord("*")
    table.write_bytes(whole)
    assert len(frame_of(table_at(str(path)))) == POINTS - 1
    table.rename(tmp_path / "points.DBF")
    (tmp_path / "others.dbf").write_bytes(b"")
    assert len(frame_of(table_at(str(path)))) == POINTS - 1
    # but no cover for one
    (tmp_path / "points.DBF").write_bytes(whole[: len(whole) // 2])
    assert "only 148 can be read" in refusal(str(path))


def test_a_crs_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    path = points_file(tmp_path, "shp")
    crs = path.with_suffix(".prj")
    crs.write_bytes(crs.read_bytes().replace(b"Greenwich", b"Gr\xe9nwich"))
    assert refusal(str(path)) == ": the name of its CRS is not UTF-8; write it again, its .prj too"
    crs.write_text("GEOGCS")
    assert refusal(str(path)) == " is not a table that can be opened: missing [; export it again"


def test_cut_xml(tmp_path: Path) -> None:
    path = points_file(tmp_path, "gml")
    assert len(frame_of(table_at(str(path)))) == POINTS
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert " is damaged: " in refusal(str(path))
    for encoding in ("windows-1252", "iso-8859-15", "koi8-r", "utc-8"):
        path.write_bytes(whole.replace(b"utf-8", encoding.encode()))
        path.with_suffix(".gfs").unlink(missing_ok=True)
        if encoding in ("koi8-r", "utc-8"):
            said = f" is XML in {encoding!r}, which GDAL does not read; write it as UTF-8"
            assert refusal(str(path)) == said
        else:
            assert len(frame_of(table_at(str(path)))) == POINTS


@pytest.mark.parametrize("kind", ["gpkg", "fgb", "geojson", "parquet", "shp", "gml", "csv"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_damage_of_any_kind_is_one_line(tmp_path: Path, kind: str) -> None:
    path = points_file(tmp_path, kind)
    parts = [path, *(path.with_suffix(e) for e in (".shx", ".dbf", ".prj", ".cpg") if kind == "shp")]
    draw = np.random.default_rng(0)
    refused = 0
    for i in range(100):
        part = parts[i % len(parts)]
        whole = part.read_bytes()
        content = bytearray(whole[: draw.integers(len(whole))] if i % 3 == 0 else whole)
        start = int(draw.integers(len(whole) if i % 2 else 600))
        damage = draw.integers(0, 256, int(draw.integers(1, 200))) if i % 3 else []
        content[start : start + len(damage)] = bytes(damage)
        part.write_bytes(content)
        try:
            frame_of(table_at(str(path)))
        except SourceError as error:
            refused += "\n" not in str(error)
        part.write_bytes(whole)
    assert refused > (5 if kind == "shp" else 25)
    assert len(frame_of(table_at(str(path)))) == POINTS


# paths and names


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a\0b", r"'a\x00b' cannot be the path of a file: embedded null byte; mend it"),
        ("a\0*", r"'a\x00*' cannot be the path of a file: embedded null byte; mend it"),
        ("a" * 5000, f"'{'a' * 80}...' cannot be the path of a file: File name too long; mend it"),
        ("~nobody-of-that-name/a.csv", "'~nobody-of-that-name/a.csv' cannot be the path of a file: "),
    ],
)
def test_what_cannot_be_a_path(path: str, message: str) -> None:
    for read in (lambda: tables_at(TableSource(path)), lambda: table_at(path)):
        with pytest.raises(SourceError) as raised:
            read()
        assert str(raised.value).startswith(message)


def test_pipes_and_folders(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    assert refusal(str(tmp_path / "a.csv")) == (
        " is no file but a pipe or a device; write what it gives to a file"
    )
    for name in ("b.csv", "b.parquet", "b.gpkg"):
        (tmp_path / name).mkdir()
        assert refusal(str(tmp_path / name)).endswith("export it again")


def test_names_tell_the_files_of_a_source_apart(tmp_path: Path) -> None:
    for name in ("x/2023/c.csv", "y/2023/c.csv", "y/2024/c.csv", "y/2024/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path, "n\n1\n", name)
    names = [table.name for table in tables_at(TableSource(str(tmp_path / "**/*.csv")))]
    assert names == ["x/2023/c.csv", "y/2023/c.csv", "2024/c.csv", "d.csv"]
    assert table_at(str(tmp_path / "y/2024/d.csv")).name == "d.csv"


def test_the_identity_of_a_shapefile_is_that_of_all_its_parts(tmp_path: Path) -> None:
    path = points_file(tmp_path, "shp")
    (tmp_path / "others.dbf").write_bytes(b"")
    for part in (".shp", ".dbf", ".shx", ".prj", ".cpg"):
        first = identity_of(path, hashed=True)
        written(tmp_path, (tmp_path / f"points{part}").read_bytes() + b" ", f"points{part}")
        assert identity_of(path, hashed=True) != first
    first = identity_of(path, hashed=True)
    (tmp_path / "points.prj").unlink()
    (tmp_path / "others.dbf").write_bytes(b" ")
    second = identity_of(path, hashed=True)
    assert [Path(f["path"]).name for f in second["beside"]] == ["points.cpg", "points.dbf", "points.shx"]
    assert second == {**first, "beside": [f for f in first["beside"] if not f["path"].endswith(".prj")]}
    plain = identity_of(tmp_path / "others.dbf", hashed=True)
    assert set(plain) == {"path", "bytes", "mtime_ns", "sha256"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_identity_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    path = tmp_path / "a.gdb"
    points = geopandas.GeoDataFrame({"a": [1, 2]}, geometry=[shapely.Point(0, 1)] * 2, crs=4326)
    points.to_file(path, driver="OpenFileGDB", layer="a")
    assert len(frame_of(table_at(str(path)))) == 2
    first = identity_of(path, hashed=True)
    assert first["path"] == str(path)
    assert len(first["files"]) == len(list(path.iterdir()))
    assert identity_of(path, hashed=True) == first
    points.to_file(path, driver="OpenFileGDB", layer="b")
    assert identity_of(path, hashed=True) != first
    shutil.rmtree(path)
    path.mkdir()
    assert identity_of(path, hashed=True)["files"] == []


# real data


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("crashes/massdot_2024_mapc.csv", 56028),
        ("crashes/massdot_2022_2025_northeast.csv", 52689),
        ("crashes/massdot_2025_malden_all_columns.csv", 829),
        ("crashes/cambridge_police_2010_2016.csv", 10335),
        ("traffic/cambridge_average_daily_traffic.csv", 313),
    ],
)
def test_real_text_is_as_pandas_reads_it(shared_data: Path, path: str, rows: int) -> None:
    file = shared_data / "boston" / path
    expected = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=list(text_tables.NULL_WORDS))
    expected = expected.apply(lambda column: column.str.strip())
    table = table_at(str(file))
    assert table.columns == tuple(expected.columns)
    read = frame_of(table)
    assert len(read) == rows
    pd.testing.assert_frame_equal(read.fillna(""), expected.fillna(""))


def test_real_files_without_header(shared_data: Path) -> None:
    pattern = str(shared_data / "boston/citations/cambridge_parking_*.csv")
    source = PointTable(pattern, columns=("kind", "what", "meter", "lat", "lon"))
    rows = {
        t.path.stem.split("_", 4)[-1]: sum(len(f) for f, _ in t.read(["meter"])) for t in tables_at(source)
    }
    assert rows == {
        "bike_lane": 1423,
        "bus_stop": 2201,
        "double_park": 2870,
        "fire_lane": 3644,
        "handicap": 578,
        "overtime": 72325,
    }
    with pytest.raises(SourceError, match="has no header line: it begins 'bike_lane'"):
        tables_at(PointTable(pattern))


@pytest.mark.filterwarnings("ignore:Non closed ring", "ignore:organizePolygons")
def test_an_extract_of_openstreetmap(shared_data: Path) -> None:
    path = str(shared_data / "osm/Helsinki.osm.pbf")
    before = pyogrio.get_gdal_config_option("OSM_CONFIG_FILE")
    rows = {}
    for layer in ("points", "lines", "multipolygons"):
        (table,) = tables_at(TableSource(path), osm_layer=layer)
        chunks = table.read([])
        rows[layer] = len(next(chunks)[0])
        # not even while the file is open
        assert pyogrio.get_gdal_config_option("OSM_CONFIG_FILE") == before
        rows[layer] += sum(len(frame) for frame, _ in chunks)
    assert all(rows.values())
    assert "maxspeed" in tables_at(TableSource(path, layer="lines"), osm_layer="points")[0].columns
    plain = pyogrio.read_info(path, layer="lines")["fields"]
    assert "maxspeed" not in plain
    with pytest.raises(SourceError, match=r"has layers points, lines, .*; name one with `layer`"):
        tables_at(TableSource(path))


def test_chunks_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 3)
    table = table_at(written(tmp_path, "n\n" + "".join(f"{i}\n" for i in range(8))))
    chunks = [frame["n"].tolist() for frame, _ in table.read(["n"])]
    assert chunks == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]
    assert [len(frame) for frame, _ in table.read([])] == [3, 3, 2]
