"""Tensor files can be read by whoever may read the files beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from uvlm.models.tensor_file import save_tensors


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_the_umask_decides_who_may_read(tmp_path: Path, mask: int, mode: int):
    path, tensors = tmp_path / "weights.safetensors", {"w": torch.arange(3.0)}
    before = os.umask(mask)
    try:
        save_tensors(tensors, path, {"made by": "test"})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert torch.equal(load_file(path)["w"], tensors["w"])


def test_an_earlier_file_is_replaced(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(9999))
    save_tensors({"w": torch.ones(1)}, path)
    assert load_file(path)["w"].tolist() == [1]
