"""How large every network is: weights, arithmetic, and what a step keeps for its backward pass.

Formulas, not measurements, so that nothing is built; the tests compare them with the networks
themselves and with what PyTorch really saves. No torch import.

Numbers are for one sample. FLOPs count a multiplication and an addition as two. Values that the
backward pass needs are counted in numbers kept; how many bytes each has depends on the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    Grid,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)

__all__ = [
    "QWEN3_4B",
    "PartSize",
    "align_size",
    "decoder_size",
    "encoder_sizes",
    "head_size",
    "unet_size",
]

QWEN3_4B: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "intermediate_size": 9728,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}
"""Stands for a pretrained decoder whose base is not given (config.json of Qwen3-4B)."""


@dataclass(frozen=True, kw_only=True)
class PartSize:
    """One part of a network."""

    parameters: int
    """All weights."""

    trainable: int
    """Those of them that learn when the part does; fewer than all for adapters."""

    flops: float = 0.0
    """Of one forward pass."""

    kept: float = 0.0
    """Numbers the backward pass needs beyond the part's input."""

    out: float = 0.0
    """Numbers in the part's result; for a stage of the encoder, its feature map."""

    repeated: float = 0.0
    """Numbers that stay when the part is computed again in the backward pass; its inputs, layer
    by layer."""


def _conv(source: int, target: int, kernel: int, voxels: int) -> tuple[int, float]:
    """Parameters of a convolution with bias and of the normalisation after it, and FLOPs."""
    weights = source * target * kernel
    return weights + 3 * target, 2.0 * weights * voxels


def encoder_sizes(config: EncoderConfig, shape: Grid) -> list[PartSize]:
    """The stem, then every stage.

    A convolution with normalisation and activation keeps two maps: what the normalisation and
    what the next convolution (or the activation, done in place) received. A residual block has two
    of them. The first block of a stage keeps its pooled input and what the normalisation of its
    shortcut received as well.
    """
    voxels = prod(config.stage_grid(shape, 1))
    width = config.features[0]
    weights, flops = _conv(config.in_channels, width, 27, voxels)
    parts = [_part(weights, flops, kept=2.0 * width * voxels, out=float(width * voxels))]
    for number, channels in enumerate(config.features, start=1):
        voxels = prod(config.stage_grid(shape, number))
        weights, flops, maps = 0, 0.0, 0.0
        for block in range(config.blocks[number - 1]):
            source = width if block == 0 else channels
            for convolution in (
                _conv(source, channels, 27, voxels),
                _conv(channels, channels, 27, voxels),
            ):
                weights, flops = weights + convolution[0], flops + convolution[1]
            maps += 4
            if source != channels:
                # The shortcut's convolution has no bias.
                shortcut = _conv(source, channels, 1, voxels)
                weights, flops = weights + shortcut[0] - channels, flops + shortcut[1]
                pooled = number > 1 and config.strides[number - 1] != 1
                maps += 1 + (source / channels if pooled else 0)
        size = float(channels * voxels)
        parts.append(_part(weights, flops, kept=maps * size, out=size))
        width = channels
    return parts


def _part(parameters: int, flops: float, *, kept: float, out: float) -> PartSize:
    return PartSize(
        parameters=parameters, trainable=parameters, flops=flops, kept=kept, out=out, repeated=out
    )


def unet_size(config: SegmentationConfig, shape: Grid) -> PartSize:
    """The decoder of task 1; `out` is its largest logits, which the loss multiplies."""
    encoder, classes = config.encoder, 1 + len(config.classes)
    weights, flops, kept = 0, 0.0, 0.0
    for level in range(encoder.num_stages - 1, 0, -1):
        below, skip = encoder.features[level], encoder.features[level - 1]
        voxels = prod(encoder.stage_grid(shape, level))
        kernel = encoder.strides[level] ** 3
        weights += below * skip * kernel + skip
        flops += 2.0 * below * skip * voxels
        for convolution in range(config.convs_per_stage):
            source = 2 * skip if convolution == 0 else skip
            of_conv = _conv(source, skip, 27, voxels)
            weights, flops = weights + of_conv[0], flops + of_conv[1]
        weights += skip * classes + classes
        flops += 2.0 * skip * classes * voxels
        # Both halves side by side, then two maps per convolution.
        kept += (2 + 2 * config.convs_per_stage) * skip * voxels
    logits = float(classes * prod(encoder.stage_grid(shape, 1)))
    return _part(weights, flops, kept=kept, out=logits)


def head_size(config: ClassificationConfig, shape: Grid) -> PartSize:
    """Task 2's queries, attention, normalisation and output."""
    channels, labels = config.encoder.features[-1], len(config.classes)
    tokens = prod(config.encoder.stage_grid(shape, config.encoder.num_stages))
    attention = 4 * channels * channels + 4 * channels
    weights = labels * channels + attention + 2 * channels + labels * (labels * channels + 1)
    flops = 2.0 * tokens * 2 * channels**2 + 4.0 * labels * channels * (channels + tokens)
    return _part(weights, flops, kept=4.0 * tokens * channels, out=float(labels))


def align_size(config: ReportConfig, width: int) -> PartSize:
    """Projections of the pooled stages to the decoder's `width`, and gates if there are any."""
    hidden, tokens = config.injection.hidden, config.num_visual_tokens
    pairs = config.layer_stages or ()
    names = {stage if config.injection.share else (layer, stage): stage for layer, stage in pairs}
    stages = list(names.values())
    if config.reference_stage not in stages:
        stages.append(config.reference_stage)
    weights, kept, flops = 0, 0.0, 0.0
    for stage in stages:
        channels = config.encoder.features[stage - 1]
        matrices = channels * hidden + hidden * width
        weights += matrices + hidden + width + 2 * channels + 2 * width
        flops += 2.0 * tokens * matrices
        kept += tokens * (2.0 * channels + 2 * hidden + 2 * width)
    if config.injection.gate:
        narrow = width // 4
        weights += len(pairs) * (2 * width * narrow + narrow + width)
        kept += len(pairs) * tokens * (2.0 * width + 2 * narrow)
        flops += len(pairs) * 4.0 * tokens * width * narrow
    return _part(weights, flops, kept=kept, out=float(tokens * width))


def decoder_size(
    config: DecoderConfig | PretrainedConfig, positions: int, predicted: int
) -> PartSize:
    """A language model over `positions`, with logits at `predicted` of them.

    The logits themselves are not among what is kept: they exist in chunks.
    """
    if isinstance(config, PretrainedConfig):
        return _pretrained_size(config, positions, predicted)
    width, layers, ffn = config.width, config.layers, config.ffn
    matrices = 4 * width**2 + 2 * width * ffn
    per_layer = matrices + 4 * width + width + ffn + 4 * width
    weights = config.vocab_size * width + layers * per_layer + 2 * width
    flops = 2.0 * layers * matrices * positions + 4.0 * layers * positions**2 * width
    flops += 2.0 * predicted * width * config.vocab_size
    # Residual stream twice, both normalised, q k v, q and k turned, attention's result; the
    # feed-forward block before and after its activation; and the mask of attention.
    kept = layers * (positions * (10.4 * width + 2 * ffn) + positions**2)
    repeated = float(layers * positions * width)
    return PartSize(
        parameters=weights,
        trainable=weights,
        flops=flops,
        kept=kept,
        out=float(positions * width),
        repeated=repeated,
    )


def _pretrained_size(config: PretrainedConfig, positions: int, predicted: int) -> PartSize:
    hf: Mapping[str, Any] = config.hf or QWEN3_4B
    width, layers, ffn = hf["hidden_size"], hf["num_hidden_layers"], hf["intermediate_size"]
    heads = hf["num_attention_heads"]
    groups = hf.get("num_key_value_heads") or heads
    head = hf.get("head_dim") or width // heads
    vocabulary = config.vocab_size or hf["vocab_size"]
    queries, keys = heads * head, groups * head
    matrices = width * (2 * queries + 2 * keys) + 3 * width * ffn
    norms = 2 * width + (2 * head if str(hf.get("model_type", "")).startswith("qwen3") else 0)
    biases = (queries + 2 * keys) if hf.get("attention_bias") else 0
    if hf.get("model_type") == "qwen2":
        biases = queries + 2 * keys
    tables = vocabulary * width * (1 if hf.get("tie_word_embeddings") else 2)
    weights = layers * (matrices + norms + biases) + width + tables
    trainable = weights
    if config.tuning == "lora":
        trainable = layers * _adapter_parameters(config, hf, width, queries, keys, ffn)
        trainable += len(config.new_tokens) * width * (tables // (vocabulary * width))
        weights += trainable
    flops = 2.0 * layers * matrices * positions + 4.0 * layers * positions**2 * queries
    flops += 2.0 * predicted * width * vocabulary
    # As above; the normalisation works on 32 bits, so that it keeps its input twice as wide, and
    # the gated feed-forward block keeps four results.
    kept = layers * positions * (10.0 * width + 4 * queries + 4 * keys + 4 * ffn)
    kept += layers * positions * (4 * config.rank if config.tuning == "lora" else 0)
    return PartSize(
        parameters=weights,
        trainable=trainable,
        flops=flops,
        kept=kept,
        out=float(positions * width),
        repeated=float(layers * positions * width),
    )


def _adapter_parameters(
    config: PretrainedConfig, hf: Mapping[str, Any], width: int, queries: int, keys: int, ffn: int
) -> int:
    """Of one layer: the rank times what goes in and out of each adapted matrix."""
    fused = hf.get("model_type") == "phi3"
    attention: dict[str, int] = {"o_proj": queries + width}
    if fused:
        attention["qkv_proj"] = width + queries + 2 * keys
    else:
        attention |= {"q_proj": width + queries, "k_proj": width + keys, "v_proj": width + keys}
    others = (
        {"gate_up_proj": width + 2 * ffn}
        if fused
        else dict.fromkeys(("gate_proj", "up_proj"), width + ffn)
    )
    others["down_proj"] = ffn + width
    named = attention | others
    chosen = config.targets or tuple(attention)
    return config.rank * sum(named.get(name, 0) for name in chosen)
