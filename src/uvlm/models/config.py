"""Configuration of every network part. No torch import: command-line help and recipes read it.

Stages are numbered 1 (shallow) to N (deep), decoder layers 1 to L, as in the paper.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

from uvlm.errors import ConfigError

__all__ = [
    "ClassificationConfig",
    "DecoderConfig",
    "EncoderConfig",
    "EncoderOnlyConfig",
    "InjectionConfig",
    "JointConfig",
    "PretrainedConfig",
    "ReportConfig",
    "SegmentationConfig",
    "authors",
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
        got = f"{len(self.features)}, {len(self.strides)} and {len(self.blocks)}"
        _refuse(
            len(lengths) != 1, f"features, strides and blocks need one entry per stage, got {got}."
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
class EncoderOnlyConfig:
    """An encoder without a task: what a checkpoint gives whose other half is not taken."""

    encoder: EncoderConfig = EncoderConfig()
    """To be handed to any task."""


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

    padding: Literal["end", "spatial", "projected"] = "end"
    """Where zeros go when a stage deeper than r has too few tokens: after its tokens (paper),
    between them so that each token keeps its place in space, or after its projected tokens, so
    that the missing ones add nothing (authors)."""

    hidden: int = 1024
    """Hidden width of each projection."""

    place: Literal["before", "middle"] = "before"
    """Before the layer (Eq. 5), or between its attention and its feed-forward block (authors)."""

    share: bool = False
    """One projection per stage for all layers that receive it (authors), not one per layer."""

    gate: bool = False
    """Scale what is added by a sigmoid of the hidden state it is added to, learned per layer
    (authors, as an option)."""


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

    rotary: Literal["halves", "authors"] = "halves"
    """Pairs turned by one angle each, or the published code's table, which is no rotation."""

    def __post_init__(self) -> None:
        _refuse(
            self.width % (2 * self.heads) != 0,
            f"width ({self.width}) must be an even multiple of heads ({self.heads}).",
        )
        smallest = min(self.vocab_size, self.layers, self.width, self.heads, self.ffn)
        _refuse(smallest < 1, "every size of the decoder must be positive.")


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """A causal language model of transformers (Qwen3, Phi-4, any like Llama) in place of the
    decoder from scratch."""

    base: Path | None = None
    """Local folder of the model: config.json, *.safetensors, tokenizer.json."""

    architecture: str = ""
    """Text of the base's config.json; read from `base` when a run begins."""

    fingerprint: str = ""
    """16 hexadecimal digits that name the base's weights; read from `base` too."""

    vocab_size: int = 0
    """Entries of the embedding, tokens added for vision included; 0 until the base is read."""

    new_tokens: tuple[int, ...] = ()
    """Entries that the base's own vocabulary lacks (markers of vision and turns); their rows are
    trained beside adapters too. Read from `base`."""

    tuning: Literal["lora", "full"] = "lora"
    """Train low-rank adapters over frozen weights in 16 bits, or all weights, kept in 32 bits."""

    rank: int = 64
    """Rank of the adapters (paper: 64)."""

    alpha: int = 128
    """Scale of the adapters, divided by the rank (paper: 128)."""

    targets: tuple[str, ...] = ()
    """Names of the adapted linear layers; () takes the attention's projections."""

    def __post_init__(self) -> None:
        _refuse(self.rank < 1 or self.alpha < 1, "rank and alpha must be at least 1.")

    @property
    def hf(self) -> dict[str, Any]:
        """config.json of the base; empty until it is read."""
        found: dict[str, Any] = json.loads(self.architecture) if self.architecture else {}
        return found

    @property
    def layers(self) -> int:
        """Transformer blocks; 0 until the base is read."""
        return int(self.hf.get("num_hidden_layers", 0))

    @property
    def width(self) -> int:
        """Hidden width; 0 until the base is read."""
        return int(self.hf.get("hidden_size", 0))


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Encoder, alignment, injection and decoder of task 3."""

    encoder: EncoderConfig = EncoderConfig()
    """Shared with the other tasks."""

    shape: Grid = (192, 256, 256)
    """Voxels along z, y, x of the volume; fixes the number of visual tokens."""

    injection: InjectionConfig = InjectionConfig()
    """Which stage goes where."""

    decoder: DecoderConfig | PretrainedConfig = DecoderConfig()
    """The language model: from scratch, or a pretrained one."""

    mask: Literal["vision_bidirectional", "causal", "authors"] = "vision_bidirectional"
    """Who sees whom among the visual tokens: all of them both ways (paper), only backwards, or
    the published code's mask, shifted by one position."""

    spacing: bool = False
    """Tell the decoder the study's own voxel size and extent in mm: resizing erases them."""

    findings: bool = False
    """Tell the decoder the abnormalities: in training the catalog's, then the class head's."""

    vision_start_id: int | None = None
    """The tokenizer's id of the marker before the visual tokens; None until it is known."""

    vision_end_id: int | None = None
    """The tokenizer's id of the marker after them."""

    def __post_init__(self) -> None:
        r, stages = self.reference_stage, self.encoder.num_stages
        _refuse(not 1 <= r <= stages, f"reference_stage must be 1..{stages} or -{stages}..-1.")
        self.encoder.stage_grid(self.shape, stages)
        if self.decoder.layers:  # 0 for a base that is not read yet
            self._check_decoder()

    def _check_decoder(self) -> None:
        stages, layers = self.encoder.num_stages, self.decoder.layers
        for layer, stage in self.layer_stages:
            _refuse(
                not (1 <= layer <= layers and 1 <= stage <= stages),
                f"injection of stage {stage} before layer {layer} is impossible: the encoder has "
                f"stages 1 to {stages}, the decoder layers 1 to {layers}.",
            )
        seen = [layer for layer, _ in self.layer_stages]
        _refuse(len(seen) != len(set(seen)), "a decoder layer can receive only one stage.")
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


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """Task 2 and 3 at once over one encoder (the published code's mode "both")."""

    classification: ClassificationConfig = ClassificationConfig()
    """The class head; its encoder must be the report's."""

    report: ReportConfig = field(default_factory=ReportConfig)
    """The decoder."""

    def __post_init__(self) -> None:
        _refuse(
            self.classification.encoder != self.report.encoder,
            "classification and report of a joint run share one encoder; give both the same.",
        )

    @property
    def encoder(self) -> EncoderConfig:
        return self.report.encoder


def authors(
    report: ReportConfig, *, skip_stages: int = 2, layers_per_stage: int = 2, gate: bool = False
) -> ReportConfig:
    """`report` with the deviations of the published code, which its checkpoints need.

    All but the `skip_stages` shallowest stages enter, deepest first, each into `layers_per_stage`
    layers, between attention and feed-forward block, through one projection per stage; the mask of
    the visual tokens is off by one position; the rotary table is no rotation. With the defaults six
    stages make the paper's eight layers. Without injection (layers=()) the number of layers stays.
    A pretrained decoder gets what it has there: no injection and a causal mask.

    Raises:
        ConfigError: no stage is left, or the reference stage is among those skipped.
    """
    injection = report.injection
    if isinstance(report.decoder, PretrainedConfig):
        return replace(report, injection=replace(injection, layers=()), mask="causal")
    layers, stages, r = report.decoder.layers, report.encoder.num_stages, report.reference_stage
    pairs: tuple[tuple[int, int], ...] = ()
    if injection.layers != ():
        _refuse(
            not 0 <= skip_stages < r or layers_per_stage < 1,
            f"skip_stages must be 0 to {r - 1} so that the reference stage enters, and "
            f"layers_per_stage at least 1; got {skip_stages} and {layers_per_stage}.",
        )
        layers = (stages - skip_stages) * layers_per_stage
        pairs = tuple((1 + i, stages - i // layers_per_stage) for i in range(layers))
    there = InjectionConfig(
        reference_stage=injection.reference_stage, layers=pairs, padding="projected",
        hidden=2 * report.decoder.width, place="middle", share=True, gate=gate and bool(pairs),
    )  # fmt: skip
    decoder = replace(report.decoder, layers=layers, rotary="authors")
    return replace(report, injection=there, decoder=decoder, mask="authors")
