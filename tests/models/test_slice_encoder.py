"""The plain vision transformer computes what timm's does, from its tensors' names alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

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
)
from uvlm.errors import ConfigError
from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.tower_config import SliceEncoderConfig

CONFIG = SliceEncoderConfig(
    size=SIZE,
    patch=PATCH,
    width=WIDTH,
    layers=LAYERS,
    heads=WIDTH // HEAD,
    mlp=MLP,
    slices=3,
    mean=(MEAN[0], MEAN[1], MEAN[2]),
    std=(STD[0], STD[1], STD[2]),
)


def by_hand(tensors: dict[str, Tensor], picture_PP: Tensor) -> Tensor:
    """One picture, head by head and patch by patch, in double precision. (F,)"""
    w = {name: tensor.double() for name, tensor in tensors.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    colours = [(picture_PP.double() / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    image = torch.stack(colours)
    tokens = [w["cls_token"][0, 0]]
    for row in range(0, SIZE, PATCH):
        for column in range(0, SIZE, PATCH):
            patch = image[:, row : row + PATCH, column : column + PATCH]
            kernel = w["patch_embed.proj.weight"]
            tokens.append((kernel * patch).sum((1, 2, 3)) + w["patch_embed.proj.bias"])
    x = torch.stack(tokens) + w["pos_embed"][0]
    for i in range(LAYERS):
        joined = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = joined.split(WIDTH, dim=-1)
        heads = []
        for h in range(0, WIDTH, HEAD):
            part = slice(h, h + HEAD)
            scores = (q[:, part] @ k[:, part].T / HEAD**0.5).softmax(-1)
            heads.append(scores @ v[:, part])
        x = x + linear(torch.cat(heads, -1), f"blocks.{i}.attn.proj")
        hidden = linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = x + linear(hidden, f"blocks.{i}.mlp.fc2")
    return norm(x[0], "norm")


@pytest.fixture
def pictures() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def loaded(tensors: dict[str, Tensor], config: SliceEncoderConfig = CONFIG) -> SliceEncoder:
    encoder = SliceEncoder(config)
    encoder.load_state_dict(tensors)
    return encoder.eval()


def test_features_are_those_computed_by_hand(pictures: Tensor):
    tensors = timm_tensors()
    with torch.no_grad():
        features = loaded(tensors)(pictures)
    assert features.shape == (2, 3, WIDTH)
    expected = torch.stack([by_hand(tensors, p) for p in pictures.flatten(0, 1)])
    # Single precision against double; measured: 1e-6.
    torch.testing.assert_close(features.flatten(0, 1).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_slice_does_not_see_its_neighbours(pictures: Tensor):
    encoder = loaded(timm_tensors())
    with torch.no_grad():
        together, alone = encoder(pictures), encoder(pictures[1:, 2:])
    torch.testing.assert_close(together[1:, 2:], alone)


def test_the_default_has_the_size_of_vit_b_16():
    """85.8 million parameters, those of timm's vit_base_patch16_224 without a classifier."""
    with torch.device("meta"):
        encoder = SliceEncoder(SliceEncoderConfig())
    assert sum(p.numel() for p in encoder.parameters()) == 85_798_656


def test_the_fingerprint_follows_weights_and_settings_but_not_the_cutting():
    tensors = timm_tensors()
    plain = loaded(tensors).fingerprint
    assert loaded(tensors, replace(CONFIG, slices=9, window=(0.0, 1.0))).fingerprint == plain
    changed = tensors | {"norm.bias": tensors["norm.bias"] + 1e-6}
    others = {
        loaded(changed).fingerprint,
        loaded(tensors, replace(CONFIG, mean=(0.0, 0.0, 0.0))).fingerprint,
        loaded(tensors, replace(CONFIG, heads=2)).fingerprint,
    }
    assert len(others | {plain}) == 4


def test_pictures_of_another_size_are_refused(pictures: Tensor):
    with pytest.raises(ValueError, match=r"expected slices of \(B, S, 8, 8\), got \(2, 3, 8, 7\)"):
        loaded(timm_tensors())(pictures[..., 1:])


@pytest.mark.parametrize("changes", [{"size": 9}, {"heads": 3}])
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ConfigError, match="multiple of the patch"):
        SliceEncoder(replace(CONFIG, **changes))
