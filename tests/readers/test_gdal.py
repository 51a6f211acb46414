"""GeoPackage and FlatGeobuf as the GDAL of the system reads them, which is older than the one that writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import shapely
from map_examples import cases, layers, written

LAYERS = layers()
TYPES = {
    "tiles": "Polygon",
    "points": "Point",
    "some points": "Point",
    "roads": "Multi Line String",
    "nothing": "Polygon",
}
OGR_TYPES = {
    "tile_id": "String",
    "risk": "Real",
    "rank": "Integer64",
    "percentile": "Real",
    "band": "String",
    "has_image": "Integer(Boolean)",
    "has_facts": "Integer(Boolean)",
    "label": "Integer(Boolean)",
    "in_training": "Integer(Boolean)",
    "road_m": "Real",
    "town": "String",
}


@pytest.fixture(scope="module")
def ogrinfo() -> str:
    found = shutil.which("ogrinfo")
    if found is None:
        pytest.skip("ogrinfo is not installed; Debian has it in gdal-bin")
    return found


def said(ogrinfo: str, path: Path, *options: str) -> list[str]:
    done = subprocess.run([ogrinfo, *options, str(path), "risk"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(("form", "kind"), cases("gpkg", "fgb"))
def test_an_older_gdal_reads_them_without_a_warning(
    ogrinfo: str, tmp_path: Path, kind: str, form: str
) -> None:
    layer = LAYERS[kind]
    path = written(layer, tmp_path, form)
    lines = said(ogrinfo, path, "-so")
    assert f"Geometry: {TYPES[kind]}" in lines
    assert f"Feature Count: {len(layer)}" in lines
    fields = {line.split(":")[0]: line.split(": ")[1].split(" ")[0] for line in lines if "(0.0)" in line}
    assert fields == OGR_TYPES
    crs = layer.placed().crs.split(":")[1]
    assert any(line.strip() == f'ID["EPSG",{crs}]]' for line in lines)
    if len(layer):
        left, bottom, right, top = shapely.total_bounds(layer.placed().shapes(layer.placed().crs))
        assert f"Extent: ({left:.6f}, {bottom:.6f}) - ({right:.6f}, {top:.6f})" in lines
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # reading leaves nothing either


def test_it_knows_the_short_names_of_fields(ogrinfo: str, tmp_path: Path) -> None:
    lines = said(ogrinfo, written(LAYERS["tiles"], tmp_path, "fgb"), "-so")
    assert 'road_m: Real (0.0), alternative name="Road (m)"' in lines


@pytest.mark.parametrize(("form", "kind"), [("gpkg", "some points"), ("fgb", "points")])
def test_it_tells_what_is_unknown_from_zero(ogrinfo: str, tmp_path: Path, form: str, kind: str) -> None:
    table = LAYERS[kind].table.set_index("tile_id")
    seen = _features(said(ogrinfo, written(LAYERS[kind], tmp_path, form), "-al"))
    assert len(seen) == len(table)
    places = 0
    for feature in seen:
        risk = table["risk"][feature["tile_id (String)"]]
        # a value that FlatGeobuf does not hold is not shown at all
        held = feature.get("risk (Real)", "(null)")
        assert np.isnan(risk) if held == "(null)" else float(held) == pytest.approx(risk, rel=1e-14)
        places += "POINT" in feature
    assert places == len(table) - (kind == "some points")


def _features(lines: list[str]) -> list[dict[str, str]]:
    """What is shown of each feature, by the field's name and type."""
    starts = [i for i, line in enumerate(lines) if line.startswith("OGRFeature")]
    ends = [*starts[1:], len(lines)]
    shown = [[line.strip() for line in lines[a + 1 : b]] for a, b in zip(starts, ends, strict=True)]
    # a place is shown without a name
    parts = [[line.partition(" = " if " = " in line else " (") for line in some] for some in shown]
    return [{name: value for name, _, value in some} for some in parts]
