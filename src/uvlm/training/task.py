"""What the loop needs to know of a task: its losses and its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from uvlm.data.batching import Batch
from uvlm.data.studies import Need

__all__ = ["Task", "to_device"]


class Task(nn.Module, ABC):
    """One step of progressive training.

    A module, so that data-parallel wrappers see every use of the network: calling a task gives
    its losses.

    Attributes:
        model: the network; its `encoder` is handed from task to task
        need: what a study must have: any of "mask", "labels", "report"
    """

    model: nn.Module
    need: tuple[Need, ...] = ()

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars, of which "loss" is minimised and the others are logged."""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over validation batches that lie on the model's device."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(batch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors of the batch on `device`, the rest as it is."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
