"""Which parts a run's network has, before anything is built. No torch import."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    JointConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.sizes import (
    QWEN3_4B,
    PartSize,
    align_size,
    decoder_size,
    head_size,
    unet_size,
)
from uvlm.models.tower_sizes import packer_size, text_tower_size
from uvlm.training.config import ModelConfig, RunConfig

__all__ = ["bank_bytes", "base_named", "completed", "others", "reached", "report_of", "width_of"]

LABELS, CLASSES = 18, 30
"""Taken for a run whose catalog is not known yet."""


def completed(model: ModelConfig) -> ModelConfig:
    """With as many classes as there may be, where the catalog will name them."""
    if isinstance(model, JointConfig):
        if not model.classification.classes:
            names = tuple(map(str, range(LABELS)))
            return replace(model, classification=replace(model.classification, classes=names))
    elif isinstance(model, SegmentationConfig | ClassificationConfig) and not model.classes:
        count = CLASSES if isinstance(model, SegmentationConfig) else LABELS
        return replace(model, classes=tuple(map(str, range(count))))
    return model


def report_of(config: RunConfig) -> ReportConfig | None:
    model = config.model
    if isinstance(model, JointConfig):
        return model.report
    return model if isinstance(model, ReportConfig) else None


def width_of(report: ReportConfig) -> int:
    if isinstance(report.decoder, DecoderConfig) or report.decoder.layers:
        return report.decoder.width
    return int(QWEN3_4B["hidden_size"])


def others(config: RunConfig, text: int) -> list[PartSize]:
    """The parts after the encoder."""
    model, shape = config.model, config.data.patch or config.data.shape
    parts: list[PartSize] = []
    if isinstance(model, SegmentationConfig):
        parts.append(unet_size(model, shape))
    if isinstance(model, ClassificationConfig):
        parts.append(head_size(model, shape))
    if isinstance(model, JointConfig):
        parts.append(head_size(model.classification, shape))
    if isinstance(model, ContrastiveConfig):
        parts += [text_tower_size(model.text, text), _projections(model)]
    report = report_of(config)
    if report is not None:
        positions = report.before_text + text
        if report.packer is not None:
            parts.append(packer_size(report.packer, report.encoder, shape, width_of(report)))
        else:
            parts.append(align_size(base_named(report), width_of(report)))
        parts.append(decoder_size(report.decoder, positions, text))
    return parts


def _projections(model: ContrastiveConfig) -> PartSize:
    """Of both towers, and the temperature."""
    text = int(model.text.hf.get("hidden_size", model.text.width))
    weights = model.width * (model.encoder.features[-1] + text + 2) + 1
    return PartSize(parameters=weights, trainable=weights, flops=2.0 * weights, kept=0.0)


def base_named(report: ReportConfig) -> ReportConfig:
    """A base that is not given has the layers of the one that stands for it."""
    if report.decoder.layers or report.injection.layers is not None:
        return report
    stages = report.encoder.num_stages
    pairs = tuple((j, stages - j + 1) for j in range(1, stages + 1))
    return replace(report, injection=replace(report.injection, layers=pairs))


def reached(config: RunConfig, encoder: list[PartSize]) -> list[PartSize]:
    """Stem and stages whose result something uses; what lies deeper does not learn."""
    report = report_of(config)
    if config.task != "report" or report is None:
        return encoder
    used = {report.reference_stage, *(s for _, s in base_named(report).layer_stages)}
    return encoder[: 1 + max(used)]


def bank_bytes(config: RunConfig) -> float:
    report = report_of(config)
    if report is None or config.optim.encoder_lr > 0 or config.task != "report":
        return 0.0
    stages = {report.reference_stage, *(s for _, s in base_named(report).layer_stages)}
    if report.packer is not None:
        stages = set(report.packer.stages or range(1, report.encoder.num_stages + 1))
    channels = {stage: report.encoder.features[stage - 1] for stage in stages}
    tokens = dict.fromkeys(stages, report.num_visual_tokens)
    if report.packer is not None:  # packed when they are read
        tokens = {each: prod(report.encoder.stage_grid(report.shape, each)) for each in stages}
    return 2.0 * sum(tokens[stage] * channels[stage] for stage in stages)
