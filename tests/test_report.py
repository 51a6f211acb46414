"""The report: every number in it is the one that was measured, and nothing in it is loaded, run or made up."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metro_examples import metro_dataset
from pydantic import TypeAdapter
from report_examples import CLASS, COUNT, VALUE, bare_report, full_report, hostile_report
from scored_examples import HOSTILE

from roadrisk.inputs import tiles_at
from roadrisk.learning.judging.changed import Trial
from roadrisk.learning.judging.evaluation import Difference, Evaluation, Finding
from roadrisk.learning.judging.fairness import Quintile
from roadrisk.learning.judging.measured import BASELINES, NETWORKS, metrics_table
from roadrisk.learning.judging.told import NOT_JUDGED
from roadrisk.learning.model import read_model
from roadrisk.learning.tasks import Task
from roadrisk.metros import joined
from roadrisk.reporting.fold_map import LONGEST_CELLS, fold_path, fold_raster
from roadrisk.reporting.page import report_html
from roadrisk.reporting.pictures import place_pictures
from roadrisk.reporting.plots import Axis
from roadrisk.reporting.rankings import compared_models
from roadrisk.reporting.report import FoldMap, Report, fold_maps, report_of
from roadrisk.reporting.robustness import robustness_tables
from roadrisk.reporting.summary import gap_words, summary
from roadrisk.reporting.tables import difference_table, score_table
from roadrisk.reporting.words import MODEL_ORDER, MODELS

FORMATS = Path(__file__).parent / "formats"
TASKS = pytest.mark.parametrize("task", [CLASS, COUNT, VALUE], ids=lambda task: task.kind)
LIMIT_BYTES = 5_000_000
IN_ORDER = (
    *("summary", "new-place", "next-period", "picture", "folds", "ranking", "reliability", "importance"),
    *(
        "places",
        "leaks",
        "calibration",
        "robustness",
        "consistency",
        "measures",
        "origin",
        "field",
        "glossary",
    ),
)


class Page(HTMLParser):
    """The elements of a page in their order, and its text by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])
        self.handle_data("\n")

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def lines(self, section: str) -> list[str]:
        """What stands in a section, a piece of text a line."""
        return [line.strip() for line in self.text[section].splitlines() if line.strip()]


def _page(report: Report) -> Page:
    return Page(report_html(report))


@TASKS
def test_sections_stand_in_their_order(task: Task) -> None:
    for report in (full_report(task), bare_report(task)):
        page = _page(report)
        assert tuple(of["id"] for tag, of in page.elements if tag == "section") == IN_ORDER
        linked = [
            str(of["href"])[1:] for tag, of in page.elements if tag == "a" and str(of["href"])[0] == "#"
        ]
        assert tuple(linked) == IN_ORDER[1:]


@TASKS
def test_its_numbers_are_those_of_the_console(task: Task) -> None:
    report = full_report(task)
    page = _page(report)
    table = metrics_table(report.metrics)
    cells = {cell for row in table.rows for cell in row[2:] if cell}
    assert len(cells) > 30
    assert cells <= set(re.split(r"\s+", page.text["measures"]))


@TASKS
def test_a_score_stands_with_its_interval_beside_that_of_random_folds(task: Task) -> None:
    report = full_report(task)
    headline = report.headline("spatial")
    table = score_table(report, "spatial", "random")
    at = table.header.index("at random folds")
    assert [row[0].below for row in table.rows] == report.models("spatial")
    for model, row in zip(report.models("spatial"), table.rows, strict=True):
        for split, cell in (("spatial", row[at - 1]), ("random", row[at])):
            low, high = report.evaluation.intervals[split][model][headline]
            assert cell.text == f"{report.metrics[split][model][headline]:.3f}"
            assert cell.below == f"{low:.3f} to {high:.3f}"
    assert table.own == {0}
    assert table.rows[0][0].below == "fused"


def test_every_model_has_words_of_its_own_in_tables() -> None:
    models = [name for name in (*NETWORKS, *BASELINES) if name not in MODELS]
    assert not models
    assert len(set(MODELS.values())) == len(MODELS)
    assert [name for name in MODELS if name not in MODEL_ORDER] == []


def test_the_ceiling_stands_beside_auroc() -> None:
    table = score_table(full_report(), "spatial", "random")
    at = table.header.index("AUROC")
    assert table.header[at : at + 2] == ("AUROC", "its ceiling")
    assert [cell.text for cell in table.rows[0][at : at + 2]] == ["0.816", "0.962"]
    at = table.header.index("at random folds") + 1
    assert table.header[at : at + 2] == ("its ceiling", "way to ceiling")
    assert [cell.text for cell in table.rows[0][at : at + 2]] == ["0.958", "37 %"]


def test_the_difference_of_random_and_spatial_folds_is_named_in_words() -> None:
    report = full_report()
    assert gap_words(report) == (
        "At random folds AUROC within folds is 0.865, at spatial ones 0.820. The difference of 0.045 is what a "
        "model gains from tiles next to those it is tested on, and would not have in a new place. Quote the "
        "spatial score."
    )
    assert gap_words(report) in " ".join(_page(report).lines("new-place"))
    turned = replace(report, metrics={**report.metrics, "random": report.metrics["spatial"]})
    assert "here neighbours do not flatter the model" in gap_words(turned)
    # of a measure that is better where it is less
    counts = full_report(COUNT)
    bare = {split: {"fused": {"deviance": value}} for split, value in (("spatial", 1.5), ("random", 1.2))}
    assert "The difference of 0.300 is what" in gap_words(replace(counts, metrics=bare))


def test_a_new_place_is_told_with_what_was_known_of_its_past() -> None:
    report = full_report()
    assert "No fact was made from past events." in _page(report).text["new-place"]
    about = {**report.provenance, "facts": ["road_m", "citations_past"]}
    told = _page(replace(report, provenance=about)).text["new-place"]
    assert "It knew what was recorded there before: citations_past." in told


def test_the_first_paragraph_says_all_that_a_director_needs() -> None:
    text = "".join(_page(full_report()).lines("summary"))
    for said in (
        "2,916 tiles of 250 m of Boston & around, 590 of them of high risk, 2,701 with a picture",
        "from events of 2024",
        "ranks a tile of high risk above another one 82 times in 100 (95 % 79 to 85)",
        "length of roads alone 74 times",
        "the best baseline, stack of regression, boosting and probe, 82 times",
        "Nobody could be right more than 96 times in 100",
        "The tenth of the area that it calls riskiest holds 29 % of the events; ranked by the length of roads "
        "alone it would hold 23 %",
        "For the same places in the next period: picture, facts and past crashes 88 times, Empirical Bayes 87",
        "The picture helps: +0.021 AUROC (95 % 0.008 to 0.034)",
        "It is an association, not a cause",
        "Distrust the scores of random folds",
        "1 warning under",
    ):
        assert said in text
    assert text.count("High risk: crashes_label is at least 6.") == 1
    alone = replace(full_report(), provenance={**full_report().provenance, "settings": {"inputs": "facts"}})
    assert "590 of them of high risk, from events of 2024." in _page(alone).text["summary"]


def test_a_second_question_that_could_not_be_asked_says_why() -> None:
    report = full_report()
    metrics = {split: of for split, of in report.metrics.items() if split != "temporal"}
    bare = replace(report, metrics=metrics, evaluation=replace(report.evaluation, next_period=None))
    why = f"{NOT_JUDGED}: boston: crashes is dated 2024-01-01 to 2024-12-31; tile with earlier events"
    noted = replace(bare, provenance={**report.provenance, "notes": ["another", why]})
    said = " ".join(_page(noted).lines("next-period"))
    assert f"This question could not be asked. T{why[1:]}." in said
    assert "the training was a quick one" in " ".join(_page(bare).lines("next-period"))


def test_a_place_names_what_is_nought_in_one_line_and_no_chance_is_certain() -> None:
    report = full_report()
    facts = (("road_m", "1,005 m"), ("road_m_trunk", "0 m"), ("kind", "0"), ("dead_ends", "0.5 dead ends"))
    [first, *others] = report.evaluation.places
    places = (replace(first, predicted=1.0, facts=facts), *others)
    said = _page(replace(report, evaluation=replace(report.evaluation, places=places))).lines("places")
    assert "chance over 99 %" in said
    start = said.index("1,005 m") - 1
    assert said[start : start + 6] == [
        "road_m",
        "1,005 m",
        "dead_ends",
        "0.5 dead ends",
        "0",
        "road_m_trunk, kind",
    ]


def test_a_leak_comes_first_and_loud() -> None:
    report = full_report()
    leak = Finding("duplicates", True, "31 tiles of different folds show the same picture: remove the copies")
    leaky = replace(
        report, evaluation=replace(report.evaluation, findings=(leak, *report.evaluation.findings))
    )
    assert [part.kind for part in summary(leaky)] == ["alarm", "words", "words", "words"]
    page = _page(leaky)
    assert page.lines("summary")[:2] == ["Do not quote these scores: 1 check found a leak", leak.text]
    assert "Distrust every score here until the leak above is mended" in page.text["summary"]
    assert f"duplicates: {leak.text}" in page.lines("leaks")
    assert "No check found a leak." not in page.text["leaks"]
    assert [part.kind for part in summary(report)] == ["words", "words", "words"]
    assert "No check found a leak." in _page(report).text["leaks"]


@TASKS
def test_it_loads_and_runs_nothing(task: Task) -> None:
    html = report_html(full_report(task))
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    addresses = [
        of[name] for _, of in page.elements for name in ("src", "srcset", "xlink:href") if of.get(name)
    ]
    addresses += [of["href"] for tag, of in page.elements if tag != "a" and of.get("href")]
    assert addresses
    assert all(str(address).startswith("data:") for address in addresses)
    assert not any(name == "style" or name.startswith("on") for _, of in page.elements for name in of)
    style = html.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    links = {str(of["href"]) for tag, of in page.elements if tag == "a"}
    assert any(link.startswith("https://www.openstreetmap.org/?mlat=42.35") for link in links)


@TASKS
def test_it_is_small(task: Task) -> None:
    full = full_report(task, curve_points=200)
    chance = np.random.default_rng(0)
    noise = {
        (place.key, view): cv2.imencode(".jpg", chance.integers(0, 256, (192, 192, 3), dtype=np.uint8))[
            1
        ].tobytes()
        for place in full.evaluation.places
        for view in ("aerial", "context")
    }
    assert len(noise) == 40
    html = report_html(replace(full, pictures=noise))
    assert html.count("data:image/jpeg") == 40
    assert len(html.encode()) < LIMIT_BYTES


def test_text_from_data_is_letters() -> None:
    html = report_html(hostile_report())
    assert HOSTILE not in html
    assert html.count("&lt;/script&gt;&lt;img src=x") >= 40
    harmless = Page(
        report_html(hostile_report()).replace("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;", "x")
    )
    assert Page(html).tags == harmless.tags
    assert all(str(of["src"]).startswith("data:") for tag, of in Page(html).elements if tag == "img")


@TASKS
def test_missing_parts_leave_a_sentence(task: Task) -> None:
    page = _page(bare_report(task))
    assert "svg" not in page.tags
    for section in set(IN_ORDER) - {"measures", "origin"}:  # these have tables
        assert any(line.endswith(".") for line in page.lines(section)), section
    text = " ".join(page.text.values())
    assert not re.search(r"\b(None|nan|Undefined)\b", text)
    assert "there are no spatial ones" in text
    assert "No interval is given" in text


def test_a_report_of_nothing_at_all() -> None:
    page = _page(Report("", "fused", CLASS, {}, Evaluation(), {}))
    assert "How good it is was not measured." in page.text["summary"]
    assert "svg" not in page.tags


@pytest.mark.parametrize("folder", sorted(FORMATS.glob("model-*")), ids=lambda folder: folder.name)
def test_models_of_every_format_have_a_report(folder: Path) -> None:
    model = read_model(folder)
    report = report_of(model)
    page = _page(report)
    cells = {cell for row in metrics_table(model.metrics).rows for cell in row[2:] if cell}
    shown = set(re.split(r"\s+", " ".join(page.text.values())))
    assert {cell for cell in cells if "-" not in cell} <= shown
    for one in model.provenance["datasets"]:
        assert one["identity"] in page.text["origin"]


def test_an_evaluation_from_a_file_gives_the_same_report() -> None:
    report = full_report(COUNT)
    stored = json.loads(json.dumps(asdict(report.evaluation)))
    again = TypeAdapter(Evaluation).validate_python(stored)
    assert report_html(replace(report, evaluation=again)) == report_html(report)


def test_the_order_of_models_in_a_file_does_not_matter() -> None:
    report = full_report()
    turned = {split: dict(reversed(list(models.items()))) for split, models in report.metrics.items()}
    assert report_html(replace(report, metrics=turned)) == report_html(report)


@TASKS
def test_a_plot_compares_the_own_model_with_few_others(task: Task) -> None:
    report = full_report(task)
    assert compared_models(report, "spatial") == [
        "fused",
        "road_length",
        "stack",
        "boosting_with_image",
        "boosting",
    ]
    html = report_html(report)
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        styles = re.findall(r'<polyline class="line s(\d)"', svg)
        assert len(styles) == len(set(styles)) <= 6
        if styles:
            assert "0" in styles


@TASKS
def test_plots_say_what_they_show(task: Task) -> None:
    html = report_html(full_report(task))
    plots = re.findall(r"<svg[^>]*>.*?</svg>", html, re.S)
    assert len(plots) == html.count("<svg") == html.count('role="img"')
    for svg in plots:
        of = re.match(r'<svg class="plot" viewBox="[^"]+" role="img" aria-labelledby="(\S+) (\S+)">', svg)
        assert of is not None
        assert re.search(f'<title id="{of[1]}">[^<]+</title><desc id="{of[2]}">[^<]+</desc>', svg)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_every_kind_of_plot_is_there() -> None:
    titles = {
        kind.kind: re.findall(r"<figure>\s*<h3>([^<]+)</h3>", report_html(full_report(kind)))
        for kind in (CLASS, COUNT)
    }
    ranks = ["Lift", "Hit rate by area", "Hit rate by length of road"]
    held = [
        "Folds of Boston &amp; around",
        "How far away what was learned from lies",
        "How far likeness reaches",
    ]
    roc = ["ROC", "Precision and recall"]
    assert titles["class"] == [
        *(*roc, *ranks, *held, *roc, *ranks, "Reliability"),
        *("Importance by groups", "What calibration does"),
    ]
    assert titles["count"] == [
        *(*ranks, *held, *ranks, "Predicted and observed", "CURE by expected count", "CURE by road_m"),
        "Importance by groups",
    ]


def test_a_reliability_dot_stands_where_its_numbers_are() -> None:
    html = report_html(full_report())
    svg = re.findall(r"<svg[^>]*aria-labelledby=\"reliability.*?</svg>", html, re.S)[0]
    dots = [(float(x), float(y)) for x, y in re.findall(r'class="dot s0" cx="([\d.]+)" cy="([\d.]+)"', svg)]
    bins = full_report().evaluation.curves["spatial"]["fused"].reliability
    x, y = np.array(dots[: len(bins)]).T
    predicted, observed = np.array([(of.predicted, of.observed) for of in bins]).T
    # places are a straight line of values
    assert np.corrcoef(x, predicted)[0, 1] == pytest.approx(1, abs=1e-5)
    assert np.corrcoef(y, observed)[0, 1] == pytest.approx(-1, abs=1e-5)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low: float, spread: float) -> None:
    axis = Axis("", low, low + spread)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    assert all(low - spread * 1e-6 <= tick <= low + spread * 1.000001 for tick in ticks)
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_ticks_of_whole_things_are_whole() -> None:
    assert Axis("", 0, 11, whole=True).ticks() == [0, 2, 4, 6, 8, 10]
    assert Axis("", 0, 3, whole=True).ticks() == [0, 1, 2, 3]


@given(arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 2)))
def test_the_map_paints_each_tile_once_in_its_fold(raster: Any) -> None:
    painted = np.full(raster.shape, -1)
    for fold in range(3):
        for left, top, wide, high in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", fold_path(raster, fold)):
            cells = np.s_[int(top) : int(top) + int(high), int(left) : int(left) + int(wide)]
            assert (painted[cells] == -1).all()
            painted[cells] = fold
    np.testing.assert_array_equal(painted, raster)


def test_the_map_of_a_large_region_stays_small() -> None:
    row, col = np.divmod(np.arange(1000 * 1500), 1500)
    folds = FoldMap("large", row - 7, col + 90_000, (row // 40 + col // 40) % 5)
    raster, step = fold_raster(folds)
    assert step == 4
    assert max(raster.shape) <= LONGEST_CELLS
    assert set(np.unique(raster)) == set(range(5))


def test_a_map_a_dataset() -> None:
    report = full_report()
    both = replace(report, folds=(*report.folds, replace(report.folds[0], name="Elsewhere")))
    assert "Folds of Elsewhere" in _page(both).text["folds"]


def test_folds_are_mapped_from_what_a_model_keeps() -> None:
    table = pd.DataFrame(
        {
            "split": ["spatial"] * 6 + ["random"] * 2,
            "model": ["fused"] * 4 + ["facts"] * 2 + ["fused"] * 2,
            "dataset": ["b", "b", "a", "a", "b", "b", "a", "b"],
            "fold": [0, 1, 2, 3, 9, 9, 9, 9],
            "row": pd.array([5, 6, 7, 8, 9, 9, 9, 9], dtype="Int64"),
            "col": pd.array([1, 2, 3, 4, 9, 9, 9, 9], dtype="Int64"),
        }
    )
    maps = fold_maps(table, "spatial", "fused", {"datasets": [{"name": "Ames", "identity": "a"}]})
    assert [(of.name, of.row.tolist(), of.col.tolist(), of.fold.tolist()) for of in maps] == [
        ("Ames", [7, 8], [3, 4], [2, 3]),
        ("b", [5, 6], [1, 2], [0, 1]),
    ]
    assert fold_maps(table, "random", "fused", {}) == ()
    assert fold_maps(table.drop(columns="row"), "spatial", "fused", {}) == ()
    assert fold_maps(table.assign(row=pd.array([pd.NA] * 8, dtype="Int64")), "spatial", "fused", {}) == ()


@pytest.mark.parametrize(
    ("metric", "low", "high", "said"),
    [
        ("auroc_fold_mean", 0.01, 0.03, "picture and facts is better"),
        ("auroc_fold_mean", -0.03, -0.01, "facts alone is better"),
        ("auroc_fold_mean", -0.01, 0.03, "not told apart"),
        ("deviance", 0.01, 0.03, "facts alone is better"),
        ("brier_calibrated", -0.03, -0.01, "picture and facts is better"),
        ("auroc_fold_mean", None, None, "not known: fewer than 20 blocks"),
    ],
)
def test_a_difference_says_which_model_is_better(metric: str, low: Any, high: Any, said: str) -> None:
    of = Difference("spatial", metric, "fused", "facts", "all", 0.02, low, high, 100, 20, 30)
    assert difference_table([of]).rows[0][4].text == said


def test_robustness_is_tables() -> None:
    trials = (
        Trial(
            "half a tile aside",
            "boosting",
            900,
            0.801,
            0.78,
            0.82,
            spearman=0.914,
            top_kept=0.78,
            note="moved",
        ),
        Trial("picture removed", "fused", 900, 0.79, 0.77, 0.81, -0.021, -0.034, -0.008),
        Trial("citations removed", "boosting", note="there are none"),
    )
    fifth = Quintile("income", 1, 20_000.0, 41_000.0, 180, 90.0, 75.0, 1.2, 1.05, 1.36, 0.241)
    first, second, third = robustness_tables(trials, (fifth,), ("reporting differs",))
    assert first.rows == (
        ("half a tile aside", "boosting on facts", "0.801", "0.780 to 0.820", "", "0.914", "78 %", "moved"),
        (
            "picture removed",
            "picture and facts",
            "0.790",
            "0.770 to 0.810",
            "-0.021 (-0.034 to -0.008)",
            "",
            "",
            "",
        ),
        ("citations removed", "boosting on facts", "not tried", "", "", "", "", "there are none"),
    )
    assert second.rows == (("income 1", "20,000", "41,000", "180", "1.20", "1.050 to 1.360", "24.1 %"),)
    assert third.rows == (("reporting differs",),)
    assert robustness_tables((), (), ()) == ()
    page = _page(replace(full_report(), robustness=(first, second, third)))
    assert "half a tile aside" in page.lines("robustness")[1:][8]


def test_pictures_of_places_are_those_of_the_tiles(tmp_path: Path) -> None:
    colours = {"a": (200, 30, 30), "c": (30, 200, 30), "d": (30, 30, 200)}
    for name, rgb in colours.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((64, 64, 3), rgb[::-1], np.uint8))
    first = pd.DataFrame(
        {"id": ["a", "b"], "image_path": ["a.png", None], "lon": [1.0, 1.1], "lat": [2.0, 2.0]}
    )
    second = pd.DataFrame(
        {"id": ["c", "d"], "image_path": ["c.png", "d.png"], "lon": [1.0, 1.1], "lat": [3.0, 3.0]}
    )
    first.to_csv(tmp_path / "first.csv", index=False)
    second.to_csv(tmp_path / "second.csv", index=False)
    alone = [tiles_at(tmp_path / name, ()) for name in ("first.csv", "second.csv")]
    for tiles, names in ((alone[0], "ab"), (alone[1], "cd")):
        keys = [str(key) for key in tiles.keys]
        found = place_pictures(tiles, [*keys, "no such tile"], size_px=48)
        seen = {key: name for key, name in zip(keys, names, strict=True) if name in colours}
        assert set(found) == {(key, "") for key in seen}
        for key, name in seen.items():
            pixels = cv2.imdecode(np.frombuffer(found[key, ""], np.uint8), cv2.IMREAD_COLOR)
            assert pixels.shape == (48, 48, 3)
            np.testing.assert_allclose(pixels[:, :, ::-1].mean((0, 1)), colours[name], atol=4)


def test_pictures_of_several_metros_are_told_apart(tmp_path: Path) -> None:
    metros = [metro_dataset(tmp_path, name, seed) for name, seed in (("east", 1), ("west", 2))]
    tiles, _ = joined([tiles_at(metro.path, ("aerial",)) for metro in metros])
    pictured = [metro.keys[metro.views[0].has_image] for metro in tiles.metros]
    keys = [str(key) for of in pictured for key in of[[0, 5, -1]]]
    found = place_pictures(tiles, keys, size_px=32)
    assert {key for key, _ in found} == set(keys)
    for metro in tiles.metros:
        mine = {key: jpeg for key, jpeg in place_pictures(metro, keys, size_px=32).items() if key in found}
        assert mine == {key: found[key] for key in mine}
        assert mine
