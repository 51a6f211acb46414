"""Where a network learns: which device, how precisely, in how many processes."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from roadrisk.errors import UsageError
from roadrisk.learning.settings import TrainSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def device_of(asked: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises
    ------
    UsageError : another is asked for, or a GPU and there is none.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {asked} is not known; use auto, cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU here; use --device cpu")
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


def fabric_of(settings: TrainSettings) -> Fabric:
    """Lightning Fabric on the device, at the precision and in the processes that settings ask for.

    Several processes are started by `torchrun`, and each of them calls this; it returns when all are there.

    Raises
    ------
    UsageError : there is no such device, or not as many processes or GPUs as the settings say.
    """
    # here, not above: it takes over a second, and only training needs it
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision, Precision
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    device, wanted = device_of(settings.device), settings.devices * settings.nodes
    _check_processes(settings, device, wanted)
    precision = Precision()
    if settings.precision != "32":
        precision = MixedPrecision("16-mixed" if settings.precision == "16" else "bf16-mixed", device.type)
    fabric = Fabric(
        accelerator=device.type,
        strategy="ddp" if wanted > 1 else "auto",
        devices=settings.devices,
        num_nodes=settings.nodes,
        # named, so that no cluster is guessed from the environment
        plugins=[precision, TorchElasticEnvironment() if wanted > 1 else LightningEnvironment()],
    )
    if wanted > 1:
        chatter = logging.getLogger("lightning_fabric")
        level = chatter.level
        chatter.setLevel(logging.WARNING)
        fabric.launch()
        chatter.setLevel(level)
    return fabric


def join_gradients(network: nn.Module, fabric: Fabric) -> None:
    """Give each process the sum of all processes' gradients.

    In one piece and by ourselves: DDP sends them while it still goes back through the network, and waits
    for ever for a process that had to take its share in smaller parts, or had none of it.
    A parameter that no process has used keeps no gradient, as in one process.
    """
    if fabric.world_size == 1:
        return
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    used = [parameter.grad is not None for parameter in learning]
    own = [p.grad if p.grad is not None else torch.zeros_like(p) for p in learning]
    flat = torch.cat([*(grad.flatten() for grad in own), own[0].new_tensor(used)])
    joined(flat, fabric)
    *sums, users = torch.split(flat, [parameter.numel() for parameter in learning] + [len(learning)])
    for parameter, grad, total, by in zip(learning, own, sums, users.tolist(), strict=True):
        # in the layout of the parameter, which a fused AdamW takes for granted
        parameter.grad = grad.copy_(total.view_as(grad)) if by else None


def join_buffers(network: nn.Module, fabric: Fabric) -> None:
    """Give each process the mean of all processes' buffers, as of batch norm."""
    if fabric.world_size > 1:
        for buffer in network.buffers():
            if buffer.is_floating_point():
                fabric.all_reduce(buffer, reduce_op="mean")


def joined(values: Tensor, fabric: Fabric) -> Tensor:
    """The sum of all processes' values, in place."""
    if fabric.world_size > 1:
        fabric.all_reduce(values, reduce_op="sum")
    return values


def _check_processes(settings: TrainSettings, device: torch.device, wanted: int) -> None:
    started = int(os.environ["WORLD_SIZE"]) if torch.distributed.is_torchelastic_launched() else 1
    if started != wanted:
        raise UsageError(
            f"--devices {settings.devices} --nodes {settings.nodes} is {wanted} processes and there "
            f"{'is' if started == 1 else 'are'} {started}; start them as torchrun "
            f"--nproc-per-node {settings.devices} --nnodes {settings.nodes} -m roadrisk train ..."
        )
    if device.type == "cuda" and torch.cuda.device_count() < settings.devices:
        raise UsageError(
            f"--devices {settings.devices}: torch finds {torch.cuda.device_count()} GPUs here; use as many"
        )
