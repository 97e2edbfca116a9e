"""What a launch settles once, so that all jobs and later launches agree: `auto`, pretrain.source. No torch.

sweep.yaml records what came out, and trials are identified by that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from hpc.plan import transfer
from hpc.settings import compose
from hpc.settings.compose import Experiment
from hpc.settings.space import check_space, distributions
from skin_gan.config import check
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder
from skin_gan.pretrained import find, how_to_get, known, weights_file

AUTO: Final = "auto"
OWN: Final = "own"
PROJECTED: Final = "projected"
NONE: Final = "none"
SECOND: Final = "alexnet"  # the weights of the second network that measures

FolderOf = Callable[[Experiment], RunFolder]


def settle(e: Experiment, data: str, folder_of: FolderOf) -> tuple[Experiment, RunFolder, list[str]]:
    """The experiment with everything settled, its folder, and a sentence on each thing that was settled.

    `data`: the fingerprint of its data. SkinGanError if trials cannot start from pretrain.source.
    """
    e, source = transfer.with_source(e)
    e, run, notes = settle_discriminator(e, folder_of)
    if source:
        transfer.check_fit(source, e, data)
        notes.append(f"trials start from the networks {source.content} of {source.networks.parent}")
    second, more = settle_second(e, run)
    return replace(e, evaluate=replace(e.evaluate, second=second)), run, notes + more


def settle_discriminator(e: Experiment, folder_of: FolderOf) -> tuple[Experiment, RunFolder, list[str]]:
    """`auto` is "projected" where this machine has the weights, else the family's own.

    Where it is projected, the folder is that of a sweep for which this was asked. Else the folder is named by
    `auto`, so that a later launch finds it and goes on with it, although the weights may have come.
    """
    if e.trial.model.discriminator != AUTO:
        return e, folder_of(e), []
    projected = with_discriminator(e, PROJECTED)
    missing = [name for name in discriminators_weights(projected) if find(name) is None]
    fallback, says = folder_of(e), "model.discriminator=auto is"
    if fallback.settings.exists():
        says += f" {OWN}, with which this sweep began: trial.model.discriminator={PROJECTED} begins another"
    elif missing and not folder_of(projected).settings.exists():
        says += f" {OWN}, since the weights {missing[0]} are not on this machine: "
        says += how_to_get(known(missing[0]))
    else:
        on = ", ".join(discriminators_weights(projected)) or "an untrained network"
        return projected, folder_of(projected), [f"{says} {PROJECTED}, on {on}"]
    e = with_discriminator(e, OWN)
    try:
        check(e.trial)
        check_space(e.search.space, e.trial)
    except SkinGanError as error:
        raise SkinGanError(f"{says}; but {error}") from error
    return e, fallback, [says]


def with_discriminator(e: Experiment, kind: Literal["own", "projected"]) -> Experiment:
    return replace(e, trial=replace(e.trial, model=replace(e.trial.model, discriminator=kind)))


def settle_second(e: Experiment, run: RunFolder) -> tuple[Literal["auto", "alexnet", "none"], list[str]]:
    """The second network that measures: as the sweep recorded it, else by what is on this machine."""
    if e.evaluate.second != AUTO:
        return e.evaluate.second, []
    recorded = compose.load(run.settings).evaluate.second if run.settings.exists() else AUTO
    if recorded != AUTO:
        return recorded, []
    if find(SECOND) is not None:
        return SECOND, []
    why = f"the weights {SECOND} are not on this machine: {how_to_get(known(SECOND))}"
    return NONE, [f"evaluate.second=auto is {NONE}, since {why}"]


def discriminators_weights(e: Experiment) -> list[str]:
    """The names of the weights that discriminators of the sweep's trials may need."""
    space, m = distributions(e.search.space), e.trial.model
    names = ("discriminator", "features")
    drawn = [space[key].values if (key := f"model.{x}") in space else [getattr(m, x)] for x in names]
    models = [replace(m, **dict(zip(names, pair, strict=True))) for pair in itertools.product(*drawn)]
    if e.search.baseline:
        models.insert(0, m)
    return list(dict.fromkeys(model.weights for model in models if model.weights))


def check_weights(e: Experiment) -> None:
    """SkinGanError unless all weights that the sweep needs are on this machine and whole."""
    for name in needed(e):
        weights_file(name)


def needed(e: Experiment) -> list[str]:
    """The names of all weights that the sweep needs."""
    return [*discriminators_weights(e), *([SECOND] if e.evaluate.second == SECOND else [])]
