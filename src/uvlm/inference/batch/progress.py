"""How far a batch is: a bar on a terminal, elsewhere a line in the log now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from uvlm.inference.batch.results import Result

__all__ = ["Progress"]

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between lines in the log."""

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class Progress:
    """Counts results and says so; what goes wrong with a study is logged at once.

    Args:
        total: studies to do
        clock: seconds
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self._clock = clock
        self._start = self._said = clock()
        self._bar = tqdm(total=total, unit="study", disable=None, bar_format=BAR, leave=False)
        self._open = ExitStack()

    @property
    def per_minute(self) -> float:
        """Studies a minute since the start, loading included."""
        seconds = self._clock() - self._start
        return 60 * self.done / seconds if seconds > 0 else 0.0

    def add(self, result: Result) -> None:
        """One more study is finished."""
        self.done += 1
        self.failed += result.error is not None
        if result.error is not None:
            log.error("%s: %s", result.id, result.error)
        for flag in result.flags:
            log.warning("%s: WARNING: %s", result.id, flag)
        self._bar.set_postfix_str(f"{self.per_minute:.1f} a minute, {self.failed} failed", False)
        self._bar.update()
        if self._bar.disable and self._clock() - self._said > EVERY:
            self._said = self._clock()
            log.info(
                "%d of %d studies, %d failed, %.1f a minute",
                self.done,
                self.total,
                self.failed,
                self.per_minute,
            )

    def __enter__(self) -> Progress:
        self._open.enter_context(logging_redirect_tqdm())  # lines above the bar, never in it
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._open.close()
