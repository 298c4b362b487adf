"""The one training loop, on Accelerate. It knows tasks, not models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from time import perf_counter

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from uvlm.data.batching import Batch
from uvlm.errors import TrainingDivergedError
from uvlm.training.config import LoopConfig, OptimConfig
from uvlm.training.optim import set_learning_rate
from uvlm.training.task import to_device

__all__ = ["Hook", "fit"]

log = logging.getLogger(__name__)

Hook = Callable[[int, dict[str, float]], None]
"""Called after every step with the step and its scalars, in order; a hook may add scalars."""


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
    """Run steps `first_step` to `loop.steps`; hooks log, validate, draw and save.

    `task` and `optimizer` are as `accelerator.prepare` returned them.

    Raises:
        TrainingDivergedError: the loss or the gradient is not finite.
    """
    task.train()
    for step in range(first_step, loop.steps + 1):
        started = perf_counter()
        rate = set_learning_rate(optimizer, optim, step, loop.steps)
        scalars: dict[str, float] = {}
        for _ in range(loop.accumulate):
            batch = to_device(next(batches), accelerator.device)
            with accelerator.accumulate(task):
                losses = task(batch)
                _add(scalars, losses, loop.accumulate)
                _check(losses["loss"], "loss", step, batch, optim)
                accelerator.backward(losses["loss"])
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(task.parameters(), optim.clip)
                    # The gradient scaler of fp16 skips such steps and lowers its scale itself.
                    if loop.precision != "fp16":
                        _check(norm, "gradient norm", step, batch, optim)
                    scalars["grad_norm"] = norm.item()
                optimizer.step()
                optimizer.zero_grad()
        scalars |= {"lr": rate, "seconds": perf_counter() - started}
        for hook in hooks:
            hook(step, scalars)


def _add(scalars: dict[str, float], losses: dict[str, Tensor], rounds: int) -> None:
    for name, value in losses.items():
        scalars[name] = scalars.get(name, 0.0) + value.item() / rounds


def _check(value: Tensor, what: str, step: int, batch: Batch, optim: OptimConfig) -> None:
    number = value.item()
    if isfinite(number):
        return
    raise TrainingDivergedError(
        f"the {what} is {number} at step {step}, for series {', '.join(batch['series_id'])}; the "
        f"weights are as of step {step - 1}. Look at these volumes with `uvlm inspect`; if they "
        f"are sound, lower the learning rate (--optim.lr, now {optim.lr}), clip harder "
        f"(--optim.clip, now {optim.clip}) or compute in 32 bits (--loop.precision no), and go "
        "on from the last checkpoint with --resume."
    )
