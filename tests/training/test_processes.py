"""Two processes do what one does with twice the batch, and both end together."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.toy_catalog import SHAPE
from tests.training.processes import train_in_processes
from uvlm.errors import ConfigError, InputError, TrainingDivergedError
from uvlm.models.bundle import load_bundle
from uvlm.training.config import OptimConfig, RunConfig
from uvlm.training.processes import join_processes

FILES = Path(__file__).resolve().parents[2] / "runs" / "accelerate"
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


def losses(out: Path, name: str = "loss") -> list[float]:
    with (out / "log.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == name]


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


FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}


@pytest.mark.slow
def test_weights_divided_over_processes_train_and_resume_as_whole_ones(
    tiny_run: Build, tmp_path: Path
):
    config = tiny_run("report")
    loop = replace(config.loop, best=True)
    config = replace(config, loop=loop, optim=replace(config.optim, encoder_lr=0.1))
    one, two = (divided(config, 2 // n, 1, tmp_path / str(n)) for n in (1, 2))
    one, two = (replace(c, optim=replace(c.optim, ema=0.5)) for c in (one, two))
    train_in_processes(one)
    changes = train_in_processes(two, processes=2, environment=FSDP)
    assert changes is not None
    for name in ("loss", "grad_norm"):
        one_by_one = losses(tmp_path / "1", name)
        assert losses(tmp_path / "2", name) == pytest.approx(one_by_one, rel=1e-5, abs=1e-6)
    assert worst_difference(tmp_path / "1", tmp_path / "2") < 1e-6
    broken = replace(two, out=tmp_path / "broken")
    kill = (0, len(changes) * 2 // 3)
    assert train_in_processes(broken, processes=2, kill=kill, environment=FSDP) is None
    train_in_processes(broken, processes=2, resume=True, environment=FSDP)
    assert worst_difference(tmp_path / "2", tmp_path / "broken") == 0


def test_layers_to_divide_by_that_are_not_there_are_told(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("report"), out=tmp_path / "run")
    other = {**FSDP, "FSDP_TRANSFORMER_CLS_TO_WRAP": "Other"}
    with pytest.raises(ConfigError, match=r"class Other .*fsdp_transformer_layer_cls_to_wrap"):
        train_in_processes(config, processes=2, environment=other)
    assert not (tmp_path / "run").exists()


def test_weights_that_would_stay_whole_although_they_should_be_divided_are_refused(
    tiny_run: Build, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    with pytest.raises(ConfigError, match="over several GPUs"):
        join_processes(tiny_run("report"))


def test_the_first_version_of_fsdp_is_refused(tiny_run: Build, tmp_path: Path):
    config = replace(tiny_run("report"), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        train_in_processes(config, processes=2, environment={**FSDP, "FSDP_VERSION": "1"})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torchrun", "--nproc-per-node", "2"],
        ["accelerate", "launch", "--config_file", str(FILES / "ddp.yaml"), "--num_processes", "2"],
    ],
    ids=["torchrun", "accelerate launch"],
)
def test_launchers_start_processes_that_work_together(
    catalog: Path, tmp_path: Path, launcher: list[str]
):
    shape = [str(n) for n in SHAPE]
    program = str(Path(sys.executable).with_name(launcher[0]))
    command = [program, *launcher[1:], "-m", "uvlm.cli.main", "train"]
    command += ["tiny_classification", "--data.catalog", str(catalog), "--data.shape", *shape]
    command += ["--data.val-fraction", "0.3", "--model.encoder.strides", "1", "2", "2", "2"]
    command += ["--loop.steps", "2", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(tmp_path / "run" / "bundle")]
    (saved,) = (tmp_path / "run" / "checkpoint").iterdir()
    assert json.loads((saved / "state.json").read_text())["processes"] == 2


@pytest.mark.parametrize("name", ["ddp", "nodes", "fsdp", "deepspeed"])
def test_the_configuration_files_are_accelerates(name: str):
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(FILES / f"{name}.yaml"))
    assert found.num_processes >= found.num_machines
    assert (found.distributed_type.value == "FSDP") == (name == "fsdp")
