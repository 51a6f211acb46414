"""Two processes under torchrun end with the weights of one on the joined batches."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from joined_training import results
from lessons import cpu_fabric, largest_difference, same

HERE = Path(__file__).parent


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


class Trained:
    """What the two processes and one alone ended with, by name of the training."""

    def __init__(self, folder: Path) -> None:
        done = torchrun(HERE / "joined_training.py", folder)
        assert done.returncode == 0, done.stderr
        self.printed = done.stdout + done.stderr
        self.first: dict[str, Any] = torch.load(folder / "0.pt", weights_only=True)
        self.second: dict[str, Any] = torch.load(folder / "1.pt", weights_only=True)
        self.alone = results(cpu_fabric(), folder / "alone")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("joined"))


EQUAL = (
    "plain",
    "everything",
    "a share without pictures",
    "no picture",
    "counts",
    "odd batches",
    "channels last",
    "little memory",
)


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_equal_one_on_the_joined_batches(ended: Trained, name: str) -> None:
    assert largest_difference(ended.first[name], ended.alone[name]) < 1e-5


@pytest.mark.parametrize(
    "name", [*EQUAL, "dropout", "statistics", "averaged statistics", "undisturbed", "gone on"]
)
def test_both_processes_end_with_the_same_weights(ended: Trained, name: str) -> None:
    assert same(ended.first[name], ended.second[name])


def test_they_learned(ended: Trained) -> None:
    """Without this the comparisons above could be of first weights."""
    assert largest_difference(ended.alone["plain"], ended.alone["everything"]) > 1e-3


def test_running_statistics_are_the_mean_of_the_shares(ended: Trained) -> None:
    """A mean of two halves is that of the whole; a variance is not."""
    joined, alone = ended.first["statistics"], ended.alone["statistics"]
    torch.testing.assert_close(joined["norm.running_mean"], alone["norm.running_mean"], rtol=0, atol=1e-5)


def test_processes_drop_differently(ended: Trained) -> None:
    assert largest_difference(ended.first["dropout"], ended.alone["dropout"]) > 1e-4


def test_a_joined_training_goes_on_to_the_same_weights(ended: Trained) -> None:
    assert same(ended.first["gone on"], ended.first["undisturbed"])


def test_all_processes_say_where_a_training_went_astray(ended: Trained) -> None:
    assert ended.first["astray"] == ended.second["astray"] == ended.alone["astray"]
    assert "(tiles t017" in ended.alone["astray"]


def test_joined_processes_print_nothing(ended: Trained) -> None:
    assert ended.printed == ""
