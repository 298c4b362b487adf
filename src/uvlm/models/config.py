"""Configuration of every network part. No torch import: command-line help and recipes read it.

Stages are numbered 1 (shallow) to N (deep), decoder layers 1 to L, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from uvlm.errors import ConfigError

__all__ = [
    "ClassificationConfig",
    "DecoderConfig",
    "EncoderConfig",
    "InjectionConfig",
    "ReportConfig",
    "SegmentationConfig",
]

Grid = tuple[int, int, int]


def _refuse(condition: bool, message: str) -> None:
    if condition:
        raise ConfigError(message)


def _refuse_repeated(classes: tuple[str, ...]) -> None:
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    _refuse(bool(repeated), f"class names must differ; repeated: {', '.join(repeated)}.")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Residual U-Net encoder; the defaults are the paper's (90,296,576 parameters)."""

    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    """Channels of each stage, shallowest first."""

    strides: tuple[int, ...] = (1, 2, 2, 2, 2, 2)
    """Downsampling at the entry of each stage; a first stride of 2 halves the whole grid."""

    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    """Residual blocks of each stage."""

    in_channels: int = 1
    """CT has one."""

    def __post_init__(self) -> None:
        lengths = {len(self.features), len(self.strides), len(self.blocks)}
        _refuse(
            len(lengths) != 1,
            f"features, strides and blocks need one entry per stage, got {len(self.features)}, "
            f"{len(self.strides)} and {len(self.blocks)}.",
        )
        _refuse(len(self.features) < 2, "the encoder needs at least two stages.")
        smallest = min(*self.features, *self.strides, *self.blocks, self.in_channels)
        _refuse(smallest < 1, "features, strides, blocks and in_channels must be positive.")

    @property
    def num_stages(self) -> int:
        return len(self.features)

    def stage_grid(self, shape: Grid, stage: int) -> Grid:
        """Voxels along z, y, x of stage `stage` for an input of `shape`.

        Raises:
            ConfigError: the shape cannot be halved that often.
        """
        factor = prod(self.strides[:stage])
        _refuse(
            any(n % factor for n in shape),
            f"shape {shape} is not divisible by {factor}, the downsampling of stage {stage}; "
            f"choose multiples of {prod(self.strides)}.",
        )
        z, y, x = shape
        return z // factor, y // factor, x // factor


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """U-Net of task 1: the encoder and a decoder with deep supervision."""

    encoder: EncoderConfig = EncoderConfig()
    """Shared with the other tasks."""

    classes: tuple[str, ...] = ()
    """Class names, background excluded; output channel i + 1 is classes[i]."""

    convs_per_stage: int = 1
    """Convolution blocks per decoder level."""

    def __post_init__(self) -> None:
        _refuse(self.convs_per_stage < 1, "convs_per_stage must be positive.")
        _refuse_repeated(self.classes)


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """Encoder and query cross-attention head of task 2 (Eq. 2)."""

    encoder: EncoderConfig = EncoderConfig()
    """Shared with the other tasks."""

    classes: tuple[str, ...] = ()
    """Label names, in the order of the outputs; one learnable query each."""

    heads: int = 4
    """Attention heads; must divide the channels of the deepest stage."""

    def __post_init__(self) -> None:
        _refuse_repeated(self.classes)
        _refuse(
            self.encoder.features[-1] % self.heads != 0,
            f"heads ({self.heads}) must divide the deepest stage's {self.encoder.features[-1]} "
            "channels.",
        )


@dataclass(frozen=True, kw_only=True)
class InjectionConfig:
    """Which stage enters before which decoder layer, and how stages get one length (Eq. 4, 5)."""

    reference_stage: int = -1
    """r of Eq. 4; -1 is the deepest stage N (384 tokens), -2 is N-1 (3,072 tokens)."""

    layers: tuple[tuple[int, int], ...] | None = None
    """(layer, stage) pairs; None is the paper's: stage N-j+1 before layer j; () injects nothing."""

    padding: Literal["end", "spatial"] = "end"
    """Where zeros go when a stage deeper than r has too few tokens: after its tokens (paper), or
    between them so that each token keeps its place in space."""

    hidden: int = 1024
    """Hidden width of each projection."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Language decoder; the defaults are the paper's 0.1B."""

    vocab_size: int = 151_669
    """Entries of the tokenizer, special tokens included."""

    layers: int = 8
    """Transformer blocks."""

    width: int = 512
    """Hidden width."""

    heads: int = 8
    """Attention heads."""

    ffn: int = 2048
    """Hidden width of the feed-forward block."""

    rope_base: float = 10_000.0
    """Base of the rotary position code."""

    def __post_init__(self) -> None:
        _refuse(
            self.width % (2 * self.heads) != 0,
            f"width ({self.width}) must be an even multiple of heads ({self.heads}).",
        )
        smallest = min(self.vocab_size, self.layers, self.width, self.heads, self.ffn)
        _refuse(smallest < 1, "every size of the decoder must be positive.")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Encoder, alignment, injection and decoder of task 3."""

    encoder: EncoderConfig = EncoderConfig()
    """Shared with the other tasks."""

    shape: Grid = (192, 256, 256)
    """Voxels along z, y, x of the volume; fixes the number of visual tokens."""

    injection: InjectionConfig = InjectionConfig()
    """Which stage goes where."""

    decoder: DecoderConfig = DecoderConfig()
    """The language model."""

    vision_start_id: int | None = None
    """The tokenizer's id of the marker before the visual tokens; None until it is known."""

    vision_end_id: int | None = None
    """The tokenizer's id of the marker after them."""

    def __post_init__(self) -> None:
        stages, layers = self.encoder.num_stages, self.decoder.layers
        r = self.reference_stage
        _refuse(not 1 <= r <= stages, f"reference_stage must be 1..{stages} or -{stages}..-1.")
        for layer, stage in self.layer_stages:
            _refuse(
                not (1 <= layer <= layers and 1 <= stage <= stages),
                f"injection of stage {stage} before layer {layer} is impossible: the encoder has "
                f"stages 1 to {stages}, the decoder layers 1 to {layers}.",
            )
        seen = [layer for layer, _ in self.layer_stages]
        _refuse(len(seen) != len(set(seen)), "a decoder layer can receive only one stage.")
        self.encoder.stage_grid(self.shape, stages)
        markers = [i for i in (self.vision_start_id, self.vision_end_id) if i is not None]
        size = self.decoder.vocab_size
        _refuse(
            len(set(markers)) < len(markers) or not all(0 <= i < size for i in markers),
            f"vision_start_id and vision_end_id must be two different entries of the vocabulary "
            f"of {size}, got {markers}; take both from the tokenizer.",
        )

    @property
    def marker_ids(self) -> tuple[int, int]:
        """Ids of the markers around the visual tokens.

        Raises:
            ConfigError: they were not set yet.
        """
        if self.vision_start_id is None or self.vision_end_id is None:
            raise ConfigError(
                "vision_start_id and vision_end_id are unset; the tokenizer has both."
            )
        return self.vision_start_id, self.vision_end_id

    @property
    def reference_stage(self) -> int:
        """r, counted from 1."""
        r, stages = self.injection.reference_stage, self.encoder.num_stages
        return stages + 1 + r if r < 0 else r

    @property
    def layer_stages(self) -> tuple[tuple[int, int], ...]:
        """(layer, stage) pairs in force."""
        if self.injection.layers is not None:
            return self.injection.layers
        stages = self.encoder.num_stages
        return tuple((j, stages - j + 1) for j in range(1, min(stages, self.decoder.layers) + 1))

    @property
    def token_grid(self) -> Grid:
        """Visual tokens along z, y, x."""
        return self.encoder.stage_grid(self.shape, self.reference_stage)

    @property
    def num_visual_tokens(self) -> int:
        """K."""
        return prod(self.token_grid)
