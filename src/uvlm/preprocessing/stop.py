"""Ctrl-C, and the signal by which a system or scheduler ends a job: the run stops in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uvlm.errors import UvlmError

__all__ = ["StoppedError", "sigterm_interrupts", "stoppable"]


class StoppedError(UvlmError):
    """The user, or the system, has stopped a preparation."""

    exit_code = 130


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM does meanwhile what Ctrl-C does: a `KeyboardInterrupt`, which cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def stoppable(out: Path) -> Iterator[None]:
    """Make Ctrl-C and SIGTERM an error that says how to go on.

    Raises:
        StoppedError: one of them came.
    """
    try:
        with sigterm_interrupts():
            yield
    except KeyboardInterrupt:
        raise StoppedError(
            f"{out}: stopped. What is done is kept and recorded; run the same command again, and "
            "it goes on from there."
        ) from None
