"""Typed settings of an experiment, composed from YAML files and `key=value` words. No torch.

Later wins: defaults, the preset, `sweeps/NAME.yaml`, `sweeps/budgets/NAME.yaml`, `slurm/NAME.yaml` (as
`profile`), the words of the command line. From `compose` on only typed objects travel.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpc.settings.ablation import AblateSettings, check_ablate, check_arms, check_name
from hpc.settings.profiles import ProfileSettings, check_profile
from hpc.settings.space import RANDOM, SAMPLERS, check_space, leaves
from hpc.settings.yaml_tree import first_line, read_text, read_words, typed
from skin_gan.config import EvalSettings, Operations, TrialSettings
from skin_gan.data.splits import N_FOLDS
from skin_gan.errors import SkinGanError
from skin_gan.io import write_atomic
from skin_gan.presets import preset
from skin_gan.ranges import check_ranges, setting
from skin_gan.variants import names

ROOT = Path(__file__).resolve().parents[2]
KEY = re.compile(r"\w+(\.\w[\w-]*)*")  # a dotted name
NO_TEXT = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]"
)  # bytes that are no UTF-8 become the last of these
CLUSTER = "SKIN_GAN_CLUSTER"  # environment variable: the profile that is meant where no cluster= is given


if TYPE_CHECKING:
    Sampler = str
else:  # a new file is a choice by being there
    Sampler = Literal[names(SAMPLERS, "hpc")]


def _rising(rungs: list[float]) -> bool:
    return bool(rungs) and rungs == sorted(set(rungs))


@dataclass
class SearchSettings:
    """What Ray Tune searches, for each lesion class."""

    trials: int = setting(8, "per class; raise it later to extend the same sweep", unit="trials", least=1)
    rungs: list[float] = setting(
        [4.0, 12.0, 36.0], "when trials are compared; the last is a trial's full length", unit="kimg",
        above=0, form="rising kimg above 0, like [4,12,36]", rule=_rising,
    )  # fmt: skip
    scheduler: Literal["asha", "none"] = setting(
        "asha", "asha stops the worse trials at each rung; none: every trial runs to the last one"
    )
    baseline: bool = setting(
        True, "trial 0 is the preset as published, so that the search has something to beat"
    )
    sampler: Sampler = setting(RANDOM, "how trials are drawn from the space: a file in hpc/settings/samplers")
    space: dict[str, Any] = setting(
        {},
        "a tree like that of trial, whose leaves are {loguniform: [a, b]}, {uniform: [a, b]} or {choice: "
        "[...]}; of a setting that is a whole number both ranges draw whole numbers, a and b among them",
    )


@dataclass
class SelectSettings:
    """When the best generator of a class is rejected, and when it is called poor. See `hpc.stages.select`."""

    max_copies: float = setting(
        0.05, "largest share of generated images that may be copies of training images", least=0, most=1
    )
    min_coverage: float = setting(
        0.2, "smallest coverage, as a share of what real images reach at equal n", least=0
    )
    # Of the 21 pairs of classes of HAM10000 at 32 pixels the *photographs* of 15 are nearer to one another
    # (11 to 199, median 70).
    poor_kid: float = setting(
        100.0, "KID x1000 above its floor beyond which an accepted generator is called poor"
    )


@dataclass
class FinalSettings:
    """The training of each chosen generator anew, by all devices of profile.nodes. See `hpc.stages.final`."""

    kimg: float = setting(0.0, "its length; 0: no such stage", unit="kimg", least=0)


@dataclass
class PretrainSettings:
    """A training on all classes' images, from whose networks each trial starts. See `hpc.stages.pretrain`."""

    kimg: float = setting(
        0.0,
        "its length, a part of the trials' identity; 0: no such stage, fresh networks",
        unit="kimg",
        least=0,
    )


@dataclass
class Experiment:
    """One launch, whole. `python hpc/launch.py key=value ...` sets any of these."""

    sweep: str = setting("???", "what is searched: a file in sweeps/; has to be given")
    about: str = setting("", "the sweep in a line, for the report")
    preset: str = setting("aegan_page", "published settings to begin with: a file in skin_gan/presets")
    data: str = setting(
        "auto", "a store's path; demo: built-in data; auto: an ingested store, else the built-in data"
    )
    budget: str = setting("short", "how much is trained: a file in sweeps/budgets")
    cluster: str = setting("local", "where it runs: a file in slurm/; without it $SKIN_GAN_CLUSTER counts")
    classes: list[str] = setting([], "lesion classes, such as [df,vasc]; empty: every class of the data")
    seed: int = setting(0, "of the trials drawn and of their trainings", least=0)
    fold: int = setting(0, "which of the data's folds is the test set", least=0, most=N_FOLDS - 1)
    results: str = setting(str(ROOT / "results"), "folder that all sweeps' folders go into")
    backend: Literal["ray", "array"] = setting(
        "ray", "what runs the search; array: each trial of a grid is a job of its own, without Ray"
    )
    allow_rejected: bool = setting(False, "later stages take rejected generators too")
    dry_run: bool = setting(False, "show what would be done and what that costs, and do nothing")
    trial: TrialSettings = field(default_factory=TrialSettings)
    evaluate: EvalSettings = field(default_factory=EvalSettings)
    operations: Operations = field(default_factory=Operations)
    search: SearchSettings = field(default_factory=SearchSettings)
    select: SelectSettings = field(default_factory=SelectSettings)
    ablate: AblateSettings = field(default_factory=AblateSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    final: FinalSettings = field(default_factory=FinalSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)


# Checked when a sweep is launched and not when it is opened: an earlier version may have let them through.
AT_LAUNCH = ("profile.", "seed", "operations.device", "select.poor_kid")


@dataclass(frozen=True)
class Choice:
    """A word that names a YAML file: where its files are and what the file's tree is merged into."""

    folder: Path
    inside: str = ""

    def names(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("*.yaml"))

    def load(self, key: str, name: str) -> dict[str, Any]:
        if name not in self.names():
            raise SkinGanError(f"unknown {key} {name!r}: choose one of {', '.join(self.names())}")
        path = self.folder / f"{name}.yaml"
        tree = read_text(path)
        tree = {self.inside: tree} if self.inside else tree
        return typed(tree, Experiment, f"in {path.relative_to(ROOT)}")  # type: ignore[no-any-return]


CHOICES = {
    "sweep": Choice(ROOT / "sweeps"),
    "budget": Choice(ROOT / "sweeps" / "budgets"),
    "cluster": Choice(ROOT / "slurm", inside="profile"),
}


def compose(words: list[str]) -> Experiment:
    """The experiment that the words of a command line ask for.

    Raises SkinGanError naming the valid choices for an unknown sweep, budget, cluster, preset, key or type.
    """
    given = parse(words)
    if not isinstance(given.get("sweep"), str):
        raise SkinGanError(f"which sweep? Give sweep=NAME, one of {', '.join(CHOICES['sweep'].names())}")
    defaults = {f.name: f.default for f in dataclasses.fields(Experiment)}
    sweep = CHOICES["sweep"].load("sweep", given["sweep"])
    choices = ("preset", "budget", "cluster")
    defaults["cluster"] = os.environ.get(CLUSTER) or defaults["cluster"]
    name = {key: str(given.get(key, sweep.get(key, defaults[key]))) for key in choices}
    for path, _ in leaves(given.get("search", {}).get("space", {})):
        remove(sweep.get("search", {}).get("space", {}), path)  # replaced whole, not merged into
    budget = CHOICES["budget"].load("budget", name["budget"])
    if given.get("ablate", {}).get("classifiers") == {}:
        remove(budget, ("ablate", "classifiers"))  # none, rather than none besides the budget's
    layers = [
        {"trial": dataclasses.asdict(preset(name["preset"]))},
        sweep,
        budget,
        CHOICES["cluster"].load("cluster", name["cluster"]),
        name,
        given,
    ]
    e = fix_searched(merge(layers), given)
    if "results" not in given and e.profile.results:
        e.results = e.profile.results
    e = checked(e)
    # Not in `load`: a sweep of an earlier version can be opened in any later one.
    check_profile(e.profile)
    check_results(e.results)
    for source in e.ablate.sources:
        check_name(source, e.trial.model.family)
    # Asked after from another folder, too.
    e.ablate.sources = {k: absolute(path, f"ablate.sources.{k}") for k, path in e.ablate.sources.items()}
    check_arms(e.ablate)
    return e


def absolute(path: str, key: str) -> str:
    """The path without variables, `~` or a current folder. SkinGanError naming `key` if it is empty."""
    if not path.strip():
        raise SkinGanError(f"{key}={path}: expected a path")
    return str(Path(os.path.expandvars(path)).expanduser().absolute())


def parse(words: list[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[x,y]"]` as a tree of values of their fields' types."""
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not KEY.fullmatch(key):
            raise SkinGanError(f"expected key=value, got {word!r}: {meant(word)}")
        if NO_TEXT.search(word):
            raise SkinGanError(f"{key}: expected text in UTF-8 without control characters, got {word!r}")
    if len(sweeps := {word for word in words if word.startswith("sweep=")}) > 1:
        raise SkinGanError(
            f"one launch is one sweep, got {' and '.join(sorted(sweeps))}: launch once for each"
        )
    tree = read_words(words, Experiment)
    if isinstance(tree.get("classes"), str):
        tree["classes"] = tree["classes"].split(",")
    return typed(tree, Experiment, "on the command line")  # type: ignore[no-any-return]


def overridden(words: list[str]) -> list[str]:
    """What of a command line another word of it replaces, to be told."""
    last = {word.partition("=")[0]: word for word in words}
    return [f"{word} does not count: {last[key]} comes later" for word in dict.fromkeys(words)
            if last[key := word.partition("=")[0]] != word]  # fmt: skip


def meant(word: str) -> str:
    """What somebody may have meant by a word that is not key=value."""
    key, _, value = word.lstrip("-+").partition("=")
    key = key.replace("-", "_")
    if key in ("m", "multirun"):
        return "one launch is one sweep: launch once for each value, such as seed=0 and seed=1"
    if key in CHOICES["sweep"].names():
        return f"did you mean sweep={key}?"
    fields = {f.name: f.type for f in dataclasses.fields(Experiment)}
    near = difflib.get_close_matches(key.partition(".")[0], fields, n=1)
    if near and "." not in key:
        usual = "true" if fields[near[0]] == "bool" else "VALUE"
        return f"did you mean {near[0]}={value or usual}?"
    if near and value:
        return f"did you mean {key}={value}?"
    return "write for example seed=1 or classes=df; --help lists the keys"


def merge(layers: list[dict[str, Any]]) -> Experiment:
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Experiment), *layers))  # type: ignore[return-value]
    except OmegaConfBaseException as e:
        key = getattr(e, "full_key", None)
        raise SkinGanError(f"{key}: {first_line(e)}" if key else first_line(e)) from e


def fix_searched(e: Experiment, given: dict[str, Any]) -> Experiment:
    """A searched setting that the command line sets is fixed: it leaves the space."""
    fixed = {path for path, _ in leaves(given.get("trial", {}))}
    for path, _ in list(leaves(e.search.space)):
        if path in fixed:
            remove(e.search.space, path)
    return e


def remove(tree: dict[str, Any], path: tuple[str, ...]) -> None:
    """Take the node at `path` out of a tree of dicts, if it is there."""
    for key in path[:-1]:
        tree = tree.get(key, {})
    tree.pop(path[-1], None)


def checked(e: Experiment, skip: tuple[str, ...] = ()) -> Experiment:
    """Return `e` with `results` as an absolute path, or raise one SkinGanError that says what is wrong.

    `skip`: settings whose range is not checked, as `check_ranges` has it.
    """
    check_ranges(e, skip)
    check_space(e.search.space, e.trial)
    rungs = e.search.rungs
    if e.search.scheduler == "asha" and len(rungs) > 1:
        factor = rungs[1] / rungs[0]
        if any(abs(b / a - factor) > 1e-6 for a, b in itertools.pairwise(rungs)) or factor < 1.5:
            raise SkinGanError(
                f"search.rungs={rungs}: ASHA needs a constant factor of at least 1.5 between rungs, "
                "like [4,12,36]; search.scheduler=none takes any"
            )
    check_ablate(e.ablate, e.trial.model.family)
    check_pretraining(e)
    check_backend(e)
    e.results = absolute(e.results, "results")
    return e


def check_results(results: str) -> None:
    """SkinGanError for a folder whose path jobs could not use, in PYTHONPATH or in Submitit's file names."""
    why = {
        "$": "a variable in it is not set in this shell",
        ":": "jobs run from a copy of the code in it, and PYTHONPATH is divided at colons",
        "%": "Slurm and Submitit put a job's number in place of signs such as %j",
        "\\": "Slurm reads a backslash in a log's path as a sign of its own",
        "\n": "a script's options end with the line",
    }
    for sign, reason in why.items():
        if sign in results:
            raise SkinGanError(f"results={results!r}: expected a path without {sign!r}: {reason}")


def check_pretraining(e: Experiment) -> None:
    """SkinGanError if trials could not start from the networks that all classes share."""
    if e.pretrain.kimg and (searched := e.search.space.get("model")):
        raise SkinGanError(
            f"search.space.model.{next(iter(searched))}: with pretrain.kimg every trial starts from the same "
            "networks, whose model cannot be searched; leave it out, or set pretrain.kimg=0"
        )


def check_backend(e: Experiment) -> None:
    """Raise one SkinGanError if the search, the final training and the profile do not go together."""
    if e.backend == "array" and e.search.scheduler != "none":
        raise SkinGanError(
            f"backend=array runs each trial by itself, and search.scheduler={e.search.scheduler} compares "
            "them: set search.scheduler=none, or backend=ray"
        )
    if e.profile.nodes > 1 and e.profile.kind == "local":
        raise SkinGanError(
            f"profile.nodes={e.profile.nodes}: this machine is one node. Choose a cluster by cluster=NAME, "
            "or set profile.nodes=1"
        )


def changes(before: Experiment, now: Experiment) -> list[str]:
    """Settings that differ, as words of a command line with what they were: "search.trials=16 (was 8)"."""
    old, new = (flat(dataclasses.asdict(e)) for e in (before, now))
    unset = "not set"
    return [
        f"{key}={new.get(key, unset)} (was {old.get(key, unset)})"
        for key in dict.fromkeys([*new, *old])
        if new.get(key, unset) != old.get(key, unset)
    ]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree of dicts by their dotted names; empty dicts have none."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def save(e: Experiment, path: Path) -> None:
    """Write the resolved settings as YAML."""
    write_atomic(path, OmegaConf.to_yaml(OmegaConf.structured(e)))


def load(path: Path) -> Experiment:
    """Read settings that `save` wrote."""
    return checked(merge([typed(read_text(path), Experiment, f"in {path}")]), skip=AT_LAUNCH)
