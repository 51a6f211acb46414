"""Tasks: losses against scipy, scikit-learn and torchvision, and planted relations found again."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from roadrisk.learning.tasks import (
    Target,
    Task,
    dispersion,
    learned_target,
    losses,
    prediction,
    probabilities,
    said,
)
from roadrisk.nets.losses import many_class_loss, negative_binomial_loss, poisson_loss, two_class_loss

NEGATIVE_BINOMIAL = Task("count", "negative-binomial", ())
POISSON = Task("count", "poisson", ())
VALUE = Task("value", "mse", ())
HUBER = Task("value", "huber", ())
THREE = Task("class", "cross-entropy", ("low", "medium", "high"))
TASKS = (NEGATIVE_BINOMIAL, POISSON, VALUE, HUBER, THREE, Task())


def torched(values, dtype=torch.float32):
    return torch.as_tensor(np.asarray(values), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_cost_what_scipy_says(dtype):
    log_mean, log_k, count = (
        values.ravel()
        for values in np.meshgrid(
            np.log([1e-6, 0.03, 1.0, 40.0, 3e4, 1e7]), np.log([1e-5, 0.02, 0.6, 9.0]), [0, 1, 7, 300, 40_000]
        )
    )
    # what float32 holds is what is asked of both
    log_mean, log_k = (torched(values, dtype) for values in (log_mean, log_k))
    mean, k = (values.double().exp().numpy() for values in (log_mean, log_k))
    expected = -stats.poisson.logpmf(count, mean)
    found = poisson_loss(log_mean, torched(count, dtype)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-5)
    expected = -stats.nbinom.logpmf(count, 1 / k, 1 / (1 + k * mean))
    found = negative_binomial_loss(log_mean, log_k, torched(count, dtype)).numpy()
    sure = np.isfinite(expected)
    assert sure.mean() > 0.9
    np.testing.assert_allclose(found[sure], expected[sure], rtol=1e-7, atol=1e-5)
    assert np.isfinite(found).all()


@given(st.floats(-20, 60), st.floats(-200, 200), st.integers(0, 10**6))
def test_a_negative_binomial_and_its_slopes_are_finite_everywhere(log_mean, log_k, count):
    at = torch.tensor([log_mean, log_k], requires_grad=True)
    loss = negative_binomial_loss(at[:1], at[1:], torch.tensor([float(count)]))
    loss.sum().backward()
    assert loss.item() >= -1e-4
    assert torch.isfinite(at.grad).all()


def test_without_dispersion_a_negative_binomial_is_a_poisson():
    log_mean, count = torched([-3.0, 0.0, 2.5, 4.0]), torched([0, 3, 11, 60])
    for log_k in (-14.0, -60.0):
        found = negative_binomial_loss(log_mean, torch.full((4,), log_k), count)
        np.testing.assert_allclose(found, poisson_loss(log_mean, count), rtol=2e-4)


@pytest.mark.parametrize(
    "task", [NEGATIVE_BINOMIAL, POISSON, HUBER, VALUE, THREE, Task(), Task(loss="focal")]
)
def test_slopes_are_those_of_finite_differences(task):
    rng = np.random.default_rng(3)
    raw = torched(rng.normal(size=(6, task.outputs + task.dispersed)), torch.float64).requires_grad_()
    label, exposure = torched(rng.integers(0, len(task.classes) or 9, 6)), torched(rng.uniform(0.1, 5, 6))
    target = Target() if task.kind == "class" else Target(0.3, 1.7)
    if task.kind == "class":  # in float32, as ever
        total = losses(task, target, raw, label, exposure).sum()
        (slope,) = torch.autograd.grad(total, raw)
        step = torch.zeros_like(raw)
        step[2, 0] = 1e-2
        more, less = (losses(task, target, raw + way * step, label, exposure).sum() for way in (1, -1))
        assert slope[2, 0].item() == pytest.approx((more - less).item() / 2e-2, abs=1e-3)
    else:
        assert torch.autograd.gradcheck(lambda raw: losses(task, target, raw, label, exposure), raw)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_focal_loss_is_torchvisions(dtype):
    rng = np.random.default_rng(1)
    logit, high = torched(rng.normal(0, 20, 200)).to(dtype), torched(rng.integers(0, 2, 200))
    expected = sigmoid_focal_loss(logit.float(), high, alpha=-1, gamma=2.0)
    np.testing.assert_allclose(two_class_loss(logit, high, focus=2.0), expected, rtol=1e-4, atol=1e-7)
    both = torch.stack([torch.zeros_like(logit), logit], 1)
    np.testing.assert_allclose(many_class_loss(both, high, focus=2.0), expected, rtol=1e-4, atol=1e-7)


def test_each_loss_is_the_one_that_was_asked_for():
    one, raw, target = torch.ones(1), torch.full((1, 1), 0.5), Target(10, 2)
    far = torch.full((1,), 17.0)  # 3.5 in units of the target, 3 from what is said
    assert losses(VALUE, target, raw, far, one).item() == 9
    assert losses(HUBER, target, raw, far, one).item() == 2.5
    near_miss = Task(loss="focal")
    expected = sigmoid_focal_loss(raw[:, 0], one, alpha=-1, gamma=2.0)
    assert losses(near_miss, Target(), raw, one, one).item() == pytest.approx(expected.item())
    several = losses(Task("class", "focal", THREE.classes), Target(), torch.zeros(1, 3), one, one)
    assert several.item() == pytest.approx((2 / 3) ** 2 * math.log(3))


@pytest.mark.parametrize("task", [Task(loss="weighted"), Task("class", "weighted", THREE.classes)])
def test_class_weights_are_those_scikit_learn_calls_balanced(task):
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

    rng = np.random.default_rng(2)
    label = (rng.random(400) ** 3 * len(task.classes)).astype(int)
    target = learned_target(task, label.astype(float))
    expected = compute_class_weight("balanced", classes=np.unique(label), y=label)
    np.testing.assert_allclose(target.class_weights, expected)
    raw = rng.normal(size=(400, task.outputs))
    found = losses(task, target, torched(raw), torched(label), torch.ones(400)).mean().item()
    sample_weight = compute_sample_weight("balanced", label)
    assert found == pytest.approx(
        log_loss(label, probabilities(task, raw), sample_weight=sample_weight), rel=1e-5
    )
    assert learned_target(Task(loss="focal"), label.clip(0, 1)) == Target()


def test_the_loss_of_two_classes_is_the_first_versions_to_the_last_bit():
    rng = np.random.default_rng(4)
    raw, label = torched(rng.normal(size=(50, 1))), torched(rng.integers(0, 2, 50))
    expected = nn.functional.binary_cross_entropy_with_logits(raw[:, 0], label)
    assert losses(Task(), Target(), raw, label, torch.ones(50)).mean() == expected


@pytest.mark.parametrize("task", TASKS)
def test_what_a_network_says_costs_least_where_it_is_observed(task):
    """`said` and `losses` mean the same by raw outputs: the cheapest of many says what was observed."""
    grid = np.linspace(-4, 4, 4001)
    raw = np.zeros((len(grid), task.outputs + task.dispersed))
    raw[:, task.outputs - 1] = grid
    target = Target() if task.kind == "class" else Target(1.3, 0.7)
    exposure = np.full(len(grid), 3.0)
    observed = {"class": 1.0, "value": 2.9, "count": 7.0}[task.kind]
    cost = losses(task, target, torched(raw), torch.full((len(grid),), observed), torched(exposure))
    best = prediction(task, said(task, target, raw, exposure))[int(cost.argmin())]
    if task is THREE:
        assert best == probabilities(THREE, raw)[0, -1]  # the class observed is not the riskiest
    else:
        assert best == pytest.approx(observed, abs=0.02)


def test_a_target_is_the_same_in_any_order_and_its_own_inverse():
    rng = np.random.default_rng(5)
    label, exposure = rng.lognormal(3, 2, 1001), rng.lognormal(8, 2, 1001)
    order = rng.permutation(1001)
    for task, labels in ((VALUE, label), (POISSON, label.round())):
        target = learned_target(task, labels, exposure)
        assert target == learned_target(task, labels[order], exposure[order])
    target = learned_target(VALUE, label)
    assert (target.mean, target.std) == pytest.approx((label.mean(), label.std()))
    np.testing.assert_allclose(
        said(VALUE, target, ((label - target.mean) / target.std)[:, None], exposure)[:, 0], label
    )
    count = learned_target(POISSON, label.round(), exposure)
    expected = np.exp(said(POISSON, count, np.zeros((1001, 1)), exposure))
    assert expected.sum() == pytest.approx(label.round().sum())


def test_targets_that_nothing_can_be_learned_from_are_finite():
    assert learned_target(VALUE, np.full(4, 2.5)) == Target(2.5, 1.0)
    assert learned_target(POISSON, np.zeros(5)).mean == math.log(0.1)
    assert all(np.isfinite(learned_target(Task(loss="weighted"), np.zeros(3)).class_weights))


def test_no_exposure_is_no_event_and_an_unknown_one_is_unknown():
    found = said(POISSON, Target(), np.ones((3, 1)), np.array([0.0, 1.0, np.nan]))
    assert prediction(POISSON, found).tolist() == pytest.approx([0.0, math.e, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    "wrong",
    [("value", "mse"), ("count", "poisson", ("a",)), ("class", "cross-entropy", ("a",)), ("class", "mse")],
)
def test_a_task_that_contradicts_itself_is_none(wrong: tuple) -> None:
    with pytest.raises(ValueError, match=r"is no loss of|with [0-9] classes"):
        Task(*wrong)


def test_a_target_is_read_strictly_and_an_old_model_has_a_plain_one():
    read = TypeAdapter(Target).validate_json
    target = Target(0.25, 2.0, (0.5, 1.5))
    assert read(json.dumps({"mean": 0.25, "std": 2.0, "class_weights": [0.5, 1.5]})) == target
    assert read("{}") == Target()
    for broken in (
        '{"std": 0}',
        '{"mean": "1"}',
        '{"mean": NaN}',
        '{"class_weights": [-1]}',
        '{"std": true}',
    ):
        with pytest.raises(ValidationError):
            read(broken)


# ---- planted relations, found again by a linear model

SLOPES = np.array([0.8, -0.5, 0.0])


def learned(task, facts, label, exposure, steps=60):
    """Raw outputs of a linear network learned by all tiles at once, and the network."""
    target = learned_target(task, label, exposure)
    torch.manual_seed(0)
    linear = nn.Linear(facts.shape[1], task.outputs)
    log_k = nn.Parameter(torch.zeros(1))
    parameters = [*linear.parameters(), *([log_k] if task.dispersed else [])]
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")
    inputs, labels, exposures = torched(facts), torched(label), torched(exposure)

    def raw():
        columns = [linear(inputs)] + [log_k.expand(len(facts), 1)] * task.dispersed
        return torch.cat(columns, 1)

    def cost():
        optimiser.zero_grad()
        loss = losses(task, target, raw(), labels, exposures).mean()
        loss.backward()
        return loss

    optimiser.step(cost)
    return raw().detach().numpy(), linear, target


@pytest.fixture(scope="module")
def facts():
    return np.random.default_rng(0).normal(size=(12_000, 3))


@pytest.mark.parametrize("k", [0.6, 0.0])
def test_planted_counts_are_found_with_their_dispersion_and_exposure(facts, k):
    rng = np.random.default_rng(1)
    exposure = rng.lognormal(9, 1, len(facts))  # vehicle-km, say
    mean = exposure * np.exp(-9 + 0.2 + facts @ SLOPES)
    label = rng.poisson(mean * (rng.gamma(1 / k, k, len(facts)) if k else 1)).astype(float)
    for task in (NEGATIVE_BINOMIAL, POISSON):
        raw, linear, target = learned(task, facts, label, exposure)
        np.testing.assert_allclose(linear.weight.detach()[0], SLOPES, atol=0.05)
        assert linear.bias.item() + target.mean == pytest.approx(-9 + 0.2, abs=0.05)
        outputs = said(task, target, raw, exposure)
        np.testing.assert_allclose(prediction(task, outputs), mean, rtol=0.25)
        learned_k = dispersion(task, raw)
        assert learned_k.shape == (len(facts),)
        np.testing.assert_allclose(learned_k, 0 if task is POISSON else k, atol=0.05)


@pytest.mark.parametrize("task", [VALUE, HUBER])
def test_planted_values_are_found(facts, task):
    rng = np.random.default_rng(2)
    truth = 5000 + 800 * (facts @ SLOPES)
    label = truth + rng.normal(0, 200, len(facts))
    if task is HUBER:
        label[::50] += 40_000  # what a squared loss follows and this one does not
    raw, _, target = learned(task, facts, label, np.ones(len(facts)))
    found = prediction(task, said(task, target, raw, np.ones(len(facts))))
    assert np.corrcoef(found, truth)[0, 1] > 0.99
    if task is VALUE:
        np.testing.assert_allclose(found, truth, atol=40)
    else:
        assert abs(np.mean(found - truth)) < 200 < 700 < np.mean(label - truth)


@pytest.mark.parametrize("loss", ["cross-entropy", "weighted", "focal"])
def test_planted_classes_are_found(facts, loss):
    rng = np.random.default_rng(3)
    two = Task("class", loss)
    chance = 1 / (1 + np.exp(-(facts @ SLOPES - 1)))
    raw, linear, target = learned(two, facts, (rng.random(len(facts)) < chance) * 1.0, np.ones(len(facts)))
    direction = linear.weight.detach()[0] / linear.weight.detach()[0].norm()
    np.testing.assert_allclose(direction, SLOPES / np.linalg.norm(SLOPES), atol=0.06)
    if loss == "cross-entropy":
        np.testing.assert_allclose(prediction(two, said(two, target, raw, chance)), chance, atol=0.05)
    else:  # both say more of the rare class than its true rate
        assert prediction(two, raw).mean() > chance.mean() + 0.02


@pytest.mark.parametrize("loss", ["cross-entropy", "weighted", "focal"])
def test_planted_classes_of_three_are_found(facts, loss):
    rng = np.random.default_rng(4)
    task = Task("class", loss, THREE.classes)
    latent = facts @ SLOPES * 2 + rng.logistic(size=len(facts))
    label = (latent > -0.5) * 1.0 + (latent > 2)
    raw, _, _ = learned(task, facts, label, np.ones(len(facts)))
    found = probabilities(task, raw)
    assert np.allclose(found.sum(axis=1), 1)
    assert stats.spearmanr(found[:, -1], facts @ SLOPES).statistic > 0.97
    chance = 1 / (1 + np.exp(-(facts @ SLOPES * 2 - 2)))
    if loss == "cross-entropy":
        assert np.abs(found[:, -1] - chance).mean() < 0.03
