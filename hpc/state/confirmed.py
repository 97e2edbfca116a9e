"""What the last selection wrote on the confirmation: a table and sentences. No torch.

RUN/confirmation.csv    a row per class and setting: `hpc.stages.confirmation.Row`, and the searched settings
RUN/confirmation.json   {"sentences": [...]}
"""

from __future__ import annotations

from hpc.settings.compose import Experiment
from skin_gan.folders import RunFolder
from skin_gan.io import read_json

TABLE, SENTENCES = "confirmation.csv", "confirmation.json"
UNCONFIRMED = (
    "The search's gain over the published setting is not confirmed (confirm.seeds=0): none is claimed."
)


def told(run: RunFolder, e: Experiment) -> list[str]:
    """The sentences; without a confirmation that no gain is claimed."""
    if not e.confirm.seeds:
        return [UNCONFIRMED]
    return list((read_json(run.path / SENTENCES) or {}).get("sentences", []))
