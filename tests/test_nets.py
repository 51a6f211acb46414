"""The networks of the first version: their sizes, what they leave alone, and that they can learn."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet34

from roadrisk.nets.fusion import MultiModalNN
from roadrisk.nets.image import BasicCNN, FeatureHead, PretrainedCNN, frozen_resnet34
from roadrisk.nets.tabular import TabularNN


def parameter_count(network: nn.Module, learning: bool = False) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not learning)


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet34(weights=None).state_dict()


def test_parameter_counts_are_those_of_the_first_version(resnet_state: dict[str, Tensor]) -> None:
    assert parameter_count(BasicCNN(size=196, dropout=0.3)) == 1_024_604
    assert parameter_count(TabularNN(20, dropout=0.3)) == 13_792
    assert (
        parameter_count(MultiModalNN(BasicCNN(size=196, dropout=0.3), TabularNN(20, dropout=0.3)))
        == 1_038_493
    )
    pretrained = PretrainedCNN(frozen_resnet34(resnet_state), dropout=0.3)
    assert parameter_count(pretrained) == 21_317_504
    assert parameter_count(pretrained, learning=True) == 32_832


def test_the_layers_stand_in_the_order_of_the_first_version() -> None:
    """Dropout comes before the ReLU in the image branch, after it in the facts branch."""
    torch.manual_seed(0)
    cnn, tabular = BasicCNN(size=32, dropout=0.3).eval(), TabularNN(5, dropout=0.3).eval()
    pictures, facts = torch.rand(2, 3, 32, 32), torch.randn(2, 5)
    pool = nn.MaxPool2d(2)
    drop, relu = nn.Dropout(0.3).eval(), nn.ReLU()
    layers: list[nn.Module] = [cnn.conv1, relu, pool, cnn.conv2, relu, pool, nn.Flatten()]
    layers += [cnn.fc1, drop, relu, cnn.fc2, drop, relu]
    assert torch.equal(nn.Sequential(*layers)(pictures), cnn(pictures))
    layers = [tabular.fc1, relu, drop, tabular.fc2, relu, drop, tabular.fc3]
    assert torch.equal(nn.Sequential(*layers)(facts), tabular(facts))
    assert (tabular(facts) < 0).any(), "no ReLU after the 32"


def test_dropout_stands_before_relu_in_the_image_and_after_it_in_the_facts() -> None:
    given: dict[str, list[Tensor]] = {"image": [], "facts": []}
    cnn, tabular = BasicCNN(size=32, dropout=0.5), TabularNN(5, dropout=0.5)
    cnn.dropout.register_forward_hook(lambda _module, inputs, _output: given["image"].append(inputs[0]))
    tabular.dropout.register_forward_hook(lambda _module, inputs, _output: given["facts"].append(inputs[0]))
    cnn(torch.rand(4, 3, 32, 32))
    tabular(torch.randn(4, 5))
    assert [x.shape[1] for x in given["image"]] == [120, 64]
    assert [x.shape[1] for x in given["facts"]] == [64, 128]
    assert all((x < 0).any() for x in given["image"])
    assert all((x >= 0).all() for x in given["facts"])


@pytest.mark.parametrize("size", [16, 64, 97, 128, 196])
def test_other_sizes_follow(size: int) -> None:
    assert BasicCNN(size=size, out=7, dropout=0.3)(torch.rand(2, 3, size, size)).shape == (2, 7)


def networks() -> list[MultiModalNN]:
    torch.manual_seed(0)
    return [
        MultiModalNN(BasicCNN(size=32, dropout=0.0), TabularNN(5, dropout=0.0)),
        MultiModalNN(BasicCNN(size=32, dropout=0.0), None),
        MultiModalNN(None, TabularNN(5, dropout=0.0)),
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_network_overfits_one_batch(which: int) -> None:
    network = networks()[which]
    facts, pictures = torch.randn(16, 5), torch.rand(16, 3, 32, 32)
    label = (torch.arange(16) % 3 == 0).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        logit = network(facts, pictures, torch.ones(16, dtype=torch.bool))
        loss = nn.functional.binary_cross_entropy_with_logits(logit, label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


def test_the_head_on_frozen_features_overfits_one_batch() -> None:
    torch.manual_seed(0)
    network = MultiModalNN(FeatureHead(dropout=0.0), None)
    features, label = torch.randn(16, 512), (torch.arange(16) % 2).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(100):
        optimiser.zero_grad()
        logit = network(None, features, torch.ones(16, dtype=torch.bool))
        loss = nn.functional.binary_cross_entropy_with_logits(logit, label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


def test_a_tile_without_picture_enters_with_zeros_and_the_cnn_does_not_run() -> None:
    network = networks()[0].eval()
    seen: list[int] = []
    assert network.image is not None
    assert network.tabular is not None
    network.image.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    facts, pictures = torch.randn(4, 5), torch.rand(4, 3, 32, 32)
    has_image = torch.tensor([True, False, True, False])

    logit = network(facts, pictures[has_image], has_image)
    assert seen == [2]

    zeros = torch.cat([torch.zeros(4, 64), network.tabular(facts)], dim=1)
    without = network.fusion(zeros).squeeze(1)
    assert torch.allclose(logit[~has_image], without[~has_image], atol=1e-6)
    everything = network(facts, pictures, torch.ones(4, dtype=torch.bool))
    assert torch.allclose(logit[has_image], everything[has_image], atol=1e-6)

    seen.clear()
    for no_pictures in (None, torch.zeros(0, 3, 32, 32)):
        none = network(facts, no_pictures, torch.zeros(4, dtype=torch.bool))
        assert torch.equal(none, without)
    assert seen == []


def test_a_batch_without_any_picture_still_trains_the_facts() -> None:
    network = networks()[0]
    network(torch.randn(4, 5), None, torch.zeros(4, dtype=torch.bool)).sum().backward()
    assert network.image is not None
    assert network.tabular is not None
    assert all(p.grad is None for p in network.image.parameters())
    assert network.tabular.fc1.weight.grad is not None


def test_a_network_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="image branch, a facts branch"):
        MultiModalNN(None, None)


def test_a_frozen_encoder_is_bit_identical_after_training(resnet_state: dict[str, Tensor]) -> None:
    network = MultiModalNN(
        PretrainedCNN(frozen_resnet34(resnet_state), dropout=0.3), TabularNN(5, dropout=0.3)
    ).train()
    assert isinstance(network.image, PretrainedCNN)
    encoder, head = network.image.encoder, network.image.head
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    head_before = head.fc.weight.clone()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        logit = network(torch.randn(4, 5), torch.rand(4, 3, 64, 64), torch.ones(4, dtype=torch.bool))
        nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor([0.0, 1, 0, 1])).backward()
        optimiser.step()
    after = encoder.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any("running_mean" in name for name in before), "batch-norm statistics are among them"
    assert not torch.equal(head_before, head.fc.weight)
    assert not any(module.training for module in encoder.modules())
    assert head.training


def test_features_and_head_apart_are_the_network_together(resnet_state: dict[str, Tensor]) -> None:
    network = PretrainedCNN(frozen_resnet34(resnet_state), dropout=0.3).eval()
    pictures = torch.rand(2, 3, 64, 64)
    features = network.encoder(pictures)
    assert features.shape == (2, 512)
    assert torch.equal(network.head(features), network(pictures))
