"""Formulas of size against the networks themselves and against what PyTorch saves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from tests.models.tiny import DECODER, ENCODER, REPORT, SHAPE
from uvlm.models.align import AlignStages
from uvlm.models.config import (
    ClassificationConfig,
    EncoderConfig,
    InjectionConfig,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.decoder import Decoder
from uvlm.models.encoder import Encoder
from uvlm.models.heads import QueryHead
from uvlm.models.layout import TokenLayout
from uvlm.models.pretrained import PretrainedDecoder
from uvlm.models.sizes import (
    QWEN3_4B,
    align_size,
    decoder_size,
    encoder_sizes,
    head_size,
    unet_size,
)
from uvlm.models.unet import SegmentationModel

PAPER = (192, 256, 256)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def kept_by(module: nn.Module, call: Any) -> int:
    """Numbers saved for the backward pass, weights left out, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(seen.values())


ENCODERS = [
    EncoderConfig(),
    ENCODER,
    EncoderConfig(features=(4, 8, 8), strides=(2, 2, 1), blocks=(2, 1, 3), in_channels=2),
]


@pytest.mark.parametrize("config", ENCODERS)
def test_weights_of_the_encoder(config: EncoderConfig) -> None:
    with torch.device("meta"):
        encoder = Encoder(config)
    parts = encoder_sizes(config, PAPER)
    found = [parameters(part) for part in (encoder.stem, *encoder.stages)]
    assert [part.parameters for part in parts] == found


def test_arithmetic_of_the_papers_encoder() -> None:
    """Counted with PyTorch's own counter at the paper's size: 21.7 GFLOP for the stem, 5.87 TFLOP
    in all."""
    parts = encoder_sizes(EncoderConfig(), PAPER)
    found = [round(part.flops / 1e9, 1) for part in parts]
    assert found == [21.7, 1391.6, 1919.9, 1307.8, 1001.8, 200.9, 25.5]


def test_what_the_encoder_keeps() -> None:
    """Formula against PyTorch, within 3 % (statistics of the normalisations)."""
    config = EncoderConfig(features=(8, 16, 32), strides=(1, 2, 2), blocks=(1, 2, 2))
    encoder, shape = Encoder(config), (32, 32, 32)
    x = torch.randn(1, 1, *shape)
    formula = sum(part.kept for part in encoder_sizes(config, shape))
    assert kept_by(encoder, lambda: encoder(x)) == pytest.approx(formula, rel=0.03)


@pytest.mark.parametrize(("classes", "convolutions"), [(3, 1), (30, 2)])
def test_segmentation_decoder(classes: int, convolutions: int) -> None:
    config = SegmentationConfig(
        encoder=ENCODER,
        classes=tuple(f"c{i}" for i in range(classes)),
        convs_per_stage=convolutions,
    )
    model = SegmentationModel(config).train()
    size = unet_size(config, SHAPE)
    assert size.parameters == parameters(model.decoder)
    stages = [s.detach().requires_grad_() for s in model.encoder(torch.randn(1, 1, *SHAPE))]
    own = kept_by(model, lambda: model.decode(stages)) - stages[-1].numel()
    assert own == pytest.approx(size.kept, rel=0.1)


def test_class_head() -> None:
    config = ClassificationConfig(classes=tuple("abcde"))
    with torch.device("meta"):
        head = QueryHead(320, 5, 4)
    assert head_size(config, PAPER).parameters == parameters(head)


@pytest.mark.parametrize(
    "injection",
    [
        InjectionConfig(),
        InjectionConfig(layers=()),
        InjectionConfig(reference_stage=-2, hidden=48),
        InjectionConfig(layers=((1, 4), (2, 4), (3, 2)), share=True, gate=True),
    ],
)
def test_projections(injection: InjectionConfig) -> None:
    config = replace(REPORT, injection=injection)
    with torch.device("meta"):
        align = AlignStages(config)
    assert align_size(config, DECODER.width).parameters == parameters(align)


def test_decoder_from_scratch() -> None:
    decoder = Decoder(DECODER)
    layout = TokenLayout(num_vision=32, num_text=32)
    size = decoder_size(DECODER, len(layout), 10)
    assert size.parameters == parameters(decoder)
    embeddings = torch.randn(1, len(layout), DECODER.width, requires_grad=True)
    found = kept_by(decoder, lambda: decoder.hidden(embeddings, layout))
    assert found == pytest.approx(size.kept, rel=0.15)


BASE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


@pytest.mark.parametrize("kind", ["qwen3", "llama", "phi3"])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_pretrained_decoder(kind: str, tuning: Any) -> None:
    extra = {"head_dim": 16} if kind == "qwen3" else {}
    settings = BASE | extra | {"model_type": kind, "tie_word_embeddings": kind == "qwen3"}
    config = PretrainedConfig(
        architecture=json.dumps(settings), vocab_size=70, tuning=tuning, rank=4, new_tokens=(64, 65)
    )
    with torch.device("meta"):
        decoder = PretrainedDecoder(config)
    size = decoder_size(config, 20, 10)
    assert size.parameters == parameters(decoder)
    assert size.trainable == sum(p.numel() for p in decoder.parameters() if p.requires_grad)


def test_qwen3_4b_stands_for_a_base_not_given() -> None:
    """4,022,468,096 parameters, as its authors count them."""
    assert decoder_size(PretrainedConfig(tuning="full"), 100, 10).parameters == 4_022_468_096
    assert QWEN3_4B["num_hidden_layers"] == 36


def test_a_report_model_is_the_sum_of_its_parts() -> None:
    config = ReportConfig()
    total = sum(p.parameters for p in encoder_sizes(config.encoder, config.shape))
    total += align_size(config, 512).parameters + decoder_size(config.decoder, 786, 400).parameters
    assert total == 197_481_408
