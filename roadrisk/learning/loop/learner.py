"""What changes from step to step while a network learns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from roadrisk.learning.pictures.weights import State
from roadrisk.learning.settings import TrainSettings
from roadrisk.nets.encoders import learning_parameters

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import Precision


@dataclass(frozen=True)
class Epoch:
    """One pass over the training tiles.

    Parameters
    ----------
    number : from 1.
    of : how many there are at most.
    loss : mean over the tiles, each as it was met.
    watched_loss : mean over the watched tiles after the epoch; None where none are watched.
    watched_score : how well these are ranked: AUROC of the riskiest class, else Spearman's correlation.
    seconds : that it took.
    """

    number: int
    of: int
    loss: float
    watched_loss: float | None
    watched_score: float | None
    seconds: float


@dataclass(eq=False)
class Learner:
    """A network and everything that moves with it.

    Parameters
    ----------
    optimiser : as Fabric wraps it.
    schedule : None where the rate is constant.
    average : the moving average of the weights; None where the last ones count.
    precision : knows by how much half-precision losses are scaled.
    of : epochs at most.
    patience : epochs without a lower watched loss before it is done.
    at_once : tiles that go through the network together.
    epochs : done so far.
    best : weights of the epoch with the lowest watched loss; None before one and where none are watched.
    """

    network: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler | None
    average: AveragedModel | None
    precision: Precision
    of: int
    patience: int
    at_once: int
    epochs: list[Epoch] = field(default_factory=list)
    best: State | None = None

    @property
    def judged(self) -> nn.Module:
        """The network whose word counts: the average, where there is one."""
        return self.average.module if self.average is not None else self.network

    @property
    def epochs_without_gain(self) -> int:
        """Epochs since the one with the lowest watched loss."""
        watched = [epoch.watched_loss for epoch in self.epochs if epoch.watched_loss is not None]
        return len(watched) - 1 - watched.index(min(watched)) if watched else 0

    def step(self) -> None:
        """Move the weights by their gradients, the rate by its schedule and the average by the weights."""
        self.optimiser.step()
        if self.schedule is not None:
            with warnings.catch_warnings():
                # a half-precision step is left out where the loss was scaled too much; the schedule is not
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def add(self, epoch: Epoch) -> None:
        """Note an epoch, and the weights where it is the best one yet."""
        self.epochs.append(epoch)
        if epoch.watched_loss is not None and not self.epochs_without_gain:
            self.best = weights_of(self.judged)

    def weights(self) -> State:
        """The best so far, or the last where none are watched."""
        return self.best if self.best is not None else weights_of(self.judged)

    @property
    def done(self) -> bool:
        """Whether there is nothing more to learn."""
        return len(self.epochs) >= self.of or self.epochs_without_gain >= self.patience

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `restore` goes on; only the result where it is done."""
        epochs = [astuple(epoch) for epoch in self.epochs]
        if self.done:
            return {"epochs": epochs, "best": self.weights()}
        return {
            "epochs": epochs,
            "best": self.best,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
            "average": self.average.state_dict() if self.average is not None else None,
            "precision": self.precision.state_dict(),
            "at_once": self.at_once,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as the learner whose state this is."""
        self.epochs = [Epoch(*epoch) for epoch in state["epochs"]]
        self.best = state["best"]
        if self.done:
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.precision.load_state_dict(state["precision"])
        self.at_once = state["at_once"]


def new_learner(network: nn.Module, settings: TrainSettings, steps: int, fabric: Fabric) -> Learner:
    """A learner before its first step.

    Parameters
    ----------
    settings : resolved.
    steps : in an epoch.
    """
    if settings.epochs is None or settings.learning_rate is None:
        raise ValueError("settings that are not resolved have no epochs and no learning rate")
    network.to(fabric.device)
    optimiser = AdamW(
        _groups(network, settings.learning_rate, settings.encoder_rate),
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        # the quickest there is, but it cannot clip gradients that are scaled
        fused=settings.precision != "16",
    )
    average = None
    if settings.average > 0:
        moved = get_ema_multi_avg_fn(settings.average)  # type: ignore[no-untyped-call]
        average = AveragedModel(network, multi_avg_fn=moved)
    precision = fabric.strategy.precision
    # the scale that an earlier training ended with must not show in this one
    precision.load_state_dict(torch.amp.GradScaler(fabric.device.type).state_dict())
    return Learner(
        network,
        cast(Optimizer, fabric.setup_optimizers(optimiser)),
        _schedule(optimiser, settings, settings.epochs * steps),
        average,
        precision,
        settings.epochs,
        settings.patience,
        settings.batch_size,
    )


def weights_of(network: nn.Module) -> State:
    """A copy on the CPU that later steps leave alone."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in network.state_dict().items()
    }


def _groups(network: nn.Module, rate: float, encoder_rate: float) -> list[dict[str, Any]]:
    """Parameters that learn, those of a tuned encoder by themselves."""
    encoder, rest = learning_parameters(network)
    groups = [{"params": rest, "lr": rate}, {"params": encoder, "lr": rate * encoder_rate}]
    return [group for group in groups if group["params"]]


def _schedule(optimiser: AdamW, settings: TrainSettings, steps: int) -> LRScheduler | None:
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=steps)
    if settings.schedule == "one-cycle":
        highest = [group["lr"] for group in optimiser.param_groups]
        return OneCycleLR(optimiser, max_lr=highest, total_steps=steps, cycle_momentum=False)
    return None
