"""HSENet's runs over the toy catalog, small enough to repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.data.toy_catalog import SHAPE
from tests.models.tiny_slice_encoder import WIDTH
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.models.bundle import load_bundle
from uvlm.models.config import DecoderConfig, EncoderConfig, InjectionConfig, ReportConfig
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.tower_config import PackerConfig, TextTowerConfig, TowersConfig, ViTConfig
from uvlm.training.config import LoopConfig, OptimConfig, RunConfig

VIT = ViTConfig(shape=SHAPE, patch=(2, 4, 4), width=8, layers=2, heads=2, mlp=16)
GATED = replace(VIT, slice_width=WIDTH)
TOWERS = TowersConfig(volume=VIT, slices=GATED)
TEXT = TextTowerConfig(vocab_size=300, width=8, layers=1, heads=2, ffn=16, max_tokens=24)
REPORT = ReportConfig(
    encoder=TOWERS,
    shape=SHAPE,
    injection=InjectionConfig(layers=()),
    packer=PackerConfig(kernel=(1, 2, 2)),
    decoder=DecoderConfig(vocab_size=300, layers=2, width=16, heads=2, ffn=32),
    mask="causal",
)


def contrastive(
    catalog: Path, encoder: EncoderConfig | ViTConfig = VIT, steps: int = 4, **changes: Any
) -> RunConfig:
    """Stage 1, or stage 2 with a gated encoder."""
    model = ContrastiveConfig(encoder=encoder, text=TEXT, width=6)
    return _run(catalog, model, steps, encoder_lr=1.0, **changes)


def reporting(
    catalog: Path, model: ReportConfig = REPORT, steps: int = 3, **changes: Any
) -> RunConfig:
    """Reports over a frozen encoder."""
    return _run(catalog, model, steps, encoder_lr=0.0, **changes)


def _run(
    catalog: Path,
    model: ReportConfig | ContrastiveConfig,
    steps: int,
    *,
    encoder_lr: float,
    slices: Path | None = None,
    **changes: Any,
) -> RunConfig:
    config = RunConfig(
        model=model,
        data=DataConfig(
            catalog=(catalog,),
            shape=SHAPE,
            batch_size=4,
            val_fraction=0.3,
            augment=AugmentConfig(spatial=False, intensity=False),
            slices=slices,
        ),
        optim=OptimConfig(lr=1e-3, encoder_lr=encoder_lr),
        loop=LoopConfig(
            steps=steps, log_every=1, validate_every=2, validate_studies=4, checkpoint_every=2
        ),
    )
    return replace(config, **changes)


def weights(bundle: Path, part: str) -> dict[str, Tensor]:
    return load_bundle(bundle, task=part).modules[part].state_dict()


def encoder_of(state: Mapping[str, Tensor], prefix: str = "encoder.") -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
