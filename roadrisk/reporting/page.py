"""The report as one HTML file: it loads nothing, runs nothing, and shows text from data as letters."""

from __future__ import annotations

import base64
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from roadrisk.reporting.report import Report
from roadrisk.reporting.sections import sections
from roadrisk.reporting.summary import summary


def report_html(report: Report) -> str:
    """A self-contained page without scripts."""
    style = _style()
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            summary=summary(report),
            sections=sections(report),
            style=Markup(style),  # noqa: S704 - a file of this package
            style_hash=f"'sha256-{digest}'",
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("roadrisk.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _style() -> str:
    return (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
