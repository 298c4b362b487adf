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
from uvlm.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint

STATE = {"studies": "abc", "processes": 1}


class Tied(nn.Module):
    """Two names for one tensor, as a language model's embedding and output."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Tied()
    optimizer = torch.optim.AdamW(model.parameters())
    model.b(model.a(torch.randn(4, 3))).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_weights_optimiser_and_random_states_return_exactly(tmp_path: Path, accelerator):
    model, optimizer = trained()
    path = save_checkpoint(tmp_path, 7, model, optimizer, accelerator, STATE)
    expected = torch.rand(3), np.random.rand(3), random.random()
    other, other_optimizer = trained()
    assert load_checkpoint(path, other, other_optimizer, accelerator, STATE) == 7
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(optimizer.state[a]["exp_avg_sq"], other_optimizer.state[b]["exp_avg_sq"])
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()
    assert random.random() == expected[2]


def test_only_the_newest_is_kept_and_unfinished_ones_are_ignored(tmp_path: Path, accelerator):
    model, optimizer = trained()
    assert latest_checkpoint(tmp_path / "none") is None
    save_checkpoint(tmp_path, 9, model, optimizer, accelerator, STATE)
    (tmp_path / ".step-00000011.partial").mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000009"
    save_checkpoint(tmp_path, 10, model, optimizer, accelerator, STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000010"]


def test_what_the_user_put_beside_the_checkpoints_stays(tmp_path: Path, accelerator):
    model, optimizer = trained()
    (tmp_path / "step-00000009-best").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path, 9, model, optimizer, accelerator, STATE)
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000009"
    save_checkpoint(tmp_path, 10, model, optimizer, accelerator, STATE)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"step-00000010", "step-00000009-best", "notes.txt"}


def test_the_scale_of_fp16_gradients_returns(tmp_path: Path, accelerator, monkeypatch):
    model, optimizer = trained()
    monkeypatch.setattr(accelerator, "scaler", torch.amp.GradScaler("cpu", init_scale=8.0))
    path = save_checkpoint(tmp_path, 1, model, optimizer, accelerator, STATE)
    monkeypatch.setattr(accelerator, "scaler", torch.amp.GradScaler("cpu"))
    load_checkpoint(path, model, optimizer, accelerator, STATE)
    assert accelerator.scaler.get_scale() == 8


def test_other_studies_are_refused(tmp_path: Path, accelerator):
    model, optimizer = trained()
    path = save_checkpoint(tmp_path, 1, model, optimizer, accelerator, STATE)
    with pytest.raises(InputError, match="studies abc, the run has xyz"):
        load_checkpoint(path, model, optimizer, accelerator, {**STATE, "studies": "xyz"})


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json"])
def test_a_damaged_file_is_named_with_its_folder(tmp_path: Path, accelerator, name: str):
    model, optimizer = trained()
    path = save_checkpoint(tmp_path, 1, model, optimizer, accelerator, STATE)
    (path / name).write_bytes(b"damaged")
    with pytest.raises(InputError, match="step-00000001: the checkpoint cannot be read"):
        load_checkpoint(path, model, optimizer, accelerator, STATE)


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, accelerator, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, optimizer = trained()
    path = save_checkpoint(tmp_path / "c", 1, model, optimizer, accelerator, STATE)
    torch.save(Harmful(), path / "optimizer.pt")
    with pytest.raises(InputError):
        load_checkpoint(path, model, optimizer, accelerator, STATE)
    assert not Path("harmed").exists()
