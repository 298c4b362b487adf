"""What a bundle says of each of its parts, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.config import (
    ClassificationConfig,
    EncoderOnlyConfig,
    Grid,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.preprocessing.split import HELD_OUT

__all__ = [
    "ENCODERS",
    "PARTS",
    "Calibration",
    "OperatingPoint",
    "Part",
    "Split",
    "TaskConfig",
    "adapted",
]

TaskConfig = (
    EncoderOnlyConfig
    | SegmentationConfig
    | ClassificationConfig
    | ContrastiveConfig
    | ReportConfig
    | SliceEncoderConfig
)

PARTS: dict[str, type[TaskConfig]] = {
    "encoder": EncoderOnlyConfig,
    "segmentation": SegmentationConfig,
    "classification": ClassificationConfig,
    "contrastive": ContrastiveConfig,
    "contrastive_2e3": ContrastiveConfig,
    "report": ReportConfig,
    "slices": SliceEncoderConfig,
}
"""Parts a bundle may hold, in training order, and the configuration of each. The last is the 2D
encoder whose features of slices the others take."""

ENCODERS: tuple[str, ...] = tuple(name for name in PARTS if name != "slices")
"""Those that hold an encoder of volumes."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which patients a part was never trained on: those that `preprocessing.split` sets aside."""

    val_fraction: float
    """Share of the patients it was validated on."""

    held_out: tuple[str, ...] = HELD_OUT
    """Values of the catalog's `split` column that were left out."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """From which calibrated probabilities on a class head is to be believed, and how it was found.

    None where the validation studies tell too little; the head is then not asked to judge.
    """

    label: str

    threshold: float | None
    """Present from here on; best F1."""

    low: float | None
    """Up to here the head denies."""

    high: float | None
    """From here on the head is confident."""

    positives: int
    studies: int
    """Validation studies whose label is known, and those of them that have the finding."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns a class head's logits into probabilities that mean what they say."""

    temperature: float
    """Logits are divided by it."""

    studies: int
    """It was fitted on, all of validation."""

    points: tuple[OperatingPoint, ...]
    """One per class."""

    def point(self, label: str) -> OperatingPoint | None:
        """Of a class; None where the head does not know it."""
        return next((point for point in self.points if point.label == label), None)

    def threshold(self, label: str) -> float:
        """From which on a class counts as found; 0.5 where validation gave none."""
        point = self.point(label)
        return 0.5 if point is None or point.threshold is None else point.threshold


@dataclass(frozen=True, kw_only=True)
class Part:
    """One trained task of a bundle: its network, and what it may be used for."""

    task: str
    """Key of `PARTS`."""

    config: TaskConfig

    spec: PreprocessSpec | None
    """How its studies were prepared; None if by nnU-Net itself."""

    region: str
    """Body region it was trained for, as in the catalog."""

    trained_on: str
    """Name and size of the training data, one line."""

    patch: Grid | None = None
    """Voxels along z, y, x of the training patches; None for whole volumes."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What it reached in validation."""

    split: Split | None = None
    """None for a part written before splits were recorded."""

    calibration: Calibration | None = None
    """Of a classification part; None where validation had too few studies to fit one."""

    def __post_init__(self) -> None:
        expected = PARTS.get(self.task)
        if expected is None:
            raise ConfigError(f"unknown part {self.task!r}; known: {', '.join(PARTS)}.")
        if not isinstance(self.config, expected):
            raise ConfigError(
                f"part {self.task} needs a {expected.__name__}, got {type(self.config).__name__}."
            )
        if isinstance(self.config, ReportConfig) and self.spec is not None:
            _check_shape(self.config, self.spec)

    @property
    def our_spec(self) -> PreprocessSpec:
        """How its studies were prepared, where this package can do it.

        Raises:
            BundleError: nnU-Net prepared them.
        """
        if self.spec is None:
            raise BundleError(
                f"the {self.task} part was trained on data prepared by nnU-Net, which this "
                "package does not repeat. Apply it with nnUNetv2_predict."
            )
        return self.spec

    @property
    def labels(self) -> dict[str, int]:
        """Class name -> output index; background is segmentation's output 0."""
        if not isinstance(self.config, (SegmentationConfig, ClassificationConfig)):
            return {}
        first = 1 if self.task == "segmentation" else 0
        return {name: i for i, name in enumerate(self.config.classes, start=first)}


def _check_shape(config: ReportConfig, spec: PreprocessSpec) -> None:
    if config.shape != spec.shape:
        raise ConfigError(
            f"the report model takes volumes of {config.shape}, its preprocessing makes "
            f"{spec.shape}; give both one shape."
        )


def adapted(config: TaskConfig) -> PretrainedConfig | None:
    """The decoder's configuration, if the part holds adapters of a base that it lacks."""
    decoder = config.decoder if isinstance(config, ReportConfig) else None
    if isinstance(decoder, PretrainedConfig) and decoder.tuning == "lora":
        return decoder
    return None
