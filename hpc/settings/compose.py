"""The typed settings of an experiment, composed from YAML files and `key=value` words. No torch.

The order is defaults, preset, `sweeps/NAME.yaml`, `sweeps/budgets/NAME.yaml`, `slurm/NAME.yaml` (as
`profile`), command line; the last value wins.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import re
import sys
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hpc.settings.ablation import AblateSettings, check_ablate, check_arms, check_name
from hpc.settings.profiles import ProfileSettings, check_profile
from hpc.settings.space import (
    RANDOM,
    SAMPLERS,
    STARTUP,
    adaptive,
    check_space,
    distributions,
    leaves,
    most_trials,
)
from hpc.settings.yaml_tree import first_line, read_text, read_words, typed
from skin_gan.config import AUTO, EvalSettings, Operations, TrialSettings
from skin_gan.data.splits import N_FOLDS
from skin_gan.errors import SkinGanError
from skin_gan.installation import ROOT, results, shipped
from skin_gan.io import write_atomic
from skin_gan.presets import preset
from skin_gan.ranges import check_ranges, setting
from skin_gan.variants import names, variant

KEY = re.compile(r"\w+(\.\w[\w-]*)*")  # a dotted name
# Control characters, and the surrogates that Python puts in place of invalid UTF-8.
NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
SHOWN = ("scripts", "jobs", "settings")
OPTUNA = "optuna>=5"  # as in pyproject.toml
CLUSTER = "SKIN_GAN_CLUSTER"  # environment variable: the default of cluster=


if TYPE_CHECKING:
    Sampler = str
else:  # every file in the folder is a choice
    Sampler = Literal[names(SAMPLERS, "hpc")]


def _rising(rungs: list[float]) -> bool:
    return bool(rungs) and rungs == sorted(set(rungs))


@dataclass
class SearchSettings:
    """The search for each lesion class."""

    trials: int = setting(8, "per class; raise it later to extend the same sweep", unit="trials", least=1)
    rungs: list[float] = setting(
        [4.0, 12.0, 36.0], "when trials are compared; the last is a trial's full length", unit="kimg",
        above=0, form="rising kimg above 0, like [4,12,36]", rule=_rising,
    )  # fmt: skip
    scheduler: Literal["asha", "none"] = setting(
        "asha", "asha stops the worse trials at each rung; none: every trial runs to the last one"
    )
    baseline: bool = setting(True, "trial 0 is the preset as published, as a baseline for the search")
    sampler: Sampler = setting(RANDOM, "how trials are drawn from the space: a file in hpc/settings/samplers")
    startup: int = setting(
        8, "trials per class, measured after equal training, from which an adaptive sampler (gp, motpe, tpe) "
        "begins to learn; until then its trials are those of sobol", unit="trials", least=2,
    )  # fmt: skip
    round: int = setting(
        4, "with backend=array, trials per class that an adaptive sampler proposes together; each round "
        "waits for the one before", unit="trials", least=1,
    )  # fmt: skip
    min_coverage: float = setting(
        0.5, "coverage that an adaptive sampler asks of a trial, as a share of what real images reach at "
        "equal n; of copies it allows select.max_copies", above=0, most=1,
    )  # fmt: skip
    space: dict[str, Any] = setting(
        {},
        "a tree like that of trial, whose leaves are {loguniform: [a, b]}, {uniform: [a, b]} or {choice: "
        "[...]}; for whole-number settings both ranges draw whole numbers, including a and b",
    )


@dataclass
class SelectSettings:
    """Limits beyond which a class's best generator is rejected or called poor. See `hpc.stages.select`."""

    max_copies: float = setting(
        0.05, "largest share of generated images that may be copies of training images", least=0, most=1
    )
    min_coverage: float = setting(
        0.2, "smallest coverage, as a share of what real images reach at equal n", least=0
    )
    # The KID between *photographs* of two classes of HAM10000 at 32 pixels is below this for 15 of the 21
    # pairs (11 to 199, median 70).
    poor_kid: float = setting(
        100.0, "KID x1000 above its floor beyond which an accepted generator is called poor"
    )


@dataclass
class ConfirmSettings:
    """New trainings of a search's best settings, on lesions that it has not used: `hpc.stages.confirm`."""

    seeds: int = setting(
        0,
        "new trainings of each setting; the search then uses half of the validation lesions, which is part "
        "of the sweep's identity, and the other half confirms; 0: no confirmation, and no gain is claimed",
        least=0, form="0, or at least 2, which an interval needs", rule=lambda seeds: seeds != 1,
    )  # fmt: skip
    top: int = setting(3, "how many of a class's best settings, beside the published one", least=1)
    shared: bool = setting(
        False,
        "look for one setting for all classes: each class trains the best setting of every other class too, "
        "and gets its own only where that is shown to be better",
    )


@dataclass
class FinalSettings:
    """The final training of each selected trial by all devices of profile.nodes. See `hpc.stages.final`."""

    kimg: float = setting(0.0, "its length; 0: no such stage", unit="kimg", least=0)


@dataclass
class PretrainSettings:
    """A training on all classes' images from which each trial starts. See `hpc.stages.pretrain`."""

    kimg: float = setting(
        0.0, "its length, part of the trials' identity; 0: no pretraining", unit="kimg", least=0
    )
    conditional: bool = setting(
        False,
        "its networks learn the class, faded in while they train (Shahbazi 2022), and each class's trials "
        "start from those of their class",
    )
    class_from: float = setting(
        10.0, "conditional: training without the class, as one unconditional GAN", unit="kimg", least=0
    )
    class_until: float = setting(
        20.0, "conditional: when the class has its whole influence, which grows from class_from on",
        unit="kimg", above=0,
    )  # fmt: skip
    source: str = setting(
        "",
        "trials start from the finished pretraining of another sweep instead, on the same data and fold and "
        "with the same model: that sweep's folder, or its folder pretrain; pretrain.kimg is then not used",
    )
    content: str = setting(
        "", "identity of the source's networks, part of the trials' identity; a launch writes it here"
    )


@dataclass
class LimitSettings:
    """What a sweep may use. A launch that needs more is refused; a sweep that has used it stops itself."""

    device_hours: float = setting(
        0.0, "hours of a GPU, a slot's share of one, or operations.threads cores; 0: no limit", unit="hours",
        least=0,
    )  # fmt: skip
    disk: float = setting(0.0, "of the sweep's folder; 0: no limit", unit="GB", least=0)


@dataclass
class Experiment:
    """All settings of a launch. `python hpc/launch.py key=value ...` sets any of these."""

    sweep: str = setting(
        "???",
        "what is searched: a file in sweeps/ or ~/.config/skin-gan/sweeps, or the path of one; required",
    )
    about: str = setting("", "the sweep in a line, for the report")
    preset: str = setting("aegan_page", "published settings to start from: a file in skin_gan/presets")
    data: str = setting(
        "auto", "a store's path; demo: built-in data; auto: an ingested store, else the built-in data"
    )
    budget: str = setting("short", "how much is trained: a file in sweeps/budgets")
    cluster: str = setting(
        "local",
        "where it runs: a file in slurm/, or in ~/.config/skin-gan/clusters, or the path of one; default "
        "$SKIN_GAN_CLUSTER",
    )
    classes: list[str] = setting([], "lesion classes, such as [df,vasc]; empty: every class of the data")
    seed: int = setting(0, "seed of the draws of trials and of their trainings", least=0)
    fold: int = setting(0, "which of the data's folds is the test set", least=0, most=N_FOLDS - 1)
    results: str = setting(str(results()), "folder that holds all sweeps' folders")
    backend: Literal["ray", "array"] = setting(
        "ray", "what runs the search; array: each trial is a job of its own, without Ray"
    )
    allow_rejected: bool = setting(False, "later stages use rejected generators too")
    notify: str = setting(
        "", "shell command to run when the sweep has ended, failed or needs a decision; it gets JSON on its "
        "standard input, and SKIN_GAN_EVENT, SKIN_GAN_MESSAGE and SKIN_GAN_RUN among its variables"
    )  # fmt: skip
    dry_run: bool = setting(False, "show what would be done and its cost, and do nothing")
    show: list[str] = setting([], "what to print beside the summary", among=SHOWN)
    limit: LimitSettings = field(default_factory=LimitSettings)
    trial: TrialSettings = field(default_factory=TrialSettings)
    evaluate: EvalSettings = field(default_factory=EvalSettings)
    operations: Operations = field(default_factory=Operations)
    search: SearchSettings = field(default_factory=SearchSettings)
    select: SelectSettings = field(default_factory=SelectSettings)
    ablate: AblateSettings = field(default_factory=AblateSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    confirm: ConfirmSettings = field(default_factory=ConfirmSettings)
    final: FinalSettings = field(default_factory=FinalSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)


# Ranges that only launches check: saved settings of an earlier version may break them.
AT_LAUNCH = ("profile.", "seed", "operations.device", "select.poor_kid")


@dataclass(frozen=True)
class Choice:
    """A setting that names a YAML file or is its path: where the files are, and where they are merged."""

    folder: str  # of the project, such as sweeps; one of this name in the working folder comes first
    own: str  # the folder of the user's own files in the configuration folder
    inside: str = ""  # the key under which a file's settings are merged; "": at the top

    def names(self) -> list[str]:
        return sorted({p.stem for folder in self.folders() for p in folder.glob("*.yaml")})

    def folders(self) -> list[Path]:
        """Where the files are; the user's own come first."""
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
        return [Path(self.folder), home / "skin-gan" / self.own, shipped(self.folder)]

    def path(self, key: str, name: str) -> Path:
        """The file of this name or path. SkinGanError, with the choices, if there is none."""
        if is_path(name):
            if (path := Path(absolute(name, key))).is_file():
                return path
            raise SkinGanError(f"{key}={name}: there is no such file; give another path, or {self.choices()}")
        found = [file for folder in self.folders() if (file := folder / f"{name}.yaml").is_file()]
        if name not in self.names() or not found:
            raise SkinGanError(f"unknown {key} {name!r}: {self.choices()}")
        return found[0]

    def choices(self) -> str:
        """The names in words."""
        return f"choose one of {', '.join(self.names())}"

    def load(self, key: str, name: str) -> dict[str, Any]:
        """The typed tree of a file. SkinGanError, with the choices, if there is none of this name."""
        path = self.path(key, name)
        tree = read_text(path)
        tree = {self.inside: tree} if self.inside else tree
        where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        return typed(tree, Experiment, f"in {where}")  # type: ignore[no-any-return]


def is_path(name: str) -> bool:
    """Whether the value of a setting is the path of a YAML file, not a name."""
    return "/" in name or name.endswith((".yaml", ".yml"))


CHOICES = {
    "sweep": Choice("sweeps", own="sweeps"),
    "budget": Choice("sweeps/budgets", own="budgets"),
    "cluster": Choice("slurm", own="clusters", inside="profile"),
}


def compose(words: list[str]) -> Experiment:
    """The experiment of a command line.

    Raises SkinGanError, with the valid choices, for an unknown sweep, budget, cluster, preset, key or value.
    """
    given = parse(words)
    if not isinstance(given.get("sweep"), str):
        raise SkinGanError(f"which sweep? Give sweep=NAME, one of {', '.join(CHOICES['sweep'].names())}")
    defaults = {f.name: f.default for f in dataclasses.fields(Experiment)}
    sweep = CHOICES["sweep"].load("sweep", given["sweep"])
    choices = ("preset", "budget", "cluster")
    defaults["cluster"] = os.environ.get(CLUSTER) or defaults["cluster"]
    name = {key: str(given.get(key, sweep.get(key, defaults[key]))) for key in choices}
    budget = CHOICES["budget"].load("budget", name["budget"])
    if is_path(name["cluster"]):
        name["cluster"] = given["cluster"] = absolute(name["cluster"], "cluster")
    given["sweep"] = Path(given["sweep"]).stem if is_path(given["sweep"]) else given["sweep"]
    if is_path(name["budget"]):
        name["budget"] = given["budget"] = Path(name["budget"]).stem
    for path, _ in leaves(given.get("search", {}).get("space", {})):
        remove(sweep.get("search", {}).get("space", {}), path)  # a distribution is replaced, not merged
    if given.get("ablate", {}).get("classifiers") == {}:
        remove(budget, ("ablate", "classifiers"))  # {} means none: merging would keep the budget's
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
    # These checks are not in `load`: sweeps of earlier versions must stay readable.
    check_profile(e.profile)
    check_results(e.results)
    if e.pretrain.source:
        e.pretrain.source = absolute(e.pretrain.source, "pretrain.source")  # jobs run in another folder
    check_sampler(e.search)
    for source in e.ablate.sources:
        check_name(source, e.trial.model.family)
    # Absolute, since jobs run in another folder.
    e.ablate.sources = {k: absolute(path, f"ablate.sources.{k}") for k, path in e.ablate.sources.items()}
    if e.ablate.external:
        e.ablate.external = absolute(e.ablate.external, "ablate.external")
    check_arms(e.ablate)
    return e


def absolute(path: str, key: str) -> str:
    """The absolute path with variables and `~` expanded. SkinGanError naming `key` if it is empty."""
    if not path.strip():
        raise SkinGanError(f"{key}={path}: expected a path")
    return str(Path(os.path.expandvars(path)).expanduser().absolute())


def parse(words: list[str]) -> dict[str, Any]:
    """Parse `["a.b=1", "c=[x,y]"]` into a tree of values with their fields' types."""
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not KEY.fullmatch(key):
            raise SkinGanError(f"expected key=value, got {word!r}: {suggestion(word)}")
        if NO_TEXT.search(word):
            raise SkinGanError(f"{key}: expected text in UTF-8 without control characters, got {word!r}")
    if len(sweeps := {word for word in words if word.startswith("sweep=")}) > 1:
        raise SkinGanError(
            f"expected one sweep, got {' and '.join(sorted(sweeps))}: launch once for each, or give a list, "
            "such as 'sweep=[aegan_lr,dcgan_lr]'"
        )
    tree = read_words(words, Experiment)
    for key in ("classes", "show"):
        if isinstance(tree.get(key), str):
            tree[key] = tree[key].split(",")
    return typed(tree, Experiment, "on the command line")  # type: ignore[no-any-return]


def overridden(words: list[str]) -> list[str]:
    """A line for each word of a command line that a later one replaces."""
    last = {word.partition("=")[0]: word for word in words}
    return [f"{word} is ignored: {last[key]} comes later" for word in dict.fromkeys(words)
            if last[key := word.partition("=")[0]] != word]  # fmt: skip


def suggestion(word: str) -> str:
    """A suggestion for a word that is not key=value."""
    key, _, value = word.lstrip("-+").partition("=")
    key = key.replace("-", "_")
    if key in ("m", "multirun"):
        return "there is no multirun: give a list, such as seed=[0,1], for a sweep of each value"
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
    """The experiment of these trees, later ones first. SkinGanError for a value that does not fit."""
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Experiment), *layers))  # type: ignore[return-value]
    except OmegaConfBaseException as e:
        key = getattr(e, "full_key", None)
        raise SkinGanError(f"{key}: {first_line(e)}" if key else first_line(e)) from e


def fix_searched(e: Experiment, given: dict[str, Any]) -> Experiment:
    """Remove settings from the search space that the command line sets."""
    fixed = {path for path, _ in leaves(given.get("trial", {}))}
    for path, _ in list(leaves(e.search.space)):
        if path in fixed:
            remove(e.search.space, path)
    return e


def remove(tree: dict[str, Any], path: tuple[str, ...]) -> None:
    """Delete the node at `path` from a tree of dicts, if it exists."""
    for key in path[:-1]:
        tree = tree.get(key, {})
    tree.pop(path[-1], None)


def checked(e: Experiment, skip: tuple[str, ...] = ()) -> Experiment:
    """Validate `e`; make its `results` absolute, and its trials no more than its sampler can draw.

    Raises SkinGanError for the first fault.

    `skip`: settings whose range is not checked, see `check_ranges`.
    """
    check_ranges(e, skip)
    check_space(e.search.space, e.trial)
    e.search.trials = int(min(e.search.trials, most_trials(e.search.space, e.search.sampler)))
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
    check_precision(e)
    check_confirmation(e)
    check_backend(e)
    e.results = absolute(e.results, "results")
    return e


def check_results(results: str) -> None:
    """SkinGanError for a path that jobs could not use in PYTHONPATH or in names of logs."""
    why = {
        "$": "a variable in it is not set in this shell",
        ":": "jobs run from a copy of the code in it, and PYTHONPATH is split at colons",
        "%": "Slurm and Submitit replace patterns such as %j by a job's number",
        "\\": "Slurm gives a backslash in a log's path a meaning of its own",
        "\n": "an option of a script ends with its line",
    }
    for sign, reason in why.items():
        if sign in results:
            raise SkinGanError(f"results={results!r}: expected a path without {sign!r}: {reason}")


def check_pretraining(e: Experiment) -> None:
    """SkinGanError if trials could not start from the pretrained networks."""
    p = e.pretrain
    if (p.kimg or p.source) and (searched := e.search.space.get("model")):
        raise SkinGanError(
            f"search.space.model.{next(iter(searched))}: with pretrain.{'source' if p.source else 'kimg'} "
            "every trial starts from the same networks, so their model cannot be searched; leave it out, or "
            "set pretrain.kimg=0 and no source"
        )
    if not p.conditional or p.source:
        return
    if not p.class_from < p.class_until <= p.kimg:
        raise SkinGanError(
            f"pretrain.conditional: expected class_from < class_until <= kimg, got {p.class_from:g}, "
            f"{p.class_until:g} and {p.kimg:g} kimg: change pretrain.class_from, class_until or kimg"
        )
    if e.trial.model.norm == "none":
        raise SkinGanError(
            "pretrain.conditional: a class acts on the generator by its normalisations, and "
            "trial.model.norm=none has none: choose batch, layer or group"
        )


def check_precision(e: Experiment) -> None:
    """SkinGanError if trials would be drawn with a precision that is yet to be measured."""
    searched = distributions(e.search.space).get("train.precision")
    if searched and AUTO in searched.values:
        raise SkinGanError(
            f"search.space.train.precision: {AUTO} is measured once for the whole sweep: set "
            f"trial.train.precision={AUTO}, or choose from fp32 and bf16"
        )


def check_sampler(s: SearchSettings) -> None:
    """SkinGanError if the sampler needs a package that is missing, or would never begin to learn."""
    needs = getattr(variant(SAMPLERS, s.sampler, "hpc"), "NEEDS", ())
    if missing := [package for package in needs if not _installed(package)]:
        others = [name for name in names(SAMPLERS, "hpc") if not adaptive(name)]
        raise SkinGanError(
            f"search.sampler={s.sampler} needs {' and '.join(missing)}, which this Python lacks: run "
            f"`{sys.executable} -m pip install '{OPTUNA}'`, or choose one of {', '.join(others)}"
        )
    if adaptive(s.sampler) and s.startup >= s.trials:
        raise SkinGanError(
            f"search.startup={s.startup} of search.trials={s.trials}: {s.sampler} proposes nothing before "
            "search.startup trials are measured; expected fewer than search.trials, or "
            f"search.sampler={STARTUP}"
        )


def _installed(package: str) -> bool:
    """Whether the package can be imported, and of Optuna the version."""
    if find_spec(package) is None:
        return False
    return package != "optuna" or int(metadata.version(package).partition(".")[0]) >= 5


def check_confirmation(e: Experiment) -> None:
    """SkinGanError if there would be nothing to compare the best settings with."""
    if e.confirm.seeds and not e.search.baseline:
        raise SkinGanError(
            f"confirm.seeds={e.confirm.seeds} compares the best settings with the published one, which "
            "search.baseline=false leaves out: set search.baseline=true, or confirm.seeds=0"
        )


def check_backend(e: Experiment) -> None:
    """SkinGanError if the search's backend and the profile do not fit together."""
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
    """The settings that differ, such as "search.trials=16 (was 8)"."""
    old, new = (flat(dataclasses.asdict(e)) for e in (before, now))
    unset = "not set"
    return [
        f"{key}={new.get(key, unset)} (was {old.get(key, unset)})"
        for key in dict.fromkeys([*new, *old])
        if new.get(key, unset) != old.get(key, unset)
    ]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree of dicts by their dotted names."""
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
