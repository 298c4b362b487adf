"""Options of `evaluate detect`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from uvlm.errors import InputError
from uvlm.evaluation.masks.detection import ABDOMEN_RULES, RADGPT_MM3
from uvlm.evaluation.masks.reading import Others
from uvlm.evaluation.tasks.common import Inputs
from uvlm.evaluation.tasks.organ_limits import Given, organ_limits

__all__ = ["HALF", "NAMES", "DetectionInputs", "Origin"]

HALF = 0.5
"""From what probability on a lesion is present where nothing else is said."""

NAMES = tuple(rule.label for rule in ABDOMEN_RULES)
"""The labels, one of each organ."""

Origin = Literal["masks", "reports", "labels"]


@dataclass(frozen=True, kw_only=True)
class DetectionInputs(Inputs):
    """Options of this task; `references` and `predictions` may be folders of masks."""

    truth_from: Origin | None = None
    """None: masks of a folder or a column of paths, else the three labels, else reports."""

    predictions_from: Origin | None = None
    """The same; "labels" are probabilities."""

    text_column: tuple[str, ...] = ()
    prediction_text_column: tuple[str, ...] = ()
    mask_column: str | None = None
    classes: Path | None = None
    """JSON of class name -> value in the masks; in predictions unless they have their own, where
    the truth are masks too."""

    predicted_classes: Path | None = None
    others: Others = "refuse"
    """Values of masks that no class has: refused, or background."""

    logits: bool = False
    minimum: Given = ()
    """Of `detect@masks-radgpt`, in mm^3; else validation studies choose it, or it is 30."""

    threshold: Given = ()
    """Of `detect@probabilities`; else validation studies choose it, or it is 0.5."""

    validation_references: Path | None = None
    validation_predictions: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.validation_references is None) != (self.validation_predictions is None):
            raise InputError(
                "validation needs both --validation-references and --validation-predictions."
            )
        # Wrong ones are refused before any mask is read.
        self.minimums  # noqa: B018
        self.thresholds  # noqa: B018
        for option in ("minimum", "threshold"):
            if getattr(self, option) and self.validation_references is not None:
                raise InputError(
                    f"--{option} is given, and validation studies to choose it. Leave out one."
                )

    @property
    def minimums(self) -> dict[str, float]:
        """Label -> mm^3, without validation."""
        return organ_limits("--minimum", self.minimum, NAMES, RADGPT_MM3)

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> probability, without validation."""
        return organ_limits("--threshold", self.threshold, NAMES, HALF, 1.0)

    @property
    def validation(self) -> DetectionInputs | None:
        """The same options for the validation studies."""
        if self.validation_references is None or self.validation_predictions is None:
            return None
        return replace(
            self,
            references=self.validation_references,
            predictions=self.validation_predictions,
            validation_references=None,
            validation_predictions=None,
            missing="refuse",
            split=None,
        )
