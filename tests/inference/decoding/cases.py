"""Tiny report models of every kind that decoding must be the same for, and slow ways to decode."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tests.models.tiny import NEXT_TO_DEEPEST, REPORT, random_stages
from tests.models.tiny_base import TEXT, report_config, report_model, tiny_base
from tests.models.tiny_packed import PACKED, UNET_PACKED
from uvlm.models.config import InjectionConfig, ReportConfig, authors
from uvlm.models.injection import VisualPlan
from uvlm.models.markers import with_markers
from uvlm.models.pretrained_base import base_tokenizer
from uvlm.models.uvlm import ReportModel
from uvlm.text.tokenizer import Tokenizer, train_tokenizer

NEVER = -1
PROMPTS = [[7, 8, 9], [11, 12, 13, 14, 15, 16], [9]]
"""Of different lengths."""

SCRATCH = {
    "scratch": REPORT,
    "many visual tokens": NEXT_TO_DEEPEST,
    "authors": authors(REPORT),
    "causal": replace(REPORT, mask="causal"),
    "gates": replace(REPORT, injection=InjectionConfig(gate=True)),
    "no injection": replace(REPORT, injection=InjectionConfig(layers=())),
    "packed": PACKED,
    "packed, begun": replace(PACKED, markers="bos"),
    "packed, bare": replace(UNET_PACKED, markers="none"),
}
OF_BASES = {
    "phi3 packed": replace(PACKED, markers="bos"),
    "phi4 bare": replace(PACKED, markers="none"),
}
"""Kind of the base first."""
PRETRAINED = ("qwen3", "phi3", "phi4", "llama", *OF_BASES)
EVERY = (*SCRATCH, *PRETRAINED)


@cache
def case(name: str, folder: Path, studies: int = 3) -> tuple[ReportModel, VisualPlan]:
    """A model whose texts do not repeat one token, and what it receives of each study."""
    if name in SCRATCH:
        model = scratch(SCRATCH[name])
    else:
        made = folder / name
        base = made if made.is_dir() else tiny_base(made, name.split()[0])
        model = report_model(_on_base(base, OF_BASES.get(name, REPORT))).eval()
    with torch.no_grad():
        return model, model.visual_plan(random_stages(model.config, studies))


def _on_base(base: Path, config: ReportConfig) -> ReportConfig:
    config = replace(config, decoder=report_config(base).decoder)
    return with_markers(config, base_tokenizer(base))


def scratch(config: ReportConfig) -> ReportModel:
    torch.manual_seed(0)
    model = ReportModel(config).eval()
    for name, p in model.named_parameters():
        if name.startswith("decoder.blocks") or ".gates." in name:
            p.data.add_(0.5 * torch.randn_like(p))
    return model


def spoken(words: int = 300) -> tuple[ReportModel, VisualPlan, Tokenizer]:
    """A model from scratch whose ids all stand for text, and its tokenizer."""
    tokenizer = train_tokenizer([TEXT * 3, "Übergröße, 3 µm² → ≥ 5 ° 肺"], words)
    decoder = replace(REPORT.decoder, vocab_size=tokenizer.vocab_size)
    model = scratch(replace(REPORT, decoder=decoder))
    with torch.no_grad():
        return model, model.visual_plan(random_stages(model.config, 2)), tokenizer


def log_chances(model: ReportModel, plan: VisualPlan, ids: list[int]) -> Tensor:
    """(T, V) log-probabilities after each text token of one study, without a cache."""
    with torch.no_grad():
        logits_TV = model.decode(plan, torch.tensor([ids]))[0]
    return logits_TV.float().log_softmax(-1)
