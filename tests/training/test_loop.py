"""The loop accumulates, clips, follows the schedule, and stops when a number is not finite."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from uvlm.errors import TrainingDivergedError
from uvlm.training.config import LoopConfig, OptimConfig
from uvlm.training.loop import fit


class Mean(nn.Module):
    """Loss: weight times the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * batch["image"].mean()}


def batch(value: float, name: str = "series_1") -> dict[str, Any]:
    return {"image": torch.full((1, 2), value), "series_id": [name]}


def run(batches: Any, optim: OptimConfig | None = None, **loop: Any) -> tuple[float, list]:
    AcceleratorState._reset_state()
    optim = optim or OptimConfig(lr=1.0, power=0.0)
    config = LoopConfig(device="cpu", **loop)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config.accumulate)
    task = Mean()
    groups = [{"params": list(task.parameters()), "scale": 1.0}]
    task, optimizer = accelerator.prepare(task, torch.optim.SGD(groups, lr=1.0))
    seen: list = []
    hooks = [lambda step, scalars: seen.append((step, dict(scalars)))]
    fit(task, iter(batches), optimizer, accelerator, config, optim, hooks=hooks)
    return task.weight.item(), seen


def test_each_step_moves_against_the_gradient():
    weight, seen = run(repeat(batch(0.25)), steps=2)
    assert weight == pytest.approx(0.5)
    assert [step for step, _ in seen] == [1, 2]
    assert [s["loss"] for _, s in seen] == pytest.approx([0.25, 0.25 * 0.75])


def test_accumulated_batches_are_averaged_into_one_step():
    weight, seen = run([batch(0.1), batch(0.3)], steps=1, accumulate=2)
    assert weight == pytest.approx(0.8)
    assert seen[0][1]["loss"] == pytest.approx(0.2)


def test_a_large_gradient_is_clipped_and_its_norm_reported():
    weight, seen = run([batch(50.0)], OptimConfig(lr=1.0, power=0.0, clip=2.0), steps=1)
    assert weight == pytest.approx(1.0 - 2.0)
    assert seen[0][1]["grad_norm"] == pytest.approx(50.0)


def test_the_rate_of_each_step_is_used():
    optim = OptimConfig(lr=1.0, power=1.0)
    weight, seen = run(repeat(batch(0.1)), optim, steps=2)
    assert [s["lr"] for _, s in seen] == pytest.approx([1.0, 0.5])
    assert weight == pytest.approx(1 - 0.1 - 0.05)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_step_study_and_advice(value):
    batches = [batch(0.1), batch(value, "series_7")]
    with pytest.raises(TrainingDivergedError) as caught:
        run(batches, steps=5)
    message = str(caught.value)
    assert "step 2" in message
    assert "series_7" in message
    assert "--optim.lr" in message


def test_half_precision_runs():
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    task = Mean()
    groups = [{"params": list(task.parameters()), "scale": 1.0}]
    task, optimizer = accelerator.prepare(task, torch.optim.SGD(groups, lr=1.0))
    loop = LoopConfig(steps=1, precision="bf16", device="cpu")
    fit(task, iter([batch(0.5)]), optimizer, accelerator, loop, OptimConfig(lr=1.0))
    assert accelerator.unwrap_model(task).weight.item() == pytest.approx(0.5)
    AcceleratorState._reset_state()
