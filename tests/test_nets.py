"""The branches of a network: their sizes, what they leave alone, and what they learn from."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet34

from roadrisk.nets.batch import Batch
from roadrisk.nets.encoders import frozen_encoder
from roadrisk.nets.fusion import MultiModalNN
from roadrisk.nets.image import BasicCNN, FeatureHead, PretrainedCNN
from roadrisk.nets.tabular import FactsNN, FactsShape, TabularNN, embedding_length


def parameter_count(network: nn.Module, learning: bool = False) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not learning)


def no_codes(tiles: int) -> Tensor:
    return torch.zeros(tiles, 0, dtype=torch.int64)


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet34(weights=None).state_dict()


def test_parameter_counts_are_those_of_the_first_version(resnet_state: dict[str, Tensor]) -> None:
    assert parameter_count(BasicCNN(size=196, dropout=0.3)) == 1_024_604
    assert parameter_count(TabularNN(20, dropout=0.3)) == 13_792
    pretrained = PretrainedCNN(frozen_encoder("resnet34", resnet_state), dropout=0.3)
    assert parameter_count(pretrained) == 21_317_504
    assert parameter_count(pretrained, learning=True) == 32_832


def test_the_layers_stand_in_the_order_of_the_first_version() -> None:
    """Dropout comes before the ReLU in the image branch, after it in the facts branch."""
    torch.manual_seed(0)
    cnn, tabular = BasicCNN(size=32, dropout=0.3).eval(), TabularNN(5, dropout=0.3).eval()
    pictures, numbers = torch.rand(2, 3, 32, 32), torch.randn(2, 5)
    pool = nn.MaxPool2d(2)
    drop, relu = nn.Dropout(0.3).eval(), nn.ReLU()
    layers: list[nn.Module] = [cnn.conv1, relu, pool, cnn.conv2, relu, pool, nn.Flatten()]
    layers += [cnn.fc1, drop, relu, cnn.fc2, drop, relu]
    assert torch.equal(nn.Sequential(*layers)(pictures), cnn(pictures))
    layers = [tabular.fc1, relu, drop, tabular.fc2, relu, drop, tabular.fc3]
    assert torch.equal(nn.Sequential(*layers)(numbers), tabular(numbers, no_codes(2)))
    assert (tabular(numbers, no_codes(2)) < 0).any(), "no ReLU after the 32"


def test_dropout_stands_before_relu_in_the_image_and_after_it_in_the_facts() -> None:
    given_to: dict[str, list[Tensor]] = {"image": [], "dense": [], "embedding": []}
    cnn, tabular = BasicCNN(size=32, dropout=0.5), TabularNN(5, dropout=0.5)
    facts = FactsNN(FactsShape(5, ()), 10, dropout=0.5)
    cnn.dropout.register_forward_hook(lambda _module, inputs, _output: given_to["image"].append(inputs[0]))
    tabular.dropout.register_forward_hook(
        lambda _module, inputs, _output: given_to["dense"].append(inputs[0])
    )
    facts.dropout.register_forward_hook(
        lambda _module, inputs, _output: given_to["embedding"].append(inputs[0])
    )
    cnn(torch.rand(4, 3, 32, 32))
    tabular(torch.randn(4, 5), no_codes(4))
    facts(torch.randn(4, 5), no_codes(4))
    assert [x.shape[1] for x in given_to["image"]] == [120, 64]
    assert [x.shape[1] for x in given_to["dense"]] == [64, 128]
    assert [x.shape[1] for x in given_to["embedding"]] == [10, 5]
    assert all((x < 0).any() for x in given_to["image"])
    assert all((x >= 0).all() for x in given_to["dense"] + given_to["embedding"])


@pytest.mark.parametrize("size", [16, 64, 97, 128, 196])
def test_other_sizes_follow(size: int) -> None:
    assert BasicCNN(size=size, out=7, dropout=0.3)(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_the_first_version_reads_no_codes() -> None:
    with pytest.raises(ValueError, match=r"^TabularNN reads no codes, and was given 2 columns of them$"):
        TabularNN(5, dropout=0.0)(torch.randn(3, 5), torch.zeros(3, 2, dtype=torch.int64))


@given(st.integers(1, 10_000))
def test_an_embedding_is_half_as_long_as_its_categories_are_many_and_50_at_most(categories: int) -> None:
    length = embedding_length(categories)
    assert 1 <= length <= 50
    assert length == 50 or categories / 2 <= length <= categories / 2 + 0.5


@given(st.integers(0, 5), st.lists(st.integers(2, 120), max_size=4), st.integers(2, 65))
def test_the_embedding_network_has_the_shape_it_is_told(numbers: int, sizes: list[int], width: int) -> None:
    if not numbers and not sizes:
        return
    network = FactsNN(FactsShape(numbers, tuple(sizes)), width, dropout=0.1)
    lengths = [min(50, (n + 1) // 2) for n in sizes]
    half = width // 2
    assert network.out == half
    assert parameter_count(network) == (
        sum(n * length for n, length in zip(sizes, lengths, strict=True))
        + (numbers + sum(lengths) + 1) * width
        + (width + 1) * half
    )
    codes = torch.stack([torch.randint(0, n, (6,)) for n in sizes] or [torch.zeros(6)], dim=1).long()
    assert network(torch.randn(6, numbers), codes[:, : len(sizes)]).shape == (6, half)


def test_each_fact_of_text_has_an_embedding_of_its_own() -> None:
    torch.manual_seed(0)
    network = FactsNN(FactsShape(1, (4, 4)), 16, dropout=0.0).eval()
    numbers = torch.zeros(2, 1)
    ahead, behind = torch.tensor([[1, 2]]), torch.tensor([[2, 1]])
    apart = network(numbers, torch.cat([ahead, behind]))
    assert not torch.allclose(apart[0], apart[1], atol=1e-7)
    for table in network.embeddings:
        nn.init.zeros_(table.weight)
    assert torch.equal(*network(numbers, torch.cat([ahead, behind])))


def trained_on(codes: Tensor, weight_decay: float = 0.0) -> FactsNN:
    """A network that has learned from facts of text alone."""
    torch.manual_seed(0)
    network = FactsNN(FactsShape(0, (5,)), 8, dropout=0.0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=weight_decay)
    for _ in range(5):
        optimiser.zero_grad()
        network(torch.zeros(len(codes), 0), codes).square().sum().backward()
        optimiser.step()
    return network


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_what_training_never_met_stays_a_zero_vector(weight_decay: float) -> None:
    table = trained_on(torch.tensor([[1], [2], [3], [4]]), weight_decay).embeddings[0].weight
    assert torch.equal(table[0], torch.zeros(table.shape[1]))
    assert (table[1:] != 0).all()


def test_a_missing_value_that_occurs_is_learned_from() -> None:
    table = trained_on(torch.tensor([[0], [1], [2]])).embeddings[0].weight
    assert (table[0] != 0).all()


def test_first_embeddings_are_short() -> None:
    table = FactsNN(FactsShape(0, (900,)), 8, dropout=0.0).embeddings[0].weight
    assert torch.equal(table[0], torch.zeros(50))
    assert table[1:].std().item() == pytest.approx(0.01, rel=0.02)


def test_a_frozen_encoder_is_bit_identical_after_training(resnet_state: dict[str, Tensor]) -> None:
    image = PretrainedCNN(frozen_encoder("resnet34", resnet_state), dropout=0.3)
    network = MultiModalNN(
        [image],
        TabularNN(5, dropout=0.3),
        "concat",
        1,
        dispersed=False,
        dropout=0.3,
        modality_dropout=0.0,
    ).train()
    encoder, head = image.encoder, image.head
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    head_before = head.fc.weight.clone()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for pictures in (4, 1):
        has_image = torch.arange(4).unsqueeze(1) < pictures
        batch = Batch(
            torch.randn(4, 5),
            no_codes(4),
            torch.ones(4, dtype=torch.bool),
            (torch.rand(pictures, 3, 64, 64),),
            has_image,
        )
        optimiser.zero_grad()
        logit = network(batch).squeeze(1)
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
    network = PretrainedCNN(frozen_encoder("resnet34", resnet_state), dropout=0.3).eval()
    pictures = torch.rand(2, 3, 64, 64)
    features = network.encoder(pictures)
    assert features.shape == (2, 512)
    assert torch.equal(network.head(features), network(pictures))


def test_the_head_makes_a_vector_of_features() -> None:
    assert parameter_count(FeatureHead(512, 64, dropout=0.3)) == 32_832
    assert FeatureHead(10, 4, dropout=0.3)(torch.rand(3, 10)).shape == (3, 4)
