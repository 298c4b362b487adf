"""Predictions: parameters exactly, memory as measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from uvlm.models.config import (
    ClassificationConfig,
    JointConfig,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.joint import JointModel
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.registry import RECIPES
from uvlm.training.config import RunConfig
from uvlm.training.estimate import estimate
from uvlm.training.optim import build_optimizer
from uvlm.training.recipes import recipe


def with_details(model: Any) -> Any:
    """What catalog and tokenizer would fill in."""
    if isinstance(model, JointConfig):
        labels = replace(model.classification, classes=tuple("abc"))
        return replace(model, classification=labels, report=with_details(model.report))
    if isinstance(model, ReportConfig):
        return replace(model, vision_start_id=0, vision_end_id=1)
    if isinstance(model, ContrastiveConfig):
        return model
    return model if model.classes else replace(model, classes=tuple("abc"))


def pretrained(config: RunConfig) -> bool:
    return isinstance(getattr(config.model, "decoder", None), PretrainedConfig)


MODELS: dict[type, Any] = {
    SegmentationConfig: SegmentationModel,
    ClassificationConfig: ClassificationModel,
    ReportConfig: ReportModel,
    JointConfig: JointModel,
    ContrastiveConfig: ContrastiveModel,
}


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_are_those_of_the_network(name: str) -> None:
    config = recipe(name)
    if pretrained(config):
        pytest.skip("its base is not at hand; tests/models/test_sizes.py has small ones")
    config = replace(config, model=with_details(config.model))
    with torch.device("meta"):
        model: nn.Module = MODELS[type(config.model)](config.model)
    found = estimate(config)
    assert found.parameters == sum(p.numel() for p in model.parameters())
    build_optimizer(model, config.optim)
    assert found.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)


STEPS = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from uvlm.models.uvlm import ClassificationModel
from uvlm.training.optim import build_optimizer
from uvlm.training.recipes import recipe
from uvlm.training.tasks.classification import ClassificationTask
torch.set_num_threads(1)
config = recipe("classification")
task = ClassificationTask(ClassificationModel(replace(config.model, classes=tuple("abc"))))
task.model.encoder.checkpointing = sys.argv[1] == "again"
optimizer = build_optimizer(task.model, config.optim)
batch = {"image": torch.randn(1, 1, 64, 96, 96), "labels": torch.zeros(1, 3)}
for _ in range(2):
    task(batch)["loss"].backward()
    optimizer.step()
    optimizer.zero_grad()
status = Path("/proc/self/status").read_text().splitlines()
print(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's account of memory"
)
@pytest.mark.parametrize("again", [False, True])
def test_memory_on_the_cpu_is_within_a_third_of_what_a_step_takes(again: bool) -> None:
    argument = "again" if again else "kept"
    done = subprocess.run(
        [sys.executable, "-c", STEPS, argument], capture_output=True, text=True, check=True
    )
    config = recipe("classification")
    data = replace(config.data, shape=(64, 96, 96), batch_size=1, workers=0)
    loop = replace(config.loop, precision="no", activation_checkpointing=again)
    found = estimate(replace(config, data=data, loop=loop), device="cpu")
    assert found.memory_gb == pytest.approx(float(done.stdout), rel=0.3)


def gb(name: str, **changes: Any) -> float:
    """Predicted peak on a GPU with fields of loop and data changed."""
    config = recipe(name)
    loop = {k: v for k, v in changes.items() if hasattr(config.loop, k)}
    data = {k: v for k, v in changes.items() if hasattr(config.data, k)}
    config = replace(config, loop=replace(config.loop, **loop), data=replace(config.data, **data))
    return estimate(config).memory_gb


def test_what_saves_memory_is_predicted_to() -> None:
    name = "classification"
    assert gb(name, activation_checkpointing=True) < 0.9 * gb(name)
    assert gb(name, batch_size=1) < 0.7 * gb(name)
    assert gb(name, precision="no") > 1.5 * gb(name)
    assert gb("report", bank=Path("bank")) < 0.5 * gb("report")


def test_the_papers_classification_step_fits_where_it_should() -> None:
    """Batch 1 with checkpointing in 16 GB of main memory, batch 2 on a GPU in 40 GB."""
    config = recipe("classification")
    loop = replace(config.loop, precision="no", activation_checkpointing=True)
    one = replace(config.data, batch_size=1, workers=0)
    assert estimate(replace(config, loop=loop, data=one), device="cpu").memory_gb < 16
    assert gb("classification", activation_checkpointing=True) < 40


def test_a_bank_takes_the_encoder_out_of_the_step() -> None:
    config = recipe("report")
    without = estimate(config)
    banked = estimate(replace(config, data=replace(config.data, bank=Path("bank"))))
    assert without.tflop - banked.tflop == pytest.approx(2 * 5.87, rel=0.01)
    assert banked.model_tflop == banked.tflop
    # 384 tokens of 32 + 64 + 128 + 256 + 320 + 320 channels in half precision.
    assert without.bank_mb == pytest.approx(384 * 1120 * 2 / 1e6)


def test_work_done_twice_counts_for_time_only() -> None:
    config = recipe("classification")
    again = replace(config, loop=replace(config.loop, activation_checkpointing=True))
    before, after = estimate(config), estimate(again)
    assert after.model_tflop == before.model_tflop
    assert after.tflop == pytest.approx(before.tflop * 4 / 3, rel=0.01)
    assert after.hours(10) == pytest.approx(after.steps * after.tflop / 10 / 3600)


def test_adapters_need_the_optimiser_for_themselves_only() -> None:
    lora, full = (
        dict(estimate(recipe(f"ct_rate/seg_fl-cls-rep+q4b_{tuning}")).memory)
        for tuning in ("lora", "full")
    )
    assert lora["weights"] < 0.6 * full["weights"]
    assert lora["optimiser"] < 0.05 * full["optimiser"]


def test_only_the_buckets_of_gradients_grow_with_processes() -> None:
    one, many = (dict(estimate(recipe("classification"), processes=n).memory) for n in (1, 8))
    assert many.pop("gradients") == 2 * one.pop("gradients")
    assert many == one
