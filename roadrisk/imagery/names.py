"""Names of pictures elsewhere: as GDAL has them, and as anybody may see them."""

from __future__ import annotations

import re
from urllib.parse import quote

CURL, S3 = "/vsicurl/", "/vsis3/"
_QUERY = re.compile(r"(https?(?:://|%3A%2F%2F)[^\s?'\"<>]+)\?[^\s'\"<>)]*")
_PREFIX = re.compile(r"/vsicurl/(?=https?:)")
_USER = re.compile(r"(?<=://)[^\s/@'\"]+@")


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


def public_name(text: str) -> str:
    """`text` without the queries and users of its addresses, which may be secret, and without GDAL's prefix.

    >>> public_name("cannot open /vsicurl/https://me:pass@a.example/x.tif?sig=abc (403)")
    'cannot open https://a.example/x.tif (403)'
    """
    return _QUERY.sub(r"\1", _USER.sub("", _PREFIX.sub("", text)))
