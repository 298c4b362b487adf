"""Bring every encoder stage onto one token sequence (Eq. 4) and project it to the decoder.

The reference stage r fixes the length K. Shallower stages are average-pooled to its grid, deeper
ones padded with zeros to its length, and one projection per injected layer (per stage, as the
authors have it) maps the result to the decoder's width. Pooling precedes projection because shallow
stages are large: a 192x256x256 volume has 12.6 million positions at full resolution.

Shapes: B batch, C channels of a stage, D H W voxels along z y x, K visual tokens (z slowest),
        E width of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.config import Grid, ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.linear import Linear
from uvlm.models.pooling import block_mean

__all__ = ["AlignStages", "Bridging"]


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
        Linear(channels, hidden),
        nn.GELU(),
        Linear(hidden, width),
        nn.LayerNorm(width, eps=1e-6),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return layers


def gate(width: int) -> nn.Sequential:
    """Hidden states to factors between 0 and 1, all one half at the start."""
    layers = nn.Sequential(
        nn.Linear(width, width // 4), nn.GELU(), nn.Linear(width // 4, width), nn.Sigmoid()
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return layers


class Bridging(nn.Module):
    """What every bridge from encoder stages to a `VisualPlan` does alike."""

    config: ReportConfig

    def pool_stage(self, stage_BCDHW: Tensor, stage: int) -> Tensor:
        """(B, K, C) of one stage, numbered from 1."""
        raise NotImplementedError

    def project(self, tokens: Mapping[int, Tensor]) -> VisualPlan:
        """Pooled tokens to the decoder's width."""
        raise NotImplementedError

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
        return {stage: self.pool_stage(stages[stage - 1], stage) for stage in self.stages_used}

    @property
    def stages_used(self) -> tuple[int, ...]:
        """Numbers of the stages the decoder receives: shallowest first, or as they are packed."""
        return self.config.stages_used


class AlignStages(Bridging):
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
        share, r = config.injection.share, config.reference_stage
        self.keys = {
            layer: f"stage{stage}" if share else str(layer) for layer, stage in config.layer_stages
        }
        """Decoder layer -> its projection's name."""
        self.projections = nn.ModuleDict()
        for layer, stage in config.layer_stages:
            if self.keys[layer] not in self.projections:
                made = projection(features[stage - 1], hidden, width)
                self.projections[self.keys[layer]] = made
        first = next((layer for layer, stage in config.layer_stages if stage == r), None)
        self.input_key = "input" if first is None else self.keys[first]
        """Projection of the vision input: the reference stage's own, where it is injected."""
        if first is None:
            self.projections["input"] = projection(features[r - 1], hidden, width)
        if config.injection.gate:
            self.gates = nn.ModuleDict({str(layer): gate(width) for layer in self.keys})

    def pooled_grid(self, stage: int) -> Grid:
        """Tokens along z, y, x that `pool_stage` makes of a stage."""
        return self.config.token_grid

    def project(self, tokens: Mapping[int, Tensor]) -> VisualPlan:
        """Pooled tokens to the decoder's width."""
        config, r = self.config, self.config.reference_stage
        stages = {self.keys[layer]: stage for layer, stage in config.layer_stages}
        projected = {key: self._projected(key, stage, tokens) for key, stage in stages.items()}
        if self.input_key == "input":
            projected["input"] = self._projected("input", r, tokens)
        gates: Mapping[int, Any] = {}
        if config.injection.gate:
            gates = {layer: self.gates[str(layer)] for layer in self.keys}
        return VisualPlan(
            prefix=projected[self.input_key],
            per_layer={layer: projected[key] for layer, key in self.keys.items()},
            mask=config.mask,
            place=config.injection.place,
            gates=gates,
            opening=config.opening,
            closing=config.closing,
        )

    def _projected(self, key: str, stage: int, tokens: Mapping[int, Tensor]) -> Tensor:
        """One stage's tokens at the decoder's width; (B, K, E)."""
        tokens_BKC = tokens[stage]
        if self.config.injection.padding != "projected" or stage <= self.config.reference_stage:
            return torch.as_tensor(self.projections[key](tokens_BKC))
        own = prod(self.config.encoder.stage_grid(self.config.shape, stage))
        return pad_end(self.projections[key](tokens_BKC[:, :own]), tokens_BKC.shape[1])

    def pool_stage(self, stage_BCDHW: Tensor, stage: int) -> Tensor:
        """Eq. 4: (B, K, C) of one stage, numbered from 1.

        Raises:
            ValueError: a map of another shape than configured.
        """
        config = self.config
        expected = config.encoder.stage_grid(config.shape, stage)
        if tuple(stage_BCDHW.shape[2:]) != expected:
            raise ValueError(
                f"stage {stage} has grid {tuple(stage_BCDHW.shape[2:])}, expected {expected} of a "
                f"volume of shape {config.shape}; prepare the volume to that shape"
            )
        if stage < config.reference_stage:
            return as_tokens(block_mean(stage_BCDHW, config.token_grid))
        if stage == config.reference_stage:
            return as_tokens(stage_BCDHW)
        if config.injection.padding == "spatial":
            return pad_spatial(stage_BCDHW, config.token_grid)
        return pad_end(as_tokens(stage_BCDHW), prod(config.token_grid))
