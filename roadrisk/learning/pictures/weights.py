"""Pretrained weights: had for certain, or an error that says how to get them."""

from __future__ import annotations

import hashlib
import pickle
import re
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tokenize import TokenError  # numpy's, of the head of an array
from typing import Any
from zipfile import BadZipFile

import httpx
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from roadrisk.errors import ModelError
from roadrisk.learning.settings import TrainSettings
from roadrisk.nets.encoders import AERIAL, TIMM, bare_body, timm_network, without_classifier

State = dict[str, Tensor]

# of ResNet50 too the first recipe: the second one's features, of smoothed labels, serve other tasks less
IMAGENET = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "resnet34": "ResNet34_Weights.IMAGENET1K_V1",
    "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
}
OPTIONAL = ("num_batches_tracked",)  # counters that older files lack and that evaluation never reads
AERIAL_FILE = ("weights", "v3.npz")
# what stands in geoembed's files besides the body: sizes, and the layer that makes its own 256 numbers
AERIAL_BESIDES = ("embed_dim", "base_channels", "pool_size", "fc.weight", "fc.bias")
# what readers raise on files that are damaged, or hold more than tensors
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    BadZipFile,
    zlib.error,
    EOFError,
    MemoryError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    TokenError,
)


def encoder_weights(settings: TrainSettings) -> State | None:
    """Weights of the encoder that resolved settings ask for; None where it starts from nothing.

    Raises
    ------
    ModelError : they cannot be had, or do not fit.
    UsageError : an encoder that is none.
    """
    if settings.inputs == "facts" or settings.encoder == "basic" or settings.weights == "none":
        return None
    if settings.weights == "imagenet":
        return imagenet_weights(settings.encoder)
    if settings.weights == "aerial":
        return aerial_weights(settings.encoder)
    return weights_from(Path(str(settings.weights)), settings.encoder)


def imagenet_weights(encoder: str) -> State:
    """An encoder's own pretrained weights, from its library's cache or else its maker's site.

    Raises
    ------
    ModelError : neither has them.
    UsageError : an encoder that is none.
    """
    if encoder.startswith(TIMM):
        return _timm_weights(encoder)
    if encoder not in IMAGENET:
        raise ModelError(f"--weights imagenet: there are none of {encoder}; leave it out, or give a PATH")
    # here, not above: it takes seconds
    from torchvision.models import get_weight

    return weights_from(_fetched(get_weight(IMAGENET[encoder]).url, encoder), encoder)


def aerial_weights(encoder: str = AERIAL) -> State:
    """Weights trained on aerial pictures, of the package geoembed, which is not imported (it wants OpenCL).

    Raises
    ------
    ModelError : the package is not installed, or another encoder is asked for.
    """
    if encoder != AERIAL:
        raise ModelError(f"--weights aerial are those of --encoder {AERIAL}, not of {encoder}")
    spec = find_spec("geoembed")
    folders = (spec.submodule_search_locations if spec else None) or ()
    path = next((p for p in (Path(f, *AERIAL_FILE) for f in folders) if p.is_file()), None)
    if path is None:
        raise ModelError(f"weights of {AERIAL} are not here; pip install 'roadrisk[aerial]'")
    return weights_from(path, encoder)


def weights_from(path: Path, encoder: str) -> State:
    """Weights of an encoder from a file, every name and shape as it must be.

    Parameters
    ----------
    path : .safetensors, or a .pth that holds tensors and nothing else; of `aerial-resnet18` also geoembed's
        .npz. A classifier in it is left out.
    encoder : whose they are. Names are its library's; of `aerial-resnet18` torchvision's or geoembed's.

    Raises
    ------
    ModelError : no such file, not weights, or not those of that encoder.
    UsageError : an encoder that is none.
    """
    if not path.is_file():
        raise ModelError(f"--weights {path}: no such file; give imagenet, or a .pth or .safetensors file")
    try:
        state = _read(path)
    except UNREADABLE:
        raise ModelError(
            f"--weights {path} cannot be read as weights; save a state dict with torch.save or safetensors"
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"--weights {path} cannot be read ({reason}); get the file again") from None
    if not isinstance(state, dict) or not all(map(_is_plain, state.keys(), state.values())):
        raise ModelError(f"--weights {path} is not a state dict of tensors; save network.state_dict()")
    return _checked(state, encoder, path)


def weights_identity(state: State) -> str:
    """The same only for the same names and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _timm_weights(encoder: str) -> State:
    """Weights as timm itself reads and renames them, in the body's names."""
    known = bare_body(encoder).pretrained_cfg
    given: dict[str, Any] = {}
    if known.get("hf_hub_id"):
        path = _hub_file(encoder, known["hf_hub_id"], known.get("hf_hub_filename") or "model.safetensors")
        given["custom_load"] = False  # that is for files of the makers, and the hub has timm's
    elif known.get("url"):
        path = _fetched(known["url"], encoder)
    else:
        raise ModelError(
            f"timm has no weights for {encoder}; use --weights PATH, or --weights none --tune all"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # the whole network, for timm is strict with that alone
            given["file"] = str(path)
            whole = timm_network(encoder, pretrained=True, pretrained_cfg_overlay=given)
    except UNREADABLE:
        raise ModelError(f"{path} is not the file it should be; delete it to fetch it again") from None
    names = bare_body(encoder).state_dict()
    return _checked({n: v for n, v in whole.state_dict().items() if n in names}, encoder, path)


def _hub_file(encoder: str, repository: str, name: str) -> Path:
    """A file of huggingface.co, from its own cache or else fetched into it."""
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache

    kept = try_to_load_from_cache(repository, name)
    if isinstance(kept, str):
        return Path(kept)
    url = hf_hub_url(repository, name)
    try:
        if not constants.HF_HUB_OFFLINE:
            httpx.head(url)  # the library itself tries six times and tells of each
        return Path(hf_hub_download(repository, name))
    except (OSError, httpx.HTTPError) as error:
        folder = Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}", "snapshots", "main")
        raise ModelError(
            f"weights of {encoder} are not here and cannot be fetched ({_reason(error)}): download {url} "
            f"on a machine with a network (after `hf auth login` where they ask for it) and put {name} into "
            f"{folder}, or use --weights PATH or --encoder basic"
        ) from None


def _fetched(url: str, encoder: str) -> Path:
    """A file of weights in torch's cache, fetched where it is missing."""
    name = url.rsplit("/", 1)[1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_prefix(name), progress=False)
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"weights of {encoder} are not here and cannot be fetched ({_reason(error)}): download "
                f"{url} on a machine with a network and put {name} into {path.parent}, "
                "or use --weights PATH or --encoder basic"
            ) from None
    elif not hashlib.sha256(path.read_bytes()).hexdigest().startswith(_hash_prefix(name)):
        raise ModelError(f"{path} is not the file it should be; delete it and download {url} again")
    return path


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix != ".npz":
        return torch.load(path, map_location="cpu", weights_only=True)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def _is_plain(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_meta
        and not value.is_quantized
    )


def _checked(given: State, encoder: str, path: Path) -> State:
    """The body's weights by torchvision's or timm's names, in its own order."""
    wanted: State = bare_body(encoder).state_dict()
    if encoder == AERIAL and any(name.startswith("bb.") for name in given):
        given = {name: value for name, value in given.items() if name not in AERIAL_BESIDES}
        there = {_geoembed_name(name): name for name in wanted}
    else:
        given = without_classifier(given, encoder)
        there = {name: name for name in wanted}
    _check_names(given, {name: wanted[body].shape for name, body in there.items()}, encoder, path)
    state = {}
    for name, body in there.items():
        value = given.get(name, torch.tensor(0))
        if value.is_complex() or not bool(value.to(wanted[body].dtype).isfinite().all()):
            raise ModelError(f"--weights {path} holds what is no finite number in {name}; get the file again")
        state[body] = value.to(wanted[body].dtype)
        if name.endswith("running_var") and bool((value < 0).any()):
            raise ModelError(f"--weights {path} holds variances below 0 in {name}; get the file again")
    return state


def _check_names(given: State, wanted: Mapping[str, torch.Size], encoder: str, path: Path) -> None:
    missing = [n for n in wanted if n not in given and not n.endswith(OPTIONAL)]
    unexpected = [n for n in given if n not in wanted]
    misshaped = [
        f"{n} ({_shape(given[n].shape)}, not {_shape(wanted[n])})"
        for n in given
        if n in wanted and given[n].shape != wanted[n]
    ]
    for what, names in (("lacks", missing), ("has besides", unexpected), ("has in another shape", misshaped)):
        if names:
            some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            library = "timm" if encoder.startswith(TIMM) else "torchvision"
            raise ModelError(
                f"--weights {path} is not a {encoder}: it {what} {some}; give weights with {library}'s names"
            )


def _geoembed_name(name: str) -> str:
    """What geoembed calls the parameter that torchvision calls `name`.

    >>> _geoembed_name("conv1.weight"), _geoembed_name("layer2.0.downsample.1.bias")
    ('bb.stem.0.weight', 'bb.layer2.0.short.1.bias')
    """
    stem = re.sub(r"^bn1\.", "stem.1.", re.sub(r"^conv1\.", "stem.0.", name))
    return "bb." + stem.replace(".downsample.", ".short.")


def _shape(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a number"


def _hash_prefix(name: str) -> str:
    """The start of its sha256 that a file's name ends with; empty where it does not.

    >>> _hash_prefix("resnet34-b627a593.pth"), _hash_prefix("IN1K-vit.h.14-300e.pth.tar")
    ('b627a593', '')
    """
    found = re.search(r"-([0-9a-f]{8,})\.[a-z]+$", name)
    return found[1] if found else ""


def _reason(error: BaseException) -> str:
    said = str(getattr(error, "reason", error)).strip("<>") or type(error).__name__
    return said.splitlines()[0].rstrip(".")
