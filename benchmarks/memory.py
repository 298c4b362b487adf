"""Peak memory of training steps, measured, against the limit and against what `uvlm doctor` says.

The classification step at the paper's size (192x256x256, batch 1, encoder trainable) with
activation checkpointing on the CPU: at most 16 GB, and beside it what the plain step would take by
prediction. Each `predicted` row has the prediction as ours and the measurement as baseline; its
ratio is above 1 when the two are within 30 % of each other. On a GPU also batch 2 in bf16: peak,
seconds, and which share of the GPU's arithmetic the model's own operations are (MFU).

Every part runs in a process of its own, twice in a row, so that the optimiser's states are there.

    python benchmarks/memory.py [--small] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import Row, machine, publish
from torch import Tensor
from training_case import child, peak_of, text_batch, training_step

from uvlm.models.config import ClassificationConfig, ReportConfig, SegmentationConfig
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.training.config import RunConfig
from uvlm.training.estimate import estimate
from uvlm.training.recipes import recipe
from uvlm.training.task import Task
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.report import ReportTask
from uvlm.training.tasks.segmentation import SegmentationTask

LIMIT_GB = {"cpu": 16.0, "cuda": 40.0}
ERROR = 1.3
PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A6000": 155.0}
"""Dense bf16, by the maker's data sheets."""

HALF, SMALL = (96, 128, 128), (64, 64, 64)
CHECKPOINTED = "classification checkpointed"
ON_GPU = "classification batch 2 on a GPU"


def changed(name: str, *, batch: int, precision: str = "no", again: bool = False) -> RunConfig:
    """A recipe without loader processes, with these settings."""
    config = recipe(name)
    loop = replace(config.loop, precision=precision, activation_checkpointing=again)
    return replace(config, loop=loop, data=replace(config.data, batch_size=batch, workers=0))


def shaped(config: RunConfig, shape: tuple[int, int, int]) -> RunConfig:
    model = config.model
    if isinstance(model, ReportConfig):
        model = replace(model, shape=shape)
    patch = shape if isinstance(model, SegmentationConfig) else None
    return replace(config, model=model, data=replace(config.data, shape=shape, patch=patch))


def parts(device: str, small: bool) -> dict[str, RunConfig]:
    """Case -> the run of which it is a step."""
    half = SMALL if small else HALF
    full = half if small else (192, 256, 256)
    banked = changed("report", batch=2)
    found = {
        CHECKPOINTED: shaped(changed("classification", batch=1, again=True), full),
        "classification plain, an eighth": shaped(changed("classification", batch=1), half),
        "segmentation patch": shaped(changed("segmentation", batch=1), half),
        "report, encoder each step": shaped(changed("report", batch=1), half),
        "report, bank 8192": replace(banked, data=replace(banked.data, bank=Path("BANK"))),
    }
    if device == "cuda":
        on_gpu = changed("classification", batch=2, precision="bf16", again=True)
        found[ON_GPU] = shaped(on_gpu, full)
        plain = changed("classification", batch=2, precision="bf16")
        found["classification batch 2 on a GPU, plain"] = shaped(plain, full)
    return found


def with_details(model: Any) -> Any:
    """What catalog and tokenizer would fill in."""
    if isinstance(model, ReportConfig):
        return replace(model, vision_start_id=3, vision_end_id=4)
    count = 30 if isinstance(model, SegmentationConfig) else 18
    return replace(model, classes=tuple(f"class {number}" for number in range(count)))


def step_of(config: RunConfig, device: str) -> Callable[[], None]:
    torch.manual_seed(0)
    model_config = with_details(config.model)
    task, batch = build(config, model_config, device)
    task.train()
    again = config.loop.activation_checkpointing
    for module in task.modules():
        if again and hasattr(module, "checkpointing"):
            module.checkpointing = True

    def loss() -> Tensor:
        return task(batch)["loss"]

    return training_step(task.model, config.optim, loss, device, config.loop.precision)


def build(config: RunConfig, model: Any, device: str) -> tuple[Task, dict[str, Any]]:
    """The task and a random batch."""
    size, shape = config.data.batch_size, config.data.patch or config.data.shape
    batch: dict[str, Any] = {}
    if config.data.bank is None:
        batch["image"] = torch.randn(size, 1, *shape, device=device)
    if isinstance(model, ClassificationConfig):
        batch["labels"] = torch.zeros(size, len(model.classes), device=device)
        return ClassificationTask(ClassificationModel(model).to(device)), batch
    if isinstance(model, SegmentationConfig):
        classes = 1 + len(model.classes)
        labels = torch.randint(0, classes, (size, 1, *shape), dtype=torch.int16)
        batch["seg"] = labels.to(device)
        return SegmentationTask(SegmentationModel(model).to(device)), batch
    if config.data.bank is not None:
        batch["features"] = {
            stage: torch.randn(size, model.num_visual_tokens, width, device=device).half()
            for stage, width in enumerate(model.encoder.features, start=1)
        }
    batch |= text_batch(model, size, device)
    return ReportTask(ReportModel(model).to(device), frozen=True), batch


def measure(device: str, small: bool) -> list[Row]:
    rows = []
    for case, config in parts(device, small).items():
        options = ["--part", case, *(["--small"] if small else [])]
        found = child(__file__, *options)
        predicted = estimate(with_model(config), device=device)
        peak = found["peak_gb"]
        if case in (CHECKPOINTED, ON_GPU):
            rows += against_limits(case, config, peak, device)
        if case == ON_GPU:
            rows += speed(found["seconds"], predicted.model_tflop)
        rows.append(
            Row(
                case=f"{case}, predicted",
                value=predicted.memory_gb,
                baseline=peak,
                unit="GB",
                ratio=ERROR / max(predicted.memory_gb / peak, peak / predicted.memory_gb),
            )
        )
        print(f"{rows[-1].case}: {predicted.memory_gb:.2f} GB, measured {peak:.2f}", flush=True)
    return rows


def with_model(config: RunConfig) -> RunConfig:
    return replace(config, model=with_details(config.model))


def against_limits(case: str, config: RunConfig, peak: float, device: str) -> list[Row]:
    plain = replace(config, loop=replace(config.loop, activation_checkpointing=False))
    without = estimate(with_model(plain), device=device).memory_gb
    limit = LIMIT_GB[device]
    return [
        Row(case=case, value=peak, baseline=without, unit="GB", ratio=without / peak),
        Row(case=f"{case}, limit", value=peak, baseline=limit, unit="GB", ratio=limit / peak),
    ]


def speed(seconds: float, tflop: float) -> list[Row]:
    """Time of a step against the GPU's arithmetic, and their ratio in %."""
    name = torch.cuda.get_device_name()
    peak = next((value for key, value in PEAK_TFLOPS.items() if key in name), None)
    if peak is None:
        print(f"{name}: {seconds:.3f} s, {tflop / seconds:.1f} TFLOP/s; its peak is not known")
        return []
    least = tflop / peak
    share = 100 * least / seconds
    return [
        Row(
            case=f"{ON_GPU}, time",
            value=seconds,
            baseline=least,
            unit="s/step",
            ratio=least / seconds,
        ),
        Row(case=f"{ON_GPU}, MFU", value=share, baseline=100.0, unit="%", ratio=share / 100),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="try it at a small size")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.part:
        step = step_of(parts(device, args.small)[args.part], device)
        print(json.dumps(peak_of(step, device, steps=2 if device == "cpu" else 6)))
        return
    publish(measure(device, args.small), args.json, machine())
    print(
        "predicted rows: ours is the prediction, baseline the measurement, ratio 1.3 / their factor"
    )


if __name__ == "__main__":
    main()
