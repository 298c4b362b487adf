"""The report model: gradients reach every stage and weight; parts compose to the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.tiny import NEXT_TO_DEEPEST, REPORT, random_stages, random_tokens
from tests.models.tiny_packed import INJECTED, PACKED, UNET_PACKED, sliced
from uvlm.errors import ConfigError
from uvlm.models.config import InjectionConfig, ReportConfig
from uvlm.models.decoder import Decoder, table_for
from uvlm.models.injection import VisualPlan
from uvlm.models.tower_config import TowersConfig
from uvlm.models.uvlm import ReportModel

LAST_LAYER = replace(REPORT, injection=InjectionConfig(layers=((2, 4), (5, 1))))


def build(config: ReportConfig = REPORT) -> ReportModel:
    torch.manual_seed(0)
    return ReportModel(config)


@pytest.mark.parametrize("config", [REPORT, NEXT_TO_DEEPEST, PACKED, INJECTED])
def test_every_stage_receives_gradient_from_the_text_loss(config: ReportConfig) -> None:
    model, stages, tokens = build(config), random_stages(config), random_tokens(config)
    logits = model.decode(model.visual_plan(stages), tokens[:, :-1])
    F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    norms = [0.0 if s.grad is None else s.grad.norm().item() for s in stages]
    assert min(norms) > 1e-6


def test_an_injection_before_the_last_layer_is_trained() -> None:
    model, stages = build(LAST_LAYER), random_stages(LAST_LAYER)
    tokens = random_tokens(LAST_LAYER)
    model.decode(model.visual_plan(stages), tokens).logsumexp(-1).sum().backward()
    assert stages[0].grad is not None
    assert stages[0].grad.norm() > 0
    assert stages[1].grad is None  # not injected


@pytest.mark.parametrize(
    "config", [REPORT, NEXT_TO_DEEPEST, LAST_LAYER, PACKED, INJECTED, UNET_PACKED]
)
def test_every_parameter_receives_a_gradient(config: ReportConfig) -> None:
    model, tokens = build(config), random_tokens(config)
    towers = isinstance(config.encoder, TowersConfig)
    x = sliced() if towers else torch.randn(2, 1, *config.shape)
    model(x, tokens).logsumexp(-1).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_sequence_is_marker_vision_marker_text() -> None:
    model, tokens = build(), random_tokens(REPORT)
    plan = model.visual_plan(random_stages(REPORT))
    embeddings, layout = model.embed(plan, tokens)
    table = model.decoder.embedding.weight
    assert torch.equal(embeddings[:, 0], table[3].expand(2, -1))
    assert torch.equal(embeddings[:, layout.vision], plan.prefix)
    assert torch.equal(embeddings[:, layout.vision.stop], table[4].expand(2, -1))
    assert torch.equal(embeddings[:, layout.text], table[tokens])
    assert len(layout) == embeddings.shape[1]


def by_hand(
    model: ReportModel, plan: VisualPlan, tokens: Tensor, before: list[int], after: list[int]
) -> Tensor:
    decoder, table = model.decoder, model.decoder.embedding.weight
    assert isinstance(decoder, Decoder)
    around = [table[ids].expand(len(tokens), -1, -1) for ids in (before, after)]
    h = torch.cat((around[0], plan.prefix, around[1], table[tokens]), dim=1)
    vision = slice(len(before), len(before) + plan.prefix.shape[1])
    sees = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).tril()
    if plan.mask == "vision_bidirectional":
        sees[vision, vision] = True
    rotary = table_for(decoder.config, h.shape[1], h.device)
    for number, block in enumerate(decoder.blocks, start=1):
        if number in plan.per_layer:
            h = h.clone()
            h[:, vision] += plan.per_layer[number]
        h = block(h, rotary, sees, None, number - 1)
    return decoder.head(h[:, vision.stop + len(after) :])


@pytest.mark.parametrize("config", [REPORT, PACKED, UNET_PACKED, INJECTED])
@pytest.mark.parametrize(
    ("markers", "before", "after"), [("both", [3], [4]), ("bos", [3], []), ("none", [], [])]
)
def test_text_is_read_as_in_a_sequence_built_by_hand(
    config: ReportConfig,
    markers: Literal["both", "bos", "none"],
    before: list[int],
    after: list[int],
) -> None:
    config = replace(config, markers=markers)
    model, tokens = build(config).eval(), random_tokens(config)
    plan = model.visual_plan(random_stages(config))
    made = model.decode(plan, tokens)
    assert made.shape == (2, 6, 50)
    expected = by_hand(model, plan, tokens, before, after)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-5)


def test_forward_is_encoder_plan_and_decoder_in_turn() -> None:
    model, tokens = build(), random_tokens(REPORT)
    x = torch.randn(2, 1, *REPORT.shape)
    plan = model.visual_plan(model.encoder(x))
    whole = model(x, tokens)
    assert whole.shape == (2, 6, 50)
    assert torch.equal(whole, model.decode(plan, tokens))
    last = model(x, tokens, logits_at=slice(-1, None))
    torch.testing.assert_close(last, whole[:, -1:])


def test_padding_at_the_end_changes_nothing_before_it() -> None:
    model, tokens = build(), random_tokens(REPORT)
    plan = model.visual_plan(random_stages(REPORT))
    padded = F.pad(tokens, (0, 3), value=0)
    torch.testing.assert_close(
        model.decode(plan, padded)[:, :6], model.decode(plan, tokens), atol=1e-6, rtol=1e-5
    )


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, tokens = build(), random_tokens(REPORT)
    stages = random_stages(REPORT)
    both = model.decode(model.visual_plan(stages), tokens)
    alone = model.decode(model.visual_plan([s[1:] for s in stages]), tokens[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)


def test_the_image_changes_the_text() -> None:
    model, tokens = build(), random_tokens(REPORT)
    first, second = (model.visual_plan(random_stages(REPORT, seed=s)) for s in (0, 1))
    assert not torch.allclose(model.decode(first, tokens), model.decode(second, tokens), atol=1e-4)


def test_a_model_without_markers_is_refused() -> None:
    with pytest.raises(ConfigError, match="the tokenizer has both"):
        ReportModel(replace(REPORT, vision_start_id=None))
