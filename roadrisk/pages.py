"""HTML pages that hold all they need: text from data is letters in them, and they may hold nothing else."""

from __future__ import annotations

import base64
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def rendered(package: str, template: str, **values: Any) -> str:
    """A template of a package with its values.

    Parameters
    ----------
    values : text of them is escaped, unless it is marked as HTML.
    """
    return _environment(package).get_template(template).render(**values)


@cache
def template_text(package: str, name: str) -> str:
    """A file beside the templates of a package, as it stands."""
    return (files(package) / "templates" / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """How a content security policy names a script or a style that a page may hold.

    >>> csp_hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
