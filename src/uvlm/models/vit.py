"""The 3D vision transformer of HSENet, plain (stage 1) or gated by features of 2D slices (stage 2).

Shapes: B batch, D H W voxels along z y x, d h w patches along them, N = d h w patches (z slowest),
        T = N + 1 positions with the class token, C width, H heads, F width of a head,
        P voxels of a patch, S slices, G features of a slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.errors import InputError
from uvlm.models.linear import Linear
from uvlm.models.stages import StageEncoder
from uvlm.models.tower_config import ViTConfig

__all__ = ["SliceGate", "SlicedVolume", "ViT", "ViTBlock"]

GATE_DROPOUT = 0.1
"""In the gate, while training; the paper's."""

DEPTH_TURNS = 8.0
"""Turns that the fastest channel of a slice's place makes from the first slice to the last."""


class SlicedVolume(NamedTuple):
    """A batch of volumes with the 2D features of their slices."""

    volume: Tensor
    """(B, 1, D, H, W)"""

    slices: Tensor
    """(B, S, G), evenly spread along z, lowest first."""


class SelfAttention(nn.Module):
    """Every position reads every position; query, key and value come from one matrix."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width, bias=qkv_bias)
        self.out = Linear(width, width)

    def forward(self, x_BTC: Tensor) -> Tensor:
        qkv_BT3HF = self.qkv(x_BTC).unflatten(-1, (3, self.heads, -1))
        q_BHTF, k_BHTF, v_BHTF = qkv_BT3HF.permute(2, 0, 3, 1, 4)
        read_BHTF = F.scaled_dot_product_attention(q_BHTF, k_BHTF, v_BHTF)
        read_BTC: Tensor = self.out(read_BHTF.transpose(1, 2).flatten(2))
        return read_BTC


class ViTBlock(nn.Module):
    """Pre-norm transformer block without dropout. (B, T, C) in and out.

    The defaults of `qkv_bias` and `eps` are MONAI's, which the paper uses.
    """

    def __init__(
        self, width: int, heads: int, mlp: int, *, qkv_bias: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(Linear(width, mlp), nn.GELU(), Linear(mlp, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_BTC = x_BTC + self.attention(self.norm1(x_BTC))
        x_BTC = x_BTC + self.mlp(self.norm2(x_BTC))
        return x_BTC


class SliceGate(nn.Module):
    """How much each patch counts, by what the slices show (HSENet's slice-guided attention).

        Q = X Wq   K = F Wk   V = F Wv                 one head over the slices
        H = LayerNorm(Q + dropout(softmax(Q K' / sqrt(C)) V Wo))
        gate = sigmoid(w H + b)

    Slices have no order in the paper. With `depth`, a sinusoidal code of each slice's place along
    z, times a learned number that starts at 0, is added to its features.

    Attributes:
        dropout: of attention's result, while training
    """

    def __init__(self, width: int, slice_width: int, *, depth: bool = False) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.key = Linear(slice_width, width)
        self.value = Linear(slice_width, width)
        self.out = Linear(width, width)
        self.dropout = nn.Dropout(GATE_DROPOUT)
        self.norm = nn.LayerNorm(width)
        self.score = Linear(width, 1)
        self.depth_scale = nn.Parameter(torch.zeros(())) if depth else None

    def forward(self, patches_BNC: Tensor, slices_BSG: Tensor) -> Tensor:
        """(B, N) in 0 to 1.

        Raises:
            InputError: no slices, of another batch or of another width
        """
        q_BNC, placed_BSG = self._read(patches_BNC, slices_BSG)
        weights_BNS = self._weights(q_BNC, placed_BSG)
        # Weights of a patch sum to 1, so `out` may stand before the sum: over tens of slices
        # instead of thousands of patches, with the same result.
        v_BSC = self.out(self.value(placed_BSG))
        h_BNC = self.norm(q_BNC + self.dropout(weights_BNS.to(v_BSC.dtype) @ v_BSC))
        gate_BN: Tensor = self.score(h_BNC).squeeze(-1).sigmoid()
        return gate_BN

    def attention(self, patches_BNC: Tensor, slices_BSG: Tensor) -> Tensor:
        """(B, N, S): how much each patch reads of each slice; sums to 1 over slices."""
        return self._weights(*self._read(patches_BNC, slices_BSG))

    def _read(self, patches_BNC: Tensor, slices_BSG: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, C), and slices with their places."""
        _check_slices(slices_BSG, len(patches_BNC), self.key.in_features)
        if self.depth_scale is not None:
            code_SG = depth_code(slices_BSG.shape[1], self.key.in_features, slices_BSG.device)
            slices_BSG = slices_BSG + (self.depth_scale * code_SG).to(slices_BSG.dtype)
        return self.query(patches_BNC), slices_BSG

    def _weights(self, q_BNC: Tensor, placed_BSG: Tensor) -> Tensor:
        k_BSC = self.key(placed_BSG) * q_BNC.shape[-1] ** -0.5
        weights_BNS: Tensor = (q_BNC @ k_BSC.transpose(1, 2)).softmax(-1)
        return weights_BNS


def _check_slices(slices_BSG: Tensor, batch: int, width: int) -> None:
    found = tuple(slices_BSG.shape)
    if len(found) != 3 or found[0] != batch or found[1] < 1:
        raise InputError(
            f"features of slices are {found}; the gate takes (batch {batch}, slices, {width})."
        )
    if found[2] != width:
        raise InputError(
            f"features of slices have {found[2]} numbers each, the gate takes {width}; compute "
            "them with the slice encoder of the training, or set the encoder's slice_width."
        )


def depth_code(slices: int, width: int, device: torch.device | None = None) -> Tensor:
    """(S, G): sines, then cosines, of each slice's place along z at growing frequencies.

    Places run from 0, the first slice, to 1, the last; the slowest channels make half a turn.
    """
    half = (width + 1) // 2
    exponents = torch.linspace(0, 1, half, device=device)
    frequencies = pi * (2 * DEPTH_TURNS) ** exponents
    angles = torch.outer(torch.linspace(0, 1, slices, device=device), frequencies)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)[:, :width]


class ViT(StageEncoder):
    """A volume in, one map of patches out; the class token is left out of the map.

    Attributes:
        checkpointing: keep only the input of each block for the backward pass
        channels_last: of no effect; there is no convolution

    Shape:
        x: (B, 1, D, H, W) as `config.shape`; a `SlicedVolume` of such if gated
        result: one (B, C, d, h, w)
    """

    config: ViTConfig

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        pz, py, px = config.patch
        self.patches = Linear(pz * py * px, config.width)
        self.positions = nn.Parameter(torch.empty(1, config.num_tokens, config.width))
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.gate = (
            SliceGate(config.width, config.slice_width, depth=config.slice_depth)
            if config.gated
            else None
        )
        self.blocks = nn.ModuleList(
            ViTBlock(config.width, config.heads, config.mlp) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        # As MONAI does; its blocks keep PyTorch's own start.
        nn.init.trunc_normal_(self.positions, std=0.02)
        nn.init.trunc_normal_(self.patches.weight, std=0.02)
        nn.init.zeros_(self.patches.bias)

    def each_stage(self, x: Tensor | SlicedVolume) -> Iterator[Tensor]:
        _, tokens_BNC = self.features(x)
        channels_BCN = tokens_BNC.transpose(1, 2)
        yield channels_BCN.reshape(*channels_BCN.shape[:2], *self.config.grid)

    def features(self, x: Tensor | SlicedVolume) -> tuple[Tensor, Tensor]:
        """(B, C) of the class token and (B, N, C) of the patches, z slowest.

        Raises:
            ConfigError: a volume of another shape
            InputError: not one channel; slices that are missing or of another width
        """
        tokens_BNC = self.embed(x)
        first_B1C = self.class_token.expand(len(tokens_BNC), -1, -1)
        h_BTC = torch.cat((first_B1C.to(tokens_BNC.dtype), tokens_BNC), dim=1)
        for block in self.blocks:
            h_BTC = self._run(block, h_BTC)
        h_BTC = self.norm(h_BTC)
        return h_BTC[:, 0], h_BTC[:, 1:]

    def embed(self, x: Tensor | SlicedVolume) -> Tensor:
        """(B, N, C): patches with their positions, and gated if there is a gate."""
        volume, slices = x if isinstance(x, SlicedVolume) else (x, None)
        self._check(volume)
        tokens_BNC: Tensor = self.patches(cut(volume, self.config.patch)) + self.positions
        if self.gate is None:
            return tokens_BNC
        if slices is None:
            raise InputError(
                "this vision transformer is gated by slices and got a volume alone; give a "
                "SlicedVolume, or set the dataset's slice bank (--data.slices)."
            )
        gate_BN: Tensor = self.gate(tokens_BNC, slices)
        return tokens_BNC * gate_BN[..., None]

    def _check(self, volume: Tensor) -> None:
        if volume.ndim != 5 or volume.shape[1] != 1:
            raise InputError(
                f"the vision transformer takes (batch, 1, z, y, x), not {tuple(volume.shape)}."
            )
        z, y, x = volume.shape[2:]
        self.config.stage_grid((z, y, x), 1)


def cut(volume: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """(B, N, P): voxels of each patch, z slowest inside it and among patches."""
    pz, py, px = patch
    batch, _, depth, height, width = volume.shape
    boxes = volume.reshape(batch, depth // pz, pz, height // py, py, width // px, px)
    return boxes.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)
