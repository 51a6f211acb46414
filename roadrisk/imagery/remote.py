"""Remote: pictures that GDAL reads by HTTP and from S3, and what makes them the same pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import rasterio
from rasterio.errors import RasterioError, RasterioIOError

from roadrisk.errors import SourceError
from roadrisk.imagery.fetching import Ask, Fetched, fetched, named_status, public_name
from roadrisk.imagery.manners import POLITE, Manners

CURL, S3 = "/vsicurl/", "/vsis3/"
NO = ("NO", "FALSE", "OFF", "0")
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


def gdal_name(path: str) -> str:
    """How GDAL names a source.

    >>> gdal_name("https://a.example/x y.tif"), gdal_name("s3://bucket/x.tif"), gdal_name("naip/x.tif")
    ('/vsicurl/https://a.example/x%20y.tif', '/vsis3/bucket/x.tif', 'naip/x.tif')
    """
    if path.startswith(("http://", "https://")):
        # what is escaped stays as it is: a signature is of these very bytes
        return CURL + quote(path, safe="%/:?#[]@!$&'()*+,;=~")
    return S3 + path.removeprefix("s3://") if path.startswith("s3://") else path


def is_remote(path: str) -> bool:
    """Whether a name of GDAL's leads to another computer.

    >>> is_remote("/vsicurl/https://a.example/x.tif"), is_remote("naip/x.tif")
    (True, False)
    """
    return CURL in path or S3 in path


@contextmanager
def opened(path: str, **options: Any) -> Iterator[Any]:
    """A raster, opened with GDAL's settings for where it lies.

    Parameters
    ----------
    path : a name of GDAL's.
    options : of `rasterio.open`.

    Raises
    ------
    RasterioError : GDAL cannot open it, or reads from it in vain; the address in it has no secrets.
    """
    if not is_remote(path):
        with rasterio.open(path, **options) as source:
            yield source
        return
    try:
        # nothing is looked for beside a remote file: that is a dozen requests, during which GDAL holds the
        # interpreter. Beside a local one there may be its place, so this is no setting for all
        with rasterio.Env(**{**REMOTE_OPTIONS, **_s3_options(), "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}):
            source = rasterio.open(path, **options)
        with source:
            yield source
    except RasterioError as error:
        raise RasterioIOError(public_name(str(error.__cause__ or error))) from None


def remote_identity(path: str, manners: Manners = POLITE) -> dict[str, Any]:
    """What makes a remote file the same file: its address without secrets, ETag (else date) and bytes.

    A file of a closed S3 bucket is known by its address alone.

    Parameters
    ----------
    path : a name of GDAL's; one that is neither http, https nor S3 is its own identity.

    Raises
    ------
    SourceError : the server refuses it, has no such file, or does not answer.
    """
    if path.startswith(S3):
        name = f"s3://{path.removeprefix(S3)}"
        (answer,) = fetched([Ask(web_address(path), "HEAD")], manners)
        return {"path": name} | (_described(answer) if answer.status == HTTPStatus.OK else {})
    if not path.startswith(CURL):
        return {"path": public_name(path)}
    address = web_address(path)
    (answer,) = fetched([Ask(address, "HEAD")], manners)
    if answer.status != HTTPStatus.OK:
        # an address may be signed for GET alone
        (answer,) = fetched([Ask(address, headers={"Range": "bytes=0-0"})], manners)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise SourceError(
            f"{public_name(address)} cannot be had ({named_status(answer.status)}); check the address and "
            "your leave to read it"
        )
    return {"path": public_name(address)} | _described(answer)


def _described(answer: Fetched) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if "etag" in answer.headers:
        known["etag"] = answer.headers["etag"]
    elif "last-modified" in answer.headers:
        known["modified"] = answer.headers["last-modified"]
    # of a part, the whole is told after the slash: bytes 0-0/1234
    size = answer.headers.get("content-range", "").rpartition("/")[2] or answer.headers.get(
        "content-length", ""
    )
    return known | ({"bytes": int(size)} if size.isdecimal() else {})


def _s3_options() -> dict[str, str]:
    """How S3 is asked: without a key, unless there is one."""
    credentials = Path(os.environ.get("HOME", "/nowhere"), ".aws", "credentials")
    if "AWS_NO_SIGN_REQUEST" in os.environ or any(os.environ.get(name) for name in AWS_KEYS):
        return {}
    return {} if credentials.is_file() else {"AWS_NO_SIGN_REQUEST": "YES"}


def web_address(path: str) -> str:
    """The address of a remote file by a name of GDAL's: an S3 file as it is asked for without a key.

    GDAL's settings for S3 are obeyed: `AWS_S3_ENDPOINT`, `AWS_HTTPS`, `AWS_VIRTUAL_HOSTING`, `AWS_REGION`.
    """
    if path.startswith(CURL):
        return path.removeprefix(CURL)
    bucket, _, key = path.removeprefix(S3).partition("/")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_S3_ENDPOINT") or (
        f"s3.{region}.amazonaws.com" if region else "s3.amazonaws.com"
    )
    scheme = "http" if os.environ.get("AWS_HTTPS", "YES").upper() in NO else "https"
    # a certificate of *.s3.amazonaws.com is good for no bucket with a dot
    by_path = os.environ.get("AWS_VIRTUAL_HOSTING", "TRUE").upper() in NO or "." in bucket
    host = endpoint.partition("://")[2] or endpoint
    place = f"{host}/{bucket}" if by_path else f"{bucket}.{host}"
    return f"{scheme}://{place}/{quote(key)}"
