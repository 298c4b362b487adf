"""Eq. 4: every stage becomes a sequence of one length, and each token keeps its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.models.tiny import NEXT_TO_DEEPEST, REPORT, random_stages
from uvlm.models.align import AlignStages, pad_spatial
from uvlm.models.config import InjectionConfig, ReportConfig

SPATIAL = replace(REPORT, injection=InjectionConfig(reference_stage=-2, padding="spatial"))


def aligned(config: ReportConfig) -> tuple[list[Tensor], dict[int, Tensor]]:
    stages = random_stages(config)
    return stages, AlignStages(config).pool(stages)


def test_every_stage_becomes_a_sequence_of_one_length() -> None:
    for config, length in ((REPORT, 16), (NEXT_TO_DEEPEST, 128), (SPATIAL, 128)):
        _, tokens = aligned(config)
        assert {t.shape[:2] for t in tokens.values()} == {(2, length)}


def test_a_shallower_stage_is_averaged_over_the_cells_of_the_reference_grid() -> None:
    stages, tokens = aligned(REPORT)
    cells = stages[0].unfold(2, 8, 8).unfold(3, 8, 8).unfold(4, 8, 8).mean((-1, -2, -3))
    torch.testing.assert_close(tokens[1], cells.flatten(2).transpose(1, 2))


def test_the_reference_stage_is_kept_in_z_y_x_order() -> None:
    stages, tokens = aligned(NEXT_TO_DEEPEST)
    z, y, x = 3, 1, 6
    assert torch.equal(tokens[3][:, (z * 4 + y) * 8 + x], stages[2][:, :, z, y, x])


def test_a_deeper_stage_is_padded_with_zeros_at_the_end() -> None:
    stages, tokens = aligned(NEXT_TO_DEEPEST)
    assert torch.equal(tokens[4][:, :16], stages[3].flatten(2).transpose(1, 2))
    assert not tokens[4][:, 16:].any()


def test_spatial_padding_puts_each_deep_token_at_its_true_place() -> None:
    stages, tokens = aligned(SPATIAL)
    on_grid = tokens[4].transpose(1, 2).unflatten(2, (4, 4, 8))
    assert torch.equal(on_grid[:, :, ::2, ::2, ::2], stages[3])
    assert on_grid.count_nonzero() == stages[3].count_nonzero()


def test_spatial_padding_by_four_stays_next_to_the_centre_of_the_cell() -> None:
    placed = pad_spatial(torch.ones(1, 1, 1, 1, 2), (4, 4, 8)).view(4, 4, 8)
    assert placed.nonzero().tolist() == [[1, 1, 1], [1, 1, 5]]


def test_vision_input_is_the_projected_reference_stage() -> None:
    for config, layer in ((REPORT, 1), (NEXT_TO_DEEPEST, 2)):
        plan = AlignStages(config)(random_stages(config))
        assert torch.equal(plan.prefix, plan.per_layer[layer])


def test_an_uninjected_reference_stage_has_its_own_projection() -> None:
    for layers in ((), ((1, 2),)):
        align = AlignStages(replace(REPORT, injection=InjectionConfig(layers=layers)))
        assert list(align.projections) == [*(str(layer) for layer, _ in layers), "input"]
        assert sorted(align(random_stages(REPORT)).per_layer) == [layer for layer, _ in layers]


def test_one_stage_before_two_layers_has_two_projections() -> None:
    config = replace(REPORT, injection=InjectionConfig(layers=((1, 4), (2, 4))))
    plan = AlignStages(config)(random_stages(config))
    assert not torch.allclose(plan.per_layer[1], plan.per_layer[2])


def test_projection_is_the_papers() -> None:
    (projection, *_) = AlignStages(REPORT).projections.values()
    kinds = [nn.LayerNorm, nn.Linear, nn.GELU, nn.Linear, nn.LayerNorm]
    assert len(projection) == len(kinds)
    assert all(map(isinstance, projection, kinds))
    assert projection[4].eps == 1e-6


def test_wrong_number_of_stages_names_both_counts() -> None:
    with pytest.raises(ValueError, match="expected 4 stages, got 3"):
        AlignStages(REPORT)(random_stages(REPORT)[:3])


def test_a_volume_of_another_shape_names_both_grids() -> None:
    larger = replace(REPORT, shape=(16, 32, 32))
    message = r"stage 1 has grid \(16, 32, 32\), expected \(16, 16, 32\)"
    with pytest.raises(ValueError, match=message):
        AlignStages(REPORT)(random_stages(larger))
