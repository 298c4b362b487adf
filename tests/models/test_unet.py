"""Segmentation logits lie on the input's grid; every weight is stored once and learns."""

from __future__ import annotations

import pytest
import torch

from tests.models.tiny import ENCODER, SHAPE
from uvlm.errors import ConfigError
from uvlm.models.config import EncoderConfig, SegmentationConfig
from uvlm.models.unet import SegmentationModel

HALVING = EncoderConfig(features=(4, 6, 8), strides=(2, 2, 2), blocks=(1, 1, 1))


def build(encoder: EncoderConfig = ENCODER) -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(SegmentationConfig(encoder=encoder, classes=("lung", "heart")))


@pytest.mark.parametrize("encoder", [ENCODER, HALVING])
def test_logits_have_the_inputs_size_and_a_background_channel(encoder: EncoderConfig) -> None:
    logits = build(encoder).eval()(torch.randn(1, 1, *SHAPE))
    assert logits.shape == (1, 3, *SHAPE)


def test_training_gives_one_map_per_decoder_level_finest_first() -> None:
    levels = build()(torch.randn(1, 1, *SHAPE))
    assert [tuple(x.shape[2:]) for x in levels] == [SHAPE, (8, 8, 16), (4, 4, 8)]


def test_training_upsamples_only_the_finest_map_of_a_halving_encoder() -> None:
    levels = build(HALVING)(torch.randn(1, 1, *SHAPE))
    assert [tuple(x.shape[2:]) for x in levels] == [SHAPE, (4, 4, 8)]


def test_eval_output_is_the_finest_training_output() -> None:
    model, x = build(HALVING), torch.randn(1, 1, *SHAPE)
    finest = model(x)[0]
    torch.testing.assert_close(model.eval()(x), finest)


def test_each_weight_has_one_name() -> None:
    model = build()
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]
    assert {key.split(".")[0] for key in model.state_dict()} == {"encoder", "decoder"}
    assert not any(key.startswith("decoder.encoder") for key in model.state_dict())


def test_every_parameter_receives_a_gradient() -> None:
    model = build()
    sum(level.square().mean() for level in model(torch.randn(1, 1, *SHAPE))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_no_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs classes"):
        SegmentationModel(SegmentationConfig(encoder=ENCODER))
