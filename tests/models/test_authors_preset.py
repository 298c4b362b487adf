"""The preset of the published code's deviations, and what each does to a model of our own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.tiny import NEXT_TO_DEEPEST, REPORT, random_stages, random_tokens
from uvlm.errors import ConfigError
from uvlm.models.align import AlignStages
from uvlm.models.config import (
    EncoderConfig,
    InjectionConfig,
    PretrainedConfig,
    ReportConfig,
    authors,
)
from uvlm.models.decoder import authors_table, rotate
from uvlm.models.layout import TokenLayout
from uvlm.models.uvlm import ReportModel

AUTHORS = authors(REPORT)


def test_six_stages_make_the_papers_eight_layers() -> None:
    paper = authors(ReportConfig())
    assert paper.decoder.layers == 8
    expected = ((1, 6), (2, 6), (3, 5), (4, 5), (5, 4), (6, 4), (7, 3), (8, 3))
    assert paper.layer_stages == expected


def test_its_parameters_are_those_measured_from_the_published_network() -> None:
    """196,329,216: encoder, four projections, and 8 layers over 151,669 entries."""
    config = replace(authors(ReportConfig()), vision_start_id=1, vision_end_id=2)
    with torch.device("meta"):
        model = ReportModel(config)
    assert sum(p.numel() for p in model.parameters()) == 196_329_216


def test_as_shipped_it_has_one_projection_and_five_layers() -> None:
    shipped = ReportConfig(injection=InjectionConfig(layers=()))
    config = authors(replace(shipped, decoder=replace(shipped.decoder, layers=5)))
    assert (config.layer_stages, config.decoder.layers) == ((), 5)
    with torch.device("meta"):
        assert list(AlignStages(config).projections) == ["input"]


def test_every_deviation_is_set_and_a_second_time_changes_nothing() -> None:
    injection = AUTHORS.injection
    assert (injection.place, injection.share, injection.padding) == ("middle", True, "projected")
    assert (AUTHORS.mask, AUTHORS.decoder.rotary) == ("authors", "authors")
    assert authors(AUTHORS) == AUTHORS


def test_a_pretrained_decoder_gets_neither_injection_nor_the_hybrid_mask() -> None:
    base = PretrainedConfig(architecture='{"num_hidden_layers": 4, "hidden_size": 8}')
    config = authors(ReportConfig(decoder=base))
    assert (config.layer_stages, config.mask, config.decoder) == ((), "causal", base)


@pytest.mark.parametrize("skip", [-1, 4, 9])
def test_impossible_skips_are_refused(skip: int) -> None:
    with pytest.raises(ConfigError, match="skip_stages must be 0 to 3"):
        authors(REPORT, skip_stages=skip)
    with pytest.raises(ConfigError, match="layers_per_stage at least 1"):
        authors(REPORT, layers_per_stage=0)


# The mask


def test_the_block_of_the_mask_stands_one_position_too_early() -> None:
    layout = TokenLayout(num_vision=4, num_text=3, mask="authors")
    sees = layout.visible(0)
    assert sees is not None
    assert sees[:4, :4].all()
    assert not sees[:4, 4:].any()
    assert torch.equal(sees[4:], torch.ones(len(layout), len(layout)).tril().bool()[4:])


def test_the_mask_of_a_later_call_is_the_end_of_the_whole() -> None:
    layout = TokenLayout(num_vision=4, num_text=3, mask="authors")
    whole, later = layout.visible(0), layout.visible(5)
    assert whole is not None
    assert later is not None
    assert torch.equal(later, whole[5:])


# The rotary table


def test_the_published_table_is_no_rotation() -> None:
    table = authors_table(301, 64, 10_000.0)
    assert table.shape == (2, 301, 64)
    x, y = torch.randn(2, 1, 1, 1, 1, 64, generator=torch.Generator().manual_seed(0))

    def score(i: int, j: int) -> float:
        return float((rotate(x, table[:, [i]]) * rotate(y, table[:, [j]])).sum())

    assert abs(score(10, 5) - score(300, 295)) > 0.1
    turned = rotate(x, table[:, [300]])
    assert not torch.isclose(turned.norm(), x.norm(), rtol=1e-3)


# Alignment and injection


def test_layers_of_one_stage_receive_one_tensor() -> None:
    plan = AlignStages(AUTHORS)(random_stages(AUTHORS))
    assert plan.per_layer[1] is plan.per_layer[2]
    assert plan.prefix is plan.per_layer[1]
    assert plan.per_layer[3] is not plan.per_layer[2]


def test_a_deeper_stage_adds_nothing_where_it_has_no_token() -> None:
    config = authors(NEXT_TO_DEEPEST)
    align = AlignStages(config)
    pooled = align.pool(random_stages(config))
    assert {tokens.shape[1] for tokens in pooled.values()} == {128}
    plan = align.project(pooled)
    assert plan.per_layer[1][:, :16].any()
    assert not plan.per_layer[1][:, 16:].any()


def test_what_enters_in_the_middle_is_attended_to_one_layer_later() -> None:
    """The last injection never reaches text: its stage gets no gradient."""
    config = authors(REPORT, skip_stages=0, layers_per_stage=1)
    model = ReportModel(config)
    stages = random_stages(config)
    logits = model.decode(model.visual_plan(stages), random_tokens(config))
    logits.square().mean().backward()
    moved = [stage.grad is not None and bool(stage.grad.any()) for stage in stages]
    assert moved == [False, True, True, True]


def test_the_default_has_none_of_it() -> None:
    plan = AlignStages(REPORT)(random_stages(REPORT))
    assert (plan.place, plan.gates, plan.mask) == ("before", {}, "vision_bidirectional")
    assert list(AlignStages(REPORT).projections) == ["1", "2", "3", "4"]
    assert not hasattr(AlignStages(REPORT), "gates")
    assert ReportConfig().mask == "vision_bidirectional"
    assert EncoderConfig() == ReportConfig().encoder
