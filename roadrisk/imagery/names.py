"""Names of pictures elsewhere: as GDAL has them, and as anybody may see them."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote

CURL, S3 = "/vsicurl/", "/vsis3/"
# every folder of GDAL's that is another computer
_ELSEWHERE = r"/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(?:_streaming)?[/?]"
_QUERY = re.compile(rf"((?:https?(?:://|%3A%2F%2F)|{_ELSEWHERE})[^\s?'\"<>]+)\?[^\s'\"<>)]*")
# an address among options, of which any may be secret
_OPTIONS = re.compile(r"/vsicurl(?:_streaming)?\?([^'\"<>\n]*)")
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

    >>> is_remote("/vsicurl/https://a.example/x.tif"), is_remote("/vsizip/naip/x.zip/x.tif")
    (True, False)
    """
    return re.search(_ELSEWHERE, path) is not None


def public_name(text: str) -> str:
    """`text` without the queries and users of its addresses, which may be secret, and without GDAL's prefix.

    Of a name with options (`/vsicurl?header.Authorization=...&url=...`) the address is left.

    >>> public_name("cannot open /vsicurl/https://me:pass@a.example/x.tif?sig=abc (403)")
    'cannot open https://a.example/x.tif (403)'
    """
    plain = _OPTIONS.sub(lambda match: parse_qs(match[1]).get("url", ["/vsicurl"])[0], text)
    return _QUERY.sub(r"\1", _USER.sub("", _PREFIX.sub("", plain)))
