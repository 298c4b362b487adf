"""A 2D encoder's folder is read by name, or refused for what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models.tiny_slice_encoder import (
    HEAD,
    LAYERS,
    MEAN,
    MLP,
    PATCH,
    SIZE,
    STD,
    WIDTH,
    timm_tensors,
    tiny_slice_encoder,
)
from uvlm.errors import ConfigError
from uvlm.models.slice_weights import read_slice_encoder
from uvlm.models.tower_config import SliceEncoderConfig

SETTINGS = SliceEncoderConfig(slices=5, window=(-160.0, 240.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_slice_encoder(tmp_path / "encoder")


def change_config(folder: Path, part: str, **values: Any) -> None:
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    where = content["preprocess_cfg"]
    if part == "vision":
        where = content["model_cfg"]["vision_cfg"]
    where |= values
    path.write_text(json.dumps(content))


def test_sizes_follow_from_the_weights_and_the_cutting_from_the_settings(folder: Path):
    config, encoder = read_slice_encoder(folder, SETTINGS)
    assert config == encoder.config
    assert config == SliceEncoderConfig(
        size=SIZE,
        patch=PATCH,
        width=WIDTH,
        layers=LAYERS,
        heads=WIDTH // HEAD,
        mlp=MLP,
        slices=5,
        window=(-160.0, 240.0),
        mean=(MEAN[0], MEAN[1], MEAN[2]),
        std=(STD[0], STD[1], STD[2]),
    )
    assert not encoder.training
    for name, tensor in timm_tensors().items():
        assert torch.equal(encoder.state_dict()[name], tensor)


def test_another_width_is_read_from_the_shapes(tmp_path: Path):
    folder = tiny_slice_encoder(tmp_path, timm_tensors(width=8, layers=3))
    config, encoder = read_slice_encoder(folder)
    assert (config.width, config.layers, config.heads) == (8, 3, 2)
    assert encoder(torch.zeros(1, 2, SIZE, SIZE)).shape == (1, 2, 8)


def test_a_plain_timm_file_is_read_without_its_classifier(tmp_path: Path, caplog):
    """Of a width whose heads are known; without open_clip_config.json colours are CLIP's."""
    tensors = timm_tensors(width=192, layers=1)
    head = {"head.weight": torch.ones(2, 192), "head.bias": torch.ones(2)}
    save_file(tensors | head, tmp_path / "model.safetensors")
    config, _ = read_slice_encoder(tmp_path)
    assert (config.width, config.heads, config.mean) == (192, 3, SliceEncoderConfig().mean)
    assert "normalised as CLIP's" in caplog.text


def test_half_precision_weights_are_read_in_full(tmp_path: Path):
    halved = {name: tensor.half() for name, tensor in timm_tensors().items()}
    _, encoder = read_slice_encoder(tiny_slice_encoder(tmp_path, halved))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("lacking", "added", "message"),
    [
        (["norm.weight"], [], r"it lacks 1 tensors \(norm.weight\)"),
        ([], ["norm_pre.weight"], r"it has beside 1 tensors \(norm_pre.weight\)"),
        (["blocks.1.attn.qkv.bias"], ["fc_norm.bias"], r"qkv.bias\); it has beside 1 .*fc_norm"),
        (["pos_embed"], [], "it lacks the tensor pos_embed"),
    ],
)
def test_missing_and_unexpected_tensors_are_named(tmp_path: Path, lacking, added, message):
    tensors = timm_tensors() | {name: torch.ones(WIDTH) for name in added}
    for name in lacking:
        del tensors[name]
    folder = tiny_slice_encoder(tmp_path, tensors)
    with pytest.raises(ConfigError, match=rf"open_clip_model.safetensors: .*{message}.*Give a"):
        read_slice_encoder(folder)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("norm.bias", (WIDTH + 1,), r"norm.bias has the shape \(17,\), not \(16,\)"),
        ("pos_embed", (1, 4, WIDTH), r"pos_embed has the shape \(1, 4, 16\)"),
        ("patch_embed.proj.weight", (WIDTH, 48), r"proj.weight has the shape \(16, 48\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(tmp_path: Path, name, shape, message):
    folder = tiny_slice_encoder(tmp_path, timm_tensors() | {name: torch.ones(shape)})
    with pytest.raises(ConfigError, match=message):
        read_slice_encoder(folder)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path):
    tensors = timm_tensors()
    tensors["norm.bias"][3] = float("nan")
    with pytest.raises(ConfigError, match=r"norm.bias holds NaN"):
        read_slice_encoder(tiny_slice_encoder(tmp_path, tensors))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("vision", {"image_size": 224}, "image_size is 224, the weights are for 8 pixels"),
        ("vision", {"head_width": 5}, r"16 channels have \(head_width is 5\)"),
        ("vision", {"head_width": None}, "Write model_cfg.vision_cfg.head_width"),
        ("shades", {"mean": [0.5]}, r"preprocess_cfg.mean is \[0.5\]"),
        ("shades", {"std": [1, 1, 0]}, r"preprocess_cfg.std is \[1, 1, 0\]"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder: Path, part, values, message):
    change_config(folder, part, **values)
    with pytest.raises(ConfigError, match=message):
        read_slice_encoder(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_cfg": 3}'])
def test_damaged_settings_are_refused(folder: Path, content: str):
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"open_clip_config.json: .*Download it again"):
        read_slice_encoder(folder)


def test_pickled_weights_are_refused_and_never_read(tmp_path: Path):
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(
        ConfigError, match=r"only pickled weights.*open_clip_pytorch_model.bin.*can"
    ):
        read_slice_encoder(tmp_path)


def test_no_folder_no_weights_and_damaged_weights_are_refused(tmp_path: Path, folder: Path):
    with pytest.raises(ConfigError, match="no such folder"):
        read_slice_encoder(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"neither open_clip_model.safetensors nor"):
        read_slice_encoder(tmp_path / "empty")
    (folder / "open_clip_model.safetensors").write_bytes(b"half")
    with pytest.raises(ConfigError, match="unreadable"):
        read_slice_encoder(folder)
