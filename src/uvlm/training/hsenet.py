"""Recipes of HSENet: two stages of contrastive pretraining, then reports or answers.

At the paper's size they hold the published settings where the paper is silent (AdamW, 1e-4, 3 % of
warm-up, half a cosine, 24 studies per step); the temperature is a real one, equal reports are no
negatives and volumes are never mirrored. `authors` of each names what the published code does.
"""

from __future__ import annotations

from dataclasses import replace

from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.models.config import (
    DecoderConfig,
    InjectionConfig,
    PretrainedConfig,
    ReportConfig,
)
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import PackerConfig, TextTowerConfig, TowersConfig, ViTConfig
from uvlm.training.config import LoopConfig, OptimConfig, RunConfig
from uvlm.training.recipes import TINY_ENCODER

__all__ = [
    "hsenet_2e3",
    "hsenet_clip",
    "hsenet_report",
    "hsenet_vqa",
]

SHAPE = (32, 256, 256)
PLAIN = AugmentConfig(spatial=False, intensity=False)

STEPS = 98_000
"""50 epochs over 47,000 volumes, 24 a step."""

EVERY_LINEAR = ("qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj",
                "up_proj", "down_proj")  # fmt: skip
"""Layers with adapters: all of a Phi-4, a Qwen3 or a Llama."""


def _optim(lr: float, steps: int, weight_decay: float) -> OptimConfig:
    return OptimConfig(
        lr=lr, weight_decay=weight_decay, warmup=round(0.03 * steps), schedule="cosine"
    )


def hsenet_clip() -> RunConfig:
    """Stage 1: a 3D vision transformer and a BERT, from pairs of volume and report."""
    return RunConfig(
        model=ContrastiveConfig(),
        data=DataConfig(shape=SHAPE, batch_size=24, workers=8, augment=PLAIN),
        optim=_optim(1e-4, STEPS, 0.1),
        loop=LoopConfig(steps=STEPS, precision="bf16", validate_every=1000, chunk=3),
    )


def hsenet_2e3() -> RunConfig:
    """Stage 2: the same with a gate from slices, near to stage 1 for 5,000 steps."""
    return replace(hsenet_clip(), model=ContrastiveConfig(encoder=ViTConfig(slice_width=768)))


def hsenet_report() -> RunConfig:
    """Reports by a language model with adapters, over both towers, frozen, each packed to 128
    tokens."""
    steps = 6 * 47_000 // 16
    model = ReportConfig(
        encoder=TowersConfig(),
        shape=SHAPE,
        injection=InjectionConfig(layers=()),
        packer=PackerConfig(),
        decoder=PretrainedConfig(rank=16, alpha=32, targets=EVERY_LINEAR),
        mask="causal",
        markers="bos",
    )
    return RunConfig(
        model=model,
        data=DataConfig(shape=SHAPE, batch_size=2, workers=8, augment=PLAIN),
        optim=replace(_optim(1e-4, steps, 0.0), encoder_lr=0.0),
        loop=LoopConfig(steps=steps, accumulate=8, precision="bf16", validate_every=1000),
    )


def hsenet_vqa() -> RunConfig:
    """As `hsenet_report`, but answers to questions."""
    base, steps = hsenet_report(), 4 * 47_000 // 40
    return replace(
        base,
        data=replace(base.data, batch_size=5, questions=True),
        optim=replace(_optim(5e-5, steps, 0.0), encoder_lr=0.0),
        loop=replace(base.loop, steps=steps),
    )


TINY_SHAPE = (32, 64, 64)
TINY_VIT = ViTConfig(shape=TINY_SHAPE, patch=(4, 16, 16), width=96, layers=3, heads=4, mlp=192)
TINY_GATED = replace(TINY_VIT, slice_width=16)
TINY_TEXT = TextTowerConfig(vocab_size=1024, width=96, layers=2, heads=4, ffn=192, max_tokens=256)


def _tiny(steps: int, batch_size: int, lr: float) -> RunConfig:
    return RunConfig(
        model=ContrastiveConfig(encoder=TINY_VIT, text=TINY_TEXT, width=64),
        data=DataConfig(shape=TINY_SHAPE, batch_size=batch_size, val_fraction=0.1, augment=PLAIN),
        optim=OptimConfig(lr=lr, weight_decay=0.05, warmup=20, schedule="cosine"),
        loop=LoopConfig(
            steps=steps,
            log_every=5,
            validate_every=max(steps // 3, 1),
            validate_studies=100,
            checkpoint_every=100,
        ),
    )


def tiny_hsenet_clip() -> RunConfig:
    """Stage 1 on a laptop: whole volumes of 32x64x64 in the paper's patches, text from scratch.

    The loss leaves that of chance, ln 24, after 25 to 75 steps.
    """
    return _tiny(600, 24, 1e-3)


def tiny_hsenet_2e3() -> RunConfig:
    """Stage 2 on a laptop, with slices of a small 2D encoder."""
    base = _tiny(300, 24, 5e-4)
    return replace(base, model=ContrastiveConfig(encoder=TINY_GATED, text=TINY_TEXT, width=64))


def tiny_hsenet_report() -> RunConfig:
    """Reports on a laptop: both towers packed, a small decoder from scratch."""
    model = ReportConfig(
        encoder=TowersConfig(volume=TINY_VIT, slices=TINY_GATED),
        shape=TINY_SHAPE,
        injection=InjectionConfig(layers=()),
        packer=PackerConfig(kernel=(1, 2, 2)),
        decoder=DecoderConfig(vocab_size=2048, layers=4, width=192, heads=6, ffn=768),
        mask="causal",
    )
    base = _tiny(550, 8, 2.5e-3)
    return replace(base, model=model, optim=replace(base.optim, encoder_lr=0.0, weight_decay=0.01))


def tiny_hsenet_vqa() -> RunConfig:
    """Answers on a laptop."""
    base = tiny_hsenet_report()
    return replace(base, data=replace(base.data, questions=True))


def unet_packed() -> RunConfig:
    """U-VLM's encoder with HSENet's packer: the third stage from the end, region by region."""
    base = tiny_hsenet_report()
    model = ReportConfig(
        encoder=TINY_ENCODER,
        shape=TINY_SHAPE,
        injection=InjectionConfig(layers=()),
        packer=PackerConfig(kernel=(2, 2, 2), stages=(2, 3)),
        decoder=DecoderConfig(vocab_size=2048, layers=4, width=192, heads=6, ffn=768),
        mask="causal",
    )
    return replace(base, model=model)


def towers_injected() -> RunConfig:
    """HSENet's towers in U-VLM's way: each injected into layers of the decoder."""
    base = tiny_hsenet_report()
    assert isinstance(base.model, ReportConfig)
    layers = InjectionConfig(layers=((1, 2), (2, 1), (3, 2), (4, 1)))
    return replace(base, model=replace(base.model, packer=None, injection=layers))


def unet_clip() -> RunConfig:
    """Contrastive pretraining of U-VLM's encoder, between its labels and its reports.

    To be begun with a bundle of `tiny_classification`: from scratch, 100 steps are not enough to
    leave the loss of chance; so begun, 25 are.
    """
    base = tiny_hsenet_clip()
    return replace(base, model=ContrastiveConfig(encoder=TINY_ENCODER, text=TINY_TEXT, width=64))
