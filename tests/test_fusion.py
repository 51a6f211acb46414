"""Pictures and facts joined: what is absent has no influence, and the four ways to join learn."""

from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from roadrisk.nets.batch import Batch
from roadrisk.nets.encoders import tuned_encoder
from roadrisk.nets.fusion import FusionName, ImageNetwork, MultiModalNN, one_side_dropped
from roadrisk.nets.image import BasicCNN, FeatureHead, PretrainedCNN
from roadrisk.nets.tabular import FactsNN, FactsShape, TabularNN

FUSIONS: tuple[FusionName, ...] = ("concat", "mlp", "gate", "attention")
SHAPE = FactsShape(numbers=5, categories=(4, 3))
PX = 24


class Normed(nn.Module):
    """A small convolution with batch norm, whose maps are 1 x 1."""

    def __init__(self, out: int = 6) -> None:
        super().__init__()
        self.out = out
        self.conv = nn.Conv2d(3, out, PX)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.norm(self.conv(pictures)).amax(dim=(2, 3))


def built(
    fusion: FusionName = "concat",
    *,
    image: list[ImageNetwork] | None = None,
    facts: str | None = "embedding",
    outputs: int = 1,
    dispersed: bool = False,
    dropout: float = 0.0,
    modality_dropout: float = 0.0,
) -> MultiModalNN:
    branches = {
        "dense": lambda: TabularNN(SHAPE.numbers, dropout=dropout),
        "embedding": lambda: FactsNN(SHAPE, 16, dropout=dropout),
    }
    return MultiModalNN(
        [cnn(), cnn(out=5)] if image is None else image,
        branches[facts]() if facts else None,
        fusion,
        outputs,
        dispersed=dispersed,
        dropout=dropout,
        modality_dropout=modality_dropout,
    )


def cnn(out: int = 8) -> BasicCNN:
    return BasicCNN(PX, out, dropout=0.0)


def batch_of(
    tiles: int,
    *,
    views: int = 2,
    codes: bool = True,
    has_image: Tensor | None = None,
    has_facts: Tensor | None = None,
) -> Batch:
    if has_image is None:
        has_image = torch.ones(tiles, views, dtype=torch.bool)
    if has_facts is None:
        has_facts = torch.ones(tiles, dtype=torch.bool)
    texts = [torch.randint(0, n, (tiles,)) for n in SHAPE.categories] if codes else []
    return Batch(
        torch.randn(tiles, SHAPE.numbers),
        torch.stack(texts, dim=1) if codes else torch.zeros(tiles, 0, dtype=torch.int64),
        has_facts,
        tuple(torch.rand(int(has.sum()), 3, PX, PX) for has in has_image.unbind(dim=1)),
        has_image,
    )


def taken(batch: Batch, rows: Tensor) -> Batch:
    """These rows in this order."""
    pictures = []
    for shown, has in zip(batch.pictures, batch.has_image.unbind(dim=1), strict=True):
        place = has.cumsum(0) - 1
        pictures.append(shown[place[rows][has[rows]]])
    return Batch(
        batch.numbers[rows],
        batch.codes[rows],
        batch.has_facts[rows],
        tuple(pictures),
        batch.has_image[rows],
    )


SIDES = {
    "one view": lambda: [cnn(out=32)],
    "two views, one branch": lambda: [cnn(out=32)] * 2,
    "two views, own branches": lambda: [cnn(out=32), cnn(out=24)],
    "no view": lambda: [],
}
NETWORKS = [
    (fusion, facts, sides)
    for fusion, facts, sides in product(FUSIONS, ("dense", "embedding", None), SIDES)
    if facts or sides != "no view"
]


def test_the_parameter_count_is_that_of_the_first_version() -> None:
    network = MultiModalNN(
        [BasicCNN(dropout=0.3)],
        TabularNN(20, dropout=0.3),
        "concat",
        1,
        dispersed=False,
        dropout=0.3,
        modality_dropout=0.1,
    )
    assert sum(p.numel() for p in network.parameters()) == 1_038_493


def test_concat_is_the_first_version_s_linear_layer() -> None:
    torch.manual_seed(0)
    network = built(image=[cnn()], facts="dense").eval()
    batch = batch_of(4, views=1, codes=False)
    assert network.facts is not None
    joined = torch.cat([network.image[0](*batch.pictures), network.facts(batch.numbers, batch.codes)], dim=1)
    assert torch.equal(network(batch), network.fusion.linear(joined))


@pytest.mark.parametrize(("fusion", "facts", "sides"), NETWORKS)
def test_each_network_overfits_one_batch(fusion: FusionName, facts: str | None, sides: str) -> None:
    torch.manual_seed(1)
    network = built(fusion, image=SIDES[sides](), facts=facts)
    batch = batch_of(16, views=len(network.branch_of_view), codes=facts == "embedding")
    label = (torch.arange(16) % 3 == 0).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(400):
        optimiser.zero_grad()
        loss = binary_cross_entropy_with_logits(network(batch).squeeze(1), label)
        loss.backward()
        optimiser.step()
        if loss < 0.02:
            break
    assert loss.item() < 0.02


def some_absent(tiles: int, seed: int, views: int = 2) -> Batch:
    """A batch in which every mixture of sides occurs, nothing at all included."""
    generator = torch.Generator().manual_seed(seed)
    has = torch.rand(tiles, views + 1, generator=generator) < 0.6
    every = torch.tensor(list(product([True, False], repeat=views + 1)))
    has[: len(every)] = every[:tiles]
    return batch_of(tiles, has_image=has[:, :views], has_facts=has[:, views])


@pytest.mark.parametrize("fusion", FUSIONS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_permuting_rows_permutes_outputs(fusion: FusionName, seed: int) -> None:
    torch.manual_seed(seed)
    network, batch = built(fusion, outputs=3).eval(), some_absent(12, seed)
    order = torch.randperm(12)
    assert torch.allclose(network(taken(batch, order)), network(batch)[order], atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_said_of_a_tile_does_not_depend_on_its_company(fusion: FusionName) -> None:
    torch.manual_seed(0)
    network, batch = built(fusion, image=[Normed(), Normed(4)]).eval(), some_absent(12, 0)
    together = network(batch)
    alone = torch.cat([network(taken(batch, torch.tensor([row]))) for row in range(12)])
    assert torch.isfinite(together).all()
    assert torch.allclose(alone, together, atol=1e-6)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("facts", ["dense", "embedding"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_stands_for_absent_facts_has_no_influence(
    fusion: FusionName, facts: str, garbage: float
) -> None:
    torch.manual_seed(0)
    network = built(fusion, facts=facts).train()
    batch = some_absent(12, 0)
    if facts == "dense":
        batch = batch._replace(codes=batch.codes[:, :0])
    absent = ~batch.has_facts
    spoilt = batch._replace(numbers=batch.numbers.clone(), codes=batch.codes.clone())
    spoilt.numbers[absent] = garbage
    spoilt.codes[absent] = 99  # a row that no embedding has
    results = []
    for given_batch in (batch, spoilt):
        network.zero_grad()
        given_batch.numbers.requires_grad_()
        output = network(given_batch)
        output.square().sum().backward()
        results.append([output, given_batch.numbers.grad, *(p.grad for p in network.parameters())])
    for clean, other in zip(*results, strict=True):
        assert clean is not None
        assert torch.isfinite(clean).all()
        assert torch.equal(clean, other)
    assert not results[1][1][absent].any(), "nor does any gradient reach it"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_absent_side_weighs_nothing(fusion: FusionName) -> None:
    """Whatever the branch and the projection of a view, a tile without it is the same."""
    torch.manual_seed(0)
    network, batch = built(fusion).eval(), some_absent(8, 0)
    before = network(batch)
    with torch.no_grad():
        for p in network.image[1].parameters():
            p.add_(0.3)
    after = network(batch)
    has = batch.has_image[:, 1]
    assert torch.allclose(after[~has], before[~has], atol=1e-6)
    assert not torch.isclose(after[has], before[has], atol=1e-6).any()
    if fusion in ("gate", "attention"):
        with torch.no_grad():
            network.fusion.views[1].bias.normal_()
        assert torch.allclose(network(batch)[~has], before[~has], atol=1e-6)
    if fusion == "attention":
        before, has = network(batch), batch.has_facts
        with torch.no_grad():
            network.fusion.facts.bias.normal_()
        after = network(batch)
        assert torch.allclose(after[~has], before[~has], atol=1e-6)
        assert not torch.isclose(after[has], before[has], atol=1e-6).any()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_tile_of_which_nothing_is_known_has_an_output_and_a_finite_gradient(fusion: FusionName) -> None:
    torch.manual_seed(0)
    network = built(fusion).train()
    nothing = torch.zeros(3, dtype=torch.bool)
    batch = batch_of(3, has_image=torch.zeros(3, 2, dtype=torch.bool), has_facts=nothing)
    output = network(batch)
    output.sum().backward()
    assert torch.isfinite(output).all()
    assert torch.allclose(output, output[0], atol=1e-6)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
    if fusion == "attention":
        assert network.fusion.query.grad.any(), "the learned token answers"


def counted(module: nn.Module) -> list[int]:
    seen: list[int] = []
    module.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    return seen


def test_a_branch_runs_only_on_pictures_that_exist() -> None:
    network = built()
    seen = [counted(branch) for branch in network.image]
    has = torch.tensor([[True, False], [False, False], [True, False], [True, False]])
    network(batch_of(4, has_image=has)).sum().backward()
    assert seen == [[3], []]
    assert all(p.grad is None for p in network.image[1].parameters())
    assert all(p.grad is not None for p in network.fusion.parameters())


def test_a_picture_goes_to_the_row_it_belongs_to() -> None:
    torch.manual_seed(0)
    network = built(image=[cnn(), cnn()], facts=None).eval()
    has = torch.tensor([[False, True], [True, True], [True, False]])
    batch = batch_of(3, has_image=has)
    first, second = (branch(shown) for branch, shown in zip(network.image, batch.pictures, strict=True))
    zero = torch.zeros(8)
    rows = [(zero, second[0]), (first[0], second[1]), (first[1], zero)]
    joined = torch.stack([torch.cat(row) for row in rows])
    assert torch.allclose(network(batch), network.fusion.linear(joined), atol=1e-6)


def test_more_or_fewer_pictures_than_the_mask_says_are_refused() -> None:
    network, batch = built(image=[cnn()]), batch_of(4, views=1)
    for pictures in (1, 3):
        with pytest.raises((RuntimeError, IndexError), match="index_copy"):
            network(batch._replace(pictures=(batch.pictures[0][:pictures],)))
    with pytest.raises(ValueError, match="zip"):
        network(batch_of(4, views=2))


def test_views_of_one_branch_go_through_it_in_one_pass_and_it_is_there_once() -> None:
    torch.manual_seed(0)
    shared = cnn()
    network = built(image=[shared, shared]).eval()
    alone = built(image=[shared])
    assert list(network.image.state_dict()) == list(alone.image.state_dict())
    seen = counted(shared)
    has = torch.tensor([[True, False], [True, True], [False, True], [True, False]])
    batch = batch_of(4, has_image=has)
    together = network(batch)
    assert seen == [5]
    twin = cnn()
    twin.load_state_dict(shared.state_dict())
    own = built(image=[shared, twin]).eval()
    own.facts, own.fusion = network.facts, network.fusion
    assert torch.allclose(together, own(batch), atol=1e-6)


def test_three_views_may_share_two_branches() -> None:
    one, other = cnn(), cnn(out=5)
    network = built(image=[other, one, other], facts=None)
    assert network.branch_of_view == (0, 1, 0)
    assert {name.split(".")[0] for name in network.image.state_dict()} == {"0", "1"}
    assert network.fusion.linear.in_features == 5 + 8 + 5
    assert network(batch_of(4, views=3)).shape == (4, 1)


class Pooled(Normed):
    """Takes pictures of any size from 24 px."""


@pytest.mark.parametrize("first_has_one", [True, False])
def test_views_of_two_sizes_share_a_branch_in_passes_of_their_own(first_has_one: bool) -> None:
    """The pass of one picture keeps running statistics for its gradient; the other pass moves them."""
    shared = Pooled()
    network = built(image=[shared, shared]).train()
    seen = counted(shared)
    has = torch.ones(4, 2, dtype=torch.bool)
    has[1:, 0 if first_has_one else 1] = False
    batch = batch_of(4, has_image=has)
    larger = tuple(
        nn.functional.interpolate(shown, scale_factor=scale)
        for scale, shown in zip((1, 2), batch.pictures, strict=True)
    )
    network(batch._replace(pictures=larger)).sum().backward()
    assert seen == [4, 1]
    assert all(p.grad is not None for p in shared.parameters())


@pytest.mark.parametrize("pictures", [0, 1])
def test_too_few_pictures_for_batch_norm_leave_its_statistics(pictures: int) -> None:
    torch.manual_seed(0)
    branch = Normed()
    network = built(image=[branch]).train()
    network(batch_of(8, views=1))
    before = {name: value.clone() for name, value in branch.norm.state_dict().items()}
    batch = batch_of(8, views=1, has_image=(torch.arange(8) < pictures).unsqueeze(1))
    output = network(batch)
    output.sum().backward()
    assert torch.isfinite(output).all()
    after = branch.norm.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training for module in branch.modules())
    assert (branch.conv.weight.grad is not None) == bool(pictures)
    assert torch.allclose(network.eval()(batch), output, atol=1e-6), "as in evaluation"


def test_a_tuned_encoder_learns_from_one_small_picture() -> None:
    branch = PretrainedCNN(tuned_encoder("resnet18", "last"), dropout=0.0)
    network = built(image=[branch]).train()
    batch = batch_of(1, views=1)._replace(pictures=(torch.rand(1, 3, 32, 32),))  # maps of 1 x 1 at the end
    network(batch).sum().backward()
    assert any(p.grad is not None for p in branch.encoder.parameters())


def test_batch_norm_goes_on_learning_after_one_picture_and_after_an_error() -> None:
    branch = Normed()
    network = built(image=[branch]).train()
    with pytest.raises(RuntimeError):
        network(batch_of(1, views=1)._replace(pictures=(torch.rand(1, 5, PX, PX),)))
    assert branch.norm.training
    network(batch_of(4, views=1))
    assert branch.norm.num_batches_tracked == 1


def test_a_frozen_norm_is_not_woken_by_one_picture() -> None:
    branch = Normed()
    network = built(image=[branch]).train()
    branch.norm.eval()
    network(batch_of(1, views=1))
    assert not branch.norm.training


# gates


def probe(facts_vector: list[float]) -> tuple[MultiModalNN, Batch]:
    """A gate over two views of which the first says 1, the second 10, and the facts as told."""
    network = built("gate", image=[FeatureHead(1, 1, dropout=0.0) for _ in range(2)], facts="dense").eval()
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
        for head in network.image:
            head.fc.weight.fill_(1.0)
        for project in network.fusion.views:
            project.weight.fill_(1.0)
        network.fusion.linear.weight[0, 0] = 1.0  # what is said is the weighted mean of the views
        assert network.facts is not None
        network.facts.fc3.bias[: len(facts_vector)] = torch.tensor(facts_vector)
    batch = batch_of(1, codes=False)._replace(pictures=(torch.tensor([[1.0]]), torch.tensor([[10.0]])))
    return network, batch


def test_gates_start_as_the_mean_of_views() -> None:
    network, batch = probe([1.0])
    assert network(batch).item() == pytest.approx((1 + 10) / 2)
    fresh = built("gate").fusion.gate
    assert not fresh.weight.any()


def test_raising_the_gate_of_a_view_raises_its_weight_alone() -> None:
    network, batch = probe([1.0])
    with torch.no_grad():
        network.fusion.gate.weight[1, 0] = 2.0
    second = 2 / (1 + torch.tensor(-2.0).exp().item())
    assert network(batch).item() == pytest.approx((1 + second * 10) / 2)
    with torch.no_grad():
        network.fusion.gate.weight[0, 0] = -50.0
    assert network(batch).item() == pytest.approx(second * 10 / 2)


def test_without_facts_all_present_views_weigh_the_same() -> None:
    network, batch = probe([1.0])
    with torch.no_grad():
        for p in network.fusion.gate.parameters():
            p[0], p[1] = 5.0, -5.0
        network.facts.fc3.bias.fill_(1.0)
    assert network(batch).item() == pytest.approx(1.0)  # twice the first, nothing of the second
    unread = batch._replace(has_facts=torch.tensor([False]))
    assert network(unread).item() == pytest.approx((1 + 10) / 2)
    one = torch.tensor([[False, True]])
    alone = unread._replace(has_image=one, pictures=(torch.zeros(0, 1), torch.tensor([[10.0]])))
    assert network(alone).item() == pytest.approx(10)


def test_the_facts_can_shut_the_only_view() -> None:
    network, batch = probe([1.0])
    with torch.no_grad():
        network.fusion.gate.weight[1, 0] = -50.0
    alone = batch._replace(
        has_image=torch.tensor([[False, True]]), pictures=(torch.zeros(0, 1), torch.tensor([[10.0]]))
    )
    assert network(alone).item() == pytest.approx(0, abs=1e-6)


def told_by_the_view_that_the_facts_name(tiles: int) -> tuple[Batch, Tensor]:
    views = torch.randn(2, tiles, 1)
    numbers = torch.randn(tiles, SHAPE.numbers)
    label = torch.where(numbers[:, 0] > 0, views[0, :, 0], views[1, :, 0]) > 0
    batch = batch_of(tiles, codes=False)._replace(numbers=numbers, pictures=tuple(views))
    return batch, label.float()


@pytest.mark.parametrize(
    ("fusion", "least", "most"), [("concat", 0.6, 0.85), ("gate", 0.93, 1.0), ("mlp", 0.9, 1.0)]
)
def test_a_gate_learns_which_view_to_trust(fusion: FusionName, least: float, most: float) -> None:
    """The label stands in the view that a fact names: a sum of the sides cannot say it."""
    torch.manual_seed(0)
    network = built(fusion, image=[FeatureHead(1, 8, dropout=0.0) for _ in range(2)], facts="dense")
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        batch, label = told_by_the_view_that_the_facts_name(256)
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(network(batch).squeeze(1), label).backward()
        optimiser.step()
    batch, label = told_by_the_view_that_the_facts_name(2_000)
    right = ((network(batch).squeeze(1) > 0) == (label > 0)).float().mean().item()
    assert least <= right <= most
    if fusion == "gate":
        network.eval()
        rows = batch.numbers[:, 0] > 0.5
        weights: list[Tensor] = []
        gates = network.fusion.weights
        network.fusion.weights = lambda sides: weights.append(gates(sides)) or weights[-1]
        network(batch)
        assert (weights[0][rows, 0] > weights[0][rows, 1]).float().mean() > 0.95


# modality dropout


@given(st.floats(0, 1), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_modality_dropout_drops_one_side_of_the_right_share(share: float, seed: int) -> None:
    torch.manual_seed(seed)
    tiles = 4_000
    has = torch.rand(tiles, 3) < 0.7
    pictures = tuple(torch.arange(tiles)[has[:, view]].unsqueeze(1) for view in range(2))
    numbers = torch.randn(tiles, 1)
    batch = Batch(numbers, numbers[:, :0].long(), has[:, 2], pictures, has[:, :2])
    dropped = one_side_dropped(batch, share)

    both = batch.has_image.any(1) & batch.has_facts
    lost_image = batch.has_image.any(1) & ~dropped.has_image.any(1)
    lost_facts = batch.has_facts & ~dropped.has_facts
    assert not (lost_image & lost_facts).any()
    assert not ((lost_image | lost_facts) & ~both).any()
    assert torch.equal(dropped.has_image, batch.has_image & ~lost_image.unsqueeze(1)), "all views or none"
    for view in range(2):
        assert torch.equal(dropped.pictures[view].squeeze(1), dropped.has_image[:, view].nonzero().squeeze(1))
    spread = 5 * (share / 2 * (1 - share / 2) / both.sum().item()) ** 0.5
    for lost in (lost_image, lost_facts):
        assert lost[both].float().mean().item() == pytest.approx(share / 2, abs=spread + 1e-9)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_modality_dropout_is_for_training_only(fusion: FusionName) -> None:
    torch.manual_seed(0)
    network, batch = built(fusion, modality_dropout=1.0), batch_of(32)
    seen = counted(network.image[0])
    expected = network.eval()(batch)
    assert torch.equal(network(batch), expected)
    assert seen == [32, 32]
    trained = network.train()(batch)
    assert seen[2] < 32
    assert not torch.isclose(trained, expected, atol=1e-7).any(), "every tile has lost a side"


def test_modality_dropout_is_seeded_and_draws_nothing_when_it_is_off() -> None:
    batch = batch_of(8)
    network = built(modality_dropout=0.5).train()
    torch.manual_seed(3)
    first = network(batch)
    torch.manual_seed(3)
    assert torch.equal(network(batch), first)
    state = torch.get_rng_state()
    built_off = built(modality_dropout=0.0).train()
    torch.set_rng_state(state)
    built_off(batch)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("image", "facts"), [(None, None), ([], "dense")])
def test_a_network_of_one_side_never_loses_it(image: list[ImageNetwork] | None, facts: str | None) -> None:
    torch.manual_seed(0)
    network = built(image=image, facts=facts, modality_dropout=1.0)
    batch = batch_of(8, views=len(network.branch_of_view), codes=False)
    assert torch.equal(network.train()(batch), network.eval()(batch))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_distributed_training_needs_only_find_unused_parameters(fusion: FusionName, tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        network = built(fusion, image=[Normed(), Normed()], dispersed=True, modality_dropout=0.5)
        parallel = nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)
        none = torch.zeros(6, 2, dtype=torch.bool)
        batches = [
            batch_of(6),
            batch_of(6, has_image=none),
            batch_of(6, has_facts=none[:, 0]),
            batch_of(6, has_image=none, has_facts=none[:, 0]),
            batch_of(6),
        ]
        for batch in batches:
            network.zero_grad()
            parallel(batch).square().sum().backward()
            assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())
        assert all(p.grad is not None for p in network.parameters())
    finally:
        torch.distributed.destroy_process_group()


# what is said


@pytest.mark.parametrize(("fusion", "width"), [("mlp", 256), ("attention", 128)])
def test_the_hidden_layer_is_rectified_and_then_dropped(fusion: FusionName, width: int) -> None:
    network = built(fusion, dropout=0.5).train()
    hidden: list[Tensor] = []
    network.fusion.dropout.register_forward_hook(lambda _module, inputs, _output: hidden.append(inputs[0]))
    network(batch_of(6))
    assert network.fusion.dropout.p == 0.5
    assert [x.shape for x in hidden] == [(6, width)]
    assert (hidden[0] >= 0).all()
    assert (hidden[0] == 0).any()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("outputs", [1, 4])
def test_the_log_of_the_dispersion_is_the_last_column_and_learns(fusion: FusionName, outputs: int) -> None:
    torch.manual_seed(0)
    network = built(fusion, outputs=outputs, dispersed=True)
    said = network(batch_of(5))
    assert said.shape == (5, outputs + 1)
    assert torch.equal(said[:, -1], torch.zeros(5)), "k = 1 at first"
    said[:, -1].sum().backward()
    assert network.log_dispersion is not None
    assert network.log_dispersion.grad == 5
    assert built(fusion, outputs=outputs)(batch_of(5)).shape == (5, outputs)


@pytest.mark.parametrize(
    ("fusion", "own"),
    [
        ("concat", {"linear"}),
        ("mlp", {"hidden", "linear"}),
        ("gate", {"views.0", "views.1", "gate", "linear"}),
        ("attention", {"views.0", "views.1", "facts", "query", "norm", "attention", "hidden", "linear"}),
    ],
)
def test_the_names_in_its_state_are_as_promised(fusion: FusionName, own: set[str]) -> None:
    state = built(fusion, dispersed=True).state_dict()
    layers = ("conv1", "conv2", "fc1", "fc2")
    image = {f"image.{i}.{layer}.{p}" for i, layer, p in product("01", layers, ("weight", "bias"))}
    facts = {"facts.embeddings.0.weight", "facts.embeddings.1.weight"}
    facts |= {f"facts.{layer}.{p}" for layer, p in product(("fc1", "fc2"), ("weight", "bias"))}
    rest = set(state) - image - facts
    assert image | facts <= set(state)
    assert "log_dispersion" in rest
    joined = {name.removeprefix("fusion.") for name in rest - {"log_dispersion"}}
    assert all(name.startswith("fusion.") for name in rest - {"log_dispersion"})
    assert {next(part for part in own if f"{name}.".startswith(f"{part}.")) for name in joined} == own
    assert "log_dispersion" not in built(fusion).state_dict()
    other = built(fusion, dispersed=True)
    other.load_state_dict(state)
    batch = batch_of(3)
    torch.manual_seed(1)
    expected = other.eval()(batch)
    fresh = built(fusion, dispersed=True).eval()
    fresh.load_state_dict(state)
    assert torch.equal(fresh(batch), expected)


def test_a_network_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a network needs an image branch, a facts branch or both$"):
        built(image=[], facts=None)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_half_precision_mixes_with_what_is_absent(fusion: FusionName) -> None:
    torch.manual_seed(0)
    network, batch = built(fusion, dispersed=True).train(), some_absent(12, 0)
    has = batch.has_image.clone()
    has[:, 1] = False
    unseen = taken(batch, torch.arange(12))._replace(
        has_image=has, pictures=(batch.pictures[0], torch.zeros(0, 3, PX, PX))
    )
    for given_batch in (batch, unseen):
        full = network(given_batch)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(given_batch)
        half.float().sum().backward()
        assert torch.allclose(half.float(), full, atol=0.03)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_channels_last_changes_nothing(fusion: FusionName) -> None:
    torch.manual_seed(0)
    network, batch = built(fusion).eval(), some_absent(12, 0)
    before = network(batch)
    assert torch.allclose(network.to(memory_format=torch.channels_last)(batch), before, atol=1e-6)
