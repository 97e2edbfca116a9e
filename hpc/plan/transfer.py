"""A pretraining of an earlier sweep from which trials start (pretrain.source). No torch."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import yaml

from hpc.settings.compose import Experiment
from skin_gan.config import TrialSpec, spec_from
from skin_gan.data.store import ALL
from skin_gan.errors import SkinGanError
from skin_gan.folders import COMPLETED, TrialFolder
from skin_gan.identity import content_hash, file_hash


@dataclass(frozen=True)
class Source:
    """A finished pretraining."""

    spec: TrialSpec
    networks: Path
    content: str  # identity of the networks, and a hash of their file


def with_source(e: Experiment) -> tuple[Experiment, Source | None]:
    """The experiment with the file and the content of the networks that pretrain.source names.

    SkinGanError if that is no finished pretraining of the fold, or not of pretrain.content.
    """
    if not e.pretrain.source:
        return e, None
    source = read_source(e.pretrain.source, e.fold)
    if e.pretrain.content not in ("", source.content):
        raise SkinGanError(
            f"pretrain.source={e.pretrain.source} holds the networks {source.content}, expected those of "
            f"pretrain.content={e.pretrain.content}: restore them, or leave pretrain.content out"
        )
    if e.ablate.classifiers and (others := [fold for fold in e.ablate.folds if fold != e.fold]):
        raise SkinGanError(
            f"pretrain.source is of fold {e.fold}, and generators are trained for fold {others[0]} too, of "
            f"whose test images it has seen some: set ablate.folds=[{e.fold}], or pretrain.kimg instead"
        )
    settings = replace(e.pretrain, kimg=0.0, source=str(source.networks), content=source.content)
    return replace(e, pretrain=settings), source


def read_source(path: str, fold: int) -> Source:
    """The pretraining in the folder of a sweep, or in its folder pretrain or one below."""
    place = Path(path)
    layouts = ("pretrain/trials/all/*/trial.yaml", "trials/all/*/trial.yaml", "all/*/trial.yaml",
               "*/trial.yaml", "trial.yaml")  # fmt: skip
    place = place.parent if place.is_file() else place
    found = [(file.parent, read_spec(file)) for layout in layouts for file in sorted(place.glob(layout))]
    found = [(folder, spec) for folder, spec in found if spec.label == ALL]
    if not found:
        raise SkinGanError(
            f"pretrain.source={path} has no pretraining: expected the folder of a sweep that was launched "
            "with pretrain.kimg, or its folder pretrain"
        )
    of_fold = [(folder, spec) for folder, spec in found if spec.fold == fold]
    if len(of_fold) != 1:
        folds = ", ".join(sorted({str(spec.fold) for _, spec in found}))
        raise SkinGanError(
            f"pretrain.source={path} has {len(of_fold) or 'no'} pretrainings of fold {fold} (there: fold "
            f"{folds}): expected one; it must not have seen this fold's validation and test images"
        )
    ((folder, spec),) = of_fold
    state = TrialFolder(folder).state()
    own = content_hash([spec.id, state.get("target")])
    networks = folder / f"networks-{own}.pt"
    if state["state"] != COMPLETED or not networks.exists():
        raise SkinGanError(
            f"pretrain.source={path} is not finished ({state['state']}, {state.get('kimg', 0):g} kimg): "
            "launch its sweep again, which goes on with it"
        )
    check_whole(networks)
    return Source(spec, networks.absolute(), f"{own}-{file_hash(networks)}")


def read_spec(path: Path) -> TrialSpec:
    try:
        return spec_from(yaml.safe_load(path.read_text()))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as e:
        raise SkinGanError(f"pretrain.source: cannot read {path}: {e}") from e


def check_whole(path: Path) -> None:
    """SkinGanError if a file of networks is cut or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as e:
        damaged = str(e)
    if damaged:
        raise SkinGanError(f"pretrain.source: {path} is cut or damaged ({damaged}): restore it from a copy")


def check_fit(source: Source, e: Experiment, data: str) -> None:
    """SkinGanError if the source was trained on other data, or its networks are others than the trials'."""
    there, here = source.spec.settings.model, e.trial.model
    other = [f"data {source.spec.data[:8]} (here {data[:8]})"] if source.spec.data != data else []
    other += [
        f"model.{f.name}={getattr(there, f.name)} (here {getattr(here, f.name)})"
        for f in fields(here)
        if getattr(there, f.name) != getattr(here, f.name)
    ]
    if other:
        raise SkinGanError(
            f"trials cannot start from {source.networks.parent}, which is of {', '.join(other)}: expected a "
            "pretraining on the same data with the same model; choose another pretrain.source, or leave it "
            "out and set pretrain.kimg"
        )
