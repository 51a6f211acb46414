"""What the page of a road model calls methods and measures."""

from __future__ import annotations

from roadrisk.roads.judging.judged import METHODS
from roadrisk.roads.judging.measures import NEAR_M, NEAR_WITHOUT_SCALE_PX

HEADS = {
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "relaxed_precision": "relaxed precision",
    "relaxed_recall": "relaxed recall",
    "relaxed_f1": "relaxed F1",
    "apls": "connectedness",
}
SHOWN = ("iou", "precision", "recall", "f1", "relaxed_f1", "apls")  # what is read first
WEAK = (
    "Its roads are centre-lines drawn with a width: weak labels. Every measure here is against these drawn "
    "lines, not against what is on the ground. Where it rightly finds a road that the lines lack, or show a "
    "few metres away, that counts as wrong; the relaxed measures forgive the second, nothing the first."
)
NO_INTERVALS = "No interval is given: units lie in fewer than 20 blocks."


def method_words(name: str) -> str:
    """What the page calls a method.

    >>> method_words("all_road"), method_words("mine")
    ('all road', 'mine')
    """
    return METHODS.get(name, name)


def method_place(name: str) -> tuple[int, str]:
    """Where a method stands among others; those nobody knows come last, by name."""
    return (list(METHODS).index(name) if name in METHODS else len(METHODS)), name


def head(metric: str) -> str:
    """Head of a measure's column.

    >>> head("iou"), head("mine")
    ('IoU', 'mine')
    """
    return HEADS.get(metric, metric)


def near_words(metres_per_pixel: float | None) -> str:
    """How far apart roads may be to count as the same in relaxed measures.

    >>> near_words(0.5), near_words(None)
    ('3 m', '3 pixels')
    """
    return f"{NEAR_WITHOUT_SCALE_PX:g} pixels" if metres_per_pixel is None else f"{NEAR_M:g} m"


def glossary(metres_per_pixel: float | None) -> tuple[tuple[str, str], ...]:
    """Words and what they mean."""
    near = near_words(metres_per_pixel)
    return (
        ("IoU", "Intersection over union: pixels that are both true and drawn road, of all that are either."),
        ("precision", "Share of the drawn road that is true road."),
        ("recall", "Share of the true road that is drawn."),
        ("F1", "Harmonic mean of precision and recall. It ranks as IoU does, and is higher."),
        (
            "relaxed",
            f"A drawn pixel is right where true road lies within {near}, a true one found where drawn road "
            "does: the measure of the Massachusetts Roads set (Mnih 2013).",
        ),
        (
            "connectedness",
            "Like APLS: how far ways along drawn roads are as long as those along true ones, and the other "
            "way round; 1 is the same, 0 is no way at all. Not to be set beside published APLS, which is of "
            "vectors.",
        ),
        ("level", "What the network says of a pixel, from 0, surely no road, to 255, surely road."),
        ("unit", "A tile of a dataset, or a whole picture of a folder."),
        (
            "95 % interval",
            "Measures of 1,000 draws of whole blocks of units; 95 % of them lie between its ends.",
        ),
    )
