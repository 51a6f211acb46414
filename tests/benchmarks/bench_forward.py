"""A frozen ResNet34 on the CPU beside rivals, the same pictures by the same number of threads.

Each rival runs right before every round of ours, so that a busy machine slows both; the ratio printed is the
median of those of the rounds, more than 1 where ours is faster. `OMP_NUM_THREADS` sets the threads of all (one
unless it is set).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imagery_examples import Effort, effort_of, said
from torch import Tensor, nn

from roadrisk.nets.encoders import encoder_body
from roadrisk.nets.inference import evaluation_form

PICTURES, SIDE_PX = 32, 224
ROUNDS = 7
WITHIN = 1e-4

pytestmark = pytest.mark.benchmark(group=f"forward: ResNet34, {PICTURES} pictures of {SIDE_PX} px, CPU")
Forward = Callable[[], Tensor]


@pytest.fixture(scope="module")
def body() -> nn.Module:
    torch.manual_seed(0)
    return encoder_body("resnet34").eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(PICTURES, 3, SIDE_PX, SIDE_PX, generator=random).to(memory_format=torch.channels_last)


def raced(benchmark: Any, capsys: Any, ours: Forward, rival: Forward) -> None:
    """Time ours, the rival right before each round, and see that both say the same."""
    own, rivals = list[Effort](), list[Effort]()
    torch.testing.assert_close(ours(), rival(), rtol=WITHIN, atol=WITHIN)
    with torch.inference_mode():
        benchmark.pedantic(
            lambda: own.append(effort_of(ours)), setup=lambda: rivals.append(effort_of(rival)), rounds=ROUNDS
        )
    ours_s, rival_s = (np.array([effort.seconds for effort in efforts]) for efforts in (own, rivals))
    ours_core_s, rival_core_s = (
        np.array([effort.seconds * effort.cores for effort in efforts]) for efforts in (own, rivals)
    )
    said(
        benchmark,
        capsys,
        threads=torch.get_num_threads(),
        pictures_a_second=PICTURES / ours_s.min(),
        of_the_rival=PICTURES / rival_s.min(),
        ratio=float(np.median(rival_s / ours_s)),
        ratio_of_the_quickest_rounds=rival_s.min() / ours_s.min(),
        ratio_in_core_seconds=float(np.median(rival_core_s / ours_core_s)),
    )


def test_forward_onnx_runtime(
    benchmark: Any, capsys: Any, body: nn.Module, pictures: Tensor, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is absent")
    pytest.importorskip("onnxscript", reason="onnxscript, with which torch writes ONNX, is absent")
    path = tmp_path / "resnet34.onnx"
    torch.onnx.export(body, (pictures.contiguous(),), str(path), verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # its threads wait busily within a run, and not after it, when it is our turn
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: pictures.contiguous().numpy()}
    form = evaluation_form(body)
    raced(benchmark, capsys, lambda: form(pictures), lambda: torch.from_numpy(session.run(None, given)[0]))


def test_forward_body_as_it_is(benchmark: Any, capsys: Any, body: nn.Module, pictures: Tensor) -> None:
    plain, form = pictures.contiguous(), evaluation_form(body)
    raced(benchmark, capsys, lambda: form(pictures), lambda: body(plain))


def test_forward_channels_last_alone(benchmark: Any, capsys: Any, body: nn.Module, pictures: Tensor) -> None:
    form = evaluation_form(body)
    rival = copy.deepcopy(body).to(memory_format=torch.channels_last)
    raced(benchmark, capsys, lambda: form(pictures), lambda: rival(pictures))
