"""Reading a checkpoint runs nothing that stands in it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.weights.published import dataset, plans, save
from uvlm.errors import BundleError
from uvlm.models.weights.reader import read_checkpoint


class Trap:
    """Makes a folder when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_numbers_of_numpy_and_the_device_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"a": torch.ones(2)}, plans(), dataset())
    found = read_checkpoint(path)
    assert (found.trainer, found.epoch, found.configuration) == ("nnUNetTrainer", 3, "3d_fullres")
    assert found.dataset == dataset()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "plain pickle"])
def test_code_in_a_checkpoint_is_named_and_never_run(tmp_path: Path, legacy: bool) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "x.pth"
    content = {"network_weights": {"a": torch.ones(2)}, "logging": Trap(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BundleError, match=r"it holds (posix|nt)\.mkdir, which is code; nothing"):
        read_checkpoint(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap works where it is let"


def test_a_pickle_without_tensors_is_not_run_either(tmp_path: Path) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"state_dict": Trap(trap)}))
    with pytest.raises(BundleError):
        read_checkpoint(path)
    assert not trap.exists()


def test_arrays_are_more_than_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"network_weights": {"a": torch.ones(2)}, "b": np.ones(3)}, path)
    with pytest.raises(BundleError, match="which is code"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a PyTorch checkpoint"),
        (b"PK\x03\x04 torn", "not a PyTorch checkpoint"),
        (b"\x89PNG\r\n", "not a PyTorch checkpoint"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=match):
        read_checkpoint(path)


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"a": torch.ones(2000)}, plans(), dataset())
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(BundleError, match="not a PyTorch checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"network_weights": {"a": 1}}, [1, 2]])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(BundleError, match="it holds"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        read_checkpoint(tmp_path / "x.pth")
    with pytest.raises(BundleError, match="a folder"):
        read_checkpoint(tmp_path)


def test_a_broken_plan_is_refused(tmp_path: Path) -> None:
    torch.save({"network_weights": {"a": torch.ones(2)}}, tmp_path / "x.pth")
    (tmp_path / "plans.json").write_text("{")
    with pytest.raises(BundleError, match=r"plans.json: it cannot be read"):
        read_checkpoint(tmp_path / "x.pth")
    (tmp_path / "plans.json").write_text("[]")
    with pytest.raises(BundleError, match="not a table"):
        read_checkpoint(tmp_path / "x.pth")
