"""Identities: what makes a remote picture the same picture."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from roadrisk.errors import SourceError
from roadrisk.imagery.fetching import Ask, Fetched, fetched
from roadrisk.imagery.manners import POLITE, Manners, named_status
from roadrisk.imagery.names import CURL, S3, public_name

NO = ("NO", "FALSE", "OFF", "0")


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


def web_address(path: str) -> str:
    """The address of a remote file by a name of GDAL's: an S3 file as it is asked for without a key.

    GDAL's settings for S3 are obeyed: `AWS_S3_ENDPOINT`, `AWS_HTTPS`, `AWS_VIRTUAL_HOSTING`, `AWS_REGION`.

    Raises
    ------
    SourceError : it lies neither on the web nor on S3.
    """
    if path.startswith(CURL):
        return path.removeprefix(CURL)
    if not path.startswith(S3):
        raise SourceError(f"{public_name(path)} has no address of the web; give its https or s3 address")
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
