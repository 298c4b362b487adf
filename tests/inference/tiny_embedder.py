"""An embedder of the real class over a tiny random contrastive model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tests.models.tiny_contrastive import GATED, SHAPE, TEXT, UNET, VIT, config, model
from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.inference.embedder import ContrastiveEmbedder
from uvlm.models.bundle import Part, save_bundle
from uvlm.models.config import EncoderConfig
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.tower_config import SliceEncoderConfig, ViTConfig
from uvlm.text.report_tokens import train_report_tokens

__all__ = ["CUT", "GATED", "UNET", "VIT", "Letters", "tiny_embedder", "two_stages"]

CUT = SliceEncoderConfig(
    size=8, patch=4, width=GATED.slice_width, layers=1, heads=2, mlp=8, slices=3
)


class Letters:
    """Ids of a text of small letters, within a vocabulary of 40."""

    def encode(self, report: str) -> list[int]:
        return [1, *(3 + ord(letter) % 37 for letter in report[:8]), 2]


def spec() -> PreprocessSpec:
    return preset("paper", shape=SHAPE)


def tiny_embedder(
    encoder: EncoderConfig | ViTConfig = VIT, *, fingerprint: str = "contrastive/0123456789abcdef"
) -> ContrastiveEmbedder:
    made = model(config(encoder))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:  # of an untrained model every study is as near as every other
                weight.normal_(std=0.5, generator=generator)
    return ContrastiveEmbedder(made, spec(), Letters(), fingerprint)


def two_stages(folder: Path) -> Path:
    """Write a bundle of both stages with the 2D encoder."""
    torch.manual_seed(0)
    text = replace(TEXT, vocab_size=300)
    made = {
        "contrastive": ContrastiveModel(config(VIT, text=text)),
        "contrastive_2e3": ContrastiveModel(config(GATED, text=text)),
        "slices": SliceEncoder(CUT),
    }
    parts = {
        name: Part(task=name, config=module.config, spec=spec(), region="chest", trained_on="-")
        for name, module in made.items()
    }
    tokens = train_report_tokens(["a nodule in the lung"], 300, text.max_tokens)
    return save_bundle(folder, parts, made, text_tokens=tokens)
