"""Makes the Accelerator of a training: device, precision, threads, processes."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import DistributedDataParallelKwargs

from skin_gan.config import Operations
from skin_gan.errors import SkinGanError
from skin_gan.fast.convolutions import keep_memory

PRECISIONS = {"fp32": "no", "bf16": "bf16"}


def choose_device(name: str) -> str:
    """The device, "cpu" or "cuda"; `auto` is a GPU if there is one. SkinGanError if it is not available."""
    if name not in ("auto", "cpu", "cuda"):
        raise SkinGanError(f"operations.device={name}: choose one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise SkinGanError("operations.device=cuda, but torch sees no GPU here: use device=auto or cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def make_accelerator(precision: str, ops: Operations) -> Accelerator:
    """An Accelerator for the processes given by the environment (RANK, WORLD_SIZE), or for this process.

    All Accelerators of a process share a fixed precision and device. If these differ from the last trial's,
    which must have ended, the shared state is reset.
    """
    if precision not in PRECISIONS:
        raise SkinGanError(
            f"train.precision={precision} is settled by the stage prepare of a sweep: choose one of "
            f"{', '.join(PRECISIONS)} to train without one"
        )
    device = choose_device(ops.device)
    if is_initialized():
        state = AcceleratorState()
        moved = state.device.type != device and state.num_processes == 1
        if moved or state.mixed_precision != PRECISIONS[precision]:
            AcceleratorState._reset_state(reset_partial_state=moved)
    # Batch normalisation's running statistics stay each process's own: see `skin_gan.training.learner`.
    replicas = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    accelerator = Accelerator(
        cpu=device == "cpu", mixed_precision=PRECISIONS[precision], kwargs_handlers=[replicas]
    )
    torch.set_num_threads(ops.threads)
    if device == "cpu":
        keep_memory()
    return accelerator


def end_processes() -> None:
    """Leave the process group, if there is one: the last call of a script with several processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
