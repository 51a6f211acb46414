"""How facts are made ready: from training rows only, the same whatever their order, and as they were before."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from roadrisk.columns import Column, column_from_json
from roadrisk.errors import ModelError, SourceError, UsageError
from roadrisk.learning.examples import Examples
from roadrisk.learning.facts.preparation import (
    KINDS,
    Category,
    Preparation,
    fact_values,
    learned_preparation,
    text_values,
)
from roadrisk.learning.facts.scaling import MOST_KNOTS, Fact
from roadrisk.learning.settings import TrainSettings

FORMATS = Path(__file__).parent / "formats"
DEFAULT = TrainSettings()
EMBEDDING = TrainSettings(facts_network="embedding", categories="embedding")


def column(name: str, combine: str = "none", window: tuple[str, str] | None = None) -> Column:
    return Column(name, "float64", "", "feature", combine, name, window=window)  # type: ignore[arg-type]


def text_column(name: str) -> Column:
    return Column(name, "object", "", "feature", "none", name)


COLUMNS = (
    column("speed"),
    column("road_m", "sum"),
    column("crashes_past", "sum", ("2020-01-01", "2022-01-01")),
)
TEXTS = (text_column("surface"), text_column("owner"))


def examples_of(
    values: np.ndarray,
    columns: tuple[Column, ...],
    area_km2: np.ndarray | None = None,
    texts: np.ndarray | None = None,
    text_columns: tuple[Column, ...] = (),
) -> Examples:
    n = len(values)
    return Examples(
        key=np.array([f"tile {k}" for k in range(n)], dtype=object),
        label=np.zeros(n),
        facts=np.asarray(values, float),
        columns=columns,
        texts=np.empty((n, 0), object) if texts is None else texts,
        text_columns=text_columns,
        area_km2=np.ones(n) if area_km2 is None else area_km2,
        views=(),
        pictures=(),
        picture=np.empty((n, 0), np.int64),
        row=None,
        col=None,
        exposure=np.ones(n),
    )


def texts_only(*columns: list[str | None]) -> Examples:
    texts = np.array(columns, object).T
    return examples_of(np.empty((len(texts), 0)), (), None, texts, TEXTS[: len(columns)])


def made_up(seed: int, n: int = 30) -> Examples:
    chance = np.random.default_rng(seed)
    values = chance.gamma(2.0, 10.0, (n, 3))
    values[chance.random((n, 3)) < 0.2] = np.nan
    texts = chance.choice(np.array(["a", "b", "c", None], object), (n, 2))
    texts[:4, :] = "a"
    texts[4:8, :] = "b"
    return examples_of(values, COLUMNS, chance.uniform(0.05, 0.3, n), texts, TEXTS)


def turned(examples: Examples, rows: list[int], columns: list[int]) -> Examples:
    taken = examples.taken(np.array(rows))
    return replace(
        taken,
        facts=taken.facts[:, columns],
        columns=tuple(COLUMNS[index] for index in columns),
        texts=taken.texts[:, ::-1],
        text_columns=TEXTS[::-1],
    )


SETTINGS = (
    DEFAULT,
    EMBEDDING,
    TrainSettings(scaling={"sum": "log", "default": "quantile"}, impute="mode"),
    TrainSettings(scaling={"sum": "quantile", "none": "log"}, impute="constant"),
)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), given_settings=st.sampled_from(SETTINGS))
def test_training_rows_are_standardised_and_whole(seed: int, given_settings: TrainSettings) -> None:
    examples = made_up(seed)
    preparation = learned_preparation(examples, given_settings)
    numbers, codes = preparation.prepared(examples)
    assert (numbers.dtype, codes.dtype) == (np.float32, np.int64)
    assert (numbers.shape[1], codes.shape[1]) == (
        preparation.shape.numbers,
        len(preparation.shape.categories),
    )
    assert np.isfinite(numbers).all()
    assert ((codes >= 0) & (codes < np.array(preparation.shape.categories))).all()
    facts = numbers[examples.has_facts, :3]
    np.testing.assert_allclose(facts.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(facts.std(axis=0), 1, atol=1e-5)
    assert np.isin(numbers[:, 3:], (0, 1)).all()


def test_sums_are_densities_and_missing_is_the_median() -> None:
    values = np.array([[30.0, 100, 2], [50, 300, 4], [np.nan, np.nan, 1], [70, 200, 9]])
    examples = examples_of(values, COLUMNS, np.array([1.0, 2.0, 4.0, 0.5]))
    preparation = learned_preparation(examples, TrainSettings(scaling={"sum": "standard"}))
    by_name = {fact.column: fact for fact in preparation.facts}
    assert list(by_name) == ["crashes_past", "road_m", "speed"]
    assert by_name["speed"].fill == 50
    assert by_name["road_m"].fill == 150  # of 100, 150, 400 m a km2
    two_years = 731 / 365.25
    assert by_name["crashes_past"].fill == pytest.approx(2 / two_years)  # of 2, 2, 0.25 and 18 a km2
    numbers, codes = preparation.prepared(examples)
    road = np.array([100.0, 150, 150, 400])
    np.testing.assert_allclose(numbers[:, 1], (road - road.mean()) / road.std(), rtol=1e-6)
    # after the facts, where those that are missing in some row are missing
    np.testing.assert_array_equal(numbers[:, 3:], [[0, 0], [0, 0], [1, 1], [0, 0]])
    assert [fact.flagged for fact in preparation.facts] == [False, True, True]
    assert preparation.shape == (5, ())
    assert codes.shape == (4, 0)


def test_a_row_of_which_nothing_is_known_teaches_nothing() -> None:
    values = np.array([[30.0, 100, 2], [50, 300, 4], [70, 200, 9]])
    whole = learned_preparation(examples_of(values, COLUMNS), DEFAULT)
    with_empty = np.concatenate([values, np.full((5, 3), np.nan)])
    assert learned_preparation(examples_of(with_empty, COLUMNS), DEFAULT) == whole
    assert np.isfinite(whole.prepared(examples_of(with_empty, COLUMNS))[0]).all()


def test_other_rows_teach_nothing() -> None:
    examples = made_up(3)
    rows = np.arange(20)
    before = learned_preparation(examples.taken(rows), SETTINGS[2])
    other = replace(examples, facts=examples.facts.copy(), texts=examples.texts.copy())
    other.facts[20:] *= 1000
    other.texts[20:] = "unheard of"
    assert learned_preparation(other.taken(rows), SETTINGS[2]) == before
    np.testing.assert_array_equal(before.prepared(other)[0][:20], before.prepared(examples)[0][:20])


def test_a_tile_twice_as_large_with_twice_as_much_is_the_same() -> None:
    examples = made_up(1)
    preparation = learned_preparation(examples, DEFAULT)
    larger = replace(
        examples, facts=examples.facts * np.array([1.0, 2.0, 2.0]), area_km2=examples.area_km2 * 2
    )
    np.testing.assert_allclose(
        preparation.prepared(larger)[0], preparation.prepared(examples)[0], rtol=1e-5, atol=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    columns=st.permutations(range(3)),
    rows=st.permutations(range(30)),
    given_settings=st.sampled_from(SETTINGS),
)
def test_no_order_of_rows_or_columns_matters(
    seed: int, columns: list[int], rows: list[int], given_settings: TrainSettings
) -> None:
    examples = made_up(seed)
    preparation = learned_preparation(examples, given_settings)
    other = turned(examples, rows, columns)
    assert learned_preparation(other, given_settings) == preparation
    for one, another in zip(preparation.prepared(other), preparation.prepared(examples), strict=True):
        np.testing.assert_array_equal(one, another[rows])


def test_columns_that_tell_nothing_are_dropped_and_said() -> None:
    values = np.array([[1.0, 5.0, np.nan, 0.1 + 0.2], [2.0, 5.0, np.nan, 0.3]] * 10)
    columns = (column("a"), column("same"), column("empty"), column("nearly_same"))
    texts = np.array([[None, "x", f"id {k}", "y" if k % 2 else None] for k in range(20)], object)
    told = tuple(text_column(name) for name in ("no_text", "one_text", "own_text", "a_text"))
    many = np.array([[f"t{k % 65}"] for k in range(200)], object)
    preparation = learned_preparation(examples_of(values, columns, None, texts, told), DEFAULT)
    assert [fact.column for fact in preparation.facts] == ["a"]
    assert preparation.dropped == (
        ("empty", "no value in any training tile"),
        ("nearly_same", "the same in every training tile"),
        ("same", "the same in every training tile"),
        ("a_text", "the same in every training tile"),
        ("no_text", "no value in any training tile"),
        ("one_text", "the same in every training tile"),
        ("own_text", "nearly every tile has a text of its own"),
    )
    crowded = examples_of(np.empty((200, 0)), (), None, many, (text_column("t"),))
    assert learned_preparation(crowded, DEFAULT).dropped == (("t", "65 different texts, more than 64"),)
    assert learned_preparation(crowded.taken(np.arange(190) % 64), DEFAULT).dropped == ()


@pytest.mark.parametrize(
    ("impute", "strategy"), [("median", "median"), ("mode", "most_frequent"), ("constant", "constant")]
)
def test_what_stands_for_missing_is_that_of_scikit_learn(impute: str, strategy: str) -> None:
    chance = np.random.default_rng(5)
    values = chance.integers(0, 6, (200, 2)).astype(float)
    values[chance.random((200, 2)) < 0.3] = np.nan
    values[:, 1] = [np.nan, 4, 2, 7, 2, 4, 9, 1] * 25  # 2 and 4 are as frequent
    columns = (column("a"), column("b"))
    examples = examples_of(values, columns)
    known = examples.has_facts
    filled = SimpleImputer(strategy=strategy).fit(values[known]).transform(values)
    wanted = StandardScaler().fit(filled[known]).transform(filled)
    numbers, _ = learned_preparation(examples, TrainSettings(impute=impute)).prepared(examples)  # type: ignore[arg-type]
    np.testing.assert_allclose(numbers[:, :2], wanted, atol=1e-6)
    np.testing.assert_array_equal(numbers[:, 2:], np.isnan(values))


@pytest.mark.parametrize("n", [3, 500, 3000])
def test_quantiles_are_those_of_scikit_learn(n: int) -> None:
    chance = np.random.default_rng(n)
    # numbers, of which some are the same, between a lowest and a highest one
    values = np.stack([chance.gamma(0.5, 50.0, n), np.round(chance.normal(0, 3, n))], axis=1)
    values[:2, 1] = -50, 50
    columns = (column("a"), column("b"))
    preparation = learned_preparation(
        examples_of(values, columns), TrainSettings(scaling={"none": "quantile"})
    )
    new = np.concatenate([values, chance.normal(0, 40, (50, 2)), [[-1e9, 1e9]]])
    numbers, _ = preparation.prepared(examples_of(new, columns))
    mean, std = np.array([[fact.mean, fact.std] for fact in preparation.facts]).T
    knots = min(n, MOST_KNOTS)
    rival = QuantileTransformer(n_quantiles=knots, output_distribution="normal", subsample=None).fit(values)
    assert {len(fact.knots) for fact in preparation.facts} == {knots}
    np.testing.assert_allclose(numbers * std + mean, rival.transform(new), atol=1e-5)


def test_equal_values_have_the_middle_of_their_ranks_at_the_ends_too() -> None:
    values = np.concatenate([np.zeros(601), np.linspace(1, 100, 400)])
    preparation = learned_preparation(
        examples_of(values[:, None], (column("a"),)), TrainSettings(scaling={"none": "quantile"})
    )
    numbers, _ = preparation.prepared(examples_of(np.array([[0.0], [50], [100]]), (column("a"),)))
    fact = preparation.facts[0]
    zero, half, most = numbers[:, 0] * fact.std + fact.mean
    assert zero == pytest.approx(-0.524, abs=2e-3)  # the normal number of rank 0.3
    assert half == pytest.approx(0.84, abs=1e-2)  # of rank 0.8
    assert most == pytest.approx(5.2, abs=1e-2)
    assert abs(numbers[0, 0]) < 1


def test_logarithms_are_those_of_densities_and_have_a_sign() -> None:
    values = np.array([[10.0, -9.0], [1000.0, 0.0], [0.0, 99.0], [4.0, 9.0]])
    columns = (column("road_m", "sum"), column("slope"))
    examples = examples_of(values, columns, np.full(4, 0.5))
    given_settings = TrainSettings(scaling={"sum": "log", "default": "log"})
    numbers, _ = learned_preparation(examples, given_settings).prepared(examples)
    density = np.log1p(values[:, 0] / 0.5)
    slope = np.log(10) * np.array([-1, 0, 2, 1])
    for place, wanted in enumerate((density, slope)):
        np.testing.assert_allclose(
            numbers[:, place], (wanted - wanted.mean()) / wanted.std(), rtol=1e-5, atol=1e-7
        )


def test_each_kind_of_column_has_its_own_scaling() -> None:
    columns = tuple(column(kind, kind) for kind in KINDS[:-1])
    examples = examples_of(np.random.default_rng(0).gamma(2, 3, (40, len(columns))), columns)
    others = dict.fromkeys(KINDS[:-1], "standard")
    facts = learned_preparation(examples, DEFAULT).facts
    assert {fact.column: fact.scaling for fact in facts} == {**others, "sum": "quantile"}
    facts = learned_preparation(examples, TrainSettings(scaling={"sum": "log", "mean": "quantile"})).facts
    assert {fact.column: fact.scaling for fact in facts} == {**others, "sum": "log", "mean": "quantile"}
    facts = learned_preparation(examples, TrainSettings(scaling={"default": "log", "mean": "standard"})).facts
    others = dict.fromkeys(KINDS[:-1], "log")
    assert {fact.column: fact.scaling for fact in facts} == {**others, "mean": "standard"}
    with pytest.raises(UsageError) as caught:
        learned_preparation(examples, TrainSettings(scaling={"sums": "log"}))
    assert (
        str(caught.value) == "--scaling sums is none of sum, mean, ratio, min, max, any, mode, none, default"
    )


def test_texts_are_codes_by_name_and_what_was_never_met_is_counted() -> None:
    train = texts_only(
        ["paved", "gravel", None, "paved", "gravel"], ["city", "city", "state", "city", "state"]
    )
    preparation = learned_preparation(train, EMBEDDING)
    assert preparation.shape == (0, (3, 3))
    numbers, codes = preparation.prepared(train)
    assert numbers.shape == (5, 0)
    assert codes.T.tolist() == [[1, 1, 2, 1, 2], [2, 1, 0, 2, 1]]  # owner, surface
    other = texts_only(["mud", "gravel", "mud", "", None], ["city", None, "state", "city", "city"])
    assert preparation.prepared(other)[1].T.tolist() == [[1, 0, 2, 1, 1], [0, 1, 0, 0, 0]]
    assert preparation.unseen(other) == {"surface": 3}
    assert preparation.unseen(train) == {}


@pytest.mark.parametrize(
    "given_settings",
    [DEFAULT, TrainSettings(facts_network="embedding"), TrainSettings(categories="embedding")],
)
def test_texts_without_an_embedding_are_one_hot_as_in_scikit_learn(given_settings: TrainSettings) -> None:
    train = texts_only(["b", "a", None, "b", "c", "a", "c"])
    preparation = learned_preparation(train, given_settings)
    new = texts_only(["c", "z", "a", None, "b"])
    numbers, codes = preparation.prepared(new)
    rival = OneHotEncoder(categories=[["a", "b", "c"]], handle_unknown="ignore", sparse_output=False)
    np.testing.assert_array_equal(numbers, rival.fit([["a"], ["b"], ["c"]]).transform(new.texts))
    assert codes.shape == (5, 0)
    assert preparation.shape == (3, ())
    assert preparation.unseen(new) == {"surface": 1}


def test_a_lacking_column_is_named() -> None:
    examples = made_up(0)
    preparation = learned_preparation(examples, DEFAULT)
    assert preparation.columns == ("crashes_past", "road_m", "speed", "owner", "surface")
    fewer = replace(
        examples,
        facts=examples.facts[:, [0, 2]],
        columns=(COLUMNS[0], COLUMNS[2]),
        texts=examples.texts[:, :1],
        text_columns=TEXTS[:1],
    )
    with pytest.raises(ModelError) as caught:
        preparation.prepared(fewer)
    assert str(caught.value) == (
        "the model learned from road_m, owner, which the data lacks; add the same sources"
    )


@pytest.mark.parametrize("scaling", ["standard", "log", "quantile"])
def test_a_value_too_far_from_what_was_learned_is_named(scaling: str) -> None:
    examples = made_up(0)
    preparation = learned_preparation(examples, TrainSettings(scaling={"default": scaling}))  # type: ignore[dict-item]
    far = replace(examples, facts=examples.facts.copy())
    far.facts[3, 1] = 1e300
    if scaling == "standard":
        with pytest.raises(ModelError, match=r"^column 'road_m' is too far from what the model learned"):
            preparation.prepared(far)
    else:
        assert np.isfinite(preparation.prepared(far)[0]).all()


@pytest.mark.parametrize(
    ("values", "scaling"),
    [
        ([1e308, -1e308, 0], "standard"),
        ([1e-200, 2e-200, 3e-200], "standard"),
        ([-1.7e308, 1.7e308, 1.7e308], "quantile"),
    ],
)
def test_a_column_that_cannot_be_standardised_is_named(values: list[float], scaling: str) -> None:
    examples = examples_of(np.array(values)[:, None], (column("a"),))
    with pytest.raises(ModelError, match=r"^column 'a' holds values too extreme .* --exclude a$"):
        learned_preparation(examples, TrainSettings(scaling={"default": scaling}))  # type: ignore[dict-item]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_preparation_of_an_old_model_gives_the_same_numbers(number: int) -> None:
    manifest = json.loads((FORMATS / f"model-{number}" / "model.json").read_text())
    columns = tuple(column_from_json(fields) for fields in manifest["columns"])
    chance = np.random.default_rng(number)
    values = chance.gamma(2, 1000, (40, len(columns)))
    values[chance.random(values.shape) < 0.2] = np.nan
    area = chance.uniform(0.05, 0.3, 40)
    for stored in manifest["preparation"]:
        preparation = TypeAdapter(Preparation).validate_python(stored)
        assert preparation.facts
        numbers, codes = preparation.prepared(examples_of(values, columns, area))
        assert codes.shape == (40, 0)
        # as roadrisk 0.4 and before worked them out
        place = {known.name: index for index, known in enumerate(columns)}
        wanted = np.empty((40, len(stored["facts"])), np.float32)
        for index, fact in enumerate(stored["facts"]):
            density = values[:, place[fact["column"]]] / (area if fact["per_km2"] else 1.0) / fact["years"]
            filled = np.where(np.isnan(density), fact["fill"], density)
            wanted[:, index] = (filled - fact["mean"]) / fact["std"]
        np.testing.assert_array_equal(numbers, wanted)


@pytest.mark.parametrize("given_settings", SETTINGS)
def test_what_is_stored_is_read_as_it_was(given_settings: TrainSettings) -> None:
    examples = made_up(7, 50)
    preparation = learned_preparation(examples, given_settings)
    read = TypeAdapter(Preparation).validate_python(json.loads(json.dumps(asdict(preparation))))
    assert read == preparation
    for one, another in zip(read.prepared(examples), preparation.prepared(examples), strict=True):
        np.testing.assert_array_equal(one, another)


FACT = asdict(Fact("a", False, 1.0, 0.0, 0.0, 1.0))
QUANTILE = {**FACT, "scaling": "quantile"}
CATEGORY = asdict(Category("t", ("x", "y"), True))


@pytest.mark.parametrize(
    ("facts", "categories", "said"),
    [
        ([{**FACT, "std": 0.0}], [], "greater than 0"),
        ([{**FACT, "std": float("inf")}], [], "finite number"),
        ([{**FACT, "fill": float("nan")}], [], "finite number"),
        ([{**FACT, "years": -1.0}], [], "greater than 0"),
        ([{**FACT, "scaling": "cube"}], [], "standard"),
        ([{**FACT, "knots": [0.0, 1.0]}], [], "quantiles, but the scaling is standard"),
        ([{**QUANTILE, "knots": []}], [], "0 quantiles; there are 2 to 1000"),
        ([{**QUANTILE, "knots": [0.0] * 500 + [1.0] * 501}], [], "1001 quantiles; there are 2 to 1000"),
        ([{**QUANTILE, "knots": [0.0, 2.0, 1.0]}], [], "must not fall"),
        ([{**QUANTILE, "knots": [1.0, 1.0]}], [], "the last must be above the first"),
        ([{**QUANTILE, "knots": [0.0, float("inf")]}], [], "finite number"),
        ([FACT, FACT], [], "a column enters twice"),
        ([FACT], [{**CATEGORY, "column": "a"}], "a column enters twice"),
        ([], [{**CATEGORY, "texts": ["y", "x"]}], "by name, each once"),
        ([], [{**CATEGORY, "texts": ["x", "x"]}], "by name, each once"),
        ([], [{**CATEGORY, "texts": ["x"]}], "1 texts of a column; there are 2 to 64"),
        ([], [{**CATEGORY, "texts": [f"{k:03}" for k in range(65)]}], "65 texts of a column"),
    ],
)
def test_a_damaged_preparation_is_refused(facts: list[object], categories: list[object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Preparation).validate_python({"facts": facts, "dropped": [], "categories": categories})


def test_fact_values_take_numbers_and_booleans_only() -> None:
    table = pd.DataFrame(
        {
            "n": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "mixed": pd.Series([2, None], dtype=object),
            "empty": pd.Series([None, None], dtype=object),
        }
    )
    values = fact_values(table, ["n", "b", "mixed", "empty"])
    np.testing.assert_array_equal(values, [[1, 1, 2, np.nan], [np.nan] * 4])
    with pytest.raises(
        SourceError, match=r"^column 'surface' is not numbers \(it holds 'paved'\); leave it out"
    ):
        fact_values(pd.DataFrame({"surface": [None, "paved"]}), ["surface"])
    with pytest.raises(SourceError, match=r"^column 'day' is not numbers"):
        fact_values(pd.DataFrame({"day": pd.to_datetime(["2024-01-01"])}), ["day"])
    with pytest.raises(SourceError, match=r"^column 'x' holds infinite values"):
        fact_values(pd.DataFrame({"x": [1.0, np.inf]}), ["x"])


def test_text_values_take_texts_whatever_holds_them() -> None:
    table = pd.DataFrame(
        {
            "text": ["a", None, ""],
            "category": pd.Categorical(["b", None, "a"]),
            "string": pd.array(["c", pd.NA, "d"], dtype="string"),
            "digits": [9.0, np.nan, 20.0],
            "mixed": pd.Series(["9", 9, 1.5], dtype=object),
            "whole": np.array([1, 2, 3], np.int32),
            "flag": [True, False, True],
            "nothing": [np.nan] * 3,
        }
    )
    assert text_values(table, list(table.columns)).T.tolist() == [
        ["a", None, None],
        ["b", None, "a"],
        ["c", None, "d"],
        ["9", None, "20"],
        ["9", "9", "1.5"],
        ["1", "2", "3"],
        ["True", "False", "True"],
        [None] * 3,
    ]
    assert text_values(table, []).shape == (3, 0)
    with pytest.raises(SourceError) as caught:
        text_values(pd.DataFrame({"day": pd.to_datetime(["2024-01-01"])}), ["day"])
    assert str(caught.value) == (
        "column 'day' is not text (it holds '2024-01-01 00:00:00'); leave it out with --exclude day or name "
        "the facts to use with --features"
    )
