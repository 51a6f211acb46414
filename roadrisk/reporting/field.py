"""What others published, why theirs is easier, and what the report's words mean."""

from __future__ import annotations

from roadrisk.reporting.parts import table_of
from roadrisk.reporting.words import MEASURES

PUBLISHED_WORDS = (
    "Numbers that were published on crash risk from pictures or road graphs. Not one of them may be set "
    "beside a spatial score: their tests are easier, as the last column says. Ours of random folds are the "
    "nearest to them."
)
PUBLISHED = table_of(
    "Published, and why it is easier",
    ("work", "published", "why it is easier"),
    [
        (
            "MMTraCE (arXiv 2512.02920)",
            "AUROC 90.1 %, mean of six states",
            "Split by year only: the same roads are in training and test, so a road's own past tells its "
            "future.",
        ),
        (
            "Najjar et al. 2017",
            "78 % accuracy, three classes, New York",
            "Its split is easier than whole blocks with a buffer. Accuracy depends on how the three classes "
            "were cut, and on how many tiles each has.",
        ),
        (
            "ML4RoadSafety (NeurIPS 2023)",
            "AUROC above 87 %",
            "Its split is easier than whole blocks with a buffer.",
        ),
    ],
)
GLOSSARY = (
    *((of.head, of.meaning) for name, of in MEASURES.items() if not name.startswith("n")),
    ("way to ceiling", "How far a model is on the way from the length of roads alone to the ceiling."),
    ("hit rate", "Share of events in the riskiest part of the area, or of the length of roads."),
    ("PAI", "Prediction accuracy index: hit rate divided by the share of area; 1 is chance."),
    ("PEI", "Prediction efficiency index: PAI as a share of that of the best possible ranking."),
    (
        "95 % interval",
        "Whole spatial blocks are drawn again and again, with replacement; 95 % of the scores lie between "
        "its ends. Models are compared on the same draws.",
    ),
    (
        "spatial folds",
        "Blocks of neighbouring tiles are tested together, and a buffer around them is kept out of training.",
    ),
    ("random folds", "Tiles are drawn one by one, so neighbours of a tested tile are learned from."),
    (
        "CURE plot",
        "Cumulative residuals in the order of one amount (Hauer and Bamfo 1997): it should wander about 0 "
        "within its bounds.",
    ),
    (
        "Empirical Bayes",
        "What a place's own count and the expectation for places like it say together (Hauer 2002). Last "
        "period's worst place is partly luck; this corrects for it.",
    ),
    (
        "site consistency",
        "Events that places called hot in one period have in the next one (Guo, Wu and Lord 2020).",
    ),
    ("underrated", "Tiles where most happened beyond what was predicted."),
)
