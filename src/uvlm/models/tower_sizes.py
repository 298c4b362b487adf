"""How large HSENet's parts are: weights, arithmetic, and what a step keeps; see `models.sizes`.

No torch import. Numbers are for one sample.
"""

from __future__ import annotations

from math import prod

from uvlm.models.config import EncoderConfig, Grid
from uvlm.models.sizes import PartSize, encoder_sizes
from uvlm.models.tower_config import PackerConfig, TextTowerConfig, TowersConfig, ViTConfig

__all__ = ["packer_size", "text_tower_size", "vision_sizes", "vit_size"]


def vision_sizes(config: EncoderConfig | ViTConfig | TowersConfig, shape: Grid) -> list[PartSize]:
    """The parts of any encoder: stem and stages of a U-Net, or each tower as one."""
    if isinstance(config, EncoderConfig):
        return encoder_sizes(config, shape)
    towers = config.towers if isinstance(config, TowersConfig) else (config,)
    return [vit_size(tower) for tower in towers]


def vit_size(config: ViTConfig) -> PartSize:
    """A tower: patches, positions and class token, blocks, the last normalisation, the gate."""
    width, tokens = config.width, config.num_tokens
    voxels = prod(config.patch)
    blocks, kept, flops, repeated = _blocks(config.layers, width, config.mlp, tokens + 1)
    weights = (voxels + 1) * width + (tokens + 1) * width + blocks + 2 * width
    weights -= 3 * width * config.layers  # query, key and value have no bias
    flops += 2.0 * voxels * width * tokens
    kept += tokens * (voxels + width)
    if config.gated:
        features = config.slice_width
        weights += 2 * width * (width + 1) + 2 * width * (features + 1) + 3 * width + 1
        weights += config.slice_depth
        flops += 4.0 * tokens * width**2
        kept += 5.0 * tokens * width
    return PartSize(
        parameters=weights,
        trainable=weights,
        flops=flops,
        kept=kept,
        out=float(tokens * width),
        repeated=repeated,
    )


def _blocks(layers: int, width: int, hidden: int, tokens: int) -> tuple[int, float, float, float]:
    """Weights, numbers kept, FLOPs and inputs of transformer blocks.

    Kept: the residual stream twice, both normalised, q k v, attention's result; the feed-forward
    block before and after its activation.
    """
    matrices = 4 * width**2 + 2 * width * hidden
    weights = layers * (matrices + 4 * width + width + hidden + 4 * width)
    flops = 2.0 * layers * matrices * tokens + 4.0 * layers * tokens**2 * width
    kept = float(layers * tokens * (8 * width + 2 * hidden))
    return weights, kept, flops, float(layers * tokens * width)


def text_tower_size(config: TextTowerConfig, tokens: int) -> PartSize:
    """A BERT over `tokens`; positions, kinds of sentence and the normalisation of embeddings."""
    hf = config.hf
    width = int(hf.get("hidden_size", config.width))
    layers = int(hf.get("num_hidden_layers", config.layers))
    hidden = int(hf.get("intermediate_size", config.ffn))
    positions = int(hf.get("max_position_embeddings", config.max_tokens))
    tokens = min(tokens, config.max_tokens)
    weights, kept, flops, repeated = _blocks(layers, width, hidden, tokens)
    weights += (config.vocab_size + positions + 2 + 2) * width
    # Dropout keeps a mask and a copy at four places; with it, attention keeps its weights.
    heads = int(hf.get("num_attention_heads", config.heads))
    kept += layers * (4.0 * tokens * width + 2.0 * heads * tokens**2)
    return PartSize(
        parameters=weights,
        trainable=weights,
        flops=flops,
        kept=kept,
        out=float(tokens * width),
        repeated=repeated,
    )


def packer_size(
    config: PackerConfig, encoder: ViTConfig | TowersConfig | EncoderConfig, shape: Grid, width: int
) -> PartSize:
    """Packers of all stages that are packed, to the decoder's `width`."""
    hidden = config.hidden or width
    stages = config.stages or tuple(range(1, encoder.num_stages + 1))
    weights, flops, kept, out = 0, 0.0, 0.0, 0.0
    for number, stage in enumerate(stages):
        channels = encoder.features[stage - 1]
        tokens = prod(encoder.stage_grid(shape, stage))
        packed = tokens // prod(config.kernel)
        if number == 0 or not config.shared:
            weights += 4 * channels * (channels + 1) + 2 * channels
            weights += hidden * (channels + 1) + width * (hidden + 1)
        flops += 2.0 * channels**2 * 2 * (tokens + packed)
        flops += 2.0 * packed * (channels * hidden + hidden * width)
        kept += 3.0 * tokens * channels + packed * (5.0 * channels + 2 * hidden)
        out += packed * width
    return PartSize(
        parameters=weights, trainable=weights, flops=flops, kept=kept, out=out, repeated=out
    )
