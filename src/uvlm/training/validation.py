"""Validation at its steps: what it found, which was best, and whether it is time to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from uvlm.training.config import LoopConfig

__all__ = ["Validation", "Watch"]

log = logging.getLogger(__name__)

COLLAPSE = "reports/"
"""Metrics that tell how alike the written reports are; shown although they are parts."""


@dataclass(kw_only=True)
class Watch:
    """What the validations of a run have shown so far; goes into every checkpoint.

    A number that is not finite is never better.
    """

    metric: str
    mode: Literal["max", "min"]

    latest: dict[str, float] = field(default_factory=dict)
    """Metrics of the last validation."""

    best: dict[str, float] = field(default_factory=dict)
    """Metrics of the best validation; empty before there is one."""

    best_step: int = 0
    waited: int = 0
    """Validations since the best one, or since the start."""

    def see(self, step: int, metrics: dict[str, float]) -> bool:
        """Take note of a validation; whether it is the best so far."""
        self.latest = dict(metrics)
        value = metrics.get(self.metric, float("nan"))
        before = self.best.get(self.metric)
        better = isfinite(value) and (
            before is None or (value > before if self.mode == "max" else value < before)
        )
        if better:
            self.best, self.best_step, self.waited = dict(metrics), step, 0
        else:
            self.waited += 1
        return better

    def state(self) -> dict[str, Any]:
        return asdict(self)


class Validation:
    """Adds `val/<metric>` to the scalars every `loop.validate_every` steps and at the last, and
    ends the run when `loop.patience` validations in a row were no better.

    Args:
        evaluate: metrics; on processes that do not evaluate, those that `watch` goes by
        weights: puts the weights to validate in place
        on_better: called with the step while they are in place, when there are none better

    Attributes:
        stopped: whether patience has run out
    """

    def __init__(
        self,
        evaluate: Callable[[], dict[str, float]],
        loop: LoopConfig,
        watch: Watch,
        *,
        weights: Callable[[], AbstractContextManager[None]] = nullcontext,
        on_better: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.evaluate = evaluate
        self.loop = loop
        self.watch = watch
        self.weights = weights
        self.on_better = on_better

    @property
    def stopped(self) -> bool:
        return 0 < self.loop.patience <= self.watch.waited

    def __call__(self, step: int, scalars: dict[str, float]) -> bool:
        if step % self.loop.validate_every and step != self.loop.steps:
            return False
        with self.weights():
            metrics = self.evaluate()
            if self.watch.see(step, metrics):
                self.on_better(step)
        scalars.update({f"val/{name}": value for name, value in metrics.items()})
        shown = {k: v for k, v in metrics.items() if "/" not in k or k.startswith(COLLAPSE)}
        summary = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        log.info("step %d  loss %.4f  validated: %s", step, scalars["loss"], summary)
        if self.stopped and step != self.loop.steps:
            log.info(
                "stopped: %s was best (%.4f) at step %d, %d validations ago",
                self.watch.metric,
                self.watch.best.get(self.watch.metric, float("nan")),
                self.watch.best_step,
                self.watch.waited,
            )
        return self.stopped
