"""What adaptive samplers are told of earlier trials, and how Optuna's samplers propose from it.

Starts without torch and Optuna, which are imported by the samplers that use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpc.settings.space import Distribution
from skin_gan.identity import content_hash

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

MEASURED, PRUNED, RUNNING, FAILED = "measured", "pruned", "running", "failed"


@dataclass(frozen=True)
class Told:
    """An earlier trial. All that are `MEASURED` were so after equal training; see `hpc.search.proposals`.

    MEASURED has the result of that evaluation; it has diverged where `kid` is None
    PRUNED   was stopped at an earlier rung, and has the result there
    RUNNING  has no result yet that could be compared
    FAILED   ended by an error that says nothing of its settings
    """

    index: int
    values: Mapping[str, Any]  # of the searched settings
    state: str
    kimg: float | None = None  # of the evaluation
    kid: float | None = None  # x1000
    coverage: float = 0.0  # as a share of what real images reach
    excess: Mapping[str, float] | None = None  # by the constraint's name; it is violated above 0


def stream(seed: int, label: str, index: int) -> int:
    """The seed, below 2**32, of the randomness in a proposal."""
    return int(content_hash(["proposal", seed, label, index], length=8), 16)


def ask(
    sampler: BaseSampler, space: Mapping[str, Distribution], told: Sequence[Told], coverage: bool = False
) -> dict[str, Any]:
    """The values that one of Optuna's samplers proposes for the next trial.

    It minimises KID; with `coverage` it also maximises coverage. A diverged trial has the largest KID there
    is, since an infinite one has no place in a model. Constraints that every trial keeps are left out: the
    model of one costs as much as that of KID.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=["minimize", "maximize"] if coverage else ["minimize"], sampler=sampler
    )
    native = {name: _native(d) for name, d in space.items()}
    worst = max((t.kid for t in told if t.state == MEASURED and t.kid is not None), default=0.0)
    broken = {name for t in told for name, excess in (t.excess or {}).items() if excess > 0}
    for trial in told:
        study.add_trial(_frozen(trial, native, worst, coverage, broken))
    params = study.ask(native).params
    return {name: d.rounded(params[name]) for name, d in space.items()}


def _frozen(
    trial: Told, native: dict[str, BaseDistribution], worst: float, coverage: bool, broken: set[str]
) -> FrozenTrial:
    """The trial in Optuna's terms. With two goals it knows no pruned trials, and is not told of them."""
    from optuna.trial import TrialState, create_trial

    state = {
        MEASURED: TrialState.COMPLETE,
        PRUNED: TrialState.FAIL if coverage else TrialState.PRUNED,
        RUNNING: TrialState.RUNNING,
        FAILED: TrialState.FAIL,
    }[trial.state]
    kid = worst if trial.kid is None else trial.kid
    more: dict[str, Any] = {}
    if state == TrialState.COMPLETE:
        more["values"] = [kid, trial.coverage] if coverage else [kid]
    if state == TrialState.PRUNED:
        # Optuna ranks pruned trials below all others, those that came further first, then by their value.
        more["intermediate_values"] = {round(1000 * (trial.kimg or 0.0)): kid}
    if trial.excess is not None and state in (TrialState.COMPLETE, TrialState.PRUNED):
        more["constraints"] = {name: trial.excess[name] for name in sorted(broken)}
    return create_trial(state=state, params=dict(trial.values), distributions=native, **more)


def _native(d: Distribution) -> BaseDistribution:
    """The distribution in Optuna's terms, which has no weights: a repeated option counts once."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if d.how == "choice":
        return CategoricalDistribution(d.domain)
    low, high = d.values
    log = d.how == "loguniform"
    return IntDistribution(int(low), int(high), log) if d.kind is int else FloatDistribution(low, high, log)
