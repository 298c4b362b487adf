"""Configuration of every network part. No torch import: command-line help and recipes read it.

Stages are numbered 1 (shallow) to N (deep), decoder layers 1 to L, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

from uvlm.config import LATER
from uvlm.errors import ConfigError
from uvlm.models.decoder_config import DecoderConfig, PretrainedConfig
from uvlm.models.tower_config import PackerConfig, TowersConfig, ViTConfig

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
class ReportConfig:
    """Encoder, alignment, injection and decoder of task 3."""

    encoder: EncoderConfig | ViTConfig | TowersConfig = EncoderConfig()
    """Shared with the other tasks."""

    shape: Grid = (192, 256, 256)
    """Voxels along z, y, x of the volume; fixes the number of visual tokens."""

    injection: InjectionConfig = InjectionConfig()
    """Which stage goes where."""

    packer: PackerConfig | None = field(default=None, metadata=LATER)
    """Packers in the place of alignment (HSENet): all visual tokens stand at the input, so that
    injection.layers must be ()."""

    decoder: DecoderConfig | PretrainedConfig = field(default_factory=DecoderConfig)
    """The language model: from scratch, or a pretrained one."""

    mask: Literal["vision_bidirectional", "causal", "authors"] = "vision_bidirectional"
    """Who sees whom among the visual tokens: all of them both ways (paper), only backwards, or
    the published code's mask, shifted by one position."""

    spacing: bool = False
    """Tell the decoder the study's own voxel size and extent in mm: resizing erases them."""

    findings: bool = False
    """Tell the decoder the abnormalities: in training the catalog's, then the class head's."""

    markers: Literal["both", "bos", "none"] = field(default="both", metadata=LATER)
    """What stands around the visual tokens: a marker before and one after them; the token that
    begins every text of the language model before them (HSENet); nothing, for a language model
    without such a token."""

    vision_start_id: int | None = None
    """The tokenizer's id of the marker before the visual tokens, or of its beginning of a text;
    None until it is known."""

    vision_end_id: int | None = None
    """The tokenizer's id of the marker after them; unused unless `markers` is "both"."""

    def __post_init__(self) -> None:
        r, stages = self.reference_stage, self.encoder.num_stages
        _refuse(not 1 <= r <= stages, f"reference_stage must be 1..{stages} or -{stages}..-1.")
        self.encoder.stage_grid(self.shape, stages)
        _refuse(
            self.mask == "authors" and self.markers != "both",
            'the mask "authors" is that of two markers; it needs markers "both".',
        )
        if self.packer is not None:
            self._check_packer(self.packer)
        if self.decoder.layers:  # 0 for a base that is not read yet
            self._check_decoder()

    def _check_packer(self, packer: PackerConfig) -> None:
        _refuse(
            self.injection.layers != (),
            "packed stages stand at the input and enter no layer; with a packer set "
            "injection.layers to ().",
        )
        stages, chosen = self.encoder.num_stages, set(packer.stages)
        _refuse(
            len(chosen) < len(packer.stages) or not chosen <= set(range(1, stages + 1)),
            f"packer.stages must be different ones of 1 to {stages}, got {packer.stages}.",
        )
        widths = {stage: self.encoder.features[stage - 1] for stage in self.stages_used}
        _refuse(
            packer.shared and len(set(widths.values())) > 1,
            f"a shared packer needs stages of one width; those are {widths}.",
        )
        for stage in self.stages_used:
            packer.regions(self.encoder.stage_grid(self.shape, stage))

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
        named = {"both": (self.vision_start_id, self.vision_end_id), "bos": (self.vision_start_id,)}
        markers = [i for i in named.get(self.markers, ()) if i is not None]
        size = self.decoder.vocab_size
        _refuse(
            len(set(markers)) < len(markers) or not all(0 <= i < size for i in markers),
            f"vision_start_id and vision_end_id must be two different entries of the vocabulary "
            f"of {size}, got {markers}; take both from the tokenizer.",
        )

    @property
    def marker_ids(self) -> tuple[int, ...]:
        """Ids of what stands around the visual tokens: before and after them, before them alone,
        or none.

        Raises:
            ConfigError: they were not set yet.
        """
        start, end = self.vision_start_id, self.vision_end_id
        if self.markers == "none":
            return ()
        if self.markers == "bos":
            if start is None:
                raise ConfigError(
                    "vision_start_id is unset; it is the tokenizer's beginning of a text. Where "
                    'the tokenizer has none, set markers to "none".'
                )
            return (start,)
        if start is None or end is None:
            raise ConfigError(
                "vision_start_id and vision_end_id are unset; the tokenizer has both."
            )
        return start, end

    @property
    def opening(self) -> int:
        """Positions before the visual tokens."""
        return 0 if self.markers == "none" else 1

    @property
    def closing(self) -> int:
        """Positions between the visual tokens and the text."""
        return 1 if self.markers == "both" else 0

    @property
    def before_text(self) -> int:
        """Positions of visual tokens and markers."""
        return self.opening + self.num_visual_tokens + self.closing

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
    def stages_used(self) -> tuple[int, ...]:
        """Numbers of the stages the decoder receives: shallowest first, or as they are packed."""
        if self.packer is not None:
            return self.packer.stages or tuple(range(1, self.encoder.num_stages + 1))
        return tuple(sorted({self.reference_stage, *(stage for _, stage in self.layer_stages)}))

    @property
    def packed_grids(self) -> tuple[Grid, ...]:
        """Regions along z, y, x of each packed stage; () without a packer."""
        if self.packer is None:
            return ()
        grids = (self.encoder.stage_grid(self.shape, stage) for stage in self.stages_used)
        return tuple(map(self.packer.regions, grids))

    @property
    def token_grid(self) -> Grid:
        """Visual tokens along z, y, x; of each stage, where they are packed.

        Raises:
            ConfigError: packed stages have different grids.
        """
        if self.packer is None:
            return self.encoder.stage_grid(self.shape, self.reference_stage)
        grids = self.packed_grids
        _refuse(len(set(grids)) > 1, f"packed stages have no one grid, but {grids}.")
        return grids[0]

    @property
    def num_visual_tokens(self) -> int:
        """K."""
        return sum(map(prod, self.packed_grids)) if self.packer else prod(self.token_grid)


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
        return self.classification.encoder


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
