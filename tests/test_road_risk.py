"""Roads coloured by risk: metres are conserved, means are by metres, bands by length, and no road is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from line_examples import GRIDS, ground_m, lines, placed
from scored_examples import ABOUT, GRID, HOSTILE, RISK, TILE_ID, scored_at

from roadrisk.by_road import by_road, field_names, kept_roads, roads_at
from roadrisk.columns import Column
from roadrisk.dataset import Dataset, read_dataset
from roadrisk.errors import DatasetError, LayerError, SourceError
from roadrisk.geometry.lines import spread_lines, vertices
from roadrisk.grid import Grid
from roadrisk.maps.bands import BANDS, RISK_LEGEND, ranked
from roadrisk.maps.layer import Layer
from roadrisk.maps.layers import write_layers
from roadrisk.maps.places import GridTiles, given_points
from roadrisk.maps.road_risk import RoadLines, ranked_by_length, road_layer, road_lengths

LOW = Column("risk_low", "float64", "", "info", "none", "Low end of the middle 90 %.")
HIGH = Column("risk_high", "float64", "", "info", "none", "High end of the middle 90 %.")


def _tiles(grid: Grid, risk: np.ndarray, index: np.ndarray | None = None) -> Layer:
    """Tiles of a grid, all or those at an index, with risk and ends."""
    index = np.arange(grid.size) if index is None else index
    rows, cols = index // grid.cols, index % grid.cols
    values = risk[index]
    table = pd.DataFrame(
        {
            "tile_id": grid.tile_ids(rows, cols),
            "risk": values,
            "risk_low": values / 2,
            "risk_high": (values + 1) / 2,
        }
    )
    return Layer(table, (TILE_ID, RISK, LOW, HIGH), GridTiles(grid, rows, cols), ABOUT)


def _roads(grid: Grid, geometry: list[shapely.Geometry]) -> RoadLines:
    shapes = np.array(geometry, dtype=object)
    ids = np.array([f"way {i}" for i in range(len(shapes))], dtype=object)
    return RoadLines(ids, shapes, road_lengths(shapes, grid.crs))


def _line(grid: Grid, *cells: tuple[float, float]) -> shapely.LineString:
    """Through points in cells from the grid's north-west corner, x before y."""
    left, _, _, top = grid.bounds
    return shapely.LineString([(left + u * grid.cell, top - v * grid.cell) for u, v in cells])


def test_risk_is_the_mean_by_metres_of_the_scored_tiles() -> None:
    risk = np.full(GRID.size, np.nan)
    risk[[0, 1]] = 0.2, 0.6
    roads = _roads(
        GRID,
        [
            _line(GRID, (0.5, 0.5), (2.5, 0.5)),
            _line(GRID, (3.1, 0.5), (3.9, 0.5)),
            _line(GRID, (0.1, 0.1), (0.9, 0.1)),
        ],
    )
    made = road_layer(roads, _tiles(GRID, risk)).table
    # half a tile at 0.2, a whole one at 0.6, half a tile of no risk
    assert made["risk"].tolist()[0] == pytest.approx((0.5 * 0.2 + 1.0 * 0.6) / 1.5, rel=1e-6)
    assert made["risk_low"].tolist()[0] == pytest.approx((0.5 * 0.1 + 1.0 * 0.3) / 1.5, rel=1e-6)
    assert made["risk_high"].tolist()[0] == pytest.approx((0.5 * 0.6 + 1.0 * 0.8) / 1.5, rel=1e-6)
    assert made["scored_share"].tolist() == pytest.approx([0.75, 0.0, 1.0], rel=1e-6)
    assert made["tiles"].tolist() == [3, 1, 1]
    assert np.isnan(made["risk"][1])
    assert made["risk"][2] == 0.2
    assert made["rank"].tolist() == [1, pd.NA, 2]
    assert made["band"].isna().tolist() == [False, True, False]
    assert made["length_m"][0] == pytest.approx(ground_m(GRID, roads.geometry[0]), rel=1e-9)


def test_a_layer_of_roads_says_what_it_is() -> None:
    made = road_layer(_roads(GRID, [_line(GRID, (0, 0.5), (2, 0.5))]), _tiles(GRID, np.full(GRID.size, 0.5)))
    assert made.name == "roads"
    assert made.legend == RISK_LEGEND
    assert made.placed().crs == GRID.crs
    assert [column.name for column in made.columns] == list(made.table)
    told = {column.name: column.meaning for column in made.columns}
    assert told["risk"] == (
        "Mean over the scored tiles that the road crosses, by its metres in them. "
        "Of a tile: Probability of high risk."
    )
    assert "not an end of an interval of the road's own risk" in told["risk_low"]
    assert "by length, not by number" in told["band"]
    assert made.about.risk_meaning == (
        "Mean over the tiles that a road crosses, by its metres in them: "
        "Chance of being among the fifth with most crashes."
    )


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.scheme)
@settings(max_examples=40)
@given(some=lines, seed=st.integers(0, 9))
def test_metres_and_risk_by_metres_are_those_of_the_tiles(grid: Grid, some: list, seed: int) -> None:
    chance = np.random.default_rng(seed)
    risk = np.where(chance.random(grid.size) < 0.3, np.nan, chance.random(grid.size))
    shown = np.flatnonzero(chance.random(grid.size) < 0.8)
    shapes = placed(grid, some)
    roads = _roads(grid, shapes)
    made = road_layer(roads, _tiles(grid, risk, shown)).table
    road_m = spread_lines(grid, *vertices(np.array(shapes, dtype=object))).sums(roads.length_m)
    known = np.zeros(grid.size, bool)
    known[shown] = np.isfinite(risk[shown])
    scored_m = made["scored_share"] * made["length_m"]
    np.testing.assert_allclose(scored_m.sum(), road_m[known].sum(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        (made["risk"].fillna(0) * scored_m).sum(), (road_m * risk)[known].sum(), rtol=1e-9, atol=1e-9
    )
    # a road stays just where it has some of its length in a tile that is shown
    shown_m = [
        spread_lines(grid, *vertices(np.array([one], dtype=object))).sums(np.ones(1)) for one in shapes
    ]
    stays = [bool(metres[shown].any()) for metres in shown_m]
    assert made["road_id"].tolist() == roads.ids[np.array(stays, dtype=bool)].tolist()
    assert (made["scored_share"] == 0).tolist() == made["risk"].isna().tolist()


def test_no_order_of_roads_or_tiles_changes_a_risk() -> None:
    chance = np.random.default_rng(3)
    ends = chance.uniform(0, [GRID.cols, GRID.rows], (60, 2, 2))
    shapes = [_line(GRID, *map(tuple, pair)) for pair in ends.tolist()]
    tiles = _tiles(GRID, chance.random(GRID.size).round(1))
    here = road_layer(_roads(GRID, shapes), tiles).table.set_index("road_id")
    order, tile_order = chance.permutation(len(shapes)), chance.permutation(len(tiles))
    mixed = _roads(GRID, shapes)
    mixed = replace(
        mixed, ids=mixed.ids[order], geometry=mixed.geometry[order], length_m=mixed.length_m[order]
    )
    there = road_layer(mixed, tiles.taken(tile_order)).table.set_index("road_id")
    assert there.index.tolist() == mixed.ids.tolist()
    pd.testing.assert_frame_equal(there.loc[here.index], here, check_exact=True)


def test_roads_whose_tiles_say_the_same_tie_to_the_bit() -> None:
    risk = np.full(GRID.size, 0.1 + 0.2)
    chance = np.random.default_rng(0)
    ends = chance.uniform(0, [GRID.cols, GRID.rows], (200, 2, 2))
    made = road_layer(_roads(GRID, [_line(GRID, *map(tuple, p)) for p in ends.tolist()]), _tiles(GRID, risk))
    assert set(made.table["risk"]) == {0.1 + 0.2}
    assert set(made.table["rank"]) == {1}
    assert set(made.table["band"]) == {"top 5 %"}


def test_the_parts_of_a_multi_line_are_one_road() -> None:
    risk = np.arange(GRID.size) / GRID.size
    parts = [_line(GRID, (0.2, 0.5), (0.8, 0.5)), _line(GRID, (5.2, 2.5), (5.8, 2.5))]
    made = road_layer(_roads(GRID, [shapely.MultiLineString(parts)]), _tiles(GRID, risk)).table
    there = 2 * GRID.cols + 5
    assert made["risk"][0] == pytest.approx((risk[0] + risk[there]) / 2, rel=1e-5)
    assert made["tiles"][0] == 2
    assert made["scored_share"][0] == pytest.approx(1.0)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9, np.nan]), st.integers(1, 40)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_bands_are_shares_of_length_with_ties_whole(some: list, random: object) -> None:
    risk, metres = np.array([r for r, _ in some], float), np.array([m for _, m in some], float)
    standing = ranked_by_length(risk, metres)
    total = sum(int(m) for r, m in some if not np.isnan(r))
    for i, (own, _) in enumerate(some):
        if np.isnan(own):
            assert pd.isna(standing.band[i])
            assert np.isnan(standing.percentile[i])
            continue
        before = sum(int(m) for r, m in some if r > own)
        share = Fraction(100 * before, total)
        assert standing.band[i] == next(band.name for band in BANDS if share < band.upto_percent)
        assert standing.percentile[i] == pytest.approx(100 - float(share))
    order = list(range(len(some)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = ranked_by_length(risk[order], metres[order])
    assert again.band.fillna("-").tolist() == [standing.band.fillna("-")[i] for i in order]


def test_roads_of_one_length_are_banded_as_tiles_are() -> None:
    risk = np.random.default_rng(0).permutation(1_000) / 1_000
    by_length, by_number = ranked_by_length(risk, np.full(1_000, 0.1)), ranked(risk)
    assert by_length.band.tolist() == by_number.band.tolist()
    assert by_length.percentile == pytest.approx(by_number.percentile)


def _scored(dataset: Dataset) -> Layer:
    """All tiles of a dataset; every seventh has no risk."""
    frame = dataset.tiles()
    places = GridTiles(dataset.grid, frame["row"].to_numpy(), frame["col"].to_numpy())
    return scored_at(places, frame["tile_id"].to_numpy())


def test_roads_of_a_dataset_add_up_to_its_tiles(dataset: Dataset) -> None:
    scored = _scored(dataset)
    made, told = by_road(scored, dataset.path)
    frame, table = dataset.tiles(), made.table
    lines_kept = geopandas.read_parquet(dataset.path / "lines" / "roads.parquet")
    apart = len(lines_kept) - len(table)
    known = scored.table["risk"].notna()
    scored_m = table["scored_share"] * table["length_m"]
    assert scored_m.sum() == pytest.approx(frame.loc[known, "road_m"].sum(), rel=1e-9)
    assert (table["risk"].fillna(0) * scored_m).sum() == pytest.approx(
        (frame["road_m"] * scored.table["risk"])[known].sum(), rel=1e-9
    )
    assert table["road_id"].is_unique
    assert told == [
        f"{len(table):,} roads of {table['length_m'].sum() / 1000:,.1f} km cross the tiles, "
        f"{table['risk'].isna().sum():,} of them none that is scored, so that their risk is not known; "
        f"{apart} others cross no tile and are left out"
    ]
    assert {"road_class", "lanes", "speed_kmh"} <= set(table) | {"lanes", "speed_kmh"}
    assert made.about.licence == scored.about.licence


def test_tiles_that_are_not_shown_leave_their_roads_out(dataset: Dataset) -> None:
    scored = _scored(dataset)
    some = scored.taken(np.flatnonzero(dataset.tiles()["row"] < 4))
    made, told = by_road(some, dataset.path)
    every = len(kept_roads(dataset))
    assert 0 < len(made) < every
    assert told[0].endswith(f"; {every - len(made):,} others cross no tile and are left out")
    assert not made.table["risk"].isna().all()
    assert made.ranked == made.table["rank"].notna().sum()


def test_roads_are_written_as_lines(dataset: Dataset, tmp_path: Path) -> None:
    made, _ = by_road(_scored(dataset), dataset.path)
    outs = [tmp_path / f"roads{suffix}" for suffix in (".gpkg", ".parquet", ".geojson")]
    write_layers(made, outs)
    for out in outs:
        named = {"layer": "roads"} if out.suffix == ".gpkg" else {}
        found = geopandas.read_parquet(out) if out.suffix == ".parquet" else geopandas.read_file(out, **named)
        assert set(found.geom_type) == {"LineString"}
        assert found["road_id"].tolist() == made.table["road_id"].tolist()
        np.testing.assert_allclose(found["risk"], made.table["risk"], rtol=1e-14)


def test_ids_stay_apart_where_a_row_has_several_parts(dataset: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.path, copy)
    file = copy / "lines" / "roads.parquet"
    table = pq.read_table(file)
    rows = np.zeros(len(table), dtype=np.int64)
    pq.write_table(table.set_column(0, "source_row", pa.array(rows)), file)
    ids = kept_roads(read_dataset(copy)).ids
    assert ids[:3].tolist() == ["0", "0/2", "0/3"]
    assert len(set(ids)) == len(ids)


def _links(folder: Path, name: str = "links.gpkg", **fields: list) -> Path:
    """Five lines through the grid in degrees: one with two parts, one listed again the other way round."""
    shapes = [
        _line(GRID, (0.5, 0.5), (2.5, 0.5)),
        _line(GRID, (2.5, 0.5), (0.5, 0.5)),
        shapely.MultiLineString([_line(GRID, (1.1, 1.1), (1.9, 1.1)), _line(GRID, (3.1, 1.1), (3.9, 1.1))]),
        _line(GRID, (-9, 0.5), (-8, 0.5)),
        _line(GRID, (4.5, -5), (4.5, 2)),
    ]
    path = folder / name
    frame = geopandas.GeoDataFrame(fields, geometry=shapes, crs=GRID.crs).to_crs("EPSG:4326")
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return path


def test_own_links_keep_their_rows_and_fields(tmp_path: Path) -> None:
    fields = {
        "link": ["a", "b", HOSTILE, "d", None],
        "Risk": [1.5, None, 3.0, 4.0, 5.0],
        "aadt": pd.array([10, None, 2**60 + 1, 4, 5], dtype="Int64"),
        "open": pd.to_datetime(["2024-01-02", None, "2024-01-03", "2024-01-04", "2024-01-05"]),
        "paved": [True, False, True, False, True],
    }
    made, told = by_road(_tiles(GRID, np.full(GRID.size, 0.4)), tmp_path, _links(tmp_path, **fields))
    table = made.table
    assert table["road_id"].tolist() == ["0", "1", "2", "4"]
    assert table["link"].tolist()[:3] == ["a", "b", HOSTILE]
    assert table["link"].isna().tolist() == [False, False, False, True]
    assert table["Risk_source"].tolist()[2:] == [3.0, 5.0]
    assert table["aadt"].tolist() == [10, pd.NA, 2**60 + 1, 5]
    assert table["open"].astype(object).tolist()[2:] == ["2024-01-03", "2024-01-05"]
    assert table["paved"].tolist() == [True, False, True, True]
    assert table["risk"].tolist() == [0.4] * 4
    assert shapely.get_type_id(made.placed().shapes(GRID.crs)).tolist() == [1, 1, 5, 1]
    # from degrees, where a straight line bends by a hair
    assert table["scored_share"][3] == pytest.approx(2 / 7, abs=1e-3)
    assert table["length_m"][2] == pytest.approx(1.6 * GRID.cell_m, rel=1e-3)
    assert told == [
        "roads: 5 rows read, 4 used, 1 outside the grid, 0 rejected",
        "links.gpkg: Risk is called Risk_source, as the layer has a field of that name",
        f"4 roads of {table['length_m'].sum() / 1000:,.1f} km cross the tiles, 0 of them none that is scored, "
        "so that their risk is not known; 0 others cross no tile and are left out",
    ]
    assert made.about.licence == "ODbL 1.0; links.gpkg: not stated"
    assert made.about.attribution == "© OpenStreetMap contributors; links.gpkg: not stated"
    assert next(c for c in made.columns if c.name == "aadt").meaning == "aadt of links.gpkg."
    write_layers(made, [tmp_path / "roads.gpkg", tmp_path / "roads.geojson", tmp_path / "roads.parquet"])
    features = json.loads((tmp_path / "roads.geojson").read_text())["features"]
    assert features[2]["properties"]["link"] == HOSTILE


def test_own_ids_are_taken_where_they_name_each_row(tmp_path: Path) -> None:
    lines_, _ = roads_at(_links(tmp_path, road_id=[7, 8, 9, 10, 11]), GRID)
    assert lines_.ids.tolist() == ["7", "8", "9", "11"]
    assert lines_.fields == ()
    again, told = roads_at(_links(tmp_path, "again.gpkg", road_id=[7, 7, 7, 7, 7]), GRID)
    assert again.ids.tolist() == ["0", "1", "2", "4"]
    assert again.fields[0][1].tolist() == [7, 7, 7, 7]
    assert told[1] == "again.gpkg: road_id is called road_id_source, as the layer has a field of that name"


def test_rows_are_counted_through_the_files_of_a_pattern(tmp_path: Path) -> None:
    _links(tmp_path, "links_a.gpkg", link=list("abcde"))
    _links(tmp_path, "links_b.gpkg", link=list("fghij"))
    lines_, told = roads_at(tmp_path / "links_*.gpkg", GRID)
    assert lines_.ids.tolist() == ["0", "1", "2", "4", "5", "6", "7", "9"]
    assert "".join(lines_.fields[0][1]) == "abcefghj"
    assert told[0] == "roads: 10 rows read, 8 used, 2 outside the grid, 0 rejected"


def test_geoparquet_with_lists_and_boxes_is_read_and_lists_are_named(tmp_path: Path) -> None:
    path = _links(tmp_path, "links.parquet", link=list("abcde"), names=[["x"], ["y"], [], ["z"], ["w"]])
    frame = geopandas.read_parquet(path)
    frame.to_parquet(path, write_covering_bbox=True)
    lines_, told = roads_at(path, GRID)
    assert [column.name for column, _ in lines_.fields] == ["link"]
    assert told[1:] == ["links.parquet: names hold lists, records or bytes and are left out"]


def test_what_is_not_a_road_is_counted_by_reason(tmp_path: Path) -> None:
    shapes = [_line(GRID, (0.5, 0.5), (2.5, 0.5)), None, shapely.Point(GRID.bounds[:2])]
    shapes += [_line(GRID, (0.5, 1.5), (2.5, 1.5)), _line(GRID, (0.5, 2.5), (2.5, 2.5))]
    highway = ["primary", "primary", "primary", "footway", "residential"]
    path = tmp_path / "osm.geojson"
    frame = geopandas.GeoDataFrame({"highway": highway}, geometry=shapes, crs=GRID.crs)
    frame.to_crs("EPSG:4326").to_file(path)
    lines_, told = roads_at(path, GRID)
    assert lines_.ids.tolist() == ["0", "4"]
    assert told == [
        "roads: 5 rows read, 2 used, 0 outside the grid, 1 left out (not a road for cars 1), "
        "2 rejected (no geometry 1, not a line 1)"
    ]


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (["fid", "LON"], ["fid_source", "LON_source"]),
        (["rank", "rank_source"], ["rank_source", "rank_source_source"]),
        (["a", "A"], ["a", "A_source"]),
        (["tile_id"], ["tile_id"]),
    ],
)
def test_fields_of_the_same_name_stay_apart(names: list[str], called: list[str]) -> None:
    assert list(field_names(names).values()) == called


def test_what_cannot_be_used_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    tiles = _tiles(GRID, np.full(GRID.size, 0.4))
    points = replace(tiles, places=given_points(np.zeros(len(tiles)), np.zeros(len(tiles))))
    with pytest.raises(LayerError) as error:
        by_road(points, Path("a.csv"))
    assert str(error.value) == "a.csv has no grid of tiles to cut roads by; --by road is for a dataset"
    with pytest.raises(SourceError, match=r"nowhere\.gpkg"):
        by_road(tiles, tmp_path, tmp_path / "nowhere.gpkg")
    with pytest.raises(SourceError, match="none of its lines is in the grid"):
        by_road(_scored(dataset), dataset.path, _links(tmp_path))
    endless = _links(tmp_path, "endless.parquet", width=[1.0, np.inf, 2.0, 3.0, 4.0])
    with pytest.raises(SourceError) as error:
        by_road(tiles, tmp_path, endless)
    assert (
        str(error.value)
        == "endless.parquet: width holds infinite values, which no layer can; leave them empty"
    )
    corner = tiles.taken(np.array([GRID.size - 1]))
    with pytest.raises(LayerError) as error:
        by_road(corner, tmp_path, _links(tmp_path))
    assert str(error.value) == (
        f"no road of {tmp_path / 'links.gpkg'} crosses a tile that is shown; see where it lies"
    )


def test_a_dataset_without_roads_says_how_to_give_them(dataset: Dataset, tmp_path: Path) -> None:
    manifest = {**dataset.manifest, "files": ["tiles.parquet"]}
    with pytest.raises(DatasetError) as error:
        kept_roads(replace(dataset, manifest=manifest))
    assert str(error.value) == (
        f"{dataset.path} keeps no centre-lines; give yours with --roads SRC, or tile it with --roads SRC"
    )
    copy = tmp_path / "copy"
    shutil.copytree(dataset.path, copy)
    (copy / "lines" / "roads.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"roads\.parquet is damaged \(.*\); copy the dataset again"):
        kept_roads(read_dataset(copy))
