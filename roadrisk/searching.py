"""What a search for settings chooses from, and what it chooses next."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Any

from roadrisk.errors import UsageError
from roadrisk.learning.settings import TrainSettings, resolved
from roadrisk.learning.trials import Param, Space, Tried
from roadrisk.learning.validation import fold_seed

if TYPE_CHECKING:
    pass

MOST_VIEWS = 3  # of which every choice is tried
WIDTHS = (0, 32, 64, 128, 256)  # 0 is the first version's network of facts
DECAYS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
FUSIONS = ("concat", "mlp", "gate", "attention")


def search_space(start: TrainSettings, views: Sequence[str], search: Sequence[str] | None) -> Space:
    """What is searched over, by the name of the setting; what is started from is always in it.

    Parameters
    ----------
    views : that all datasets have; those started from stand first.
    search : names, `encoder` also with candidates (`encoder=basic+resnet50`); None for all.

    Raises
    ------
    UsageError : a name that has no choice here, or an encoder that is none.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    given = dict(name.split("=", 1) for name in search or () if "=" in name)
    names = [name.partition("=")[0] for name in search or ()]
    rate = resolved(start).learning_rate or 0.0
    space: Space = {
        "learning_rate": FloatDistribution(min(1e-4, rate), max(1e-2, rate), log=True),
        "weight_decay": CategoricalDistribution(_with(start.weight_decay, DECAYS)),
        "dropout": FloatDistribution(0.0, max(0.7, start.dropout)),
    }
    if start.sees != "image":
        space["facts_width"] = CategoricalDistribution(_with(_width_of(start), WIDTHS))
    if start.sees == "both":
        space["fusion"] = CategoricalDistribution(_with(start.fusion, FUSIONS))
    if start.sees != "facts":
        encoders = _encoders(start, given.pop("encoder", ""))
        if len(encoders) > 1:
            space["encoder"] = CategoricalDistribution(encoders)
        choices = _choices_of_views(start, views)
        if len(choices) > 1:
            space["views"] = CategoricalDistribution(choices)
    unknown = [name for name in names if name not in space]
    if unknown:
        raise UsageError(
            f"--search {unknown[0]}: there is no choice of it here; name some of {', '.join(space)}"
        )
    if given:
        raise UsageError(f"--search {'='.join(next(iter(given.items())))}: only encoder takes candidates")
    return {name: choice for name, choice in space.items() if search is None or name in names}


def own_params(space: Space, start: TrainSettings) -> dict[str, Param]:
    """What the settings started from are in the space."""
    own: dict[str, Any] = {
        "learning_rate": resolved(start).learning_rate,
        "weight_decay": start.weight_decay,
        "dropout": start.dropout,
        "facts_width": _width_of(start),
        "fusion": start.fusion,
        "encoder": start.encoder,
        "views": ",".join(start.views),
    }
    return {name: own[name] for name in space}


def next_params(
    space: Space, tried: Sequence[Tried], more_is_better: bool, start: TrainSettings
) -> dict[str, Param]:
    """What to try next, by a tree-structured Parzen estimator (Bergstra et al. 2011).

    It is drawn from what was tried before and a seed of its own, so that a search that stopped goes on as it
    would have.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if more_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=fold_seed(start.seed, len(tried))),
    )
    for one in tried:
        state = TrialState.FAIL if one.failed else TrialState.COMPLETE
        params = dict(one.params)
        study.add_trial(create_trial(state=state, value=one.value, params=params, distributions=dict(space)))
    return study.ask(dict(space)).params


def changes(params: Mapping[str, Param], start: TrainSettings) -> dict[str, Any]:
    """The settings that params stand for, as far as they are not those started from.

    >>> changes({"facts_width": 32, "dropout": 0.1}, TrainSettings())
    {'facts_network': 'embedding', 'facts_width': 32, 'dropout': 0.1}
    """
    changed: dict[str, Any] = {}
    for name, value in params.items():
        if name == "encoder":
            changed |= _encoder_changes(str(value), start)
        elif name == "facts_width":
            changed |= _width_changes(int(value), start)
        else:
            changed[name] = tuple(str(value).split(",")) if name == "views" else value
    return changed


def _with(own: Any, choices: Sequence[Any]) -> list[Any]:
    """The choices, with what is started from among them."""
    return [*dict.fromkeys([*choices, own])]


def _width_of(start: TrainSettings) -> int:
    return start.facts_width if start.facts_network == "embedding" else 0


def _width_changes(width: int, start: TrainSettings) -> dict[str, Any]:
    """The first version's facts network, or the other one at some width."""
    if width == _width_of(start):
        return {}
    return {"facts_network": "embedding", "facts_width": width} if width else {"facts_network": "dense"}


def _encoder_changes(name: str, start: TrainSettings) -> dict[str, Any]:
    """An encoder with weights of its own, and tuned as much, where it is not the one that was asked for."""
    if name == start.encoder:
        return {}
    tune = None if "basic" in (name, start.encoder) else start.tune
    return {"encoder": name, "weights": None, "tune": tune}


def _encoders(start: TrainSettings, candidates: str) -> list[str]:
    """Those to choose from: the one asked for, and others that start from nothing or have weights here."""
    others = candidates.split("+") if candidates else ["basic"]
    if not candidates and find_spec("geoembed") is not None:
        others.append("aerial-resnet18")
    for name in others:
        resolved(replace(start, **_encoder_changes(name, start)))
    return _with(start.encoder, others)


def _choices_of_views(start: TrainSettings, views: Sequence[str]) -> list[str]:
    """Every choice of the views that there are, commas between."""
    names = views[: max(MOST_VIEWS, len(start.views))]
    return [",".join(some) for n in range(1, len(names) + 1) for some in combinations(names, n)]
