"""GeoParquet as its validator reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from map_examples import layers, written

from roadrisk.maps.layer import Layer

validator = pytest.importorskip(
    "geoparquet_validator",
    reason="geoparquet-validator is not installed; make test-readers installs it",
)
LAYERS = layers()


@pytest.mark.parametrize("kind", LAYERS)
def test_no_test_of_the_standard_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    parts = Layer.parts
    monkeypatch.setattr(Layer, "parts", lambda layer: parts(layer, 30))  # several groups of rows
    report = validator.check(str(written(LAYERS[kind], tmp_path, "parquet")))
    assert validator.failed(report) == []
    passed = {outcome["id"] for outcome in report["outcomes"] if outcome["status"] == "pass"}
    assert report["version"] == "1.1.0"
    assert {"/conf/core/wkb", "/conf/core/geometry-types", "/conf/core/crs-projjson"} <= passed
    assert {"/conf/covering/bbox-paths", "/conf/covering/bbox-column-type"} <= passed
    if kind != "nothing":
        assert {"/conf/core/bbox-extent", "/conf/distribution/geospatial-statistics"} <= passed


def test_a_broken_file_fails(tmp_path: Path) -> None:
    path = written(LAYERS["tiles"], tmp_path, "parquet")
    broken = path.read_bytes().replace(b'"1.1.0"', b'"1.1.x"')
    assert validator.failed(validator.check_bytes("broken.parquet", broken))
