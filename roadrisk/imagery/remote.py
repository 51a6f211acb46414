"""Remote: opening pictures where they lie, by HTTP and from S3 too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from roadrisk.imagery.names import is_remote, public_name

# any of these, and GDAL finds a key to sign with
AWS_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# what holds its own pixels: a VRT from elsewhere would name files of this computer
PICTURES = ["GTiff", "COG", "JP2OpenJPEG", "PNG", "JPEG", "WEBP"]
# what asks servers by itself, in GDAL's own manners
SERVICES = {"WMS", "WMTS", "WCS", "HTTP", "EEDA", "EEDAI", "PLMOSAIC", "DAAS", "STACIT", "STACTA", "GTI"}
REMOTE_OPTIONS: dict[str, Any] = {
    # what lies beside a local file is looked for by name, without listing its folder
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    # less than 1,000 bytes a second for 20 s
    "GDAL_HTTP_LOW_SPEED_TIME": 20,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    # of a file's head, which holds where its tiles are
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "CPL_VSIL_CURL_CACHE_SIZE": 64 << 20,
    # of a cache of tiles that another run writes to: after GDAL's 5 s it is all zeros, without an error
    "SQLITE_BUSY_TIMEOUT": 60_000,
}


@contextmanager
def opened(path: str, **options: Any) -> Iterator[Any]:
    """A raster, opened with GDAL's settings for where it lies.

    From elsewhere come only pictures that hold their own pixels, and no picture leads to a server.

    Parameters
    ----------
    path : a name of GDAL's.
    options : of `rasterio.open`.

    Raises
    ------
    RasterioError : GDAL cannot open it, or reads from it in vain; the address in it has no secrets.
    """
    if not is_remote(path):
        with opening_environment(path):
            # rasterio.open takes no list of drivers
            source = DatasetReader(path, driver=_drivers_on_disk(), **options)
        with source:
            yield source
        return
    try:
        with opening_environment(path):
            source = DatasetReader(path, driver=PICTURES, **options)
        with source:
            _check_whole(source)
            yield source
    except RasterioError as error:
        raise RasterioIOError(public_name(str(error.__cause__ or error))) from None


@contextmanager
def opening_environment(path: str) -> Iterator[None]:
    """GDAL's settings for opening a name of its own, over those there are."""
    options: dict[str, Any] = {}
    if is_remote(path):
        # nothing is looked for beside a remote file: that is a dozen requests, during which GDAL holds the
        # interpreter. Beside a local one there may be its place, so this is no setting for all
        options = {**remote_options(), "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    with rasterio.Env(**options):
        yield


def remote_options() -> dict[str, Any]:
    """GDAL's settings for reading what may lie elsewhere.

    S3 is read without a key, unless there is one: else GDAL asks a server of Amazon's for one, for a minute.
    """
    return {**REMOTE_OPTIONS, **_s3_options()}


@cache
def _drivers_on_disk() -> list[str]:
    with rasterio.Env() as gdal:
        return [name for name in gdal.drivers() if name not in SERVICES]


def _check_whole(source: Any) -> None:
    """Nothing, if a file keeps its overviews to itself: its tags may name any other file for them."""
    named = {**source.tags(ns="OVERVIEWS"), **source.tags(ns="ProxyOverviewRequest")}
    if {"OVERVIEW_FILE", "FILENAME"} & set(named):
        raise RasterioIOError("it names another file for its overviews")


def _s3_options() -> dict[str, str]:
    """How S3 is asked: without a key, unless there is one."""
    credentials = Path(os.environ.get("HOME", "/nowhere"), ".aws", "credentials")
    if "AWS_NO_SIGN_REQUEST" in os.environ or any(os.environ.get(name) for name in AWS_KEYS):
        return {}
    return {} if credentials.is_file() else {"AWS_NO_SIGN_REQUEST": "YES"}
