"""Saves and loads complete training states: written atomically, validated when read, never executed."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from skin_gan.errors import SkinGanError
from skin_gan.identity import file_hash
from skin_gan.io import write_atomic

FORMAT = 1


def save(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Save `state` (tensors and primitives in dicts and lists) as the state of the trial `identity`.

    The file is replaced atomically. SkinGanError if it cannot be written.
    """
    content = {"format": FORMAT, "id": identity, "state": state}
    write_atomic(path, lambda file: torch.save(content, file))


def of(path: Path, identity: str) -> bool:
    """Whether the file is a state of the trial `identity`. SkinGanError if it is damaged."""
    return bool(_read(path)["id"] == identity)


def load(path: Path, identity: str) -> dict[str, Any]:
    """The saved state of the trial `identity`, its tensors on the CPU.

    SkinGanError if the file is damaged or belongs to another trial.
    """
    content = _read(path)
    if content["format"] != FORMAT:
        raise _unusable(path, f"is of format {content['format']}, and this version reads {FORMAT}")
    if content["id"] != identity:
        raise SkinGanError(
            f"{path} belongs to trial {content['id']} and not to {identity}: its settings, seed, fold or "
            f"data are others; give this trial a folder of its own"
        )
    return content["state"]


def load_networks(path: Path | None, identity: str) -> dict[str, Any]:
    """The pretrained networks `identity`, after whose "-", if there is one, is a hash of the file.

    SkinGanError if the file is missing, damaged or of others.
    """
    if path is None or not path.exists():
        raise SkinGanError(
            f"the pretrained networks {identity} are not in {path}: the job of the stage pretrain makes them "
            "in their sweep"
        )
    content = _read(path)
    own, _, digest = identity.partition("-")
    if content["id"] != own or digest not in ("", file_hash(path)):
        raise SkinGanError(
            f"{path} holds the networks {content['id']} and not {identity}: pretrained on other data, in "
            "another fold or size, with other settings or for another time; pretrain again"
        )
    return content["state"]  # type: ignore[no-any-return]


def _read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; SkinGanError if it is damaged or no checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not verify the checksums
            damaged = archive.testzip()
        if damaged:
            raise _unusable(path, f"is damaged ({damaged})")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as e:
        raise _unusable(path, f"is cut or damaged ({str(e).splitlines()[0]})") from e
    if not isinstance(content, dict) or set(content) != {"format", "id", "state"}:
        raise _unusable(path, "is not a checkpoint of this project")
    return content


def _unusable(path: Path, why: str) -> SkinGanError:
    return SkinGanError(
        f"checkpoint {path} {why}: restore it from a copy, or move it away and run the same command again, "
        f"which then trains this trial from the beginning"
    )
