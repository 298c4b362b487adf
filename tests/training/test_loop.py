"""The loop accumulates, clips, follows the schedule, and stops when a number is not finite."""

from __future__ import annotations

import errno
import subprocess
import sys
from itertools import repeat
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from uvlm.errors import MemoryExhaustedError, TrainingDivergedError
from uvlm.training.config import LoopConfig, OptimConfig
from uvlm.training.loop import fit


class Mean(nn.Module):
    """Loss: weight times the sum over the images' means, divided by the number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def counts(self, batch: dict[str, Any]) -> dict[str, float]:
        return {"images": len(batch["image"])}

    def forward(self, batch: dict[str, Any], counts: dict[str, float]) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * batch["image"].mean(1).sum() / counts["images"]}


def batch(value: float, name: str = "series_1", size: int = 1) -> dict[str, Any]:
    return {"image": torch.full((size, 2), value), "series_id": [name] * size}


def run(
    batches: Any, optim: OptimConfig | None = None, hooks: Any = (), **loop: Any
) -> tuple[float, list]:
    AcceleratorState._reset_state()
    optim = optim or OptimConfig(lr=1.0, power=0.0)
    config = LoopConfig(device="cpu", **loop)
    accelerator = Accelerator(cpu=True)
    task = Mean()
    groups = [{"params": list(task.parameters()), "scale": 1.0}]
    task, optimizer = accelerator.prepare(task, torch.optim.SGD(groups, lr=1.0))
    seen: list = []
    hooks = [lambda step, scalars: seen.append((step, dict(scalars))), *hooks]
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


def test_a_round_with_more_units_weighs_more():
    weight, seen = run([batch(0.1, size=3), batch(0.5)], steps=1, accumulate=2)
    assert weight == pytest.approx(0.8)
    assert seen[0][1]["loss"] == pytest.approx(0.2)


def test_a_hook_ends_the_run_after_those_behind_it():
    seen: list = []

    def stop(step: int, scalars: dict[str, float]) -> bool:
        return step == 2

    run(repeat(batch(0.1)), steps=9, hooks=[stop, lambda step, scalars: seen.append(step)])
    assert seen == [1, 2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried ..."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_told_with_step_and_what_to_change(error):
    def exhaust(step: int, scalars: dict[str, float]) -> None:
        if step == 3:
            raise error

    with pytest.raises(MemoryExhaustedError) as caught:
        run(repeat(batch(0.1)), steps=5, hooks=[exhaust])
    assert "step 3" in str(caught.value)
    assert "--data.batch-size" in str(caught.value)
    assert "--resume" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_memory_that_this_process_may_not_take_is_known_as_such():
    code = (
        "import resource, torch\n"
        "from uvlm.training.memory import out_of_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        "try:\n"
        "    torch.empty(2**35)\n"
        "except RuntimeError as error:\n"
        "    assert out_of_memory(error), error\n"
        "else:\n"
        "    raise SystemExit('the memory was given')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_another_runtime_error_is_no_lack_of_memory():
    def fail(step: int, scalars: dict[str, float]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run(repeat(batch(0.1)), steps=5, hooks=[fail])


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
