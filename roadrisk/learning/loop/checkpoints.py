"""Checkpoints of one training: whole or not there, data and never code, and of no other training."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from roadrisk.errors import ModelError
from roadrisk.files import whole_file
from roadrisk.learning.batches import Lesson
from roadrisk.learning.loop.learner import Learner
from roadrisk.learning.settings import TrainSettings
from roadrisk.learning.tasks import Target, Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SUFFIX = ".checkpoint"
# of the time: an epoch on frozen features takes as long as a checkpoint of it
WRITING_SHARE = 0.1
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoints:
    """Where one training keeps how far it is.

    The file is a sha256 and what `torch.save` made of tensors and plain values.

    Parameters
    ----------
    folder : made when something is kept.
    name : of this training, as `spatial-0-fused`; each of a run has its own.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """The one file, replaced by each checkpoint."""
        return self.folder / f"{self.name}{SUFFIX}"

    def saved(self, plan: str, state: Mapping[str, Any]) -> float:
        """Keep a state in place of the last one; the seconds that took.

        Parameters
        ----------
        plan : identity of the training; no other can read it.
        state : tensors and plain values.

        Raises
        ------
        ModelError : it cannot be written.
        """
        started = time.monotonic()
        written = io.BytesIO()
        torch.save({"plan": plan, "state": dict(state)}, written)
        content = written.getbuffer()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as temporary, temporary.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
        except OSError as error:
            raise ModelError(
                f"{self.path}: the checkpoint cannot be written ({error.strerror}); make room, then --resume"
            ) from error
        return time.monotonic() - started

    def last(self, plan: str) -> dict[str, Any] | None:
        """The state kept last, its tensors on the CPU; None where there is none.

        Raises
        ------
        ModelError : the file is damaged, or of another training.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelError(
                f"{self.path}: the checkpoint cannot be read ({error.strerror}); "
                "remove it to start this part anew"
            ) from error
        kept = self._read(content)
        if kept["plan"] != plan:
            raise ModelError(
                f"{self.path} is of another training (other data, settings or seed); "
                "go on with those it began with, or remove it to start this part anew"
            )
        return kept["state"]  # type: ignore[no-any-return]

    @property
    def damaged(self) -> str:
        """What is said of a file that holds no checkpoint of this training."""
        return f"{self.path}: the checkpoint is damaged; remove it to start this part anew"

    def _read(self, content: bytes) -> dict[str, Any]:
        damaged = self.damaged
        body = memoryview(content)[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != content[:_DIGEST_BYTES]:
            raise ModelError(damaged)
        try:
            kept = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise ModelError(damaged) from error
        if (
            not isinstance(kept, dict)
            or set(kept) != {"plan", "state"}
            or not isinstance(kept["state"], dict)
        ):
            raise ModelError(damaged)
        return kept


@dataclass(eq=False)
class Saving:
    """Brings a learner to where it was, and keeps where it is.

    Parameters
    ----------
    checkpoints : None where nothing is kept.
    plan : identity of the training.
    due : when the next checkpoint is written, on the monotonic clock [s].
    """

    checkpoints: Checkpoints | None
    plan: str
    fabric: Fabric
    due: float = 0.0

    def bring(self, learner: Learner) -> None:
        """Restore the last checkpoint, where there is one."""
        if self.checkpoints is None:
            return
        state = self.checkpoints.last(self.plan) if self.fabric.is_global_zero else None
        state = self.fabric.broadcast(state)
        if state is None:
            return
        try:
            learner.restore(state)
            _check_weights(learner)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            raise ModelError(self.checkpoints.damaged) from None

    def keep(self, learner: Learner) -> None:
        """Write a checkpoint after an epoch, if that does not take more than a tenth of the time."""
        if self.checkpoints is None or not self.fabric.is_global_zero:
            return
        if learner.done or time.monotonic() >= self.due:
            seconds = self.checkpoints.saved(self.plan, learner.state())
            self.due = time.monotonic() + seconds / WRITING_SHARE


def _check_weights(learner: Learner) -> None:
    """What a checkpoint brought are weights of this network."""
    wanted, brought = learner.judged.state_dict(), learner.weights()
    if {n: v.shape for n, v in wanted.items()} != {n: v.shape for n, v in brought.items()}:
        raise ValueError("weights of another network")


def saving_of(
    checkpoints: Checkpoints | None,
    fabric: Fabric,
    network: nn.Module,
    lessons: tuple[Lesson | None, ...],
    settings: TrainSettings,
    task: Task,
    target: Target,
    seed: int,
) -> Saving:
    """How a training is kept whose network is as it was before the first step."""
    if checkpoints is None:
        return Saving(None, "", fabric)
    plain = asdict(settings) | {"task": asdict(task), "target": asdict(target), "seed": seed}
    return Saving(checkpoints, plan_of(plain | {"processes": fabric.world_size}, network, *lessons), fabric)


def plan_of(settings: Mapping[str, Any], network: nn.Module, *lessons: Lesson | None) -> str:
    """Identity of a training: all that its weights follow from.

    Parameters
    ----------
    settings : plain values.
    network : as it is before the first step.
    lessons : what it learns from and is watched on.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for lesson in lessons:
        for part in () if lesson is None else _parts(lesson):
            digest.update(f"{part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _parts(lesson: Lesson) -> Iterator[np.ndarray[Any, Any]]:
    inputs = lesson.inputs
    yield np.asarray([str(key) for key in lesson.key])
    yield from (lesson.label, lesson.exposure)
    yield from (inputs.numbers, inputs.codes, inputs.has_facts, inputs.picture)
