"""What each tile costs: from what a network says and what was observed to a loss (B,)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    mse_loss,
    softplus,
)

FOCUS = 2.0  # gamma of Lin et al. 2017, Focal Loss for Dense Object Detection
LOG_K_MOST = 14.0  # a negative binomial of k = exp(-14) is a Poisson to the fifth digit


def two_class_loss(logit: Tensor, high: Tensor, weights: Tensor | None = None, focus: float = 0.0) -> Tensor:
    """Cross-entropy of two classes.

    Parameters
    ----------
    logit : (B,) of the second class.
    high : (B,) 1 for the second class, 0 for the first.
    weights : (2,) of the classes; 1 each without it.
    focus : gamma of the focal loss (1 - p)^gamma * -log p, p the probability of what was observed.

    Returns
    -------
    (B,) float32.

    Examples
    --------
    >>> two_class_loss(torch.zeros(2), torch.tensor([0.0, 1.0]), focus=2.0)
    tensor([0.1733, 0.1733])
    """
    logit, high = logit.float(), high.float()
    loss = binary_cross_entropy_with_logits(logit, high, reduction="none")  # (B,)
    if focus:
        loss = torch.sigmoid(torch.where(high > 0, -logit, logit)) ** focus * loss
    return loss if weights is None else weights.to(loss)[high.long()] * loss


def many_class_loss(
    logits: Tensor, index: Tensor, weights: Tensor | None = None, focus: float = 0.0
) -> Tensor:
    """Cross-entropy of K classes.

    Parameters
    ----------
    logits : (B, K).
    index : (B,) of the class observed.
    weights, focus : as of two classes; (K,) weights.

    Returns
    -------
    (B,) float32.
    """
    logits, index = logits.float(), index.long()
    loss = cross_entropy(logits, index, reduction="none")  # (B,)
    if focus:
        # 1 - exp(-loss), without its rounding where the class is nearly certain
        loss = (-torch.expm1(-loss)) ** focus * loss
    return loss if weights is None else weights.to(loss)[index] * loss


def squared_loss(value: Tensor, observed: Tensor) -> Tensor:
    """(B,) squared distance."""
    return mse_loss(value, observed, reduction="none")


def huber(value: Tensor, observed: Tensor) -> Tensor:
    """(B,) half the squared distance up to 1, the distance less one half beyond (Huber 1964)."""
    return huber_loss(value, observed, reduction="none")


def poisson_loss(log_mean: Tensor, count: Tensor) -> Tensor:
    """-log probability of counts under Poisson.

    Parameters
    ----------
    log_mean : (B,) log of the expected count.
    count : (B,) whole numbers.

    Returns
    -------
    (B,) float64, as sums of numbers much larger than itself need.
    """
    log_mean, count = log_mean.double(), count.double()
    return log_mean.exp() - count * log_mean + torch.lgamma(count + 1)


def negative_binomial_loss(log_mean: Tensor, log_k: Tensor, count: Tensor) -> Tensor:
    """-log probability of counts with Var = mu + k mu^2 (NB2; Hilbe 2011, Negative Binomial Regression).

    Parameters
    ----------
    log_mean : (B,) log of the expected count mu.
    log_k : (B,) log of the dispersion k, which counts from exp(-14) to exp(14).
    count : (B,) whole numbers.

    Returns
    -------
    (B,) float64.

    Examples
    --------
    >>> zero = torch.zeros(1)
    >>> negative_binomial_loss(zero, zero, zero).exp()  # mu = k = 1: half of all tiles have no event
    tensor([2.], dtype=torch.float64)
    """
    log_mean, count = log_mean.double(), count.double()
    log_k = log_k.double().clamp(-LOG_K_MOST, LOG_K_MOST)
    r = torch.exp(-log_k)
    log_k_mean = log_k + log_mean
    # log(1 + k mu) without the overflow of mu
    log_spread = softplus(log_k_mean)
    ways = torch.lgamma(count + r) - torch.lgamma(r) - torch.lgamma(count + 1)
    return (count + r) * log_spread - count * log_k_mean - ways
