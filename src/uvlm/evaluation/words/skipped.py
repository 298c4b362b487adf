"""Why a protocol cannot be computed here: said beside the scores, never passed over."""

from __future__ import annotations

from uvlm.errors import UvlmError

__all__ = ["SkippedError"]


class SkippedError(UvlmError):
    """Something that a protocol needs is absent or failed; the message is the reason."""
