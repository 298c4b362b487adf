"""Where a report ends: at the end token, before a stop string, or at the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uvlm.errors import ConfigError
from uvlm.inference.decoding.options import GenerateOptions
from uvlm.text.tokenizer import Tokenizer

__all__ = ["Candidate", "Ending"]

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What decoders write for bytes that are no character, or not yet."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A text that was written."""

    ids: list[int]
    """Without the end token; of a stop string only what the last token shares with the text."""

    text: str | None = None
    """What the ids say, up to the stop string; None without a tokenizer."""

    log_probability: float | None = None
    """By the model itself, of all tokens written, the end token included; None if not asked."""

    cut: bool = False
    """The limit came before the end."""


class Ending:
    """Decides of each row's tokens whether they are complete.

    Raises:
        ConfigError: there are stop strings, but no tokenizer to read the text with.
    """

    def __init__(self, options: GenerateOptions, eos_id: int, tokenizer: Tokenizer | None) -> None:
        if options.stop and tokenizer is None:
            raise ConfigError(
                "stop strings are found in text; give the tokenizer with them, to `write`."
            )
        self.eos_id = eos_id
        self._limit, self._stop, self._tokenizer = options.max_new_tokens, options.stop, tokenizer

    def of(self, ids: Sequence[int], log_probability: float | None = None) -> Candidate | None:
        """The complete text if the last of `ids`, its newest token, ends it."""
        if ids[-1] == self.eos_id:
            return self.whole(ids[:-1], log_probability)
        stopped = self._stopped(ids, log_probability)
        if stopped is None and len(ids) >= self._limit:
            return self.whole(ids, log_probability, cut=True)
        return stopped

    def whole(
        self, ids: Sequence[int], log_probability: float | None = None, *, cut: bool = False
    ) -> Candidate:
        """`ids` as they are."""
        text = None if self._tokenizer is None else self._tokenizer.decode(ids)
        return Candidate(ids=list(ids), text=text, log_probability=log_probability, cut=cut)

    def _stopped(self, ids: Sequence[int], log_probability: float | None) -> Candidate | None:
        if not self._stop or self._tokenizer is None:
            return None
        whole = self._tokenizer.decode(ids)
        found = [at for at in map(whole.find, self._stop) if at >= 0]
        if not found:
            return None
        text = whole[: min(found)]
        decode = self._tokenizer.decode
        kept = next(n for n in range(len(ids) + 1) if decode(ids[:n]).startswith(text))
        return Candidate(ids=list(ids[:kept]), text=text, log_probability=log_probability)

    def settled(self, ids: Sequence[int]) -> str:
        """The text so far that no later token changes: without an incomplete character, or what
        may be the beginning of a stop string."""
        assert self._tokenizer is not None
        text = self._tokenizer.decode(ids).rstrip(INCOMPLETE)
        longest = max(map(len, self._stop), default=0)
        for held in range(min(longest - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-held:]) for stop in self._stop):
                return text[:-held]
        return text
