"""Stage by stage gives what the whole forward pass gives."""

from __future__ import annotations

import pytest
import torch

from tests.inference.bundle_factory import ENCODER
from uvlm.inference.features import encode
from uvlm.models.config import DecoderConfig, InjectionConfig, ReportConfig
from uvlm.models.uvlm import ReportModel


def report_model(reference_stage: int) -> ReportModel:
    torch.manual_seed(0)
    return ReportModel(
        ReportConfig(
            encoder=ENCODER,
            shape=(16, 16, 16),
            injection=InjectionConfig(hidden=8, reference_stage=reference_stage),
            decoder=DecoderConfig(vocab_size=32, layers=3, width=16, heads=2, ffn=32),
            vision_start_id=0,
            vision_end_id=1,
        )
    ).eval()


@pytest.mark.parametrize("reference_stage", [-1, -2])
def test_the_visual_plan_is_that_of_whole_stages(reference_stage):
    model, x = report_model(reference_stage), torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        expected = model.visual_plan(model.encoder(x))
        plan = model.align.project(encode(model.encoder, x, model.align).tokens)
    assert torch.equal(plan.prefix, expected.prefix)
    assert plan.per_layer.keys() == expected.per_layer.keys()
    for layer, tokens in expected.per_layer.items():
        assert torch.equal(plan.per_layer[layer], tokens)


def test_the_deepest_stage_is_kept_whole():
    model, x = report_model(-1), torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.equal(encode(model.encoder, x).deepest, model.encoder(x)[-1])


def test_without_alignment_no_tokens_are_kept():
    model = report_model(-1)
    assert encode(model.encoder, torch.randn(1, 1, 16, 16, 16)).tokens == {}
