"""The forms that GDAL writes from a stream of Arrow batches."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyogrio.raw

from roadrisk.files import TEMPORARY
from roadrisk.geometry.columns import GEOMETRY
from roadrisk.maps.arrow import record_batches
from roadrisk.maps.layer import Layer
from roadrisk.maps.shape_types import Shapes


def words_for_gdal(alias: str | bytes, description: str | bytes) -> dict[str, str | bytes]:
    """What an Arrow field says of itself, under the names by which GDAL knows it."""
    return {"GDAL:OGR:alternative_name": alias, "GDAL:OGR:comment": description}


@contextmanager
def written_by_gdal(
    layer: Layer, path: Path, driver: str, suffix: str, shapes: Shapes, **options: Mapping[str, str]
) -> Iterator[Path]:
    """The file as GDAL made it, for what is still to be done to it; `path` when the block ends well.

    Drivers go by the suffix and write further files beside the one they are given, so they get a folder.

    Parameters
    ----------
    options : `layer_options` and `dataset_options` of the driver.
    """
    about = layer.about
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder:
        made = Path(folder, layer.name).with_suffix(suffix)
        stopped: list[BaseException] = []
        try:
            pyogrio.raw.write_arrow(
                _kept(record_batches(layer, shapes), stopped),
                made,
                layer=layer.name,
                driver=driver,
                geometry_name=GEOMETRY,
                geometry_type=shapes.type,
                crs=layer.placed().crs,
                layer_metadata={
                    "TITLE": about.title,
                    "DESCRIPTION": about.risk_meaning,
                    "LICENCE": about.licence,
                    "ATTRIBUTION": about.attribution,
                    "MODEL": about.model,
                    "ROADRISK": json.dumps(layer.as_json(), ensure_ascii=False),
                },
                **options,
            )
        except RuntimeError:
            # GDAL says only that there is no next batch, not that the user pressed Ctrl-C
            if stopped:
                raise stopped[0] from None
            raise
        yield made
        made.rename(path)


def _kept(batches: pa.RecordBatchReader, stopped: list[BaseException]) -> pa.RecordBatchReader:
    """The batches, told as GDAL asks; what ends them before their time is kept in `stopped`."""

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except (Exception, KeyboardInterrupt) as error:
            stopped.append(error)
            raise

    return pa.RecordBatchReader.from_batches(_for_gdal(batches.schema), watched())


def _for_gdal(schema: pa.Schema) -> pa.Schema:
    """The schema with the words about its fields under the names by which GDAL knows them."""
    told = [
        words_for_gdal(f.metadata[b"alias"], f.metadata[b"description"]) if f.metadata else {} for f in schema
    ]
    return pa.schema([field.with_metadata(words) for field, words in zip(schema, told, strict=True)])
