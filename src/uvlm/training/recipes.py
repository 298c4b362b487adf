"""A run is a function that returns its whole configuration; a variant derives from another.

The recipes at the paper's size hold the paper's values, and the authors' where the paper is
silent, but for bf16 in place of fp16 and no volumes mirrored or drawn by label in tasks 2 and 3.
The tiny ones follow the same method at a size for a laptop; they learn from scratch from
a few hundred studies in minutes, so their learning rates are far above the paper's 2e-5. The runs
of the paper's tables are in `paper`.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import replace

from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.errors import ConfigError
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    JointConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.registry import OWN_VOCABULARY, PAPER_ROWS, RECIPES
from uvlm.training.config import LoopConfig, OptimConfig, RunConfig

# The others are found by name, through the registry.
__all__ = ["classification", "recipe", "report", "segmentation"]


def recipe(name: str) -> RunConfig:
    """The run called `name`.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"Did you mean {near[0]}?" if near else "`uvlm train --list` shows all."
        raise ConfigError(f"there is no recipe {name!r}. {hint}")
    module, function = RECIPES[name][0].split(":")
    make = getattr(importlib.import_module(module), function)
    config: RunConfig = make(name) if name in PAPER_ROWS else make()
    return config


def segmentation() -> RunConfig:
    """Task 1 of the paper: organs and lesions from patches."""
    return RunConfig(
        model=SegmentationConfig(),
        data=DataConfig(patch=(96, 128, 128), augment=AugmentConfig(mirror=(0, 1)), workers=8),
        optim=OptimConfig(name="sgd", lr=0.01, weight_decay=3e-5),
        loop=LoopConfig(precision="bf16"),
    )


def classification() -> RunConfig:
    """Task 2 of the paper: abnormalities from whole volumes, encoder at a tenth of the rate."""
    return RunConfig(
        model=ClassificationConfig(),
        data=DataConfig(workers=8),
        optim=OptimConfig(encoder_lr=0.1),
        loop=LoopConfig(precision="bf16"),
    )


def report() -> RunConfig:
    """Task 3 of the paper: the report, over a frozen encoder."""
    return RunConfig(
        # The paper uses Qwen3's 151,669 entries; with --tokenizer its file gives them again.
        model=ReportConfig(decoder=DecoderConfig(vocab_size=OWN_VOCABULARY)),
        data=DataConfig(workers=8),
        optim=OptimConfig(encoder_lr=0.0),
        loop=LoopConfig(precision="bf16"),
    )


def joint() -> RunConfig:
    """Tasks 2 and 3 at once (the published code's mode "both"), encoder at a tenth of the rate."""
    return _both(classification(), report())


def _both(labels: RunConfig, reports: RunConfig) -> RunConfig:
    assert isinstance(reports.model, ReportConfig)
    assert isinstance(labels.model, ClassificationConfig)
    model = JointConfig(classification=labels.model, report=reports.model)
    return replace(reports, model=model, optim=labels.optim)


TINY_ENCODER = EncoderConfig(features=(16, 32, 64, 128), strides=(2, 2, 2, 2), blocks=(1, 1, 1, 1))
TINY_SHAPE = (32, 64, 64)


def _tiny_data(batch_size: int) -> DataConfig:
    plain = AugmentConfig(spatial=False, intensity=False)
    return DataConfig(shape=TINY_SHAPE, batch_size=batch_size, val_fraction=0.1, augment=plain)


def _tiny_loop(steps: int) -> LoopConfig:
    return LoopConfig(
        steps=steps,
        log_every=5,
        validate_every=max(steps // 3, 1),
        validate_studies=32,
        checkpoint_every=100,
    )


def tiny_segmentation() -> RunConfig:
    """Task 1 on a laptop: whole volumes of 32x64x64, and AdamW in place of the paper's SGD."""
    return RunConfig(
        model=SegmentationConfig(encoder=TINY_ENCODER),
        data=_tiny_data(batch_size=2),
        optim=OptimConfig(lr=3e-3, warmup=20),
        loop=_tiny_loop(700),
    )


def tiny_classification() -> RunConfig:
    """Task 2 on a laptop: the encoder learns at the head's rate, not at a tenth of it."""
    return RunConfig(
        model=ClassificationConfig(encoder=TINY_ENCODER),
        data=_tiny_data(batch_size=8),
        optim=OptimConfig(lr=1e-3, warmup=20),
        loop=_tiny_loop(1000),
    )


def tiny_report() -> RunConfig:
    """Task 3 on a laptop: four layers over a frozen encoder."""
    return RunConfig(
        model=ReportConfig(
            encoder=TINY_ENCODER,
            shape=TINY_SHAPE,
            decoder=DecoderConfig(vocab_size=2048, layers=4, width=192, heads=6, ffn=768),
        ),
        data=_tiny_data(batch_size=8),
        optim=OptimConfig(lr=2.5e-3, encoder_lr=0.0, warmup=20),
        loop=_tiny_loop(550),
    )


def tiny_joint() -> RunConfig:
    """Tasks 2 and 3 at once on a laptop."""
    return _both(tiny_classification(), tiny_report())
