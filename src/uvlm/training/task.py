"""What the loop needs to know of a task: its losses and its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal

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
        best_by: validation metric that tells the best weights, and which way is better
    """

    model: nn.Module
    need: tuple[Need, ...] = ()
    best_by: tuple[str, Literal["max", "min"]]

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def resume(self, step: int) -> None:
        """Go on at `step`, counted from 1; for tasks that change with the steps."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """How many units (answer tokens, known labels, samples) each term of the loss is a mean
        over, from the batch alone."""

    @abstractmethod
    def losses(self, batch: Batch, counts: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        """Scalars, of which "loss" is minimised and the others are logged.

        Args:
            counts: divisors of the terms' sums in place of the batch's own `counts`. The loop gives
                those of all processes and accumulation rounds together, so that any division of the
                same studies has the same gradient.
        """

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Metrics over validation batches that lie on the model's device."""

    def forward(
        self,
        batch: Batch,
        counts: Mapping[str, float] | None = None,
        validation: Iterable[Batch] | None = None,
    ) -> dict[str, Any]:
        """`losses`, or `evaluate` over `validation`: weights divided over processes are together
        only while the task is called."""
        return self.losses(batch, counts) if validation is None else self.evaluate(validation)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Tensors of the batch on `device`, those in dictionaries too, the rest as it is."""
    return {key: _moved(value, device) for key, value in batch.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return to_device(value, device) if isinstance(value, dict) else value
