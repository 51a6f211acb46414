"""A training that is killed goes on to the weights it would have had; a damaged checkpoint is told."""

import io
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import astuple, replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from lessons import EVERYTHING, cpu_fabric, lesson_of, network_for, same, settings_with, trained

from roadrisk.errors import ModelError
from roadrisk.learning.loop.checkpoints import Checkpoints
from roadrisk.learning.loop.learner import Epoch, new_learner

HERE = Path(__file__).parent
PLAN = "0" * 64


def train_alone(
    folder: Path, out: Path, epochs: int, kill_after: int, precision: str = "32"
) -> tuple[int, list[int]]:
    """Train in a process of its own; its exit status and the epochs it told of."""
    done = subprocess.run(
        [sys.executable, HERE / "lessons.py", folder, out, str(epochs), str(kill_after), precision],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, [int(line) for line in done.stdout.split()]


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    out, checkpoints = tmp_path / "weights", Checkpoints(tmp_path, "fold-0")
    assert train_alone(tmp_path, out, epochs=12, kill_after=3) == (-signal.SIGKILL, [1, 2, 3])
    first = epochs_in(checkpoints)
    assert 1 <= len(first) <= 3
    status, told = train_alone(tmp_path, out, epochs=12, kill_after=7)
    assert (status, told) == (-signal.SIGKILL, [1, 2, 3, 4, 5, 6, 7]), "epochs done before are told again"
    second = epochs_in(checkpoints)
    assert second[: len(first)] == first, "with the seconds that they took: they were not done again"
    told_here: list[Epoch] = []
    lessons, given = (lesson_of(40), lesson_of(24, seed=1)), EVERYTHING | {"epochs": 12}
    resumed = trained(*lessons, checkpoints=checkpoints, after_epoch=told_here.append, **given)
    assert [astuple(epoch) for epoch in told_here[: len(second)]] == second
    assert not out.exists()
    assert same(resumed, trained(*lessons, **given))


def epochs_in(checkpoints: Checkpoints) -> list[tuple[object, ...]]:
    """As the file holds them, after its sha256."""
    kept = torch.load(io.BytesIO(checkpoints.path.read_bytes()[32:]), weights_only=True)
    return list(kept["state"]["epochs"])


class StoppedError(Exception):
    """Stands for a kill at an epoch, in this process."""


@pytest.mark.parametrize("precision", ["32", "bf16", "16"])
@pytest.mark.parametrize("last", [1, 4, 5])
def test_going_on_after_any_epoch_is_exact(tmp_path: Path, last: int, precision: str) -> None:
    checkpoints = Checkpoints(tmp_path, "fold-0")
    whole: list[Epoch] = []
    lessons = lesson_of(40), lesson_of(24, seed=1)
    if precision == "16":  # the first scale of the loss is too much here: it falls, and must stay down
        lessons[0].inputs.numbers[:] *= 3000
    given = EVERYTHING | {"epochs": 6, "precision": precision, "patience": 6}
    expected = trained(*lessons, after_epoch=whole.append, **given)

    def stop(epoch: Epoch) -> None:
        if epoch.number == last:
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(*lessons, checkpoints=checkpoints, after_epoch=stop, **given)
    told: list[Epoch] = []
    resumed = trained(*lessons, checkpoints=checkpoints, after_epoch=told.append, **given)
    assert same(resumed, expected)
    assert [(e.number, e.loss, e.watched_loss) for e in told] == [
        (e.number, e.loss, e.watched_loss) for e in whole
    ]


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    checkpoints, told = Checkpoints(tmp_path, "fold-0"), []
    first = trained(lesson_of(40), checkpoints=checkpoints)
    written = checkpoints.path.stat()
    unused = network_for()
    unused.forward = None  # would fail
    second = trained(lesson_of(40), network=unused, checkpoints=checkpoints, after_epoch=told.append)
    assert same(first, second)
    assert [epoch.number for epoch in told] == [1, 2, 3]
    assert checkpoints.path.stat().st_mtime_ns == written.st_mtime_ns


def test_a_stopped_training_stays_stopped(tmp_path: Path) -> None:
    lesson, told = lesson_of(40), []
    against = lesson_of(24, seed=1)
    against.label[:] = 1 - against.label
    given = {
        "epochs": 30,
        "patience": 2,
        "checkpoints": Checkpoints(tmp_path, "fold-0"),
        "learning_rate": 0.01,
    }
    first = trained(lesson, against, **given)
    second = trained(lesson, against, after_epoch=told.append, **given)
    assert same(first, second)
    assert len(told) < 30


@pytest.mark.parametrize("at", [0.0, 0.01, 0.5, 0.99])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path, at: float) -> None:
    checkpoints = Checkpoints(tmp_path, "fold-0")
    trained(lesson_of(40), checkpoints=checkpoints)
    content = bytearray(checkpoints.path.read_bytes())
    content[int(at * len(content))] ^= 1
    checkpoints.path.write_bytes(content)
    expected = f"{checkpoints.path}: the checkpoint is damaged; remove it to start this part anew"
    with pytest.raises(ModelError) as error:
        trained(lesson_of(40), checkpoints=checkpoints)
    assert str(error.value) == expected
    checkpoints.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError) as error:
        trained(lesson_of(40), checkpoints=checkpoints)
    assert str(error.value) == expected


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Evil(), 2), b"", b"no checkpoint", pickle.dumps([1, 2], 2)],
    ids=["code", "nothing", "text", "list"],
)
def test_a_checkpoint_is_data_only(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints(tmp_path, "x")
    checkpoints.path.write_bytes(sha256(content).digest() + content)
    with pytest.raises(ModelError, match=r"x.checkpoint: the checkpoint is damaged; remove it"):
        checkpoints.last(PLAN)
    evil = tmp_path / "whole"
    torch.save({"plan": PLAN, "state": {"a": Evil()}}, evil)
    checkpoints.path.write_bytes(sha256(evil.read_bytes()).digest() + evil.read_bytes())
    with pytest.raises(ModelError, match=r"x.checkpoint: the checkpoint is damaged; remove it"):
        checkpoints.last(PLAN)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "change", [{"learning_rate": 0.5}, {"seed": 1}, {"epochs": 4}, {"data": 1}, {"weights": 1}]
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, change: dict[str, float]) -> None:
    checkpoints = Checkpoints(tmp_path, "fold-0")
    trained(lesson_of(40), checkpoints=checkpoints)
    lesson, network = lesson_of(40), None
    if "data" in change:
        lesson.inputs.numbers[3, 1] += 1e-6
        change = {}
    elif "weights" in change:
        network, change = network_for(seed=1), {}
    with pytest.raises(ModelError) as error:
        trained(lesson, network=network, checkpoints=checkpoints, **change)
    assert str(error.value) == (
        f"{checkpoints.path} is of another training (other data, settings or seed); "
        "go on with those it began with, or remove it to start this part anew"
    )


def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path) -> None:
    """What a kill while writing leaves is never read, and the last whole one is."""
    checkpoints = Checkpoints(tmp_path / "new", "x")
    assert checkpoints.last(PLAN) is None
    checkpoints.saved(PLAN, {"a": torch.arange(3), "b": [1, 2.5, None, "c"]})
    (tmp_path / "new" / ".tmp-x.checkpoint").write_bytes(b"half")
    kept = checkpoints.last(PLAN)
    assert kept is not None
    assert torch.equal(kept.pop("a"), torch.arange(3))
    assert kept == {"b": [1, 2.5, None, "c"]}
    checkpoints.saved(PLAN, {})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.checkpoint"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file", "x")
    with pytest.raises(
        ModelError, match=r"file/x.checkpoint: the checkpoint cannot be written \(File exists\); make room"
    ):
        checkpoints.saved(PLAN, {})
    with pytest.raises(
        ModelError, match=r"x.checkpoint: the checkpoint cannot be read \(Not a directory\); remove it"
    ):
        checkpoints.last(PLAN)


def test_settings_that_are_not_resolved_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="not resolved"):
        new_learner(network_for(), replace(settings_with(), epochs=None), 1, cpu_fabric())
