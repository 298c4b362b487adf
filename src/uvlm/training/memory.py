"""Memory that runs out: how to tell, and what to say."""

from __future__ import annotations

import errno

import torch

from uvlm.errors import MemoryExhaustedError

__all__ = ["memory_error", "out_of_memory"]

OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "out of shared memory",
    "_ALLOC_FAILED",
    "signal: Killed",
)
"""Words of errors: the CPU's on Linux and on Windows, a GPU's, those of its libraries, and of a
loader process that the system ended."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(sign in str(error) for sign in OUT_OF_MEMORY)


def memory_error(error: BaseException, when: str) -> MemoryExhaustedError:
    """What to change; the settings named first may differ when a run is resumed."""
    return MemoryExhaustedError(
        f"memory ran out {when} ({str(error).splitlines()[0] if str(error) else 'MemoryError'}). "
        "Go on from the last checkpoint, or from the first step, with --resume and smaller batches "
        "(--data.batch-size halved and --loop.accumulate doubled give the same steps), "
        "--loop.activation-checkpointing, or, if main memory is short, fewer --data.workers. "
        "Or start anew, in another folder, with "
        "--loop.precision bf16, a feature bank (reports over a frozen encoder: `uvlm features`), "
        "fewer visual tokens or smaller patches. `uvlm doctor RECIPE` predicts what each needs."
    )
