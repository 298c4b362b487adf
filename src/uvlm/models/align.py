"""Bring every encoder stage onto one token sequence (Eq. 4) and project it to the decoder.

The reference stage r fixes the length K. Shallower stages are average-pooled to its grid, deeper
ones padded with zeros to its length, and one projection per injected layer maps the result to the
decoder's width. Pooling precedes projection because shallow stages are large: a 192x256x256 volume
has 12.6 million positions at full resolution.

Shapes: B batch, C channels of a stage, D H W voxels along z y x, K visual tokens (z slowest),
        E width of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.config import Grid, ReportConfig
from uvlm.models.injection import VisualPlan

__all__ = ["AlignStages"]


def pad_end(tokens_BNC: Tensor, length: int) -> Tensor:
    """Zeros after the last token, to `length` tokens: the paper's reading of Pad."""
    return F.pad(tokens_BNC, (0, 0, 0, length - tokens_BNC.shape[1]))


def pad_spatial(deep_BCDHW: Tensor, grid: Grid) -> Tensor:
    """(B, K, C): each voxel of a coarse map at the cell of `grid` at its place in space (the one
    at or next below its centre), zeros between."""
    steps = [fine // coarse for fine, coarse in zip(grid, deep_BCDHW.shape[2:], strict=True)]
    z, y, x = (slice((step - 1) // 2, None, step) for step in steps)
    placed_BCDHW = deep_BCDHW.new_zeros(*deep_BCDHW.shape[:2], *grid)
    placed_BCDHW[:, :, z, y, x] = deep_BCDHW
    return as_tokens(placed_BCDHW)


def as_tokens(map_BCDHW: Tensor) -> Tensor:
    """(B, K, C), voxels in z, y, x order."""
    return map_BCDHW.flatten(2).transpose(1, 2)


def projection(channels: int, hidden: int, width: int) -> nn.Sequential:
    """Stage channels to decoder width, normalised before and after."""
    layers = nn.Sequential(
        nn.LayerNorm(channels),
        nn.Linear(channels, hidden),
        nn.GELU(),
        nn.Linear(hidden, width),
        nn.LayerNorm(width, eps=1e-6),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return layers


class AlignStages(nn.Module):
    """Encoder stages in, `VisualPlan` out.

    `pool` and `project` are its two halves: the tokens between them are what a frozen encoder
    gives, small enough to keep (384 x C per stage at the paper's size).

    Shape:
        stages: one (B, C_i, D_i, H_i, W_i) per encoder stage, shallowest first
    """

    def __init__(self, config: ReportConfig) -> None:
        super().__init__()
        self.config = config
        features = config.encoder.features
        hidden, width = config.injection.hidden, config.decoder.width
        self.projections = nn.ModuleDict(
            {
                str(layer): projection(features[stage - 1], hidden, width)
                for layer, stage in config.layer_stages
            }
        )
        """Decoder layer -> projection of the stage it receives."""
        r = config.reference_stage
        self.input_key = next((str(j) for j, stage in config.layer_stages if stage == r), "input")
        """Projection of the vision input: the reference stage's own, where it is injected."""
        if self.input_key == "input":
            self.projections["input"] = projection(features[r - 1], hidden, width)

    def forward(self, stages: Sequence[Tensor]) -> VisualPlan:
        return self.project(self.pool(stages))

    def pool(self, stages: Sequence[Tensor]) -> dict[int, Tensor]:
        """Stage number, counted from 1 -> (B, K, C_i), for every stage the decoder uses.

        Raises:
            ValueError: another number of stages, or a volume of another shape, than configured.
        """
        expected = self.config.encoder.num_stages
        if len(stages) != expected:
            raise ValueError(f"expected {expected} stages, got {len(stages)}")
        used = {self.config.reference_stage, *(stage for _, stage in self.config.layer_stages)}
        return {stage: self._to_length(stages[stage - 1], stage) for stage in sorted(used)}

    def project(self, tokens: Mapping[int, Tensor]) -> VisualPlan:
        """Pooled tokens to the decoder's width."""
        per_layer = {
            layer: self.projections[str(layer)](tokens[stage])
            for layer, stage in self.config.layer_stages
        }
        prefix = (
            self.projections["input"](tokens[self.config.reference_stage])
            if self.input_key == "input"
            else per_layer[int(self.input_key)]
        )
        return VisualPlan(prefix=prefix, per_layer=per_layer)

    def _to_length(self, stage_BCDHW: Tensor, stage: int) -> Tensor:
        """Eq. 4."""
        config = self.config
        expected = config.encoder.stage_grid(config.shape, stage)
        if tuple(stage_BCDHW.shape[2:]) != expected:
            raise ValueError(
                f"stage {stage} has grid {tuple(stage_BCDHW.shape[2:])}, expected {expected} of a "
                f"volume of shape {config.shape}; prepare the volume to that shape"
            )
        if stage < config.reference_stage:
            return as_tokens(F.adaptive_avg_pool3d(stage_BCDHW, config.token_grid))
        if stage == config.reference_stage:
            return as_tokens(stage_BCDHW)
        if config.injection.padding == "spatial":
            return pad_spatial(stage_BCDHW, config.token_grid)
        return pad_end(as_tokens(stage_BCDHW), prod(config.token_grid))
