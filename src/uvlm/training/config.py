"""Everything a training run is told. No torch import: command-line help and recipes read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from uvlm.data.config import DataConfig
from uvlm.errors import ConfigError
from uvlm.models.config import (
    ClassificationConfig,
    EncoderConfig,
    JointConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.contrastive_config import ConsistencyConfig, ContrastiveConfig

__all__ = ["LoopConfig", "LossConfig", "ModelConfig", "OptimConfig", "RunConfig", "TaskName"]

TaskName = Literal[
    "segmentation", "classification", "report", "joint", "contrastive", "contrastive_2e3"
]

ModelConfig = (
    SegmentationConfig | ClassificationConfig | ReportConfig | JointConfig | ContrastiveConfig
)

READING = ("report", "joint", "contrastive", "contrastive_2e3")
"""Tasks that learn from the words of reports."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and schedule. Weight decay applies to every parameter, as in the authors' runs, but
    for the temperature of contrastive pretraining."""

    name: Literal["sgd", "adamw"] = "adamw"
    """SGD has momentum 0.99 and Nesterov's correction; AdamW has betas 0.9 and 0.999."""

    lr: float = 2e-5
    """Learning rate at the first step, without the warm-up."""

    weight_decay: float = 0.01
    """Pull of every weight towards zero."""

    encoder_lr: float = 1.0
    """Learning rate of the encoder in multiples of `lr`; 0 freezes it."""

    warmup: int = 0
    """Steps over which the learning rate rises linearly from zero."""

    schedule: Literal["poly", "cosine"] = "poly"
    """How the rate falls to zero at the last step: as a polynomial (authors), or half a cosine."""

    power: float = 0.9
    """Exponent of the polynomial fall."""

    ema: float = 0.0
    """Share of the old average kept at each step by the moving average of the weights that is
    validated and stored instead of the last weights; 0 keeps none."""

    clip: float = 12.0
    """Largest norm of the gradient; larger ones are scaled down to it."""

    def __post_init__(self) -> None:
        others = (self.weight_decay, self.encoder_lr, self.warmup, self.power)
        if self.lr <= 0 or self.clip <= 0 or min(others) < 0:
            raise ConfigError(
                "lr and clip must be positive; weight_decay, encoder_lr, warmup and power must not "
                "be negative."
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, got {self.ema}.")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised, where the paper leaves a choice."""

    label_smoothing: float = 0.0
    """Share of the target spread evenly over the vocabulary, or, for labels, between 0 and 1."""

    prompt: bool = False
    """Learn the constant words of the prompt as well (authors)."""

    report_weight: float = 1.0
    """Weight of the report's loss beside the labels' in a joint run; both are then halved."""

    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    """How near stage 2 of contrastive pretraining stays to stage 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1 or self.report_weight <= 0:
            raise ConfigError(
                "label_smoothing must be at least 0 and below 1, report_weight positive."
            )


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long, how precisely, and how often to look, save and validate."""

    steps: int = 250_000
    """Optimiser steps (authors: 1,000 epochs of 250)."""

    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""

    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; "no" computes in 32 bits."""

    device: Literal["auto", "cpu"] = "auto"
    """"auto" takes the GPU if there is one."""

    log_every: int = 10
    """Steps between two rows of the log."""

    validate_every: int = 250
    """Steps between two validations; the last step is always validated."""

    validate_studies: int = 100
    """Most studies per validation (authors: 50 batches)."""

    validate_reports: int = 8
    """Reports written at each validation, to see whether they say different things; 0 for none."""

    checkpoint_every: int = 250
    """Steps between two checkpoints; a killed run loses at most so many."""

    best: bool = False
    """Put the weights of the best validation into the bundle, not the last ones."""

    patience: int = 0
    """Validations in a row without a better one after which the run ends early; 0 for never."""

    chunk: int = 0
    """In contrastive pretraining, studies of a batch whose activations exist at once; the step is
    the same, each chunk is computed twice. 0 for the whole batch."""

    activation_checkpointing: bool = False
    """Compute each encoder stage and each layer of a pretrained decoder again in the backward pass
    instead of keeping what they made: less memory for a third more time."""

    channels_last: bool = False
    """Lay volumes out with channels last, which 3D convolutions on GPUs with bf16 prefer."""

    compile: bool = False
    """Compile the encoder with torch.compile; pays on GPUs and long runs."""

    def __post_init__(self) -> None:
        counts = (self.steps, self.accumulate, self.log_every, self.validate_every)
        if min(*counts, self.validate_studies, self.checkpoint_every) < 1:
            raise ConfigError("every number of steps, studies and rounds must be at least 1.")
        if min(self.validate_reports, self.patience, self.chunk) < 0:
            raise ConfigError("validate_reports, patience and chunk must not be negative.")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run; recipes return it, `--any.field value` changes it."""

    model: ModelConfig
    """The network, whose kind names the task. Classes and shape come from the catalog."""

    data: DataConfig = field(default_factory=DataConfig)
    """Which studies, and how batches are made of them."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and schedule."""

    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""

    loop: LoopConfig = field(default_factory=LoopConfig)
    """Length, precision and rhythm."""

    init: Path | None = None
    """Bundle of the earlier tasks: its encoder is the start, its parts stay in the new bundle."""

    tokenizer: Path | None = None
    """A Hugging Face tokenizer.json for reports; None trains one on the training reports and
    the prompt, with at most model.decoder.vocab_size entries."""

    slice_encoder: Path | None = None
    """Folder of the 2D encoder that made `data.slices`, to be kept in the bundle: without it, new
    studies cannot be given to a model that needs slices."""

    draft: bool = True
    """Keep the training reports in the bundle, in full and readable, for reports to be written
    sooner; without, nothing else changes, and an earlier bundle's are not handed on."""

    seed: int = 0
    """Of the weights, of the order of studies and of their augmentation."""

    out: Path | None = None
    """Folder for the log, the checkpoint and the bundle."""

    def __post_init__(self) -> None:
        if self.task in READING and self.data.augment.mirror:
            raise ConfigError("reports name places; a mirrored volume would contradict its report.")
        self._check_slices()
        if self.task != "segmentation" and self.data.patch not in (None, self.data.shape):
            raise ConfigError(f"{self.task} needs whole volumes; leave data.patch unset.")
        if self.data.bank is not None and not (
            self.task == "report" and self.optim.encoder_lr == 0
        ):
            raise ConfigError(
                "data.bank holds what a frozen encoder gives; it serves report runs with "
                "--optim.encoder-lr 0 only."
            )
        if self.data.bucket and self.task not in ("report", "joint"):
            raise ConfigError("data.bucket sorts by the length of reports; leave it out here.")
        if self.loss.label_smoothing and self.task == "segmentation":
            raise ConfigError("loss.label_smoothing is for labels and reports; leave it at 0.")
        self.model.encoder.stage_grid(
            self.data.patch or self.data.shape, self.model.encoder.num_stages
        )

    def _check_slices(self) -> None:
        """Slices are for those who look at them, and nobody else."""
        encoder = self.model.encoder
        gated = not isinstance(encoder, EncoderConfig) and encoder.gated
        if not gated and (self.data.slices or self.slice_encoder):
            raise ConfigError("the encoder takes no slices; leave data.slices and slice_encoder.")
        if self.loop.chunk and not isinstance(self.model, ContrastiveConfig):
            raise ConfigError("loop.chunk is for contrastive pretraining; leave it at 0.")
        if self.data.questions and self.task != "report":
            raise ConfigError("data.questions are answered by a report model; leave them out here.")

    @property
    def task(self) -> TaskName:
        """Follows from the kind of network."""
        if isinstance(self.model, ContrastiveConfig):
            encoder = self.model.encoder
            gated = not isinstance(encoder, EncoderConfig) and encoder.gated
            return "contrastive_2e3" if gated else "contrastive"
        if isinstance(self.model, SegmentationConfig):
            return "segmentation"
        if isinstance(self.model, JointConfig):
            return "joint"
        return "classification" if isinstance(self.model, ClassificationConfig) else "report"
