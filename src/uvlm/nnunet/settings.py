"""What a plan says, in `network_arch_init_kwargs`, about network and training.

nnU-Net hands a trainer one table per configuration. Its keys are nnU-Net's (the network), the
published README's and plans' (data, decoder, optimiser), and few of ours. No torch import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from uvlm.config import from_dict
from uvlm.errors import ConfigError
from uvlm.models.config import EncoderConfig
from uvlm.registry import OWN_VOCABULARY

__all__ = ["NETWORK_KEYS", "Mode", "PlanSettings", "read_settings"]

Mode = Literal["only_cls", "only_report", "both"]
Grid = tuple[int, int, int]

NETWORK_KEYS = (
    "n_stages",
    "features_per_stage",
    "kernel_sizes",
    "strides",
    "n_blocks_per_stage",
    "n_conv_per_stage",
    "n_conv_per_stage_decoder",
    "conv_op",
    "conv_bias",
    "norm_op",
    "norm_op_kwargs",
    "dropout_op",
    "dropout_op_kwargs",
    "nonlin",
    "nonlin_kwargs",
)
"""Keys that nnU-Net's own networks take; all others are for training."""


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The table, checked. The defaults are the paper's where it speaks, else the authors'."""

    n_stages: int = 6
    """Stages of the encoder."""

    features_per_stage: tuple[int, ...] = EncoderConfig().features
    """Channels of each stage, shallowest first."""

    kernel_sizes: tuple[int | Grid, ...] = ()
    """Only 3 along every axis."""

    strides: tuple[int | Grid, ...] = EncoderConfig().strides
    """Downsampling at the entry of each stage, the same along every axis."""

    n_blocks_per_stage: tuple[int, ...] = EncoderConfig().blocks
    """Residual blocks of each stage."""

    n_conv_per_stage_decoder: tuple[int, ...] = ()
    """Of a segmentation network; without effect on labels and reports."""

    conv_op: Literal["torch.nn.modules.conv.Conv3d"] = "torch.nn.modules.conv.Conv3d"
    """As nnU-Net's plans name it; there is no other."""

    conv_bias: Literal[True] = True
    """Convolutions have a bias."""

    norm_op: Literal["torch.nn.modules.instancenorm.InstanceNorm3d"] = (
        "torch.nn.modules.instancenorm.InstanceNorm3d"
    )
    """As nnU-Net's plans name it; there is no other."""

    norm_op_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Only {"eps": 1e-5, "affine": true}, or nothing."""

    dropout_op: None = None
    """There is none."""

    dropout_op_kwargs: None = None
    """There is none."""

    nonlin: Literal["torch.nn.LeakyReLU"] = "torch.nn.LeakyReLU"
    """As nnU-Net's plans name it; there is no other."""

    nonlin_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Only {"inplace": true}, or nothing."""

    mode: Mode = "both"
    """Labels, reports, or both over one encoder; `uvlm_train --mode` changes it."""

    csv_paths: tuple[Path, ...] = ()
    """Catalogs written by `uvlm prepare`; relative paths are seen from the plan's folder."""

    cls_columns: tuple[str, ...] = ()
    """Labels to learn, as the catalogs name them; () takes the catalogs'."""

    report_column: Literal["report"] = "report"
    """As every catalog names it."""

    series_id_column: Literal["series_id"] = "series_id"
    """As every catalog names it."""

    case_id_column: Literal["case_id"] = "case_id"
    """As every catalog names it; patients are divided by `patient_id`."""

    data_format: Literal["blosc2"] = "blosc2"
    """There is no other."""

    force_regenerate_shapes: bool = False
    """Without effect: the catalog says the shape of its volumes."""

    llm_embed_dim: int = 512
    """Hidden width of the decoder."""

    num_heads: int = 8
    """Its attention heads."""

    ffn_dim: int = 2048
    """Hidden width of its feed-forward blocks."""

    num_layers: int = 8
    """Its layers, unless `layers_per_stage` says otherwise."""

    vocab_size: int = OWN_VOCABULARY
    """Most entries of the tokenizer trained on the reports; a tokenizer given has its own."""

    tokenizer_path: Path | None = None
    """A Hugging Face tokenizer.json, or the folder that holds it."""

    use_deepstack: bool = True
    """Inject encoder stages into decoder layers (paper); the authors' plans left it off."""

    layers_per_stage: int | None = None
    """The authors' arrangement: each stage, deepest first, enters so many layers in a row. Without
    `use_deepstack` it is the number of layers."""

    deepstack_skip_stages: int = 0
    """Shallow stages that are not injected, of the authors' arrangement."""

    visual_token_length_source_stage: int = -1
    """Whose token grid all stages get: -1 the deepest (384 tokens), -2 the one before (3,072)."""

    use_vision_aware_mask: bool = True
    """Visual tokens see each other both ways."""

    use_weight_tying: Literal[True] = True
    """Output layer and embedding are one."""

    use_adaptive_pool: Literal[True] = True
    """Stages are brought to one grid by averaging."""

    use_gate: bool = False
    """Injected stages are scaled by a gate that is learned."""

    authors: bool = False
    """With the deviations of the published code (where stages enter, mask, rotary code), to go on
    from its results."""

    llm_model_path: Path | None = None
    """Folder of the pretrained decoder (Qwen3-4B) for nnUNetTrainer_UVLM_Qwen3."""

    use_lora: bool = True
    """Train adapters over the pretrained decoder, or all of its weights."""

    lora_r: int = 64
    """Rank of the adapters."""

    lora_alpha: int = 128
    """Scale of the adapters, divided by the rank."""

    optimizer_type: Literal["AdamW", "SGD"] = "AdamW"
    """AdamW with betas 0.9 and 0.999, or SGD with momentum 0.99."""

    initial_lr: float = 2e-5
    """Learning rate at the first step."""

    weight_decay: float = 0.01
    """Pull of every weight towards zero."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW; there are no others."""

    encoder_lr_multiplier: float = 0.1
    """Learning rate of a trained encoder in multiples of `initial_lr`."""

    freeze_encoder: bool | None = None
    """Keep the encoder as it is; None freezes it for reports alone, as the paper does."""

    report_loss_weight: float = 1.0
    """Weight of the report's loss beside the labels' in mode both."""

    enable_nnunet_augmentation: bool = True
    """Rotation and scaling beside the changes of intensity; left and right stay in place."""

    enable_balancing: bool = False
    """Draw rare labels about as often as common ones."""

    pretrained_encoder_checkpoint_path: Path | None = None
    """Bundle or checkpoint of an earlier stage, whose encoder is the start."""

    num_epochs: int = 1000
    """Epochs, after each of which the run is validated and saved."""

    num_iterations_per_epoch: int = 250
    """Optimiser steps of an epoch."""

    num_val_iterations_per_epoch: int = 50
    """Most batches of a validation; the final one takes all studies."""

    num_workers: int = 8
    """Processes that load studies; 0 on a CPU."""

    precision: Literal["no", "bf16", "fp16"] | None = None
    """None is bf16 on a GPU and 32 bits on a CPU."""

    seed: int = 0
    """Of the weights, of the order of studies and of their augmentation."""

    region: Literal["chest", "abdomen", "unknown"] = "unknown"
    """Body region, for the bundle of a segmentation trained on nnU-Net's own data."""

    run: Mapping[str, Any] = field(default_factory=dict)
    """Any field of a training run by its dotted name, as `uvlm train` takes them without dashes:
    {"optim.ema": 0.999, "loop.activation_checkpointing": true}."""

    def __post_init__(self) -> None:
        lengths = {len(self.features_per_stage), len(self.strides), len(self.n_blocks_per_stage)}
        if lengths != {self.n_stages}:
            raise ConfigError(
                f"n_stages is {self.n_stages}, but features_per_stage, strides and "
                f"n_blocks_per_stage have {len(self.features_per_stage)}, {len(self.strides)} and "
                f"{len(self.n_blocks_per_stage)} entries; give one per stage."
            )
        if any(_single(size, "kernel_sizes") != 3 for size in self.kernel_sizes):
            raise ConfigError(f"kernel_sizes must be 3 along every axis, got {self.kernel_sizes}.")
        self._check_fixed()
        positive = (self.num_epochs, self.num_iterations_per_epoch, self.num_layers)
        if min(*positive, self.num_val_iterations_per_epoch) < 1:
            raise ConfigError("every number of epochs, iterations and layers must be at least 1.")
        each = 1 if self.layers_per_stage is None else self.layers_per_stage
        if each < 1 or not 0 <= self.deepstack_skip_stages < self.n_stages:
            raise ConfigError(
                f"layers_per_stage must be at least 1 and deepstack_skip_stages 0 to "
                f"{self.n_stages - 1}, got {each} and {self.deepstack_skip_stages}."
            )

    def _check_fixed(self) -> None:
        """What plans may say, but only in one way."""
        expected: dict[str, Any] = {
            "norm_op_kwargs": ({}, {"eps": 1e-5, "affine": True}),
            "nonlin_kwargs": ({}, {"inplace": True}),
            "betas": ((0.9, 0.999),),
        }
        for name, allowed in expected.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} must be {allowed[-1]}, got {getattr(self, name)}.")

    @property
    def encoder(self) -> EncoderConfig:
        """The shared encoder.

        Raises:
            ConfigError: a stride that differs between axes.
        """
        return EncoderConfig(
            features=self.features_per_stage,
            strides=tuple(_single(stride, "strides") for stride in self.strides),
            blocks=self.n_blocks_per_stage,
        )

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.mode == "only_report" if self.freeze_encoder is None else self.freeze_encoder


def _single(value: int | Grid, name: str) -> int:
    if isinstance(value, int):
        return value
    if len(set(value)) > 1:
        raise ConfigError(
            f"{name} must be the same along every axis, got {list(value)}. nnU-Net plans others "
            "for uneven voxels; write a plan for U-VLM with `uvlm nnunet plans`."
        )
    return value[0]


def read_settings(values: Mapping[str, Any], where: Path | str) -> PlanSettings:
    """The settings of a plan's `network_arch_init_kwargs`.

    Args:
        where: the plan, for messages

    Raises:
        ConfigError: an unknown key, with the nearest known one, or an impossible value.
    """
    if "n_conv_per_stage" in values:
        raise ConfigError(
            f"{where}: its network has no residual blocks. Write a plan for labels or reports with "
            "`uvlm nnunet plans`, and give it with -p."
        )
    try:
        return from_dict(PlanSettings, values, "network_arch_init_kwargs")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
