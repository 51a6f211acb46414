"""The training loop: what it ends with, what it leaves alone, and what it says when something goes wrong."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lessons import (
    CLASS,
    COUNT,
    CPU,
    FEATURES,
    VALUE,
    cpu_fabric,
    largest_difference,
    lesson_of,
    network_for,
    same,
    settings_with,
    trained,
)
from torch.nn.functional import binary_cross_entropy_with_logits

from roadrisk.errors import ModelError, UsageError
from roadrisk.learning.batches import TURNS, Lesson
from roadrisk.learning.loop.devices import device_of, fabric_of
from roadrisk.learning.loop.fit import drawn, fit, raw_outputs
from roadrisk.learning.loop.learner import Epoch
from roadrisk.learning.loop.logs import epoch_log
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Target, Task
from roadrisk.nets.batch import Batch
from roadrisk.nets.fusion import MultiModalNN
from roadrisk.nets.image import PretrainedCNN, TunedEncoder

HERE = Path(__file__).parent


def bare_loop(lesson: Lesson, epochs: int, seed: int, **given: Any) -> dict[str, torch.Tensor]:
    """The same training as torch's own documentation would write it, with a plain loop in each optimiser."""
    network = network_for()
    label = torch.from_numpy(lesson.label).float()
    settings = settings_with(epochs=epochs, **given)
    rate, batch = settings.learning_rate, settings.batch_size
    optimiser = torch.optim.AdamW(
        network.parameters(), rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay, foreach=False
    )
    steps = epochs * -(-len(lesson) // batch)
    schedule = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps),
        "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(
            optimiser, rate, steps, cycle_momentum=False
        ),
    }[settings.schedule]()
    average: dict[str, torch.Tensor] = {}
    for epoch in range(1, epochs + 1):
        order, turns, _ = drawn(len(lesson), settings.augment, seed, epoch)
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            raw = network(lesson.inputs.batch(rows, turns[rows], CPU))[:, 0]
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(raw, label[rows]).backward()
            if settings.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimiser.step()
            schedule.step()
            state = {name: value.detach().clone() for name, value in network.state_dict().items()}
            decay = settings.average if average else 0
            average = {
                name: decay * average.get(name, value) + (1 - decay) * value for name, value in state.items()
            }
    return average if settings.average else state


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"schedule": "cosine", "weight_decay": 0.1},
        {"schedule": "one-cycle", "clip_norm": 0.05},
        {"average": 0.8, "augment": True},
        {"schedule": "cosine", "average": 0.5, "clip_norm": 0.1, "weight_decay": 0.01, "batch_size": 7},
        {"batch_size": 100},
    ],
    ids=str,
)
def test_it_is_the_loop_of_the_books(given: dict[str, Any]) -> None:
    lesson = lesson_of(40)
    state = trained(lesson, epochs=4, seed=3, **given)
    assert largest_difference(state, bare_loop(lesson, 4, 3, **given)) < 2e-6
    assert largest_difference(state, network_for().state_dict()) > 1e-3


def test_same_seed_same_weights_and_other_seed_others() -> None:
    lesson = lesson_of(40)
    given = {"dropout": 0.5, "augment": True}
    first = trained(lesson, **given)
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(first, trained(lesson, **given))
    assert not same(first, trained(lesson, seed=1, **given))
    assert all(value.device == CPU and value.is_contiguous() for value in first.values())


def test_the_result_is_a_copy() -> None:
    network = network_for()
    state = trained(lesson_of(40), network=network)
    kept = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert same(state, kept)


@pytest.mark.parametrize("training", [True, False])
def test_generators_mode_and_flags_are_as_they_were(training: bool) -> None:
    network = network_for(dropout=0.5).train(training)
    generator, numpys = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    trained(lesson_of(40), lesson_of(20, 1), network=network)
    raw_outputs(network, lesson_of(20).inputs, CPU)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert np.random.get_state()[1].tolist() == numpys
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == flags
    assert network.training is training


class Passed(torch.nn.Module):
    """A body of two numbers, of which one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.tuned = torch.nn.Linear(FEATURES, 4), torch.nn.Linear(4, 4)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.tuned(self.frozen(pictures).relu())


def test_a_tuned_encoder_learns_at_its_own_rate() -> None:
    """Adam's first step is as long as the rate, whatever the gradient."""
    body = Passed()
    encoder = TunedEncoder(body, 4, ("tuned.weight", "tuned.bias"))
    network = MultiModalNN(
        [PretrainedCNN(encoder, dropout=0.0)],
        None,
        "concat",
        1,
        dispersed=False,
        dropout=0.0,
        modality_dropout=0.0,
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = trained(
        lesson_of(32), network=network, epochs=1, batch_size=32, learning_rate=0.01, encoder_rate=0.05
    )
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    longest = {name.split(".")[-2]: length for name, length in moved.items() if name.endswith("weight")}
    assert longest["tuned"] == pytest.approx(0.0005, rel=1e-3)
    assert longest["frozen"] == 0
    assert longest["linear"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("task", "kind"),
    [(CLASS, "class"), (Task(classes=("low", "mid", "high")), "classes"), (VALUE, "value"), (COUNT, "count")],
    ids=["two classes", "three classes", "value", "count"],
)
def test_every_task_learns(task: Task, kind: str) -> None:
    told: list[Epoch] = []
    given = {"epochs": 15, "batch_size": 32, "learning_rate": 0.01}
    trained(lesson_of(256, kind=kind), lesson_of(128, 1, kind), task, after_epoch=told.append, **given)
    first, best = told[0].watched_loss, min(epoch.watched_loss for epoch in told)
    assert best < first - 0.05


def against(tiles: int) -> Lesson:
    """Labels that say the opposite, so that learning makes their loss worse."""
    lesson = lesson_of(tiles, 1)
    return replace(lesson, label=1 - lesson.label)


def test_it_stops_when_the_watched_loss_falls_no_more_and_keeps_the_best() -> None:
    told: list[Epoch] = []
    given = {"epochs": 40, "learning_rate": 0.003}
    watched = lesson_of(40, 5)
    watched.label[::2] = 1 - watched.label[::2]
    state = trained(lesson_of(40), watched, patience=3, after_epoch=told.append, **given)
    losses = [epoch.watched_loss for epoch in told]
    best = losses.index(min(losses)) + 1
    assert len(told) == best + 3 < 40
    assert same(state, trained(lesson_of(40), **given | {"epochs": best}))
    told.clear()
    trained(lesson_of(40), against(40), patience=1, after_epoch=told.append, **given)
    assert len(told) <= 3


def test_without_watched_tiles_all_epochs_run() -> None:
    told: list[Epoch] = []
    trained(lesson_of(40), epochs=9, patience=1, after_epoch=told.append)
    assert [(epoch.number, epoch.of, epoch.watched_loss) for epoch in told] == [
        (n, 9, None) for n in range(1, 10)
    ]
    assert all(epoch.seconds > 0 for epoch in told)


def test_watched_tiles_teach_nothing() -> None:
    given = {"epochs": 2, "patience": 2}
    watched = lesson_of(20, 1)
    first = trained(lesson_of(40), watched, **given)
    assert same(first, trained(lesson_of(40), replace(watched, label=watched.label * 0.999), **given))


def test_losses_told_are_those_of_the_network() -> None:
    told: list[Epoch] = []
    lesson, watched = lesson_of(40), lesson_of(20, 1)
    trained(lesson, epochs=1, batch_size=40, after_epoch=told.append)
    state = trained(lesson, watched, epochs=1, batch_size=5, average=0.5, after_epoch=told.append)

    def mean_loss(of: Lesson, weights: dict[str, torch.Tensor]) -> float:
        network = network_for()
        network.load_state_dict(weights)
        raw = torch.from_numpy(raw_outputs(network, of.inputs, CPU)[:, 0])
        return float(binary_cross_entropy_with_logits(raw, torch.from_numpy(of.label)))

    assert told[0].loss == pytest.approx(mean_loss(lesson, network_for().state_dict()), abs=1e-6)
    assert told[1].watched_loss == pytest.approx(mean_loss(watched, state), abs=1e-6)


class Seen:
    """Tensors of pictures that note the turns asked for."""

    def __init__(self, lesson: Lesson) -> None:
        self.turns: list[int] = []
        self.own = lesson.inputs.images[0]
        self.lesson = replace(lesson, inputs=replace(lesson.inputs, images=(self,)))

    def __call__(self, indices: Any, turns: Any) -> torch.Tensor:
        self.turns += turns.tolist()
        return self.own(indices, turns)


def test_each_tile_is_turned_in_each_epoch_when_asked() -> None:
    for augment in (True, False):
        seen = Seen(lesson_of(100, pictured=1.0))
        trained(seen.lesson, epochs=2, augment=augment)
        assert len(seen.turns) == 200
        assert set(seen.turns) == (set(range(TURNS)) if augment else {0})
        assert (seen.turns[:100] != seen.turns[100:]) is augment
        order, turns, _ = drawn(100, augment, 0, 1)
        assert seen.turns[:100] == turns[order].tolist()


def test_an_epoch_draws_from_its_own_seed() -> None:
    first, again, other = drawn(50, True, 0, 1), drawn(50, True, 0, 1), drawn(50, True, 0, 2)
    assert sorted(first.order) == list(range(50))
    assert np.array_equal(first.order, again.order)
    assert np.array_equal(first.turns, again.turns)
    assert first.seed == again.seed
    assert not np.array_equal(first.order, other.order)
    assert not np.array_equal(first.turns, other.turns)
    assert first.seed != other.seed
    assert first.seed != drawn(50, True, 0, 1, process=1).seed
    assert np.array_equal(first.order, drawn(50, True, 0, 1, process=1).order)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_drops_nothing_and_keeps_the_order(training: bool) -> None:
    network, lesson = network_for(dropout=0.9).train(training), lesson_of(600)
    raw = raw_outputs(network, lesson.inputs, CPU)
    assert raw.shape == (600, 1)
    assert raw.dtype == np.float64
    assert np.array_equal(raw, raw_outputs(network, lesson.inputs, CPU))
    batch = lesson.inputs.batch(np.arange(600), np.zeros(600, int), CPU)
    with torch.no_grad():
        np.testing.assert_allclose(raw, network.eval()(batch).numpy(), atol=1e-6)


def test_scoring_says_the_mean_over_all_turns() -> None:
    network, lesson = network_for(COUNT), lesson_of(30)
    one_turn = []
    for turn in range(TURNS):
        turned = replace(
            lesson.inputs,
            images=(
                lambda indices, _, turn=turn: lesson.inputs.images[0](indices, np.full(len(indices), turn)),
            ),
        )
        one_turn.append(raw_outputs(network, turned, CPU))
    raw = raw_outputs(network, lesson.inputs, CPU, augment=True)
    assert raw.shape == (30, 2), "the mean and the log of the dispersion"
    np.testing.assert_allclose(raw, np.mean(one_turn, axis=0), atol=1e-7)
    assert not np.allclose(raw, one_turn[0], atol=1e-4)


def test_no_tile_is_scored_as_none() -> None:
    assert raw_outputs(network_for(), lesson_of(0).inputs, CPU).shape == (0, 1)


def test_a_loss_that_is_not_finite_says_which_tiles() -> None:
    lesson = lesson_of(40)
    lesson.inputs.numbers[17] = np.inf
    network = network_for().eval()
    batch = int(np.flatnonzero(drawn(40, False, 0, 1).order == 17)[0]) // 8
    with pytest.raises(ModelError) as error:
        trained(lesson, network=network)
    assert str(error.value) == (
        f"training went astray: the loss is nan in epoch 1, batch {batch + 1} (tiles t017); "
        "use a smaller learning_rate, or look for extreme values in their facts"
    )
    assert not network.training
    lesson.inputs.numbers[:] = np.nan
    named = ", ".join(lesson.key[drawn(40, False, 0, 1).order[:3]])
    with pytest.raises(
        ModelError, match=rf"the loss is nan in epoch 1, batch 1 \(tiles {named} and 5 more\); use a"
    ):
        trained(lesson)


def test_a_watched_loss_that_is_not_finite_is_told() -> None:
    watched = lesson_of(20, 1)
    watched.inputs.numbers[3] = np.nan
    with pytest.raises(ModelError) as error:
        trained(lesson_of(40), watched)
    assert str(error.value) == (
        "training went astray: the loss on validation tiles is nan; use a smaller learning_rate, "
        "or look for extreme values in the facts"
    )


class Small(torch.nn.Module):
    """Asks for more memory than there is when it is given more than so many tiles, also on the way back."""

    def __init__(self, tiles: int, way_back: bool = False) -> None:
        super().__init__()
        self.inner, self.tiles, self.way_back = network_for(), tiles, way_back
        self.given: list[int] = []

    def forward(self, batch: Batch) -> torch.Tensor:
        tiles = len(batch.has_facts)
        self.given.append(tiles)
        raw = self.inner(batch)
        if tiles > self.tiles and self.way_back and raw.requires_grad:
            raw.register_hook(self.greedy)
        elif tiles > self.tiles:
            self.greedy(raw)
        return raw

    def greedy(self, _: torch.Tensor) -> None:
        torch.empty(1 << 60)


@pytest.mark.parametrize("way_back", [False, True])
@pytest.mark.parametrize("tiles", [1, 3, 5])
def test_without_memory_a_batch_is_taken_in_parts_with_the_same_weights(tiles: int, way_back: bool) -> None:
    said: list[str] = []
    network = Small(tiles, way_back)
    state = trained(lesson_of(45), network=network, batch_size=10, told=said.append, clip_norm=0.1)
    whole = trained(lesson_of(45), network=Small(100), batch_size=10, clip_norm=0.1)
    assert largest_difference(state, whole) < 1e-6
    assert said == [
        "out of memory: batches are taken in smaller parts from here on, which gives the same weights"
    ]
    assert network.given[-1] <= tiles
    assert network.given.count(10) == 1, "what did not fit is not tried again"


def test_tiles_are_watched_and_scored_in_parts_without_memory() -> None:
    network = Small(40)
    raw = raw_outputs(network, lesson_of(300).inputs, CPU)
    np.testing.assert_allclose(raw, raw_outputs(network.inner, lesson_of(300).inputs, CPU), atol=1e-6)


def test_one_tile_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError) as error:
        trained(lesson_of(40), network=Small(0))
    assert str(error.value) == (
        "out of memory with one tile at a time; use a smaller encoder or smaller pictures, "
        "or a machine with more memory"
    )


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    lesson = lesson_of(40)
    wrong = replace(lesson, inputs=replace(lesson.inputs, numbers=lesson.inputs.numbers[:, :2]))
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):
        trained(wrong)


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_mixed_precision_learns_and_leaves_nothing_behind(precision: str) -> None:
    given = {"epochs": 6, "batch_size": 32, "learning_rate": 0.01, "precision": precision, "clip_norm": 1.0}
    fabric, told = cpu_fabric(precision=precision), []
    first = trained(lesson_of(256), fabric=fabric, after_epoch=told.append, **given)
    assert told[-1].loss < told[0].loss - 0.1
    assert {value.dtype for value in first.values()} == {torch.float32}
    exact = trained(lesson_of(256), **given | {"precision": "32"})
    assert not same(first, exact)
    # a scale of the loss that an earlier training has lowered
    if precision == "16":
        fabric.strategy.precision.load_state_dict(
            fabric.strategy.precision.state_dict() | {"scale": 2.0, "_growth_tracker": 5}
        )
    assert same(first, trained(lesson_of(256), fabric=fabric, **given))


def test_a_half_precision_step_that_overflows_is_left_out_in_silence(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """The first scale of a loss is a guess; torch would warn of the schedule."""
    lesson = lesson_of(40, kind="value")
    told: list[Epoch] = []
    trained(
        replace(lesson, label=lesson.label * 1e4),
        task=VALUE,
        precision="16",
        schedule="one-cycle",
        after_epoch=told.append,
    )
    trained(
        replace(lesson, inputs=replace(lesson.inputs, numbers=lesson.inputs.numbers * 3000)),
        precision="16",
        schedule="cosine",
    )
    assert [str(warning.message) for warning in recwarn] == []


def test_a_plain_training_prints_nothing_and_changes_nothing_around_it() -> None:
    script = """
import logging, signal
import torch
handlers, threads = [signal.getsignal(s) for s in range(1, 31)], torch.get_num_threads()
from lessons import lesson_of, trained
for precision in ("32", "bf16"):
    trained(lesson_of(40), lesson_of(20, 1), precision=precision, average=0.5)
assert [signal.getsignal(s) for s in range(1, 31)] == handlers
assert torch.get_num_threads() == threads
assert torch.get_float32_matmul_precision() == "highest"
assert not torch.are_deterministic_algorithms_enabled()
assert not torch.distributed.is_initialized()
root = logging.getLogger()
assert (root.level, root.handlers) == (logging.WARNING, [])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_devices_and_processes_that_are_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == CPU
    with pytest.raises(UsageError, match=r"^--device cuda: torch finds no GPU here; use --device cpu$"):
        fabric_of(TrainSettings(device="cuda"))
    with pytest.raises(UsageError) as error:
        fabric_of(settings_with(devices=2, nodes=3))
    assert str(error.value) == (
        "--devices 2 --nodes 3 is 6 processes and there is 1; start them as torchrun "
        "--nproc-per-node 2 --nnodes 3 -m roadrisk train ..."
    )
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--devices 1 --nodes 1 is 1 processes and there are 2; start"):
        fabric_of(settings_with())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="--devices 2: torch finds 1 GPUs here; use as many"):
        fabric_of(settings_with(device="cuda", devices=2))


def test_a_log_is_written_anew_for_each_training(tmp_path: Path) -> None:
    for _ in range(2):
        for name in ("a", "b"):
            with epoch_log("csv", tmp_path, name) as log:
                trained(lesson_of(40), lesson_of(20, 1) if name == "a" else None, after_epoch=log)
    with (tmp_path / "a" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert all(float(row[column]) > 0 for row in rows for column in ("loss", "watched_loss", "seconds"))
    assert (tmp_path / "b" / "metrics.csv").read_text().startswith("loss,seconds,step\n")
    with epoch_log(None, tmp_path / "none", "a") as log:
        log(Epoch(1, 1, 0.5, None, None, 1.0))
    assert not (tmp_path / "none").exists()


def test_tensorboard_reads_the_log(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told: list[Epoch] = []
    for _ in range(2):
        with epoch_log("tensorboard", tmp_path, "a") as log:
            told.clear()
            trained(
                lesson_of(40), lesson_of(20, 1), after_epoch=lambda epoch: (told.append(epoch), log(epoch))
            )
    events = accumulator.EventAccumulator(str(tmp_path / "a")).Reload()
    for tag, wanted in (("loss", "loss"), ("watched_loss", "watched_loss")):
        assert [(e.step, e.value) for e in events.Scalars(tag)] == [
            (epoch.number, pytest.approx(getattr(epoch, wanted), rel=1e-6)) for epoch in told
        ]


def test_a_log_that_needs_what_is_not_installed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadrisk.learning.loop.logs.find_spec", lambda name: None)
    with pytest.raises(UsageError) as error, epoch_log("tensorboard", tmp_path, "a"):
        pass
    assert str(error.value) == (
        "--log tensorboard needs the package tensorboard; pip install tensorboard, or use --log csv"
    )


def test_settings_of_no_epoch_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not resolved"):
        fit(network_for(), lesson_of(8), None, CLASS, Target(), TrainSettings(), 0, cpu_fabric())
