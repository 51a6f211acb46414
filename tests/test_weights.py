"""Pretrained weights: had for certain and strictly as they must be, or an error that says how to get them."""

import hashlib
import io
import re
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

from roadrisk.errors import ModelError, UsageError
from roadrisk.learning.pictures.weights import (
    State,
    aerial_weights,
    encoder_weights,
    imagenet_weights,
    weights_from,
    weights_identity,
)
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.nets.encoders import bare_body, encoder_body, features_of

AERIAL = "aerial-resnet18"
SMALL = "timm:test_resnet"  # half a million parameters
needs_geoembed = pytest.mark.skipif(
    find_spec("geoembed") is None, reason="the extra `aerial` is not installed"
)


@cache
def state_of(encoder: str) -> State:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return dict(encoder_body(encoder).state_dict())


def classifier_of(encoder: str) -> State:
    return {"fc.weight": torch.zeros(1000, features_of(encoder)), "fc.bias": torch.zeros(1000)}


def said_of(path: Path, encoder: str) -> str:
    with pytest.raises(ModelError) as caught:
        weights_from(path, encoder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and a closed port in place of the network, so that nothing is fetched where there is one."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("encoder", ["resnet34", AERIAL, SMALL])
def test_a_file_of_weights_is_read_whole(tmp_path: Path, encoder: str) -> None:
    state = state_of(encoder)
    # counters, as older files lack them, and half precision, as some are kept in
    torch.save(state | classifier_of(encoder), tmp_path / "w.pth")
    without = {n: v for n, v in state.items() if "num_batches_tracked" not in n}
    save_file(without | classifier_of(encoder), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        read = weights_from(tmp_path / name, encoder)
        assert list(read) == list(state), "in the body's order, its classifier left out"
        assert weights_identity(read) == weights_identity(state)
    torch.save({n: v.half() if v.is_floating_point() else v for n, v in state.items()}, tmp_path / "half.pth")
    assert {v.dtype for v in weights_from(tmp_path / "half.pth", encoder).values()} <= {
        torch.float32,
        torch.int64,
    }


def test_the_identity_is_that_of_names_and_values() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(1)}
    same = weights_identity(state)
    assert weights_identity(dict(reversed(state.items()))) == same
    assert weights_identity({"a": state["a"].t().contiguous().t(), "b": state["b"]}) == same
    others: list[State] = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"].reshape(3, 2), "b": state["b"]},
        {"a": state["a"], "b": torch.full((1,), 1e-45)},
        {"a": state["a"], "b": torch.zeros(1, dtype=torch.int32)},
    ]
    assert len({same, *map(weights_identity, others)}) == 5


def test_faults_of_a_file_are_told_exactly(tmp_path: Path) -> None:
    state = state_of("resnet34")
    # one value stands for all of a tensor: a file of these is small
    small = {name: value.new_zeros(()).expand(value.shape) for name, value in state.items()}
    cases: list[tuple[State, str]] = [
        (
            {n: v for n, v in small.items() if not n.startswith("layer4.2")},
            "is not a resnet34: it lacks layer4.2.conv1.weight, layer4.2.bn1.weight, layer4.2.bn1.bias and 7 more; "
            "give weights with torchvision's names",
        ),
        (
            small | {"short.0.weight": torch.zeros(1)},
            "is not a resnet34: it has besides short.0.weight; give weights with torchvision's names",
        ),
        (
            small | {"conv1.weight": torch.zeros(64, 3, 3, 3)},
            "is not a resnet34: it has in another shape conv1.weight (64x3x3x3, not 64x3x7x7); "
            "give weights with torchvision's names",
        ),
        (
            small | {"bn1.bias": torch.full((64,), torch.nan)},
            "holds what is no finite number in bn1.bias; get the file again",
        ),
        (
            small | {"conv1.weight": small["conv1.weight"].to(torch.float64) - 1e300},
            "holds what is no finite number in conv1.weight; get the file again",
        ),
        (
            small | {"bn1.weight": torch.zeros(64, dtype=torch.complex64)},
            "holds what is no finite number in bn1.weight; get the file again",
        ),
        (
            small | {"layer1.0.bn1.running_var": torch.full((64,), -1e-9)},
            "holds variances below 0 in layer1.0.bn1.running_var; get the file again",
        ),
    ]
    for faulty, said in cases:
        torch.save(faulty, tmp_path / "bad.pth")
        assert said_of(tmp_path / "bad.pth", "resnet34") == f"--weights FILE {said}"
    torch.save(small, tmp_path / "other.pth")
    assert "is not a resnet18: it has besides layer1.2.conv1.weight, " in said_of(
        tmp_path / "other.pth", "resnet18"
    )
    assert said_of(tmp_path / "other.pth", SMALL).endswith("; give weights with timm's names")
    assert said_of(tmp_path / "none.pth", "resnet34") == (
        "--weights FILE: no such file; give imagenet, or a .pth or .safetensors file"
    )


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_what_is_not_a_state_dict_of_plain_tensors_is_refused(tmp_path: Path) -> None:
    value = torch.zeros(2, 2)
    for what in (
        [1],
        value,
        {"state_dict": {"conv1.weight": value}},
        {1: value},
        {"conv1.weight": value.to_sparse()},
        {"conv1.weight": torch.empty(2, 2, device="meta")},
    ):
        torch.save(what, tmp_path / "w.pth")
        assert said_of(tmp_path / "w.pth", "resnet18") == (
            "--weights FILE is not a state dict of tensors; save network.state_dict()"
        )


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_a_file_of_weights_runs_nothing(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    np.savez(tmp_path / "trap.npz", **{"bb.stem.0.weight": np.array([Trap(tmp_path / "sprung")])})
    np.save(tmp_path / "trap.npy", np.array([Trap(tmp_path / "sprung")]))
    (tmp_path / "trap.npy").rename(tmp_path / "renamed.npz")
    for name in ("trap.pth", "trap.npz", "renamed.npz"):
        assert said_of(tmp_path / name, AERIAL).startswith("--weights FILE cannot be read as weights; ")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_files_that_are_cut_off_empty_or_noise_are_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    whole = bytes_of(suffix)
    for damaged in (b"", b"noise of more than eight bytes", whole[:-1], whole[: len(whole) // 2], whole[:20]):
        path.write_bytes(damaged)
        assert said_of(path, "resnet18") == (
            "--weights FILE cannot be read as weights; save a state dict with torch.save or safetensors"
        )


@cache
def bytes_of(suffix: str) -> bytes:
    """A small state dict as a file."""
    state = {"conv1.weight": torch.arange(12.0).reshape(3, 4), "bn1.bias": torch.ones(3)}
    file = io.BytesIO()
    if suffix == ".safetensors":
        return bytes(save(state))
    if suffix == ".npz":
        np.savez(file, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, file)
    return file.getvalue()


@given(
    st.sampled_from([".pth", ".safetensors", ".npz"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))),
)
def test_no_damage_makes_anything_but_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, changes: list[tuple[float, int]]
) -> None:
    damaged = bytearray(bytes_of(suffix))
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(damaged)
    said_of(path, "resnet18")


def test_what_follows_from_settings(tmp_path: Path) -> None:
    torch.save(state_of("resnet34"), tmp_path / "w.pth")
    for settings in (
        TrainSettings(encoder="basic"),
        TrainSettings(inputs="facts"),
        TrainSettings(weights="none", tune="all"),
    ):
        assert encoder_weights(resolved(settings)) is None
    for tune in ("none", "last", "all"):
        settings = resolved(TrainSettings(weights=str(tmp_path / "w.pth"), tune=tune))  # type: ignore[arg-type]
        state = encoder_weights(settings)
        assert state is not None
        assert weights_identity(state) == weights_identity(state_of("resnet34"))
    with pytest.raises(
        ModelError, match=r"^--weights aerial are those of --encoder aerial-resnet18, not of resnet34$"
    ):
        encoder_weights(resolved(TrainSettings(weights="aerial")))
    with pytest.raises(UsageError, match=r"^--encoder timm:none_such: timm has no such network; "):
        encoder_weights(resolved(TrainSettings(encoder="timm:none_such")))


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet34", "resnet34-b627a593.pth"),
        ("resnet50", "resnet50-0676ba61.pth"),
        ("timm:legacy_seresnet18", "seresnet18-4bb0ce65.pth"),
    ],
)
def test_without_a_network_it_says_which_file_to_put_into_torchs_cache(
    no_network: Path, encoder: str, name: str
) -> None:
    folder = no_network / "torch" / "hub" / "checkpoints"
    with pytest.raises(ModelError) as caught:
        imagenet_weights(encoder)
    said = str(caught.value)
    assert re.fullmatch(
        rf"weights of {encoder} are not here and cannot be fetched \(.+\): download https://\S+/{re.escape(name)} "
        rf"on a machine with a network and put {re.escape(name)} into {re.escape(str(folder))}, "
        r"or use --weights PATH or --encoder basic",
        said,
    )
    assert not list(folder.glob("*")), "nothing half-fetched is left"
    (folder / name).write_bytes(b"not the weights")
    with pytest.raises(ModelError, match="is not the file it should be; delete it and download https://"):
        imagenet_weights(encoder)


def at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models.get_weight", lambda name: SimpleNamespace(url=url))


def test_a_file_put_into_torchs_cache_is_used_and_so_is_one_that_is_fetched(
    no_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    torch.save(state_of("resnet18"), file)
    name = f"resnet18-{hashlib.sha256(file.getvalue()).hexdigest()[:8]}.pth"
    (no_network / name).write_bytes(file.getvalue())
    cache = no_network / "torch" / "hub" / "checkpoints"

    at(f"file://{no_network / name}", monkeypatch)
    assert weights_identity(imagenet_weights("resnet18")) == weights_identity(state_of("resnet18"))
    assert [path.name for path in cache.iterdir()] == [name]

    at(f"http://127.0.0.1:9/{name}", monkeypatch)
    assert weights_identity(imagenet_weights("resnet18")) == weights_identity(state_of("resnet18"))

    other = "resnet18-00000000.pth"
    (no_network / other).write_bytes(file.getvalue())
    at(f"file://{no_network / other}", monkeypatch)
    with pytest.raises(ModelError, match=r"cannot be fetched \(invalid hash value"):
        imagenet_weights("resnet18")
    assert not (cache / other).exists(), "a file that was changed on the way is not kept"


def whole_timm_network(seed: int = 0) -> State:
    """With its classifier, as timm keeps it on the hub."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dict(timm.create_model("test_resnet", pretrained=False).state_dict())


def test_timms_weights_without_a_network_say_which_file_to_put_where_and_it_is_used(no_network: Path) -> None:
    with pytest.raises(ModelError) as caught:
        imagenet_weights(SMALL)
    said = str(caught.value)
    folder = no_network / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "main"
    assert re.fullmatch(
        rf"weights of {SMALL} are not here and cannot be fetched \(.+\): download "
        r"https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors on a machine with a "
        r"network \(after `hf auth login` where they ask for it\) and put model.safetensors into "
        rf"{re.escape(str(folder))}, or use --weights PATH or --encoder basic",
        said,
    )
    assert not (no_network / "hub").exists()

    whole = whole_timm_network()
    folder.mkdir(parents=True)
    save_file(whole, folder / "model.safetensors")
    before = torch.random.get_rng_state()
    state = imagenet_weights(SMALL)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(state) == list(bare_body(SMALL).state_dict())
    assert all(torch.equal(state[n], whole[n]) for n in state)
    read = weights_from(folder / "model.safetensors", SMALL)
    assert weights_identity(read) == weights_identity(state), "the same file by --weights PATH"


def test_timms_own_cache_is_found(no_network: Path) -> None:
    folder = no_network / "hub" / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(whole_timm_network(3), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    assert torch.equal(imagenet_weights(SMALL)["conv1.0.weight"], whole_timm_network(3)["conv1.0.weight"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: {n: v for n, v in state.items() if n != "layer4.0.conv1.weight"},
        lambda state: state | {"more": torch.zeros(1)},
        lambda state: state | {"layer4.0.conv1.weight": torch.zeros(2)},
    ],
    ids=["missing", "unexpected", "misshaped"],
)
def test_a_damaged_file_of_timm_is_told(no_network: Path, damage: Callable[[State], State]) -> None:
    folder = no_network / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "main"
    folder.mkdir(parents=True)
    save_file(damage(whole_timm_network()), folder / "model.safetensors")
    with pytest.raises(
        ModelError, match=r"model.safetensors is not the file it should be; delete it to fetch it again$"
    ):
        imagenet_weights(SMALL)


def test_networks_without_weights_say_so() -> None:
    with pytest.raises(ModelError) as caught:
        imagenet_weights("timm:nfnet_f0")
    assert str(caught.value) == (
        "timm has no weights for timm:nfnet_f0; use --weights PATH, or --weights none --tune all"
    )
    with pytest.raises(ModelError, match=r"^--weights imagenet: there are none of aerial-resnet18; "):
        imagenet_weights(AERIAL)


@pytest.fixture
def foreign_geoembed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file of a package geoembed would be that is not the installed one."""
    monkeypatch.delitem(sys.modules, "geoembed", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path / "geoembed" / "weights" / "v3.npz"


def in_geoembeds_names(state: State) -> dict[str, np.ndarray]:
    renamed = {
        "embed_dim": np.int32([256]),
        "fc.weight": np.zeros((8192, 256), "f4"),
        "fc.bias": np.zeros(256, "f4"),
    }
    for name, value in state.items():
        if "num_batches_tracked" not in name:
            theirs = name.replace("downsample", "short")
            for ours, stem in (("conv1.weight", "stem.0.weight"), ("bn1.", "stem.1.")):
                if theirs.startswith(ours):
                    theirs = theirs.replace(ours, stem, 1)
            renamed[f"bb.{theirs}"] = value.numpy()
    return renamed


def test_without_the_extra_it_says_what_to_install(foreign_geoembed: Path) -> None:
    for make in (lambda: None, lambda: foreign_geoembed.parent.mkdir(parents=True)):
        make()
        with pytest.raises(ModelError) as caught:
            encoder_weights(resolved(TrainSettings(encoder=AERIAL)))
        assert str(caught.value) == "weights of aerial-resnet18 are not here; pip install 'roadrisk[aerial]'"


def test_aerial_weights_are_found_without_importing_the_package_and_read_strictly(
    foreign_geoembed: Path,
) -> None:
    foreign_geoembed.parent.mkdir(parents=True)
    (foreign_geoembed.parents[1] / "__init__.py").write_text("raise RuntimeError('no OpenCL here')")
    state, theirs = state_of(AERIAL), in_geoembeds_names(state_of(AERIAL))
    np.savez(foreign_geoembed, **theirs)
    read = aerial_weights()
    assert "geoembed" not in sys.modules
    assert list(read) == list(state)
    assert weights_identity(read) == weights_identity(state)

    short = "bb.layer3.0.short.0.weight"
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        ({n: v for n, v in theirs.items() if n != short}, f"it lacks {short}; "),
        (theirs | {"bb.layer1.0.short.0.weight": np.zeros(1)}, "it has besides bb.layer1.0.short.0.weight; "),
        (theirs | {"conv1.weight": theirs["bb.stem.0.weight"]}, "it has besides conv1.weight; "),
        (theirs | {"bb.conv1.weight": theirs["bb.stem.0.weight"]}, "it has besides bb.conv1.weight; "),
        (
            theirs | {short: np.zeros((128, 256, 1, 1), "f4")},
            f"it has in another shape {short} (128x256x1x1, not",
        ),
        (theirs | {short: theirs[short] * np.nan}, f"holds what is no finite number in {short}; "),
    ]
    for damaged, said in cases:
        np.savez(foreign_geoembed, **damaged)
        assert said in said_of(foreign_geoembed, AERIAL)


def test_aerial_weights_that_were_tampered_with_are_told(foreign_geoembed: Path) -> None:
    foreign_geoembed.parent.mkdir(parents=True)
    np.savez(foreign_geoembed, **in_geoembeds_names(state_of(AERIAL)))
    flipped = bytearray(foreign_geoembed.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    foreign_geoembed.write_bytes(flipped)
    with pytest.raises(ModelError, match=r"v3.npz cannot be read as weights; "):
        aerial_weights()


@needs_geoembed
def test_the_packages_weights_are_whole() -> None:
    state = aerial_weights()
    assert list(state) == list(bare_body(AERIAL).state_dict())
    assert sum(v.numel() for n, v in state.items() if "running" not in n and "num_" not in n) == 11_168_832
    values: list[Tensor] = [state[f"layer{k}.0.downsample.1.running_var"] for k in (2, 3, 4)]
    assert all(bool((v != 1).any()) for v in values), "short cuts are those of the file, not first draws"
