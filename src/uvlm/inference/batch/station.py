"""One loaded model at work: studies in, results out, each study's files written whole."""

from __future__ import annotations

import gc
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uvlm.errors import UvlmError
from uvlm.inference.batch.ahead import read_ahead
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import ASIDE, Result, remove_outputs
from uvlm.inference.batch.setup import Setup
from uvlm.inference.faults import describe, exit_code_of
from uvlm.inference.findings import Findings
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.study import Study
from uvlm.inference.writer import write_outputs
from uvlm.preprocessing.disk import DiskFullError, disk_full

__all__ = ["Fault", "Station", "held_interrupts", "load", "report"]


@dataclass(frozen=True)
class Fault:
    """Why a study has no findings."""

    error: Exception
    seconds: float
    """Spent on it."""


def load(setup: Setup, device: str) -> Pipeline:
    """The bundle on its device.

    Raises:
        UvlmError: as `Pipeline.load`; or it has no report part.
    """
    pipeline = Pipeline.load(
        setup.bundle, device, setup.base, precision=setup.precision, runtime=setup.runtime
    )
    pipeline.require("report")
    return pipeline


def report(pipeline: Pipeline, study: Path | Study, setup: Setup) -> Findings:
    """One study, in the way of `setup`."""
    return pipeline.report(
        study, setup.series, options=setup.options, guide=setup.guide, evidence=setup.evidence
    )


class Station:
    """A pipeline that writes into one folder."""

    def __init__(self, setup: Setup, device: str, out: Path) -> None:
        self.setup = setup
        self.out = out
        self.pipeline = load(setup, device)
        # They may quote a name; `catch_warnings` does not hold where threads read.
        warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")

    def run(self, items: Iterable[Item], emit: Callable[[Result], None], depth: int) -> None:
        """Give `emit` the result of each item once its files are written.

        An interruption waits for both, so that no study is written but not told.

        Raises:
            DiskFullError: the output's disk is full.
            RuntimeError: the GPU has failed, for this process for good.
        """
        for item, opened in read_ahead(items, self.read, depth):
            findings = self.infer(opened)
            del opened
            with held_interrupts():
                emit(self.write(item, findings))
            del findings

    def read(self, item: Item) -> Study | Fault:
        """The prepared study, or why there is none."""
        start = time.perf_counter()
        try:
            return self.pipeline.read(item.path, self.setup.series)
        except Exception as error:  # one study must not stop the others
            return Fault(error, time.perf_counter() - start)

    def infer(self, opened: Study | Fault) -> Findings | Fault:
        """What the model says of a prepared study, or why it says nothing."""
        if isinstance(opened, Fault):
            return opened
        start = time.perf_counter()
        try:
            return report(self.pipeline, opened, self.setup)
        except Exception as error:
            if "CUDA error" in str(error):
                raise  # every later study of this process would fail as well
            gc.collect()  # of memory that was not enough
            return Fault(error, sum(opened.seconds.values()) + time.perf_counter() - start)

    def write(self, item: Item, findings: Findings | Fault) -> Result:
        """Write the study's files, and say what came of it.

        Raises:
            DiskFullError: the disk is full.
        """
        start = time.perf_counter()
        result = Result(id=item.id, input=item.name, signature=item.signature)
        if isinstance(findings, Findings):
            try:
                if item.again:
                    remove_outputs(self.out, item.id)
                write_outputs(replace(findings, study=item.id), self.out, aside=ASIDE)
            except Exception as error:
                if disk_full(error, self.out, 0):
                    raise DiskFullError.at(self.out) from error
                seconds = sum(findings.timings.values()) + time.perf_counter() - start
                return _failed(result, Fault(error, seconds))
            return _told(result, findings, time.perf_counter() - start)
        return _failed(result, findings)


def _told(result: Result, findings: Findings, writing: float) -> Result:
    timings = {**findings.timings, "write": writing}
    return replace(
        result,
        report=findings.generated,
        probabilities=None if findings.probabilities is None else dict(findings.probabilities),
        flags=findings.flags,
        review=findings.review,
        warnings=findings.notes,
        timings={name: round(value, 4) for name, value in timings.items()},
        seconds=round(sum(timings.values()), 4),
    )


def _failed(result: Result, fault: Fault) -> Result:
    """`result` with the error."""
    text = describe(fault.error)
    if not isinstance(fault.error, UvlmError):
        text = f"{result.input}: {text}"
    return replace(
        result,
        error=text,
        exit_code=exit_code_of(fault.error),
        seconds=round(fault.seconds, 4),
    )


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end of the block; then they are a `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do, and only it is interrupted
        return
    asked: list[int] = []

    def remember(number: int, _: Any) -> None:
        asked.append(number)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, remember) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if asked:
        raise KeyboardInterrupt
