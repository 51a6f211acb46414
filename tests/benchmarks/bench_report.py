"""The report of a full evaluation drawn: `make bench` prints seconds.

Eleven models of three splits with curves of 200 points, the folds of 3,000 tiles, 40 pictures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from report_examples import CLASS, COUNT, full_report

from roadrisk.reporting.page import report_html


@pytest.mark.benchmark(group="report: many models, 3,000 tiles, 40 pictures")
@pytest.mark.parametrize("task", [CLASS, COUNT], ids=lambda task: task.kind)
def test_report(benchmark: Any, task: Any) -> None:
    report = full_report(task, curve_points=200)
    pictures = {
        (key, view): jpeg for (key, _), jpeg in report.pictures.items() for view in ("aerial", "context")
    }
    html = benchmark(report_html, replace(report, pictures=pictures))
    benchmark.extra_info["megabytes"] = len(html.encode()) / 1e6
    assert html.count("data:image/jpeg") == 40
