"""How a report is written. No torch import: command lines read it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from uvlm.errors import ConfigError

__all__ = ["MAX_NEW_TOKENS", "GenerateOptions"]

MAX_NEW_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """The default is greedy: the most probable token, again and again."""

    max_new_tokens: int = MAX_NEW_TOKENS
    """Longest report."""

    min_new_tokens: int = 0
    """The report may not end before; at most `max_new_tokens`."""

    temperature: float = 0.0
    """0 takes the most probable token; above, tokens are drawn, the likelier the colder."""

    top_k: int = 0
    """Draw among so many of the most probable tokens; 0 for all. Needs a temperature."""

    top_p: float = 1.0
    """Draw among the most probable tokens that together have this probability. Needs a
    temperature."""

    seed: int = 0
    """Of the drawing, 64 bits with sign; the same seed gives the same report."""

    beams: int = 1
    """Sequences that are followed at once; 1 for none but the greedy one."""

    length_penalty: float = 1.0
    """Beams are compared by log-probability / length ** this; above 1 prefers longer reports. Needs
    beams."""

    repetition_penalty: float = 1.0
    """Above 1, what was written is less likely to be written again (Keskar et al. 2019)."""

    no_repeat_ngram: int = 0
    """So many tokens in a row never come twice; 0 for no such rule."""

    stop: tuple[str, ...] = ()
    """The report ends before the first of these."""

    speculative: bool = True
    """Propose several tokens from what training reports say and verify them in one step, where the
    bundle holds a draft, the decoder is in 32 bits and decoding is greedy without stop strings; the
    tokens are the same, sooner."""

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_together()

    def _check_ranges(self) -> None:
        real = (self.temperature, self.top_p, self.length_penalty, self.repetition_penalty)
        if not all(map(math.isfinite, real)):
            raise ConfigError("temperature, top_p and the penalties must be finite numbers.")
        if not -(2**63) <= self.seed < 2**63:
            raise ConfigError(f"seed must fit 64 bits with a sign, got {self.seed}.")
        if self.max_new_tokens < 1 or self.beams < 1:
            raise ConfigError("max_new_tokens and beams must be at least 1.")
        if min(self.min_new_tokens, self.top_k, self.no_repeat_ngram) < 0 or self.temperature < 0:
            raise ConfigError(
                "min_new_tokens, temperature, top_k and no_repeat_ngram must not be negative."
            )
        if not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ConfigError("top_p must be above 0 and at most 1, repetition_penalty above 0.")
        if any(not text for text in self.stop):
            raise ConfigError("a stop string is empty.")

    def _check_together(self) -> None:
        if self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(
                f"min_new_tokens {self.min_new_tokens} is above max_new_tokens "
                f"{self.max_new_tokens}."
            )
        if self.beams > 1 and self.temperature > 0:
            raise ConfigError("beams are followed without drawing; leave the temperature at 0.")
        if self.temperature == 0 and (self.top_k, self.top_p) != (0, 1):
            raise ConfigError(
                "top_k and top_p choose among what is drawn; give a temperature above 0 with them."
            )
        if self.beams == 1 and self.length_penalty != 1:
            raise ConfigError(
                "length_penalty compares beams; give beams of 2 or more with it, with candidates "
                "too."
            )

    @property
    def greedy(self) -> bool:
        """Nothing but the most probable token, at every step."""
        return (
            self.temperature == 0
            and self.beams == 1
            and self.repetition_penalty == 1
            and self.no_repeat_ngram == 0
            and self.min_new_tokens == 0
        )
