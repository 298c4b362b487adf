"""Each configuration makes its encoder, and each encoder has one face. CPU, a second."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.tiny import ENCODER, SHAPE
from uvlm.models.encoder import Encoder
from uvlm.models.tower_config import TowersConfig, ViTConfig
from uvlm.models.towers import Towers
from uvlm.models.vision import build_encoder, vision_input
from uvlm.models.vision_config import VisionConfig
from uvlm.models.vit import SlicedVolume, ViT

VIT = ViTConfig(shape=SHAPE, patch=(4, 8, 8), width=8, layers=1, heads=2, mlp=8)
GATED = ViTConfig(shape=SHAPE, patch=(4, 8, 8), width=8, layers=1, heads=2, mlp=8, slice_width=6)
TOWERS = TowersConfig(volume=VIT, slices=GATED)

ALL = pytest.mark.parametrize(
    ("config", "kind"),
    [(ENCODER, Encoder), (VIT, ViT), (GATED, ViT), (TOWERS, Towers)],
    ids=["unet", "vit", "gated", "towers"],
)


def batch(config: VisionConfig) -> dict[str, Any]:
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    gated = not isinstance(config, type(ENCODER)) and config.gated
    return {"image": image, "slices": torch.ones(1, 3, 6)} if gated else {"image": image}


@ALL
def test_the_configuration_names_its_encoder(config: VisionConfig, kind: type) -> None:
    encoder = build_encoder(config)
    assert type(encoder) is kind
    assert encoder.config == config


@ALL
def test_maps_are_as_the_configuration_says(config: VisionConfig, kind: type) -> None:
    maps = build_encoder(config).eval()(vision_input(batch(config)))
    assert [tuple(m.shape) for m in maps] == [
        (1, width, *config.stage_grid(SHAPE, i)) for i, width in enumerate(config.features, start=1)
    ]


@ALL
def test_each_stage_and_pooled_give_the_maps(config: VisionConfig, kind: type) -> None:
    encoder, x = build_encoder(config).eval(), vision_input(batch(config))
    last = config.num_stages

    def keep(stage: Tensor, number: int) -> Tensor:
        return stage

    maps = encoder(x)
    assert all(torch.equal(a, b) for a, b in zip(maps, encoder.each_stage(x), strict=True))
    made = encoder.pooled(x, keep, (last,))
    assert list(made) == [last]
    assert torch.equal(made[last], maps[-1])


@ALL
def test_checkpointing_is_off_at_first(config: VisionConfig, kind: type) -> None:
    parts = [p for p in build_encoder(config).modules() if hasattr(p, "checkpointing")]
    assert parts
    assert not any(part.checkpointing for part in parts)


def test_a_batch_with_slices_gives_both() -> None:
    image, slices = torch.rand(1, 1, *SHAPE), torch.rand(1, 3, 6)
    assert vision_input({"image": image}) is image
    assert vision_input({"image": image, "slices": slices}) == SlicedVolume(image, slices)
