"""Configuration of HSENet's parts. No torch import: command-line help and recipes read it.

A tower is an encoder: it has the face of `EncoderConfig`, so that whatever takes stages takes
towers too. A vision transformer is one stage; `TowersConfig` puts several side by side.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from uvlm.errors import ConfigError

__all__ = [
    "BERT_POSITIONS",
    "PackerConfig",
    "SliceEncoderConfig",
    "TextTowerConfig",
    "TowersConfig",
    "ViTConfig",
]

Grid = tuple[int, int, int]

BERT_POSITIONS = 512


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """3D vision transformer over whole volumes; the defaults are HSENet's stage 1 (87,389,184
    parameters)."""

    shape: Grid = (32, 256, 256)
    """Voxels along z, y, x of the volume; positions are learned for it."""

    patch: Grid = (4, 16, 16)
    """Voxels of a patch: one token each."""

    width: int = 768
    """Hidden width."""

    layers: int = 12
    """Transformer blocks."""

    heads: int = 12
    """Attention heads."""

    mlp: int = 3072
    """Hidden width of the feed-forward block."""

    slice_width: int = 0
    """Numbers of a 2D slice's features that gate the patches (stage 2: 768); 0: no gate."""

    slice_depth: bool = False
    """Tell the gate where along z each slice lies (off in the paper: slices have no order)."""

    def __post_init__(self) -> None:
        if any(n % p for n, p in zip(self.shape, self.patch, strict=True)):
            raise ConfigError(f"shape {self.shape} is not a multiple of the patch {self.patch}.")
        if min(*self.shape, *self.patch, self.width, self.layers, self.heads, self.mlp) < 1:
            raise ConfigError("every size of a vision transformer must be positive.")
        if self.width % self.heads:
            raise ConfigError(f"heads ({self.heads}) must divide the width ({self.width}).")
        if self.slice_width < 0 or (self.slice_depth and not self.slice_width):
            raise ConfigError("slice_depth needs slices; set slice_width to their features' width.")

    @property
    def gated(self) -> bool:
        """Whether it needs features of slices beside the volume."""
        return self.slice_width > 0

    @property
    def grid(self) -> Grid:
        """Tokens along z, y, x."""
        z, y, x = (n // p for n, p in zip(self.shape, self.patch, strict=True))
        return z, y, x

    @property
    def num_tokens(self) -> int:
        """Without the class token."""
        return prod(self.grid)

    @property
    def num_stages(self) -> int:
        return 1

    @property
    def features(self) -> tuple[int, ...]:
        """Width of each stage."""
        return (self.width,)

    def stage_grid(self, shape: Grid, stage: int) -> Grid:
        """Tokens along z, y, x.

        Raises:
            ConfigError: a volume of another shape; positions are learned for one.
        """
        if tuple(shape) != self.shape:
            raise ConfigError(
                f"the vision transformer takes volumes of {self.shape}, not {tuple(shape)}; "
                "prepare the dataset to that shape, or set the encoder's shape."
            )
        return self.grid


@dataclass(frozen=True, kw_only=True)
class TowersConfig:
    """HSENet's hybrid encoder: the 3D tower of stage 1 beside the 2D-enhanced one of stage 2."""

    volume: ViTConfig | None = ViTConfig()
    """Tower of the volume alone (stage 1); None leaves it out."""

    slices: ViTConfig | None = ViTConfig(slice_width=768)
    """Tower gated by slices (stage 2); None leaves it out."""

    def __post_init__(self) -> None:
        if not self.towers:
            raise ConfigError("towers need at least one of volume and slices.")
        if self.volume is not None and self.volume.gated:
            raise ConfigError("the tower `volume` has no gate; give the gated one as `slices`.")
        if self.slices is not None and not self.slices.gated:
            raise ConfigError("the tower `slices` needs a slice_width above 0.")
        if len({(tower.shape, tower.grid) for tower in self.towers}) > 1:
            raise ConfigError("both towers must take volumes of one shape with one grid.")

    @property
    def towers(self) -> tuple[ViTConfig, ...]:
        """Those there are: stage 1 is `volume`, the next `slices`."""
        return tuple(tower for tower in (self.volume, self.slices) if tower is not None)

    @property
    def gated(self) -> bool:
        return self.slices is not None

    @property
    def slice_width(self) -> int:
        return self.slices.slice_width if self.slices else 0

    @property
    def num_stages(self) -> int:
        return len(self.towers)

    @property
    def features(self) -> tuple[int, ...]:
        """Width of each tower."""
        return tuple(tower.width for tower in self.towers)

    def stage_grid(self, shape: Grid, stage: int) -> Grid:
        """Tokens along z, y, x of tower `stage`, counted from 1; errors as `ViTConfig`."""
        return self.towers[stage - 1].stage_grid(shape, stage)


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """The text half of contrastive pretraining: a BERT from a local folder, or from scratch."""

    base: Path | None = None
    """Local folder of a BERT: config.json, *.safetensors, tokenizer.json. None: from scratch, with
    the sizes below and a vocabulary learned from the reports."""

    architecture: str = ""
    """Text of the base's config.json; read from `base` when a run begins."""

    fingerprint: str = ""
    """16 hexadecimal digits that name the base's weights; read from `base` too."""

    vocab_size: int = 8192
    """Entries of the vocabulary; of the base, or at most so many learned from the reports."""

    width: int = 768
    """Hidden width, from scratch."""

    layers: int = 12
    """Transformer blocks, from scratch."""

    heads: int = 12
    """Attention heads, from scratch."""

    ffn: int = 3072
    """Hidden width of the feed-forward block, from scratch."""

    max_tokens: int = BERT_POSITIONS
    """Tokens of a report that are read, the class token included; the rest is cut off."""

    truncate: Literal["head", "authors"] = "head"
    """Of a longer report keep its beginning, or its first sentence and others drawn at random."""

    def __post_init__(self) -> None:
        smallest = min(self.vocab_size, self.width, self.layers, self.heads, self.ffn)
        if smallest < 1 or self.max_tokens < 2:
            raise ConfigError("every size of the text tower must be positive, and max_tokens 2.")
        if self.width % self.heads:
            raise ConfigError(f"heads ({self.heads}) must divide the width ({self.width}).")

    @property
    def hf(self) -> dict[str, Any]:
        """config.json of the base; empty until it is read, and from scratch."""
        found: dict[str, Any] = json.loads(self.architecture) if self.architecture else {}
        return found


@dataclass(frozen=True, kw_only=True)
class PackerConfig:
    """Spatial packers in the place of alignment: each region of a stage becomes one token."""

    kernel: Grid = (1, 4, 4)
    """Tokens along z, y, x of a region."""

    stages: tuple[int, ...] = ()
    """Stages that are packed, in this order, counted from 1; () takes all."""

    shared: bool = False
    """One packer for all stages; they must have one width."""

    hidden: int = 0
    """Hidden width of the projection after it; 0 is the decoder's width, as in the paper."""

    dropout: float = 0.1
    """In its attention, while training."""

    order: Literal["zyx", "zxy"] = "zyx"
    """Order of a stage's regions in the sequence, slowest axis first; the published code's volumes
    have x before y."""

    def __post_init__(self) -> None:
        if min(self.kernel) < 1 or self.hidden < 0 or not 0 <= self.dropout < 1:
            raise ConfigError("kernel must be positive, hidden not negative, dropout in 0..1.")

    def regions(self, grid: Grid) -> Grid:
        """Regions along z, y, x of a stage with `grid` tokens along them.

        Raises:
            ConfigError: the kernel does not divide the grid.
        """
        if any(n % k for n, k in zip(grid, self.kernel, strict=True)):
            raise ConfigError(
                f"the packer's kernel {self.kernel} does not divide a grid of {tuple(grid)} "
                "tokens; choose divisors of it along every axis, or pack other stages."
            )
        z, y, x = (n // k for n, k in zip(grid, self.kernel, strict=True))
        return z, y, x


@dataclass(frozen=True, kw_only=True)
class SliceEncoderConfig:
    """2D vision transformer that describes single slices; the defaults are BiomedCLIP's trunk
    (ViT-B/16)."""

    size: int = 224
    """Pixels along both sides of a slice."""

    patch: int = 16
    """Pixels along both sides of a patch."""

    width: int = 768
    """Hidden width, and numbers per slice."""

    layers: int = 12
    """Transformer blocks."""

    heads: int = 12
    """Attention heads."""

    mlp: int = 3072
    """Hidden width of the feed-forward block."""

    slices: int = 32
    """Slices of a study, spread evenly along z."""

    window: tuple[float, float] = (-1000.0, 1000.0)
    """HU that become black and white."""

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Of each colour, subtracted (CLIP)."""

    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Of each colour, divided by (CLIP)."""
