"""A checkpoint is whole or absent, exact, and never runs code when read."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from uvlm.errors import InputError
from uvlm.training.checkpoint import (
    Running,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from uvlm.training.weights import Average, own_names

STATE = {"studies": "abc", "processes": 1}
NAMES = ("a.weight", "a.bias", "b.bias")


class Tied(nn.Module):
    """Two names for one tensor, as a language model's embedding and output."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight


class Training(nn.Module):
    """As a task: the network is its `model`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Tied()


def trained(*, averaged: bool = False) -> Running:
    task = Training()
    model = task.model
    optimizer = torch.optim.AdamW(model.parameters())
    average = Average(task, 0.5) if averaged else None
    model.b(model.a(torch.randn(4, 3))).sum().backward()
    optimizer.step()
    if average is not None:
        average(1, {})
    return Running(
        task=task,
        model=model,
        optimizer=optimizer,
        accelerator=Accelerator(cpu=True),
        names=own_names(model, given_encoder=False),
        average=average,
    )


def test_weights_optimiser_and_random_states_return_exactly(tmp_path: Path):
    run = trained()
    assert run.names == NAMES
    path = save_checkpoint(tmp_path, 7, run, STATE)
    expected = torch.rand(3), np.random.rand(3), random.random()
    other = trained()
    assert load_checkpoint(path, other, STATE)["step"] == 7
    for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(
            run.optimizer.state[a]["exp_avg_sq"], other.optimizer.state[b]["exp_avg_sq"]
        )
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()
    assert random.random() == expected[2]


def test_averages_best_weights_and_progress_return_exactly(tmp_path: Path):
    run = trained(averaged=True)
    run.best = {"a.bias": torch.tensor([1.0, 2.0, 3.0])}
    path = save_checkpoint(tmp_path, 7, run, {**STATE, "progress": {"waited": 2}})
    other = trained(averaged=True)
    assert load_checkpoint(path, other, STATE)["progress"] == {"waited": 2}
    assert other.best.keys() == run.best.keys()
    assert torch.equal(other.best["a.bias"], run.best["a.bias"])
    assert run.average is not None
    assert other.average is not None
    for name, value in run.average.values.items():
        assert torch.equal(value, other.average.values[name])


def test_what_is_frozen_and_given_elsewhere_is_not_stored_again(tmp_path: Path):
    run = trained()
    run.model.encoder = nn.Linear(2, 2).requires_grad_(False)
    run.model.base = nn.Linear(2, 2).requires_grad_(False)
    run.model.register_buffer("mean", torch.zeros(1))
    assert own_names(run.model, given_encoder=True) == (*NAMES, "mean")
    alone = own_names(run.model, given_encoder=False)
    assert set(alone) == {*NAMES, "encoder.weight", "encoder.bias", "mean"}


def test_weights_of_another_model_are_refused(tmp_path: Path):
    run, other = trained(), trained()
    path = save_checkpoint(tmp_path, 7, run, STATE)
    other.names = (*NAMES, "c.weight")
    with pytest.raises(InputError, match=r"another model \(c.weight\)"):
        load_checkpoint(path, other, STATE)


def test_only_the_newest_is_kept_and_unfinished_ones_are_ignored(tmp_path: Path):
    run = trained()
    assert latest_checkpoint(tmp_path / "none") is None
    save_checkpoint(tmp_path, 9, run, STATE)
    (tmp_path / ".step-00000011.partial").mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000009"
    save_checkpoint(tmp_path, 10, run, STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000010"]


def test_what_the_user_put_beside_the_checkpoints_stays(tmp_path: Path):
    run = trained()
    (tmp_path / "step-00000009-best").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, 9, run, STATE)
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000009"
    save_checkpoint(tmp_path, 10, run, STATE)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"step-00000010", "step-00000009-best", "notes.txt"}


def test_the_scale_of_fp16_gradients_returns(tmp_path: Path, monkeypatch):
    run = trained()
    monkeypatch.setattr(run.accelerator, "scaler", torch.amp.GradScaler("cpu", init_scale=8.0))
    path = save_checkpoint(tmp_path, 1, run, STATE)
    monkeypatch.setattr(run.accelerator, "scaler", torch.amp.GradScaler("cpu"))
    load_checkpoint(path, run, STATE)
    assert run.accelerator.scaler.get_scale() == 8


def test_other_studies_are_refused(tmp_path: Path):
    run = trained()
    path = save_checkpoint(tmp_path, 1, run, STATE)
    with pytest.raises(InputError, match="studies abc, the run has xyz"):
        load_checkpoint(path, run, {**STATE, "studies": "xyz"})


FILES = ("model.safetensors", "optimizer.pt", "state.json", "average-0.safetensors", "random-0.pt")


@pytest.mark.parametrize("content", [b"damaged", b""], ids=["other", "empty"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_its_folder(tmp_path: Path, name: str, content: bytes):
    run = trained(averaged=True)
    path = save_checkpoint(tmp_path, 1, run, STATE)
    assert (path / name).is_file()
    (path / name).write_bytes(content)
    with pytest.raises(InputError, match="step-00000001: the checkpoint cannot be read"):
        load_checkpoint(path, run, STATE)


def test_memory_that_runs_out_is_no_damage(tmp_path: Path, monkeypatch):
    run = trained()
    path = save_checkpoint(tmp_path, 1, run, STATE)

    def exhausted(path: Path) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("uvlm.training.checkpoint.load_file", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        load_checkpoint(path, run, STATE)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trained()
    path = save_checkpoint(tmp_path / "c", 1, run, STATE)
    torch.save(Harmful(), path / "optimizer.pt")
    with pytest.raises(InputError):
        load_checkpoint(path, run, STATE)
    assert not Path("harmed").exists()
