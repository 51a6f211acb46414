"""Layers as DuckDB's spatial extension reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shapely
from map_examples import FORMS, cases, layers, written

ABSENT = "DuckDB spatial is not installed; make test-readers installs it"
LAYERS = layers()


@pytest.fixture(scope="module")
def database() -> Iterator[Any]:
    """With the extension from its package: nothing is downloaded."""
    duckdb = pytest.importorskip("duckdb", reason=ABSENT)
    package = pytest.importorskip("duckdb_extension_spatial", reason=ABSENT)
    folder = Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        try:
            connection.load_extension(str(folder / "spatial.duckdb_extension"))
        except duckdb.Error as error:
            pytest.skip(f"{ABSENT}: {str(error).splitlines()[0]}")
        yield connection


def table_of(path: Path) -> str:
    """The features as DuckDB is asked for them, `place` being where they lie."""
    if path.suffix == ".parquet":
        return f"(SELECT * RENAME (geometry AS place) FROM read_parquet('{path}'))"
    return f"(SELECT * RENAME (geom AS place) FROM ST_Read('{path}', layer='risk'))"


@pytest.mark.parametrize(("form", "kind"), cases(*FORMS))
def test_counts_places_and_what_is_unknown(database: Any, tmp_path: Path, form: str, kind: str) -> None:
    layer = LAYERS[kind]
    table, shapes = layer.table, layer.placed().shapes(layer.placed().crs)
    found = database.sql(
        "SELECT count(*), count(risk), count(place), count(label), sum(road_m), sum(CAST(has_image AS INT)), "
        f"sum(ST_Area(place)), sum(ST_Length(place)) FROM {table_of(written(layer, tmp_path, form))}"
    ).fetchone()
    counts = len(layer), *(int(n) for n in (table["risk"].notna().sum(), (~shapely.is_missing(shapes)).sum()))
    assert found[:4] == (*counts, int(table["label"].notna().sum()))
    if len(layer) == 0:
        assert found[4:] == (None,) * 4
        return
    assert found[4] == pytest.approx(table["road_m"].sum())
    assert found[5] == table["has_image"].sum()
    lines = shapely.get_dimensions(shapes) == 1
    assert found[6] == pytest.approx(shapely.area(shapes[~shapely.is_missing(shapes)]).sum())
    assert found[7] == pytest.approx(shapely.length(shapes[lines]).sum())


@pytest.mark.parametrize("form", FORMS)
def test_values_by_name_and_crs(database: Any, tmp_path: Path, form: str) -> None:
    layer = LAYERS["tiles"]
    source = table_of(written(layer, tmp_path, form))
    names = "tile_id, risk, rank, percentile, band, has_image, label, road_m, town"
    order = " ORDER BY tile_id"
    found = database.sql(f"SELECT {names} FROM {source}{order}").fetchall()
    there = layer.table[names.split(", ")].sort_values("tile_id").astype(object)
    assert found == [tuple(row) for row in there.where(there.notna(), None).to_numpy().tolist()]
    types = {row[0]: row[1] for row in database.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    assert types["place"] == "GEOMETRY('EPSG:32619')"
    assert (types["risk"], types["rank"], types["label"]) == ("DOUBLE", "BIGINT", "BOOLEAN")
