"""The encoder gives one map per stage and starts as nnU-Net's."""

from __future__ import annotations

import pytest
import torch

from tests.models.tiny import ENCODER, SHAPE
from uvlm.errors import ConfigError
from uvlm.models.config import EncoderConfig
from uvlm.models.encoder import Encoder


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ENCODER)


def test_one_map_per_stage_shallowest_first(encoder: Encoder) -> None:
    stages = encoder(torch.randn(2, 1, *SHAPE))
    expected = [
        (2, channels, *ENCODER.stage_grid(SHAPE, i))
        for i, channels in enumerate(ENCODER.features, start=1)
    ]
    assert [tuple(s.shape) for s in stages] == expected


def test_first_stride_of_two_halves_the_whole_grid() -> None:
    config = EncoderConfig(features=(4, 8), strides=(2, 2), blocks=(1, 1))
    stages = Encoder(config)(torch.randn(1, 1, 8, 8, 16))
    assert [tuple(s.shape[2:]) for s in stages] == [(4, 4, 8), (2, 2, 4)]


def test_state_dict_holds_stem_and_stages_only(encoder: Encoder) -> None:
    assert {key.split(".")[0] for key in encoder.state_dict()} == {"stem", "stages"}


def test_each_weight_has_one_name(encoder: Encoder) -> None:
    assert list(encoder.state_dict()) == [name for name, _ in encoder.named_parameters()]


def test_residual_blocks_start_as_identities(encoder: Encoder) -> None:
    scales = [p for name, p in encoder.named_parameters() if name.endswith("conv2.norm.weight")]
    assert len(scales) == sum(ENCODER.blocks)
    assert not any(scale.any() for scale in scales)


def test_a_volume_that_cannot_be_halved_names_the_divisor(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="not divisible by 8"):
        encoder(torch.randn(1, 1, 16, 16, 20))
