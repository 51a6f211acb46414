"""Tiles put together: nothing is lost or made up, whatever the lattice and its offset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadrisk.coarsening import CoarserReader, coarser
from roadrisk.columns import Column
from roadrisk.dataset import Dataset
from roadrisk.errors import ModelError
from roadrisk.gathering import gathered
from roadrisk.grid import Grid
from roadrisk.inputs import Tiles, tiles_of_dataset
from roadrisk.learning.settings import TrainSettings, resolved

ROWS, COLS = 5, 6


def column(name: str, combine: str, by: tuple[str, ...] = (), dtype: str = "float64") -> Column:
    return Column(name, dtype, "", "feature", combine, "", "source", by=by)  # type: ignore[arg-type]


COLUMNS = (
    column("road_m", "sum"),
    column("crashes", "sum"),
    column("straight_m", "sum"),
    column("speed", "mean", ("road_m",)),
    column("slope", "mean"),
    column("bent", "ratio", ("road_m", "straight_m")),
    column("near_m", "min"),
    column("lanes", "max"),
    column("lit", "any", dtype="bool"),
    column("use", "mode", dtype="object"),
    column("taken_last", "max", dtype="object"),
    column("named", "none", dtype="object"),
    Column("eligible", "bool", "", "info", "none", ""),
    Column("label", "boolean", "", "label", "none", ""),
)


def tiles(seed: int = 0, x0: int = 7, y0: int = -9) -> Tiles:
    """A small region of tiles of 100 m with every way to combine, and values that miss."""
    chance = np.random.default_rng(seed)
    n = ROWS * COLS
    numbers = {c.name: chance.gamma(2, 1, n) for c in COLUMNS[:9]}
    for name in ("crashes", "speed", "slope", "near_m", "lanes"):
        numbers[name][chance.random(n) < 0.3] = np.nan
    numbers["bent"] = numbers["road_m"] / numbers["straight_m"]
    row, col = np.divmod(np.arange(n), COLS)
    frame = pd.DataFrame(
        numbers
        | {
            "tile_id": [f"t{i}" for i in range(n)],
            "row": row,
            "col": col,
            "lit": chance.random(n) < 0.3,
            "use": chance.choice(np.array(["a", "b", "c", None], object), n),
            "taken_last": chance.choice(np.array(["2020-01-01", "2021-06-01", None], object), n),
            "named": "x",
            "eligible": chance.random(n) < 0.7,
            "label": chance.random(n) < 0.2,
        }
    )
    grid = Grid("cell", "EPSG:32619", 0.0, 0.0, 100.0, x0, y0, ROWS, COLS)
    manifest: dict[str, Any] = {"name": "small", "windows": {}, "label": None, "rights": []}
    return Tiles(
        name="small",
        identity="small",
        path=None,  # type: ignore[arg-type]
        frame=frame,
        columns=COLUMNS,
        keys=frame["tile_id"].to_numpy(object),
        eligible=frame["eligible"].to_numpy(),
        scored=np.ones(n, bool),
        area_km2=chance.uniform(0.009, 0.011, n),
        places=None,
        lattice=(y0 + row, x0 + col, 100.0),
        views=(),
        source=np.full(n, "small", object),
        cell_m=100.0,
        dataset=Dataset(None, grid, (), COLUMNS, "small", manifest),  # type: ignore[arg-type]
    )


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(0, 1), st.sampled_from([2, 3]), st.integers(-5, 5), st.integers(-5, 5))
def test_sums_are_conserved(seed: int, shift: int, factor: int, x0: int, y0: int) -> None:
    fine = tiles(seed, x0, y0)
    cells = coarser(fine, "crashes", factor, shift)
    for name in ("road_m", "crashes", "straight_m"):
        assert cells.tiles.frame[name].sum() == pytest.approx(fine.frame[name].sum(), rel=1e-12)
    assert cells.tiles.area_km2.sum() == pytest.approx(fine.area_km2.sum())
    assert cells.tiles.lattice is not None
    assert fine.lattice is not None
    for of_cell, of_tile in zip(cells.tiles.lattice[:2], fine.lattice[:2], strict=True):
        np.testing.assert_array_equal(of_cell[cells.cell], (of_tile + shift) // factor)
    assert cells.tiles.lattice[2] == cells.tiles.cell_m == 100.0 * factor


def same_text(one: str | None, other: str | None) -> bool:
    return bool(pd.isna(one)) if other is None else one == other


@settings(max_examples=20)
@given(st.integers(0, 30), st.integers(0, 1))
def test_every_fact_is_that_of_the_union(seed: int, shift: int) -> None:
    fine = tiles(seed)
    cells = coarser(fine, "crashes", 2, shift)
    assert cells.left_out == ("named",)
    assert not {"named", "eligible", "label"} & {c.name for c in cells.tiles.columns}
    for number, made in cells.tiles.frame.iterrows():
        of = fine.frame[cells.cell == number]
        km2 = fine.area_km2[cells.cell == number]
        fast = of[of["speed"].notna()]
        expected = {
            "speed": np.average(fast["speed"], weights=fast["road_m"]) if len(fast) else np.nan,
            "slope": (of["slope"] * km2).sum() / km2[of["slope"].notna()].sum()
            if of["slope"].notna().any()
            else np.nan,
            "bent": of["road_m"].sum() / of["straight_m"].sum(),
            "near_m": of["near_m"].min(),
            "lanes": of["lanes"].max(),
            "lit": float(of["lit"].any()),
            "crashes": of["crashes"].sum(min_count=1),
        }
        for name, value in expected.items():
            assert made[name] == pytest.approx(value, nan_ok=True), name
        texts = of[["use"]].assign(km2=km2).dropna().groupby("use")["km2"].sum()
        assert same_text(made["use"], texts.idxmax() if len(texts) else None)
        last = of["taken_last"].dropna()
        assert same_text(made["taken_last"], last.max() if len(last) else None)


def test_a_cell_is_eligible_where_half_of_it_is_known() -> None:
    fine = tiles()
    frame = fine.frame.copy()
    frame["crashes"] = 1.0
    cell = coarser(fine, "crashes").cell
    [whole, *_] = [n for n in np.unique(cell) if (cell == n).sum() == 4]
    members = np.flatnonzero(cell == whole)
    eligible = np.zeros(len(fine), bool)
    eligible[members[3]] = True
    known = [(0, True), (2, True), (3, False), (4, False)]
    for missing, expected in known:
        held = frame.copy()
        held.loc[members[:missing], "crashes"] = np.nan
        made = coarser(replace(fine, frame=held, eligible=eligible), "crashes")
        assert made.tiles.eligible.tolist() == [n == whole and expected for n in range(len(made.tiles))]


def test_no_order_of_tiles_changes_a_cell() -> None:
    fine = tiles()
    order = np.random.default_rng(1).permutation(len(fine))
    assert fine.lattice is not None
    other = replace(
        fine,
        frame=fine.frame.iloc[order].reset_index(drop=True),
        keys=fine.keys[order],
        eligible=fine.eligible[order],
        area_km2=fine.area_km2[order],
        lattice=(fine.lattice[0][order], fine.lattice[1][order], 100.0),
    )
    before, after = coarser(fine, "crashes"), coarser(other, "crashes")
    pd.testing.assert_frame_equal(before.tiles.frame, after.tiles.frame, check_exact=True)
    np.testing.assert_array_equal(before.tiles.area_km2, after.tiles.area_km2)
    np.testing.assert_array_equal(before.cell[order], after.cell)


def test_a_weight_that_is_not_there_is_an_error() -> None:
    fine = tiles()
    bare = replace(
        fine,
        frame=fine.frame.drop(columns="straight_m"),
        columns=tuple(c for c in COLUMNS if c.name != "straight_m"),
    )
    with pytest.raises(
        ModelError,
        match=r"^bent of larger tiles is worked out from straight_m, which the data lacks; leave it out with "
        r"--exclude bent$",
    ):
        coarser(bare, "crashes")


def test_a_table_has_no_larger_tiles() -> None:
    with pytest.raises(ModelError, match=r"is a table, whose rows cannot be put together to larger tiles$"):
        coarser(replace(tiles(), dataset=None), "crashes")


# --- pictures -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Painted:
    """Tiles of 4 x 4 pixels, each with numbers of its own."""

    def read(self, row: int, col: int) -> np.ndarray:
        return np.random.default_rng([row, col]).integers(0, 255, (3, 4, 4), dtype=np.uint8)


def test_a_cells_picture_is_the_mean_of_its_pixels() -> None:
    read = Painted().read
    made = CoarserReader(Painted(), (9, 9), 4, 2, 1).read(2, 5)
    whole = np.block([[read(2, 5), read(2, 6)], [read(3, 5), read(3, 6)]])
    mean = whole.reshape(3, 4, 2, 4, 2).mean(axis=(2, 4))
    assert made.shape == (3, 4, 4)
    np.testing.assert_allclose(made, mean, atol=0.5 + 1e-9)


def test_a_cells_neighbourhood_is_of_cells() -> None:
    reader = CoarserReader(Painted(), (9, 9), 4, 2, 3)
    wide, middle = reader.read(2, 4), CoarserReader(Painted(), (9, 9), 4, 2, 1)
    assert wide.shape == (3, 12, 12)
    for down, right in ((0, 0), (1, 1), (2, 1)):
        part = wide[:, 4 * down : 4 * down + 4, 4 * right : 4 * right + 4]
        np.testing.assert_array_equal(part, middle.read(2 + 2 * (down - 1), 4 + 2 * (right - 1)))
    # beyond the grid there is no picture
    assert not reader.read(0, 0)[:, :4].any()


def test_pictures_of_a_dataset(dataset: Dataset) -> None:
    fine = tiles_of_dataset(dataset, ["aerial"])
    for shift in (0, 1):
        cells = coarser(fine, "crashes_label", 2, shift)
        view = cells.tiles.views[0]
        size_px = fine.views[0].tile_px
        [shown] = view.pictures_of(size_px)
        [own] = fine.views[0].pictures_of(size_px)
        assert len(shown.pictures) == view.has_image.sum() > 20
        assert view.metres_per_pixel == 2 * (fine.views[0].metres_per_pixel or 0)
        index = len(shown.pictures) // 2
        cell = np.flatnonzero(view.has_image)[index]
        members = np.flatnonzero(cells.cell == cell)  # in (row, col) order
        assert len(members) == 4
        places = np.cumsum(fine.views[0].has_image) - 1
        parts = own.pictures.prepared(places[members])
        whole = np.block([[parts[0], parts[1]], [parts[2], parts[3]]])
        small = cv2.resize(whole.transpose(1, 2, 0), (size_px, size_px), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(shown.pictures.prepared(np.array([index]))[0], small.transpose(2, 0, 1))


def test_cells_can_be_learned_from(dataset: Dataset) -> None:
    fine = tiles_of_dataset(dataset, ["aerial"])
    cells = coarser(fine, "crashes_label")
    asked = TrainSettings(
        label="crashes_label", at_least=30.0, inputs="facts", block_m=2 * dataset.grid.cell_m
    )
    learned = gathered([cells.tiles], resolved(asked))
    assert "crashes_label" not in [c.name for c in learned.columns]
    assert 0 < learned.high.sum() < len(learned.examples) <= 64
    assert (
        learned.events.sum()
        == fine.frame["crashes_label"].to_numpy()[np.isin(cells.cell, learned.known)].sum()
    )
