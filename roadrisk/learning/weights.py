"""Pretrained weights: had for certain, or an error that says how to get them."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import ResNet34_Weights, resnet34

from roadrisk.errors import ModelError
from roadrisk.learning.settings import TrainSettings

State = dict[str, Tensor]

OPTIONAL = ("num_batches_tracked",)  # counters that older files lack and that evaluation never reads


def encoder_weights(settings: TrainSettings) -> State | None:
    """Weights of the frozen encoder that resolved settings ask for; None where nothing is frozen.

    Raises
    ------
    ModelError : they cannot be had, or do not fit.
    """
    if settings.inputs == "facts" or settings.encoder == "basic":
        return None
    if settings.weights == "imagenet":
        return imagenet_weights()
    return weights_from(Path(str(settings.weights)))


def imagenet_weights() -> State:
    """ResNet34 trained on ImageNet, from torch's cache or else its maker's site.

    Raises
    ------
    ModelError : neither has it.
    """
    weights = ResNet34_Weights.IMAGENET1K_V1
    name = weights.url.rsplit("/", 1)[1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                weights.url, str(path), hash_prefix=_hash_prefix(name), progress=False
            )
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"ImageNet weights are not here and cannot be fetched ({_reason(error)}): download "
                f"{weights.url} on a machine with a network and put {name} into {path.parent}, "
                "or use --weights PATH or --encoder basic"
            ) from None
    elif not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_hash_prefix(name)):
        raise ModelError(f"{path} is not the file it should be; delete it and download {weights.url} again")
    return weights_from(path)


def weights_from(path: Path) -> State:
    """Weights of a ResNet34 from a file, every name and shape as it must be.

    Parameters
    ----------
    path : .safetensors, or a .pth that holds tensors and nothing else. A classifier in it is left out.

    Raises
    ------
    ModelError : no such file, not weights, or not those of a ResNet34.
    """
    if not path.is_file():
        raise ModelError(f"--weights {path}: no such file; give imagenet, or a .pth or .safetensors file")
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise ModelError(
            f"--weights {path} cannot be read as weights; save a state dict with torch.save or safetensors"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"--weights {path} is not a state dict of tensors; save network.state_dict()")
    return _checked(state, path)


def weights_identity(state: State) -> str:
    """The same only for the same names and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _checked(state: State, path: Path) -> State:
    """The body's weights, in its own order of names."""
    with torch.device("meta"):
        wanted = {n: v for n, v in resnet34(weights=None).state_dict().items() if not n.startswith("fc.")}
    given = {name: value for name, value in state.items() if not name.startswith("fc.")}
    missing = [n for n in wanted if n not in given and not n.endswith(OPTIONAL)]
    unexpected = [n for n in given if n not in wanted]
    misshaped = [n for n in given if n in wanted and given[n].shape != wanted[n].shape]
    for what, names in (("lacks", missing), ("has besides", unexpected), ("has in another shape", misshaped)):
        if names:
            some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelError(
                f"--weights {path} is not a ResNet34: it {what} {some}; give weights with torchvision's names"
            )
    broken = [n for n in given if given[n].is_floating_point() and not bool(given[n].isfinite().all())]
    if broken:
        raise ModelError(
            f"--weights {path} holds values that are not finite in {broken[0]}; get the file again"
        )
    whole = {name: torch.tensor(0) for name in wanted if name not in given} | given
    return {name: whole[name].to(value.dtype) for name, value in wanted.items()}


def _hash_prefix(name: str) -> str:
    """The start of its sha256 that torchvision writes into a file's name.

    >>> _hash_prefix("resnet34-b627a593.pth")
    'b627a593'
    """
    return name.rsplit("-", 1)[1].removesuffix(".pth")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", error)).strip("<>") or type(error).__name__
