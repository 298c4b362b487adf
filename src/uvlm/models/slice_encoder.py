"""The 2D encoder that describes single slices: a plain vision transformer, named as timm names it.

Its numbers of a slice are the class token after the last normalisation, before any projection into
the space of texts; of BiomedCLIP these are the 768 that HSENet reads.

Shapes: B studies, S slices, P pixels along both sides, n = B*S pictures, T tokens (the class token
        first, then patches row by row), F width, H heads.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.config import config_hash
from uvlm.errors import ConfigError
from uvlm.models.tower_config import SliceEncoderConfig

__all__ = ["SliceEncoder"]

EPS = 1e-6
"""Of every normalisation, as timm has it; PyTorch's own is 1e-5."""


class SliceEncoder(nn.Module):
    """Grey slices in, one vector each out. Slices do not see one another.

    Shape:
        slices: (B, S, P, P), shades from 0 to 255 of any type, P as configured
        result: (B, S, F) float32

    Raises:
        ConfigError: sizes that contradict one another.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: SliceEncoderConfig) -> None:
        super().__init__()
        if config.size % config.patch or config.width % config.heads:
            raise ConfigError(
                f"a 2D encoder needs a size ({config.size}) that is a multiple of the patch "
                f"({config.patch}), and a width ({config.width}) of the heads ({config.heads})."
            )
        self.config = config
        width, tokens = config.width, 1 + (config.size // config.patch) ** 2
        convolution = nn.Conv2d(3, width, config.patch, config.patch)
        self.patch_embed = nn.Sequential(OrderedDict(proj=convolution))
        self.cls_token = nn.Parameter(torch.empty(1, 1, width).normal_(std=0.02))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(
            _Block(width, config.heads, config.mlp) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        # Settings, no weights: checkpoints do not have them.
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def forward(self, slices_BSPP: Tensor) -> Tensor:
        size = self.config.size
        if slices_BSPP.dim() != 4 or tuple(slices_BSPP.shape[2:]) != (size, size):
            raise ValueError(
                f"expected slices of (B, S, {size}, {size}), got {tuple(slices_BSPP.shape)}"
            )
        grey_n1PP = slices_BSPP.flatten(0, 1)[:, None].to(self.mean.dtype) / 255
        # The one grey channel stands for all three colours.
        x_n3PP = (grey_n1PP - self.mean) / self.std
        patches_nTF = self.patch_embed(x_n3PP).flatten(2).transpose(1, 2)
        first_n1F = self.cls_token.expand(len(patches_nTF), -1, -1)
        x_nTF = torch.cat((first_n1F, patches_nTF), dim=1) + self.pos_embed
        for block in self.blocks:
            x_nTF = block(x_nTF)
        pooled_nF: Tensor = self.norm(x_nTF[:, 0])
        studies, slices = slices_BSPP.shape[:2]
        return pooled_nF.view(studies, slices, -1)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any weight and with whatever else decides what a
        picture gives; not with how many slices are cut, or in what window."""
        plain = SliceEncoderConfig()
        settings = replace(self.config, slices=plain.slices, window=plain.window)
        digest = hashlib.sha256(config_hash(settings).encode())
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().to("cpu", torch.float32).contiguous()
            digest.update(f"{name} {tuple(values.shape)}".encode())
            digest.update(values.numpy().data)
        return digest.hexdigest()[:16]


class _Block(nn.Module):
    """Attention and a feed-forward network, each after a normalisation and added to its input."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        parts = OrderedDict(fc1=nn.Linear(width, mlp), act=nn.GELU(), fc2=nn.Linear(mlp, width))
        self.mlp = nn.Sequential(parts)

    def forward(self, x_nTF: Tensor) -> Tensor:
        x_nTF = x_nTF + self.attn(self.norm1(x_nTF))
        added: Tensor = x_nTF + self.mlp(self.norm2(x_nTF))
        return added


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_nTF: Tensor) -> Tensor:
        joined_3nHTf = self.qkv(x_nTF).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed_nHTf = F.scaled_dot_product_attention(*joined_3nHTf.unbind())
        projected: Tensor = self.proj(mixed_nHTf.transpose(1, 2).flatten(2))
        return projected
