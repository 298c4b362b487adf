"""The networks have exactly the paper's sizes. Built without memory, so instantly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from uvlm.models.config import (
    ClassificationConfig,
    InjectionConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.registry import CT_RATE_LABELS

PAPER = ReportConfig(vision_start_id=151_652, vision_end_id=151_653)  # Qwen3's markers


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def report() -> ReportModel:
    with torch.device("meta"):
        return ReportModel(PAPER)


def test_encoder(report: ReportModel) -> None:
    assert size(report.encoder) == 90_296_576


def test_class_head() -> None:
    with torch.device("meta"):
        model = ClassificationModel(ClassificationConfig(classes=CT_RATE_LABELS))
    assert size(model.head) == 520_978
    assert size(model) == 90_296_576 + 520_978


def test_decoder_with_tied_output(report: ReportModel) -> None:
    assert size(report.decoder) == 102_874_624


def test_six_projections(report: ReportModel) -> None:
    assert size(report.align) == 4_310_208


def test_report_model(report: ReportModel) -> None:
    assert size(report) == 197_481_408


def test_segmentation_decoder() -> None:
    with torch.device("meta"):
        model = SegmentationModel(SegmentationConfig(classes=tuple(f"c{i}" for i in range(29))))
    assert size(model.decoder) == 12_075_734


@pytest.mark.parametrize(
    ("reference", "grid", "tokens"), [(-1, (6, 8, 8), 384), (-2, (12, 16, 16), 3072)]
)
def test_visual_tokens(reference: int, grid: tuple[int, int, int], tokens: int) -> None:
    config = replace(PAPER, injection=InjectionConfig(reference_stage=reference))
    assert (config.token_grid, config.num_visual_tokens) == (grid, tokens)


@pytest.mark.parametrize("reference", [-1, -2])
def test_aligned_stages_all_have_the_papers_token_count(reference: int) -> None:
    config = replace(PAPER, injection=InjectionConfig(reference_stage=reference))
    with torch.device("meta"):
        model = ReportModel(config)
        stages = [
            torch.empty(1, channels, *config.encoder.stage_grid(config.shape, i))
            for i, channels in enumerate(config.encoder.features, start=1)
        ]
        plan = model.visual_plan(stages)
    assert plan.prefix.shape == (1, config.num_visual_tokens, 512)
    assert sorted(plan.per_layer) == [1, 2, 3, 4, 5, 6]


def test_layers_one_to_six_receive_stages_six_to_one() -> None:
    assert PAPER.layer_stages == ((1, 6), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1))
