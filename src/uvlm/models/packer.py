"""Spatial packers: each region of a stage becomes one visual token (HSENet).

A region's mean asks its own tokens, and no others, what there is to say; two layers bring the
answer to the decoder's width. Eight planes of 16 x 16 tokens become 128 regions of 16; two towers
give 256 visual tokens, all at the decoder's input.

Shapes: B batch, C channels of a stage, D H W voxels along z y x, N tokens of a stage (z slowest),
        R regions (in `config.order`), M tokens of a region (z slowest), K visual tokens, E width
        of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.align import Bridging, as_tokens
from uvlm.models.config import Grid, ReportConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.linear import Linear
from uvlm.models.tower_config import PackerConfig

__all__ = ["PackStages", "RegionPacker"]


class RegionPacker(nn.Module):
    """Tokens of one stage in, one token per region out.

        c = mean of the region's tokens X      q = c Wq      K = X Wk      V = X Wv
        h = LayerNorm(q + dropout(softmax(q K' / sqrt(C)) V Wo))                 one head
        token = W2 gelu(W1 h)

    Args:
        in_width: C
        out_width: E
        grid: tokens along z, y, x

    Shape:
        tokens: (B, N, C)
        result: (B, R, E)

    Raises:
        ConfigError: the kernel does not divide the grid.
    """

    def __init__(self, in_width: int, out_width: int, grid: Grid, config: PackerConfig) -> None:
        super().__init__()
        config.regions(grid)
        self.config = config
        self.grid = grid
        self.query = Linear(in_width, in_width)
        self.key = Linear(in_width, in_width)
        self.value = Linear(in_width, in_width)
        self.out = Linear(in_width, in_width)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(in_width)
        hidden = config.hidden or out_width
        self.project = nn.Sequential(Linear(in_width, hidden), nn.GELU(), Linear(hidden, out_width))

    def forward(self, tokens_BNC: Tensor, grid: Grid | None = None) -> Tensor:
        """Packed tokens.

        Args:
            grid: of these tokens, where one packer serves stages of several

        Raises:
            ValueError: tokens of another number or width.
        """
        x_BRMC = self._cut(tokens_BNC, grid or self.grid)
        q_BRC = self.query(x_BRMC.mean(dim=2))
        weights_BRM = self._weights(q_BRC, x_BRMC)
        # Weights sum to 1, so Wv may follow the sum: over regions, not over all their tokens.
        read_BRC = (weights_BRM.to(x_BRMC.dtype)[:, :, None] @ x_BRMC).squeeze(2)
        h_BRC = self.norm(q_BRC + self.dropout(self.out(self.value(read_BRC))))
        packed_BRE: Tensor = self.project(h_BRC)
        return packed_BRE

    def attention(self, tokens_BNC: Tensor, grid: Grid | None = None) -> Tensor:
        """(B, R, M): how much a region's token reads of each of its tokens; sums to 1."""
        x_BRMC = self._cut(tokens_BNC, grid or self.grid)
        return self._weights(self.query(x_BRMC.mean(dim=2)), x_BRMC)

    def _weights(self, q_BRC: Tensor, x_BRMC: Tensor) -> Tensor:
        # q (X Wk)' = (q Wk') X', again over regions; the bias adds the same to a whole region.
        asked_BRC = F.linear(q_BRC, self.key.weight.T) * q_BRC.shape[-1] ** -0.5
        scores_BRM = (x_BRMC @ asked_BRC[..., None].to(x_BRMC.dtype)).squeeze(-1)
        same_BR1 = (q_BRC * self.key.bias).sum(dim=-1, keepdim=True)
        weights_BRM: Tensor = (scores_BRM + same_BR1).softmax(dim=-1)
        return weights_BRM

    def _cut(self, tokens_BNC: Tensor, grid: Grid) -> Tensor:
        """(B, R, M, C)"""
        expected = (prod(grid), self.query.in_features)
        if tokens_BNC.ndim != 3 or tuple(tokens_BNC.shape[1:]) != expected:
            raise ValueError(
                f"the packer takes (batch, {expected[0]} tokens of a grid of {grid}, "
                f"{expected[1]}), got {tuple(tokens_BNC.shape)}"
            )
        z, y, x = self.config.regions(grid)
        kz, ky, kx = self.config.kernel
        apart = tokens_BNC.reshape(len(tokens_BNC), z, kz, y, ky, x, kx, expected[1])
        regions = (1, 5, 3) if self.config.order == "zxy" else (1, 3, 5)
        return apart.permute(0, *regions, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


class PackStages(Bridging):
    """Encoder stages in, `VisualPlan` out: what `AlignStages` is for a report with a packer.

    Nothing is added at the decoder's layers; packed stages stand one after another at its input,
    in the order of `packer.stages`.

    Shape:
        stages: one (B, C_i, D_i, H_i, W_i) per encoder stage, shallowest first
    """

    def __init__(self, config: ReportConfig) -> None:
        super().__init__()
        assert config.packer is not None, "a report with a packer"
        self.config = config
        shared = config.packer.shared
        self.keys = {stage: "shared" if shared else f"stage{stage}" for stage in self.stages_used}
        """Stage -> its packer's name."""
        self.packers = nn.ModuleDict()
        for stage, key in self.keys.items():
            if key not in self.packers:
                channels, width = config.encoder.features[stage - 1], config.decoder.width
                grid = self.pooled_grid(stage)
                self.packers[key] = RegionPacker(channels, width, grid, config.packer)

    def pooled_grid(self, stage: int) -> Grid:
        """Tokens along z, y, x that `pool_stage` makes of a stage."""
        return self.config.encoder.stage_grid(self.config.shape, stage)

    def pool_stage(self, stage_BCDHW: Tensor, stage: int) -> Tensor:
        """(B, N, C) of one stage, numbered from 1: all its voxels, as packers are trained.

        Raises:
            ValueError: a map of another shape than configured.
        """
        expected, found = self.pooled_grid(stage), tuple(stage_BCDHW.shape[2:])
        if found != expected:
            raise ValueError(
                f"stage {stage} has grid {found}, expected {expected} of a volume of shape "
                f"{self.config.shape}; prepare the volume to that shape"
            )
        return as_tokens(stage_BCDHW)

    def project(self, tokens: Mapping[int, Tensor]) -> VisualPlan:
        """A stage's tokens to packed ones at the decoder's width; (B, K, E) of all stages."""
        packed = [
            self.packers[key](tokens[stage], self.pooled_grid(stage))
            for stage, key in self.keys.items()
        ]
        return VisualPlan(
            prefix=torch.cat(packed, dim=1),
            mask=self.config.mask,
            opening=self.config.opening,
            closing=self.config.closing,
        )
