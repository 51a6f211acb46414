"""The report as one HTML file: it loads nothing, runs nothing, and shows text from data as letters."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from roadrisk.pages import csp_hash, rendered, template_text
from roadrisk.reporting.parts import Part, Section
from roadrisk.reporting.report import Report
from roadrisk.reporting.sections import sections
from roadrisk.reporting.summary import summary

PACKAGE = "roadrisk.reporting"


def report_html(report: Report) -> str:
    """A self-contained page without scripts."""
    heading = report.name or "a table"
    return page_of("What the risk map is worth", heading, summary(report), sections(report))


def page_of(kind: str, heading: str, summary: Sequence[Part], sections: Sequence[Section]) -> str:
    """A self-contained page without scripts, in the report's style.

    Parameters
    ----------
    kind : what it tells, above its heading and in its title.
    summary : what stands above the links to the sections.
    """
    style = template_text(PACKAGE, "report.css")
    return rendered(
        PACKAGE,
        "report.html.j2",
        kind=kind,
        heading=heading,
        summary=summary,
        sections=sections,
        style=Markup(style),  # noqa: S704 - a file of this package
        style_hash=csp_hash(style),
    )
