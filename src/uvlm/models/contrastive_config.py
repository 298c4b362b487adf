"""Configuration of contrastive pretraining. No torch import: command-line help reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from uvlm.errors import ConfigError
from uvlm.models.config import EncoderConfig
from uvlm.models.tower_config import TextTowerConfig, ViTConfig

__all__ = ["ConsistencyConfig", "ContrastiveConfig"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Image encoder and text tower that meet in one space; the defaults are HSENet's stage 1."""

    encoder: EncoderConfig | ViTConfig = field(default_factory=ViTConfig)
    """Of the volume, handed on to the tasks that follow; one gated by slices makes it stage 2."""

    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    """Of the report."""

    width: int = 768
    """Numbers of an embedding."""

    temperature: Literal["exp", "authors"] = "exp"
    """Cosines are multiplied by the exponential of a learned number, at most 100; or by the number
    itself, which starts at 2.66 instead of 14.3 (published code)."""

    duplicates: Literal["masked", "negatives"] = "masked"
    """Studies with the same report are left out of each other's negatives, or count as such
    (published code)."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width of the embeddings must be positive, got {self.width}.")


@dataclass(frozen=True, kw_only=True)
class ConsistencyConfig:
    """Stage 2 keeps near the cosines of the frozen stage 1, less and less."""

    weight: float = 0.1
    """Of the term at the first step; it falls in a straight line."""

    steps: int = 5000
    """Steps after which the weight is 0, and the teacher no longer runs."""

    scale: Literal["own", "student"] = "own"
    """The teacher's cosines are multiplied by its own temperature, or by the student's (published
    code)."""

    def __post_init__(self) -> None:
        if self.weight < 0 or self.steps < 0:
            raise ConfigError("weight and steps of the consistency term must not be negative.")

    def weight_at(self, step: int) -> float:
        """At `step`, counted from 0; exactly 0 from `steps` on."""
        return self.weight * (1 - step / self.steps) if step < self.steps else 0.0
