"""What the report says, section after section; where a part is not there, a sentence says why."""

from __future__ import annotations

from roadrisk.learning.judging.told import NOT_JUDGED
from roadrisk.reporting.field import GLOSSARY, PUBLISHED, PUBLISHED_WORDS
from roadrisk.reporting.figures import (
    calibration_figure,
    cure_figures,
    fold_figures,
    importance_figure,
    reliability_figures,
)
from roadrisk.reporting.fold_map import fold_map_svg
from roadrisk.reporting.parts import (
    Alarm,
    Figure,
    Figures,
    Lines,
    Part,
    Section,
    Terms,
    Words,
    table_of,
)
from roadrisk.reporting.places import places
from roadrisk.reporting.rankings import ranking_figures
from roadrisk.reporting.report import Report
from roadrisk.reporting.summary import gap_words, picture_words
from roadrisk.reporting.tables import (
    difference_table,
    every_measure,
    fact_table,
    given_table,
    origin_tables,
    score_table,
)
from roadrisk.reporting.words import SPLITS, amount, listed, measure_head, metres, model_words, percent

NO_INTERVALS = "No interval is given: blocks are fewer than 20, or tiles have no place."


def sections(report: Report) -> list[Section]:
    """All sections in their order."""
    return [
        new_place(report),
        next_period(report),
        *metro(report),
        picture(report),
        folds(report),
        ranking(report),
        believed(report),
        importance(report),
        places(report),
        leaks(report),
        calibration(report),
        robustness(report),
        consistency(report),
        measures(report),
        origin(report),
        Section("field", "Numbers of the field", (Words(PUBLISHED_WORDS), PUBLISHED)),
        Section("glossary", "Words", (Terms(GLOSSARY),)),
    ]


def new_place(report: Report) -> Section:
    """How good models are where nobody has looked."""
    title = "New place"
    if not report.metrics.get("spatial"):
        why = "No tile was judged by spatial folds, since nothing says where the tiles lie."
        parts: list[Part] = [Words(why)]
        if report.metrics.get("random"):
            more = (
                "Random folds are all there is; a neighbour of each tested tile may have been learned from."
            )
            parts += [Words(more), score_table(report, "random"), *_no_intervals(report, "random")]
        return Section("new-place", title, tuple(parts))
    past = [str(name) for name in report.provenance.get("facts", ()) if str(name).endswith("_past")]
    known = f"It knew what was recorded there before: {listed(past)}." if past else ""
    asked = (
        "Each tile was scored by a model that saw neither the tile, nor its block, nor a buffer around it. "
        f"{known or 'No fact was made from past events.'}"
    )
    beside = "random" if report.metrics.get("random") else ""
    gap = gap_words(report) or "There are no random folds to compare with."
    parts = [Words(asked), score_table(report, "spatial", beside), Words(gap)]
    return Section("new-place", title, (*parts, *_no_intervals(report, "spatial")))


def next_period(report: Report) -> Section:
    """The same places, later."""
    title = "Same place, next period"
    told = report.evaluation.next_period
    parts: list[Part] = []
    if told is not None:
        who = "" if told.past_fitted else "; only Empirical Bayes knows it, since no earlier past is known"
        past = f", with the past of {_window(told.past_judged)}{who}" if told.past_judged else ""
        words = (
            f"Fitted on events of {_window(told.fitted)}, judged on those of {_window(told.judged)}{past}. "
            f"{told.tiles:,} tiles, {amount(told.events)} events."
        )
        parts.append(Words(words))
    if not report.metrics.get("temporal"):
        return Section("next-period", title, (*parts, Words(_not_asked(report))))
    parts += [score_table(report, "temporal"), *_no_intervals(report, "temporal")]
    figures = ranking_figures(report, "temporal")
    return Section("next-period", title, (*parts, *([Figures(tuple(figures))] if figures else [])))


def metro(report: Report) -> list[Section]:
    """Metros that no model learned from, where there are some: held out of training, or evaluated later."""
    made: list[Section] = []
    for split in report.metrics:
        if split != "metro" and not split.startswith("metro "):
            continue
        words = "A tile's score is that of models that learned from no tile of its metro."
        parts: list[Part] = [Words(words), score_table(report, split), *_no_intervals(report, split)]
        figures = ranking_figures(report, split)
        parts += [Figures(tuple(figures))] if figures else []
        title = f"A metro never seen{split.removeprefix('metro').replace(' ', ': ', 1)}"
        made.append(Section(f"metro-{len(made)}" if made else "metro", title, tuple(parts)))
    return made


def picture(report: Report) -> Section:
    """Whether it helps, with the differences behind the answer."""
    found = report.evaluation
    parts: list[Part] = [Words(text) for text in (picture_words(report), found.chosen) if text]
    if found.differences:
        parts.append(difference_table(found.differences))
    else:
        parts.append(Words("No model with the picture was compared with one without it."))
    return Section("picture", "Does the picture help?", tuple(parts))


def folds(report: Report) -> Section:
    """How tiles were held out."""
    told = report.evaluation.folds
    title = "How tiles were held out"
    if told is None:
        return Section(
            "folds",
            title,
            (Words("Nothing is told of spatial blocks: folds are random or of an older version."),),
        )
    rows = [
        ("side of a block", metres(told.block_m)),
        ("width of the buffer", metres(told.buffer_m)),
        ("folds", f"{told.folds:,}"),
        ("blocks", f"{told.blocks:,}"),
        ("blocks with tiles of high risk", f"{told.blocks_with_positives:,}"),
        ("training tiles that the buffer leaves, at least", percent(told.left_share)),
    ]
    maps = [
        Figure(
            f"Folds of {of.name}",
            fold_map_svg(f"folds-{n}", of, report.provenance.get("cell_m"), told.block_m, told.buffer_m),
            "Tiles of one colour were tested together; the number is that of tiles in the fold. North is up.",
        )
        for n, of in enumerate(report.folds)
    ]
    parts: list[Part] = [Words(told.rule), table_of("Blocks and folds", ("what", "value"), rows, (1,))]
    if not maps:
        parts.append(Words("There is no map of the folds: the model does not keep where its tiles lie."))
    figures = (*maps, *fold_figures(told))
    return Section("folds", title, (*parts, *([Figures(figures)] if figures else [])))


def ranking(report: Report) -> Section:
    """Curves of the split that is quoted."""
    figures = ranking_figures(report, report.split)
    title = "How well it ranks"
    if not figures:
        return Section("ranking", title, (Words("The model keeps no curves."),))
    words = (
        f"Curves on tiles that were not seen ({SPLITS.get(report.split, report.split)}). The bold one is "
        f"{model_words(report.own(report.split))}; beside it stand road length and the best of the others."
    )
    return Section("ranking", title, (Words(words), Figures(tuple(figures))))


def believed(report: Report) -> Section:
    """Whether numbers mean what they say."""
    title = "Do its numbers mean what they say?"
    figures = [*reliability_figures(report, report.split), *cure_figures(report, report.split)]
    if not figures:
        return Section("reliability", title, (Words("Nothing is kept of predicted beside observed."),))
    return Section("reliability", title, (Figures(tuple(figures)),))


def importance(report: Report) -> Section:
    """Permutation importance by groups."""
    title, found = "What it leans on", report.evaluation.importance
    if not found:
        return Section("importance", title, (Words("Nothing was shuffled to see what the model leans on."),))
    rows = [(of.group, ", ".join(of.columns) or "the picture") for of in found]
    columns = table_of("Groups", ("group", "columns"), rows)
    return Section("importance", title, (Figures((importance_figure(found),)), columns))


def leaks(report: Report) -> Section:
    """What was looked for and what was found."""
    title, findings = "Checks for leaks", report.evaluation.findings
    if not findings:
        return Section(
            "leaks", title, (Words("No check for leaks was run: distrust a score that is too good."),)
        )
    found = tuple(f"{of.check}: {of.text}" for of in findings if of.leak)
    clear = tuple(f"{of.check}: {of.text}" for of in findings if not of.leak)
    alarm: list[Part] = [Alarm("Leaks", found)] if found else [Words("No check found a leak.")]
    return Section("leaks", title, (*alarm, *([Lines(clear)] if clear else [])))


def calibration(report: Report) -> Section:
    """How outputs became chances, or how far counts scatter."""
    title, of = "Calibration", report.calibration
    if report.dispersion is not None:
        said = report.dispersion
        words = (
            f"Counts scatter about what is expected of them with Var = mu + k mu², k = {said.k:.3g} in the "
            f"form {said.form}, found on tiles that the models did not see."
        )
        return Section("calibration", title, (Words(words),))
    if of is None:
        return Section(
            "calibration",
            title,
            (Words("Outputs are not calibrated: read them as an order, not as chances."),),
        )
    how = "Platt's sigmoid" if of.method == "platt" else "an isotonic curve"
    words = (
        f"Chances come from {how}, learned on {of.tiles:,} tiles that the models did not see, "
        f"{of.positives:,} of "
        "them of high risk."
    )
    rows = [
        (measure_head(name), f"{before:.3f}", f"{after:.3f}")
        for name in ("brier", "ece")
        if (before := report.value(report.split, report.model, name)) is not None
        and (after := report.value(report.split, report.model, f"{name}_calibrated")) is not None
    ]
    parts: list[Part] = [Words(words)]
    if rows:
        header = ("measure", "before", "calibrated, leaving one fold out")
        parts.append(table_of("What calibration changes", header, rows, (1, 2)))
    return Section("calibration", title, (*parts, Figures((calibration_figure(of.knots),))))


def robustness(report: Report) -> Section:
    """What another choice would have given."""
    title = "Robustness"
    if not report.robustness:
        words = (
            "Not asked for: roadrisk evaluate MODEL DATASET --robustness -o REPORT.html tries other cells, "
            "another label and fewer facts, and trains anew for each."
        )
        return Section("robustness", title, (Words(words),))
    return Section("robustness", title, tuple(given_table(table) for table in report.robustness))


def consistency(report: Report) -> Section:
    """How well ways to rank places hold over two periods."""
    told = report.evaluation.next_period
    title = "Site consistency"
    if told is None or not told.consistency:
        return Section("consistency", title, (Words("It needs events of two periods."),))
    rows = [
        (
            model_words(of.model),
            f"{of.top_percent} %",
            f"{of.tiles:,}",
            amount(of.events_later),
            f"{of.same_places:,}",
            amount(of.rank_change),
        )
        for of in told.consistency
    ]
    header = (
        "ranked by",
        "called hot",
        "tiles",
        "events there later",
        "called hot again",
        "mean change of rank",
    )
    words = (
        "A ranking that is worth money holds: places called hot in one period have events in the next. A "
        "model that is told nothing of past events ranks both periods nearly alike, right or wrong; of it "
        "only the events there later tell anything."
    )
    hot = table_of("Tiles called hot in the first period, in the second", header, rows, (1, 2, 3, 4, 5))
    return Section("consistency", title, (Words(words), hot))


def measures(report: Report) -> Section:
    """The same numbers as in `model.json`."""
    tables = tuple(every_measure(report, split) for split, models in report.metrics.items() if models)
    none = (Words("The model keeps no measures."),)
    return Section("measures", "Every measure", tables or none)


def origin(report: Report) -> Section:
    """Everything the model was made from."""
    about = report.provenance
    told = [str(line) for name in ("warnings", "notes", "choices") for line in about.get(name, ())]
    parts: list[Part] = [Lines(tuple(told))] if told else []
    parts += origin_tables(about)
    if report.columns or about.get("left_out"):
        parts.append(fact_table(report))
    return Section(
        "origin", "Settings and inputs", tuple(parts) or (Words("The model keeps nothing of its origin."),)
    )


def _not_asked(report: Report) -> str:
    """Why there is no second table: as training noted it, else that it was never tried."""
    noted = [str(note) for note in report.provenance.get("notes", ()) if str(note).startswith(NOT_JUDGED)]
    if noted:
        return f"This question could not be asked. {noted[0][:1].upper()}{noted[0][1:]}."
    return "This question was not asked: the training was a quick one, or of an older version."


def _no_intervals(report: Report, split: str) -> list[Part]:
    return [] if report.evaluation.intervals.get(split) else [Words(NO_INTERVALS)]


def _window(dates: tuple[str, str]) -> str:
    return f"{dates[0]} to before {dates[1]}"
