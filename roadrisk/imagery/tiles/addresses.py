"""Addresses of tiles: what a template's fields mean, and keys, which are only ever in the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from roadrisk.errors import SourceError
from roadrisk.imagery.names import public_name

# `${NAME}` is the environment's, `{field}` the template's
_FIELD = re.compile(r"(?<!\$)\{([^{}]*)\}")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PLACE = {"x", "y", "-y", "z", "s"}
# what servers call keys, signatures and who asks: apikey, access_token, X-Amz-Signature, sig, app_code, appid
_SECRET = re.compile(
    r"(?i)[?&]([\w.-]*(?:key|token|secret|signature|credentials?|password|passwd|auth|authorization)"
    r"|(?:sig|sas|pwd|pass|code|(?:app|client|user)[_-]?(?:id|code)|ak|tk|sk))=(?!\$\{)[^&{]+"
)
_USER = re.compile(r"(?<=://)[^/@]+@")


def filled_template(template: str, known: Mapping[str, str], where: str) -> str:
    """`template` with the provider's own fields filled in; those of a tile's place are left.

    Parameters
    ----------
    known : the provider's fields; where one is a key, `${NAME}`.
    where : the source in a message.

    Raises
    ------
    SourceError : a field that nobody knows, no place in it, a key written out, or neither http nor https.

    Examples
    --------
    >>> filled_template("https://tiles.example/{style}/{z}/{x}/{y}.png", {"style": "day"}, "tiles")
    'https://tiles.example/day/{z}/{x}/{y}.png'
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in _PLACE:
            return match[0]
        if name not in known:
            raise SourceError(
                f"{_told(where)}: {{{name}}} is no field of a tile's address; use {{z}}, {{x}}, {{y}} "
                "or {-y}, {s}, {r}, or ${NAME} for what the environment holds"
            )
        return known[name]

    filled = _FIELD.sub(value, template)
    fields = set(_FIELD.findall(filled))
    if not {"z", "x"} <= fields or not {"y", "-y"} & fields:
        raise SourceError(
            f"{_told(where)} lacks a tile's place; an address has {{z}}, {{x}} and {{y}} or {{-y}}"
        )
    _check_open(filled, where)
    return filled


def address_of(template: str, zoom: int, x: int, y: int, tms: bool, subdomains: str) -> str:
    """The address of a tile, with its keys still masked.

    Parameters
    ----------
    y : counted from the north.
    tms : `{y}` is counted from the south, as `{-y}` always is.

    >>> address_of("https://{s}.tiles.example/{z}/{x}/{-y}.png?key=${KEY}", 3, 1, 2, False, "abc")
    'https://a.tiles.example/3/1/5.png?key=${KEY}'
    """
    from_south = 2**zoom - 1 - y
    values = {
        "z": str(zoom),
        "x": str(x),
        "y": str(from_south if tms else y),
        "-y": str(from_south),
        # each tile always from the same server, so that caches on the way serve it
        "s": subdomains[(x + y) % len(subdomains)],
    }
    return _FIELD.sub(lambda match: values[match[1]], template)


def with_keys(address: str) -> str:
    """`address` as it is asked for: never printed, never stored.

    Raises
    ------
    SourceError : a variable that is not set, or makes an address of another kind.
    """
    filled = _VARIABLE.sub(lambda match: os.environ.get(match[1], ""), address)
    check_keys(address)
    is_plain = filled.startswith(("http://", "https://")) and not re.search(r"[\s\x00-\x1f\x7f]", filled)
    if not is_plain or _host(filled) is None:
        raise SourceError(
            f"{address}, filled from the environment, is no http or https address; check its value"
        )
    return filled


def check_keys(template: str) -> None:
    """Raise a `SourceError` that names the environment variables that `template` lacks."""
    missing = [name for name in variables(template) if not os.environ.get(name)]
    if missing:
        raise SourceError(
            f"{host_of(template)} needs {' and '.join(missing)} from the environment; "
            f"set it: {missing[0]}=... roadrisk ..."
        )


def variables(template: str) -> list[str]:
    """The environment variables that `template` names.

    >>> variables("https://tiles.example/{z}/{x}/{y}?token=${TILES_TOKEN}")
    ['TILES_TOKEN']
    """
    return list(dict.fromkeys(_VARIABLE.findall(template)))


def host_of(address: str) -> str:
    """The server's name, without what stands for one of several.

    Raises
    ------
    SourceError : no address.

    >>> host_of("https://{s}.tiles.example:8080/{z}/{x}/{y}.png")
    'tiles.example:8080'
    """
    host = _host(address)
    if host is None:
        raise SourceError(f"{public_name(address)} is no address; check its host")
    return host.removeprefix("{s}.")


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return None


def _check_open(template: str, where: str) -> None:
    """Nothing secret may stand in what is stored and printed."""
    secret = _SECRET.search(template)
    if secret:
        raise SourceError(
            f"{host_of(template).rpartition('@')[2]}: the key {secret[1]} is written out in its address; "
            f"put it into the environment and write {secret[1]}=${{NAME}}"
        )
    if "@" in host_of(template):
        raise SourceError(
            f"{host_of(template).rpartition('@')[2]}: a user or password is written out in its address; "
            "put it into the environment and write ${NAME}@"
        )
    if not template.startswith(("http://", "https://", "${")):
        raise SourceError(f"{where} is no tile server; its address starts with https:// or http://")


def _told(where: str) -> str:
    """The source in a message; what may be a key or a user in it is left out."""
    return _SECRET.sub(lambda match: f"{match[0].split('=')[0]}=...", _USER.sub("", where))
