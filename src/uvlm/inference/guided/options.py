"""How a class head guides the writing of a report. No torch import: command lines read it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from uvlm.errors import ConfigError

__all__ = ["GuideOptions"]


@dataclass(frozen=True, kw_only=True)
class GuideOptions:
    """The default is no guidance: the report is the decoder's alone."""

    candidates: int = 0
    """Reports to write and choose among; 0 and 1 for the one that the decoder prefers."""

    agreement: float = 1.0
    """What agreement with the class head counts beside likelihood, in nats per token for a nat per
    class; 0 takes the likeliest candidate."""

    def __post_init__(self) -> None:
        if self.candidates < 0 or not (isfinite(self.agreement) and self.agreement >= 0):
            raise ConfigError(
                f"candidates ({self.candidates}) and agreement ({self.agreement}) must not be "
                "negative."
            )

    @property
    def active(self) -> bool:
        """Whether there is anything to choose among."""
        return self.candidates > 1
