"""What a batch says of itself while it runs."""

from __future__ import annotations

import logging

import pytest

from uvlm.inference.batch.progress import Progress
from uvlm.inference.batch.results import Result


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def result(**values) -> Result:
    return Result(id="a", input="a.nii.gz", signature="", **values)


def test_studies_a_minute_are_counted_from_the_start():
    clock = Clock()
    with Progress(10, clock) as progress:
        assert progress.per_minute == 0
        for _ in range(3):
            progress.add(result())
        clock.now += 90
        assert progress.per_minute == pytest.approx(2)


def test_without_a_terminal_a_line_says_now_and_then_how_far_it_is(caplog):
    clock = Clock()
    with caplog.at_level(logging.INFO), Progress(10, clock) as progress:
        for _ in range(4):
            clock.now += 40
            progress.add(result())
    assert caplog.messages == [
        "2 of 10 studies, 0 failed, 1.5 a minute",
        "4 of 10 studies, 0 failed, 1.5 a minute",
    ]


def test_what_goes_wrong_with_a_study_is_said_at_once(caplog):
    with Progress(2) as progress:
        progress.add(result(error="a.nii.gz: broken."))
        progress.add(result(flags=("Another body region.",)))
    assert caplog.messages == ["a: a.nii.gz: broken.", "a: WARNING: Another body region."]
    assert (progress.done, progress.failed) == (2, 1)
