"""The page of a road model as one HTML file, which loads and runs nothing."""

from __future__ import annotations

from roadrisk.reporting.page import page_of
from roadrisk.reporting.roads.report import RoadReport
from roadrisk.reporting.roads.sections import sections, summary


def road_report_html(report: RoadReport) -> str:
    """A self-contained page without scripts."""
    return page_of(
        "How well roads are drawn", report.source.name or "pictures", summary(report), sections(report)
    )
