"""Two processes do what one does with twice the batch, and both end together."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.processes import train_in_processes
from uvlm.errors import InputError, TrainingDivergedError
from uvlm.models.bundle import load_bundle
from uvlm.training.config import OptimConfig, RunConfig

Build = Callable[[str], RunConfig]
TASKS = ("segmentation", "classification", "report", "joint")


def divided(config: RunConfig, batch_size: int, accumulate: int, out: Path) -> RunConfig:
    """Six steps of plain gradient descent, whose weights follow the gradient in proportion: AdamW
    turns the rounding error of a gradient that is 0 (a bias before a normalisation) into a step."""
    return replace(
        config,
        data=replace(config.data, batch_size=batch_size),
        loop=replace(config.loop, accumulate=accumulate),
        optim=OptimConfig(name="sgd", lr=1e-3, encoder_lr=config.optim.encoder_lr),
        out=out,
    )


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "loss"]


def worst_difference(one: Path, two: Path) -> float:
    a, b = load_bundle(one / "bundle").modules, load_bundle(two / "bundle").modules
    assert a.keys() == b.keys()
    return max(
        (value - b[part].state_dict()[name]).abs().max().item()
        for part, module in a.items()
        for name, value in module.state_dict().items()
    )


@pytest.mark.parametrize("task", TASKS)
def test_losses_and_weights_are_those_of_one_process_with_twice_the_batch(
    tiny_run: Build, tmp_path: Path, task: str
):
    config = tiny_run(task)
    one = divided(config, 4, 1, tmp_path / "one")
    two = divided(config, 1, 2, tmp_path / "two")
    train_in_processes(one)
    train_in_processes(two, processes=2)
    expected, found = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(expected) == 6
    assert found == pytest.approx(expected, rel=0, abs=1e-6)
    assert worst_difference(tmp_path / "one", tmp_path / "two") < 1e-6


def test_two_processes_resume_to_the_same_bytes_when_either_is_killed(
    tiny_run: Build, tmp_path: Path
):
    config = replace(tiny_run("report"), out=tmp_path / "straight")
    changes = train_in_processes(config, processes=2)
    assert changes is not None
    expected = (tmp_path / "straight" / "bundle" / "checksums.json").read_bytes()
    broken = replace(config, out=tmp_path / "broken")
    assert train_in_processes(broken, processes=2, kill=(0, len(changes) // 2)) is None
    train_in_processes(broken, processes=2, resume=True)
    assert (tmp_path / "broken" / "bundle" / "checksums.json").read_bytes() == expected


def test_another_number_of_processes_is_refused_on_resuming(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("classification"), out=tmp_path / "run")
    changes = train_in_processes(config, processes=2)
    assert changes is not None
    broken = replace(config, out=tmp_path / "broken")
    train_in_processes(broken, processes=2, kill=(0, len(changes) - 12))
    with pytest.raises(InputError, match="processes 2, the run has 1"):
        train_in_processes(broken, resume=True)


def test_a_loss_that_is_not_finite_on_one_process_ends_both(tiny_run: Build, tmp_path: Path):
    config = tiny_run("classification")
    config = replace(config, optim=replace(config.optim, lr=1e30), out=tmp_path / "run")
    with pytest.raises(TrainingDivergedError, match="for series toy_"):
        train_in_processes(config, processes=2)
