"""The one training loop, on Accelerate. It knows tasks, not models.

Each term of a loss is a sum over units (answer tokens, known labels, samples) divided by their
number in the whole step, over all accumulation rounds and processes. So however a step's studies
are divided, the gradient is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from math import isfinite
from time import perf_counter
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from uvlm.data.batching import Batch
from uvlm.errors import TrainingDivergedError
from uvlm.training.config import LoopConfig, OptimConfig
from uvlm.training.memory import memory_error, out_of_memory
from uvlm.training.optim import set_learning_rate
from uvlm.training.task import Task, to_device

__all__ = ["Hook", "fit"]

Hook = Callable[[int, dict[str, float]], bool | None]
"""Called after every step with the step and its scalars, in order; a hook may add scalars, and ends
the run, normally, by returning True."""


def fit(
    task: nn.Module,
    batches: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    loop: LoopConfig,
    optim: OptimConfig,
    *,
    first_step: int = 1,
    hooks: Sequence[Hook] = (),
) -> None:
    """Run steps `first_step` to `loop.steps`; hooks average, log, validate, draw and save.

    `task` and `optimizer` are as `accelerator.prepare` returned them; the accelerator itself
    counts no accumulation.

    Raises:
        TrainingDivergedError: the loss or the gradient is not finite.
        MemoryExhaustedError: a step needs more memory than there is.
    """
    task.train()
    plain = accelerator.unwrap_model(task)
    for step in range(first_step, loop.steps + 1):
        try:
            started = perf_counter()
            rate = set_learning_rate(optimizer, optim, step, loop.steps)
            rounds = [next(batches) for _ in range(loop.accumulate)]
            counts = _counts(plain, rounds, accelerator)
            scalars = _step(task, rounds, counts, optimizer, accelerator, loop, optim, step)
            scalars |= {"lr": rate, "seconds": perf_counter() - started}
            # All of them: one that ends the run must not keep those after it from saving.
            if any([hook(step, scalars) for hook in hooks]):
                return
        except (RuntimeError, MemoryError, OSError) as error:
            if not out_of_memory(error):
                raise
            raise memory_error(error, f"at step {step}") from error


def _step(
    task: nn.Module,
    rounds: Sequence[Batch],
    counts: dict[str, float],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    loop: LoopConfig,
    optim: OptimConfig,
    step: int,
) -> dict[str, float]:
    """One optimiser step; the losses and the gradient's norm of all processes.

    The device is waited for once, before the weights change.
    """
    parts: list[dict[str, Tensor]] = []
    for number, batch in enumerate(rounds, start=1):
        last = number == len(rounds)
        accelerator.sync_gradients = last
        with nullcontext() if last else accelerator.no_sync(task):
            losses = task(to_device(batch, accelerator.device), counts)
            parts.append({name: value.detach() for name, value in losses.items()})
            accelerator.backward(losses["loss"])
    norm = accelerator.clip_grad_norm_(task.parameters(), optim.clip)
    scalars = _add(parts, accelerator)
    found = {"loss": scalars["loss"]}
    # DeepSpeed clips inside its own step and may not tell the norm.
    if norm is not None:
        scalars["grad_norm"] = float(norm)
        # The gradient scaler of fp16 skips such steps and lowers its scale itself.
        if loop.precision != "fp16":
            found["gradient norm"] = scalars["grad_norm"]
    _check(found, parts, rounds, step, optim)
    optimizer.step()
    optimizer.zero_grad()
    return scalars


def _counts(task: Task, rounds: Sequence[Batch], accelerator: Accelerator) -> dict[str, float]:
    """Units of each term in the whole step, per process, whose gradients are averaged."""
    own = [task.counts(batch) for batch in rounds]
    sums = {name: sum(counts[name] for counts in own) for name in own[0]}
    if accelerator.num_processes == 1:
        return sums
    values = torch.tensor(list(sums.values()), dtype=torch.float64, device=accelerator.device)
    return dict(zip(sums, _mean(values, accelerator), strict=True))


def _add(parts: Sequence[dict[str, Tensor]], accelerator: Accelerator) -> dict[str, float]:
    """Rounds added, processes averaged: the divisors belong to the whole step."""
    names = list(parts[0])
    sums = torch.stack([torch.stack([part[name] for part in parts]).sum() for name in names])
    return dict(zip(names, _mean(sums, accelerator), strict=True))


def _mean(values: Tensor, accelerator: Accelerator) -> list[float]:
    """Over the processes."""
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values.double(), "sum") / accelerator.num_processes
    found: list[float] = values.tolist()
    return found


def _check(
    found: dict[str, float],
    parts: Sequence[dict[str, Tensor]],
    rounds: Sequence[Batch],
    step: int,
    optim: OptimConfig,
) -> None:
    """Every process sees the same numbers, so that all of them end here, or none."""
    wrong = [(what, value) for what, value in found.items() if not isfinite(value)]
    if not wrong:
        return
    what, value = wrong[0]
    pairs = list(zip(rounds, parts, strict=True))
    if what == "loss":
        pairs = [pair for pair in pairs if not isfinite(pair[1]["loss"].item())]
    series: list[Any] = [name for batch, _ in pairs for name in batch["series_id"]]
    names = ", ".join(gather_object(series))
    raise TrainingDivergedError(
        f"the {what} is {value} at step {step}, for series {names}; the "
        f"weights are as of step {step - 1}. Look at these volumes with `uvlm inspect`; if they "
        f"are sound, lower the learning rate (--optim.lr, now {optim.lr}), clip harder "
        f"(--optim.clip, now {optim.clip}) or compute in 32 bits (--loop.precision no), and go "
        "on from the last checkpoint with --resume."
    )
