"""When a run is validated, what counts as better, and when patience ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from uvlm.training.config import LoopConfig
from uvlm.training.validation import Validation, Watch

NAN = float("nan")


def watched(values: list[float], mode: str = "max", **loop: int) -> tuple[list, Validation]:
    """(steps at which the run would have ended, the validation) after one validation per value."""
    found = iter(values)
    config = LoopConfig(steps=len(values), validate_every=1, **loop)
    validation = Validation(lambda: {"dice": next(found)}, config, Watch(metric="dice", mode=mode))
    ended = [step for step in range(1, len(values) + 1) if validation(step, {"loss": 1.0})]
    return ended, validation


def test_validation_runs_as_often_as_asked_and_at_the_end():
    watch = Watch(metric="dice", mode="max")
    validation = Validation(lambda: {"dice": 0.5}, LoopConfig(steps=7, validate_every=3), watch)
    seen = []
    for step in range(1, 8):
        scalars = {"loss": 1.0}
        validation(step, scalars)
        seen += [step] if "val/dice" in scalars else []
    assert seen == [3, 6, 7]
    assert watch.latest == {"dice": 0.5}


@pytest.mark.parametrize(
    ("mode", "best"), [("max", (2, 0.9)), ("min", (3, 0.1))], ids=["larger", "smaller"]
)
def test_the_best_is_the_first_extreme(mode, best):
    _, validation = watched([0.5, 0.9, 0.1, 0.9, 0.1], mode)
    watch = validation.watch
    assert (watch.best_step, watch.best["dice"]) == best
    assert watch.latest == {"dice": 0.1}


def test_what_is_not_finite_is_never_best():
    _, validation = watched([NAN, float("inf"), 0.2, NAN])
    assert (validation.watch.best_step, validation.watch.waited) == (3, 1)


def test_patience_ends_the_run_after_so_many_validations_without_a_better_one():
    ended, _ = watched([0.1, 0.3, 0.2, 0.3, 0.1], patience=2)
    assert ended == [4, 5]


def test_without_patience_the_run_goes_on():
    assert watched([0.3, 0.2, 0.1, 0.0])[0] == []


def test_a_watch_goes_on_from_its_state():
    _, validation = watched([0.1, 0.3, 0.2])
    assert Watch(**validation.watch.state()) == validation.watch


def test_the_weights_to_validate_are_in_place_while_the_best_are_kept():
    events: list = []

    @contextmanager
    def weights() -> Iterator[None]:
        events.append("in")
        yield
        events.append("out")

    def evaluate() -> dict[str, float]:
        events.append("evaluate")
        return {"dice": 0.5}

    loop = LoopConfig(steps=2, validate_every=1)
    watch = Watch(metric="dice", mode="max")
    validation = Validation(evaluate, loop, watch, weights=weights, on_better=events.append)
    validation(1, {"loss": 1.0})
    validation(2, {"loss": 1.0})
    assert events == ["in", "evaluate", 1, "out", "in", "evaluate", "out"]


def test_shares_of_alike_reports_are_shown(caplog):
    caplog.set_level("INFO", "uvlm")
    metrics = {"answer_ce": 2.0, "reports/identical": 0.75, "auroc/Nodule": 0.5}
    watch = Watch(metric="answer_ce", mode="min")
    Validation(lambda: metrics, LoopConfig(steps=1), watch)(1, {"loss": 1.0})
    assert "reports/identical 0.7500" in caplog.text
    assert "Nodule" not in caplog.text
