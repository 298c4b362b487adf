"""The weights of a run beside those it trains on: what is stored, their average, the best ones.

Two ways to have a model: whole on every process, or divided over the processes (FSDP, DeepSpeed),
where only Accelerate can put it together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from uvlm.errors import InputError

__all__ = ["Average", "divided", "own_names", "read_weights", "whole_weights", "write_weights"]

PREFIX = "model."
"""Of the network inside a task."""


def divided(accelerator: Accelerator) -> bool:
    """Whether no process has all weights."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def own_names(model: nn.Module, *, given_encoder: bool) -> tuple[str, ...]:
    """Tensors of `model` that only this run knows: what trains, and buffers.

    Frozen weights come again from where they came: a base model from its folder, a handed-over
    encoder from its bundle. A frozen encoder without a bundle counts as the run's own.
    """
    parameters = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or (name.startswith("encoder.") and not given_encoder)
    ]
    stored = model.state_dict().keys()
    return (*parameters, *(name for name, _ in model.named_buffers() if name in stored))


def read_weights(model: nn.Module, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Copies on the CPU of the tensors `names`."""
    found = _tensors(model)
    return {name: found[name].detach().cpu().clone().contiguous() for name in names}


@torch.no_grad()
def write_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy `weights` into the model; their names are those of `read_weights`."""
    found = _tensors(model)
    for name, value in weights.items():
        found[name].copy_(value)


def whole_weights(
    task: nn.Module, accelerator: Accelerator, names: tuple[str, ...]
) -> dict[str, Tensor]:
    """As `read_weights`, of a prepared task; every process calls it, the main one receives."""
    if not divided(accelerator):
        if not accelerator.is_main_process:
            return {}
        unwrapped: Any = accelerator.unwrap_model(task)
        return read_weights(unwrapped.model, names)
    found = accelerator.get_state_dict(task)
    if not accelerator.is_main_process:
        return {}
    return {name: found[PREFIX + name].detach().cpu().clone() for name in names}


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


class Average:
    """Moving average of the trained weights: `a <- decay * a + (1 - decay) * w` after each step.

    Each process averages the part of the weights it holds. A hook of the loop.

    Args:
        task: as `accelerator.prepare` returned it
        decay: share of the old average kept at each step
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self.decay = decay
        self.trained = {n: _local(p) for n, p in task.named_parameters() if p.requires_grad}
        self.values = {name: tensor.clone() for name, tensor in self.trained.items()}

    @torch.no_grad()
    def __call__(self, step: int, scalars: dict[str, float]) -> None:
        for name, average in self.values.items():
            average.lerp_(self.trained[name].to(average.dtype), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the model's place; its own weights return afterwards, bit for bit."""
        before = {name: tensor.clone() for name, tensor in self.trained.items()}
        self._put(self.values)
        try:
            yield
        finally:
            self._put(before)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from stored averages.

        Raises:
            InputError: they are of another model.
        """
        if values.keys() != self.values.keys():
            raise InputError("the stored averages are of another model; start the run anew.")
        for name, value in values.items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self.trained.items():
            tensor.copy_(values[name])


def _local(parameter: nn.Parameter) -> Tensor:
    """The tensor this process holds; it shares memory with the parameter."""
    held: Any = parameter.detach()
    local: Tensor = held.to_local() if hasattr(held, "to_local") else held
    return local
