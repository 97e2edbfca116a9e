"""The generators that the ablation uses: of this sweep, of other sweeps, and retrained for other folds."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from hpc.plan import ablation
from hpc.plan.sweep_plan import Plan
from hpc.settings import compose
from hpc.settings.ablation import BEST
from hpc.stages.inputs import Inputs
from hpc.stages.retrain import train_in_full
from hpc.stages.select import best_row, judgement
from hpc.state.generators import training_of
from hpc.state.records import Tell
from skin_gan.config import TrialSpec, spec_from
from skin_gan.errors import SkinGanError
from skin_gan.folders import RunFolder, TrialFolder
from skin_gan.generator import CARD, read_card, read_yaml, save_generator


class Generators:
    """The generators of every source, fold and class."""

    def __init__(self, plan: Plan, inputs: Inputs) -> None:
        self.plan, self.run, self.inputs = plan, plan.run, inputs
        self.e, self.a = plan.experiment, plan.experiment.ablate

    @cached_property
    def sweeps(self) -> dict[str, RunFolder]:
        """The sources that are sweeps, this one first."""
        others = {name: RunFolder(Path(path)) for name, path in self.a.sources.items()}
        own = {self.e.trial.model.family: self.run}
        return own | {name: run for name, run in others.items() if run.settings.exists()}

    def home(self, source: str, fold: int) -> RunFolder:
        """The folder of a source's generators for a fold."""
        sweep = self.sweeps[source]
        own_fold = compose.load(sweep.settings).fold
        return sweep if own_fold == fold else ablation.fold_folder(self.run, fold, source)

    def of(self, source: str, fold: int) -> dict[str, Path]:
        """The folder of each class's generator. SkinGanError if one is missing."""
        if source == BEST:
            return {label: self.best_of(label, fold) for label in self.e.classes}
        found = {label: self.home(source, fold).best(label) for label in self.e.classes}
        if missing := [label for label, folder in found.items() if not (folder / CARD).exists()]:
            raise SkinGanError(
                f"{source} has no generator of {', '.join(missing)} for fold {fold} in "
                f"{self.home(source, fold).path}: see the failed jobs of its search, or leave the class out"
            )
        return found

    def best_of(self, label: str, fold: int) -> Path:
        """The accepted generator with the lowest KID of all sweeps; if none is accepted, the lowest KID."""
        folders = [self.of(source, fold)[label] for source in self.sweeps]
        cards = {folder: read_card(folder / CARD) for folder in folders}
        return min(folders, key=lambda f: (not cards[f]["accepted"], cards[f]["metrics"]["kid"]))

    def retrain(self, label: str, tell: Tell) -> None:
        """Train the selected settings of a class from scratch for each other fold of each sweep."""
        todo = [(f, s) for f in self.a.folds for s in self.sweeps if self.home(s, f) != self.sweeps[s]]
        for done, (fold, source) in enumerate(todo):
            tell(done=done, total=len(todo))
            self.retrain_one(label, fold, source)

    def retrain_one(self, label: str, fold: int, source: str) -> None:
        """Retrain a source's selected generator for a fold, unless that is done, and export it."""
        chosen = read_card(self.sweeps[source].best(label) / CARD)
        searched = compose.load(self.sweeps[source].settings)
        origin = training_of(self.sweeps[source], chosen)
        spec: TrialSpec = replace(spec_from(read_yaml(origin.spec)), fold=fold)
        pretrained = None
        if spec.start:
            if self.sweeps[source] != self.run:
                raise SkinGanError(
                    f"{source}'s trials start from pretrained networks, which only its own sweep makes for "
                    f"another fold: launch the ablation there, or set ablate.folds=[{searched.fold}]"
                )
            pretraining = self.plan.pretraining(fold)
            spec, pretrained = replace(spec, start=pretraining.id), pretraining.networks(self.run)
        folder = self.home(source, fold).trial(label, spec.index, spec.id)
        train_in_full(self.inputs, spec, folder, searched.search.rungs, searched.evaluate, pretrained)
        row = best_row(folder)
        if row is None:
            raise SkinGanError(
                f"{folder.path} was never measured: its KID is undefined, see its metrics.jsonl"
            )
        made = {"sweep": searched.sweep, "trial": folder.path.name, "data_kind": self.inputs.store.kind}
        extra = {**made, **judgement(row, self.e.select)}
        save_generator(folder, self.home(source, fold).best(label), extra)

    @staticmethod
    def training(generator: Path) -> TrialFolder:
        """The training under RUN from which the generator in RUN/best/CLASS was exported."""
        return training_of(RunFolder(generator.parents[1]), read_card(generator / CARD))
