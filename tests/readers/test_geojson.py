"""GeoJSON as its validator and GDAL read it, whole and by lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from scored_examples import GRID, scored_at, scored_grid

from roadrisk.grid import LngLatBbox
from roadrisk.gridding import grid_of_cell
from roadrisk.maps.formats.geojson import write_geojson, write_geojsonl
from roadrisk.maps.layer import Layer
from roadrisk.maps.places import GivenShapes, given_points

ABSENT = "geojson-validator is not installed; make test-readers installs it"
RING = [(-71.15, 42.34), (-71.15, 42.37), (-71.1, 42.37), (-71.1, 42.34)]  # clockwise
INNER = [(-71.14, 42.35), (-71.12, 42.35), (-71.12, 42.36), (-71.14, 42.36)]
LINES = [[(-71.15, 42.34), (-71.1, 42.35)], [(-71.15, 42.36), (-71.1, 42.37), (-71.09, 42.37)]]


def given(*shapes: object) -> Layer:
    names = np.array([f"n{i}" for i in range(len(shapes))], dtype=object)
    return scored_at(GivenShapes(np.array(shapes, dtype=object), "EPSG:4326"), names)


LAYERS = {
    "tiles": scored_grid(),
    "bent tiles": scored_grid(grid_of_cell(LngLatBbox(-74.0, 41.0, -71.0, 43.0), 50_000)),
    "points": scored_at(given_points([-71.15, -71.1], [42.34, 42.37]), np.array(["a", "b"], dtype=object)),
    "polygons": given(shapely.Polygon(RING), shapely.Polygon(RING, [INNER])),
    "several polygons": given(
        shapely.MultiPolygon([shapely.Polygon(INNER), shapely.box(-71.1, 42.3, -71.0, 42.33)])
    ),
    "roads": given(shapely.LineString(LINES[0]), shapely.MultiLineString(LINES)),
    "several points": given(shapely.MultiPoint(LINES[1])),
    "beyond the antimeridian": given(
        shapely.box(179.5, -17, 180.5, -16), shapely.LineString([(179.5, -17), (-179.5, -16)])
    ),
}
OPEN = ("unclosed", "less_three_unique_nodes", "exterior_not_ccw", "interior_not_cw")
ODD = (
    "inner_and_exterior_ring_intersect",
    "self_intersection",
    "duplicate_nodes",
    "3d_coordinates",
    "outside_lat_lon_boundaries",
    "crosses_antimeridian",
)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_validator_finds_nothing(tmp_path: Path, kind: str) -> None:
    validator = pytest.importorskip("geojson_validator", reason=ABSENT)
    path = tmp_path / "a.geojson"
    write_geojson(LAYERS[kind], path)
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert validator.validate_structure(collection, check_crs=True) == {}
    found = validator.validate_geometries(collection, criteria_invalid=OPEN, criteria_problematic=ODD)
    assert found["invalid"] == {}
    # it takes 180 for -180, so that a shape cut there, as in RFC 7946, 3.1.9, crosses for it
    touching = {"crosses_antimeridian"} if kind == "beyond the antimeridian" else set()
    assert set(found["problematic"]) == touching


def test_the_validator_sees_what_is_wrong() -> None:
    validator = pytest.importorskip("geojson_validator", reason=ABSENT)
    clockwise = {"type": "Polygon", "coordinates": [[*RING, RING[0]]]}
    feature = {"type": "Feature", "properties": {}, "geometry": clockwise}
    found = validator.validate_geometries({"type": "FeatureCollection", "features": [feature]})
    assert found["invalid"] == {"exterior_not_ccw": [0]}


@pytest.mark.parametrize("suffix", ["geojson", "geojsonl"])
@pytest.mark.parametrize("kind", LAYERS)
def test_gdal_reads_every_feature_where_it_is(tmp_path: Path, kind: str, suffix: str) -> None:
    layer, path = LAYERS[kind], tmp_path / f"a.{suffix}"
    (write_geojson if suffix == "geojson" else write_geojsonl)(layer, path)
    found = pyogrio.read_dataframe(path)
    assert found.crs.to_epsg() == 4326
    assert found["tile_id"].tolist() == layer.table["tile_id"].tolist()
    expected = layer.placed().shapes("EPSG:4326")
    if kind != "beyond the antimeridian":
        away = shapely.hausdorff_distance(found.geometry.to_numpy(), expected)
        assert away.max() < 1.5e-7
        areas = shapely.area(found.geometry.to_numpy())
        np.testing.assert_allclose(areas, shapely.area(expected), rtol=1e-3)
    assert found["risk"].dtype == float
    np.testing.assert_array_equal(found["risk"], layer.table["risk"])


@pytest.mark.parametrize("suffix", ["geojson", "geojsonl"])
def test_whole_numbers_of_a_field_of_fractions_do_not_make_it_one_of_integers(
    tmp_path: Path, suffix: str
) -> None:
    layer = scored_grid()
    layer.table["road_m"] = np.arange(len(layer)) * 10.0
    path = tmp_path / f"a.{suffix}"
    (write_geojson if suffix == "geojson" else write_geojsonl)(layer, path)
    info = pyogrio.read_info(path, force_feature_count=True)
    assert dict(zip(info["fields"], info["dtypes"], strict=True))["road_m"] == "float64"
    assert info["features"] == GRID.size
