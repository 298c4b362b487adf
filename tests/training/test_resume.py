"""A run killed at any change to its folder, then resumed, ends with an unbroken one's bytes."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.processes import train_in_processes
from uvlm.data.config import AugmentConfig
from uvlm.errors import InputError
from uvlm.training.config import RunConfig
from uvlm.training.features import fill_bank
from uvlm.training.run import train

Build = Callable[[str], RunConfig]
TASKS = ("segmentation", "classification", "report", "joint")


def ended(out: Path) -> tuple[bytes, list[tuple[str, str, str]]]:
    """(checksums of the bundle's files, the log without what a clock decides)"""
    with (out / "log.csv").open(newline="") as file:
        log = [(r["step"], r["name"], r["value"]) for r in csv.DictReader(file)]
    assert len({row[:2] for row in log}) == len(log)
    checksums = (out / "bundle" / "checksums.json").read_bytes()
    return checksums, sorted(row for row in log if row[1] != "seconds")


def kill_and_resume(config: RunConfig, kill: tuple[int, int], processes: int = 1) -> None:
    assert train_in_processes(config, processes=processes, kill=kill) is None
    assert config.out is not None
    # Resuming a run that had not even made its folder is starting it.
    train_in_processes(config, resume=True, processes=processes)


def short(config: RunConfig, **loop: object) -> RunConfig:
    """Four steps, two checkpoints, and rows of the log that reach over a checkpoint."""
    changed = {"steps": 4, "log_every": 3, "validate_every": 2, "checkpoint_every": 2, **loop}
    return replace(config, loop=replace(config.loop, **changed))


def test_the_same_run_in_a_process_of_its_own_gives_the_same_bytes(tiny_run: Build, tmp_path: Path):
    config = short(tiny_run("classification"))
    train(replace(config, out=tmp_path / "here"))
    train_in_processes(replace(config, out=tmp_path / "there"))
    assert ended(tmp_path / "here") == ended(tmp_path / "there")


@pytest.mark.parametrize("share", [0.05, 0.4, 0.6, 0.95])
def test_a_kill_at_a_change_of_the_folder_changes_nothing(
    tiny_run: Build, tmp_path: Path, share: float
):
    config = short(tiny_run("classification"), best=True)
    config = replace(config, optim=replace(config.optim, ema=0.5))
    straight = replace(config, out=tmp_path / "straight")
    changes = train_in_processes(straight)
    assert changes is not None
    broken = replace(config, out=tmp_path / "broken")
    kill_and_resume(broken, (0, int(share * len(changes))))
    assert ended(tmp_path / "broken") == ended(tmp_path / "straight")
    assert sorted(p.name for p in (tmp_path / "broken").iterdir()) == sorted(
        p.name for p in (tmp_path / "straight").iterdir()
    )


@pytest.fixture
def banked(tiny_run: Build, tmp_path: Path) -> RunConfig:
    """A report run from a feature bank, views drawn at random."""
    config = tiny_run("report")
    augment = AugmentConfig(spatial=False, intensity=True)
    config = replace(config, data=replace(config.data, augment=augment))
    bank = fill_bank(replace(config, out=tmp_path / "bank"), views=2)
    return replace(config, data=replace(config.data, bank=bank))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_kill_changes_nothing_with_a_bank(banked: RunConfig, tmp_path: Path, processes: int):
    config = short(banked)
    changes = train_in_processes(replace(config, out=tmp_path / "straight"), processes=processes)
    assert changes is not None
    broken = replace(config, out=tmp_path / "broken")
    kill_and_resume(broken, (0, int(0.6 * len(changes))), processes)
    assert ended(tmp_path / "broken") == ended(tmp_path / "straight")


def test_a_bank_that_was_made_anew_from_others_is_noticed(banked: RunConfig, tmp_path: Path):
    config = replace(short(banked), out=tmp_path / "run")
    changes = train_in_processes(replace(config, out=tmp_path / "straight"))
    assert changes is not None
    train_in_processes(config, kill=(0, int(0.7 * len(changes))))
    assert config.data.bank is not None
    shutil.rmtree(config.data.bank)
    without = replace(config, data=replace(config.data, bank=None))
    fill_bank(replace(without, out=config.data.bank), views=3)
    with pytest.raises(InputError, match="feature bank"):
        train(config, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("task", [*TASKS, "report from a bank"])
def test_a_kill_at_changes_all_along_the_run_changes_nothing(
    request: pytest.FixtureRequest, tiny_run: Build, tmp_path: Path, task: str, processes: int
):
    config = tiny_run(task) if task in TASKS else request.getfixturevalue("banked")
    config = short(config)
    straight = replace(config, out=tmp_path / "straight")
    changes = train_in_processes(straight, processes=processes)
    assert changes is not None
    expected = ended(tmp_path / "straight")
    # Every one of one kind of run, some of the others: what is written hardly differs.
    every = 1 if (task, processes) == ("joint", 1) else 5 * processes
    for number in range(0, len(changes), every):
        broken = replace(config, out=tmp_path / f"broken{number}")
        kill_and_resume(broken, (0, number), processes)
        assert ended(tmp_path / f"broken{number}") == expected, changes[number]
