"""What stands around the visual tokens, from the tokenizer and the language model."""

from __future__ import annotations

from dataclasses import replace

from uvlm.models.config import PretrainedConfig, ReportConfig
from uvlm.text.tokenizer import Tokenizer

__all__ = ["known_markers", "with_markers"]


def known_markers(config: ReportConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    """What `config.marker_ids` should be.

    A language model without a beginning of a text has nothing in its place.
    """
    if config.markers == "both":
        return tokenizer.vision_start_id, tokenizer.vision_end_id
    decoder = config.decoder
    begins = decoder.bos_id if isinstance(decoder, PretrainedConfig) else None
    return () if config.markers == "none" or begins is None else (begins,)


def with_markers(config: ReportConfig, tokenizer: Tokenizer) -> ReportConfig:
    """`config` with the ids that it needs; markers "bos" become "none" where the language model
    has no beginning of a text."""
    ids = known_markers(config, tokenizer)
    if config.markers == "bos" and not ids:
        config = replace(config, markers="none")
    start, end = (*ids, None, None)[:2]
    return replace(config, vision_start_id=start, vision_end_id=end)
