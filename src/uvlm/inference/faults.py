"""Errors of one study among many, in one line that quotes nothing of the patient's."""

from __future__ import annotations

import traceback
from pathlib import Path

from uvlm.errors import UvlmError

__all__ = ["describe", "exit_code_of"]

DEEPEST = 5
"""Places that are told of an error nobody foresaw."""


def describe(error: BaseException) -> str:
    """What was wrong.

    Of an error nobody foresaw, which is a bug or a want of memory, only its type and where it came
    about, innermost first: its own words may quote values of the study.
    """
    if isinstance(error, UvlmError):
        return " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)[-DEEPEST:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)]
    return f"{type(error).__name__} at {', '.join(places)}"


def exit_code_of(error: BaseException) -> int:
    """2 for the input's fault, else 1."""
    return error.exit_code if isinstance(error, UvlmError) else 1
