"""A catalog of tiny studies, and runs small enough to repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from torch import Tensor, nn

from tests.data.toy_catalog import SHAPE, make_catalog
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    JointConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.training.config import LoopConfig, OptimConfig, RunConfig

ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
REPORT = ReportConfig(
    encoder=ENCODER,
    shape=SHAPE,
    decoder=DecoderConfig(vocab_size=300, layers=3, width=16, heads=2, ffn=32),
)


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("studies"))


@pytest.fixture
def without_gradient(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the trained parameters that a run's steps leave without a gradient."""
    found: list[str] = []

    def look(self: Accelerator, parameters: Iterable[Tensor], limit: float) -> Tensor:
        (task,) = self._models
        named = task.named_parameters()
        found.extend(name for name, p in named if p.requires_grad and p.grad is None)
        return nn.utils.clip_grad_norm_(list(parameters), limit)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", look)
    return found


@pytest.fixture
def tiny_run(catalog: Path) -> Callable[[str], RunConfig]:
    """Task name -> a run of six steps over the toy catalog."""

    def build(task: str) -> RunConfig:
        augment = AugmentConfig(mirror=(0, 1) if task == "segmentation" else ())
        frozen = task == "report"
        return RunConfig(
            model={
                "joint": JointConfig(
                    classification=ClassificationConfig(encoder=ENCODER, heads=2), report=REPORT
                ),
                "segmentation": SegmentationConfig(encoder=ENCODER),
                "classification": ClassificationConfig(encoder=ENCODER, heads=2),
                "report": REPORT,
            }[task],
            data=DataConfig(
                catalog=(catalog,),
                shape=SHAPE,
                patch=(4, 8, 8) if task == "segmentation" else None,
                val_fraction=0.3,
                augment=replace(augment, spatial=not frozen, intensity=not frozen),
            ),
            optim=OptimConfig(lr=1e-3, encoder_lr=0.0 if frozen else 0.1),
            loop=LoopConfig(
                steps=6, log_every=1, validate_every=3, validate_studies=4, checkpoint_every=2
            ),
        )

    return build
