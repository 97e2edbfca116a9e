"""One of several processes that train together: `python two_ranks.py FOLDER`.

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which. For each case FOLDER gets CASE (a trial's folder,
resumed half-way) and CASE-RANK.pt, what that process ended with.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from gan_samples import judge, open_session, spec

from skin_gan.training.devices import end_processes

CASES = {
    "dcgan": ("dcgan", "group"), "aegan": ("aegan", "group"), "batch": ("dcgan", "batch"),
    "penalised": ("dcgan", "group"),
}  # fmt: skip
RUNGS = (0.032, 0.064)


def trial(case: str):
    family, norm = CASES[case]
    made = spec(family, norm=norm)
    if case != "penalised":
        return made
    loss = replace(made.settings.loss, name="relativistic", r1=0.5, gp=0.1, lecam=0.3)
    return replace(made, settings=replace(made.settings, loss=loss))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for case in CASES:
        for kimg in RUNGS:
            session = open_session(folder / case, trial(case))
            row = session.advance(kimg, judge)
            state = {"learner": session.learner.state_dict(), "kid": row["kid"]}
            torch.save(state, folder / f"{case}-{session.accelerator.process_index}.pt")
            session.close()
    end_processes()
