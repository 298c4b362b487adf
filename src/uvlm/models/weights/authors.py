"""Take over checkpoints of the published U-VLM code: class head, projections and decoder.

Its decoder turns neighbouring channels as pairs, ours channels half a head apart: the rows of the
query and key matrices are put in our order, which no product of the two can tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from uvlm.errors import BundleError
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    InjectionConfig,
    ReportConfig,
    authors,
)
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.models.weights.build import Built, build, part_of
from uvlm.models.weights.ledger import Ledger
from uvlm.models.weights.plan import Plan
from uvlm.text.tokenizer import Tokenizer

__all__ = ["tasks_of_uvlm"]

HEAD = "cls_head_list.0.pooling."
DECODER = "llm_report_gen.llm_model."
HEADS = 4
"""Of the class head, in every version of the published code."""

NAMES = (
    (r"head\.queries", HEAD + "class_query"),
    (r"head\.attention\.(.*)", HEAD + r"cross_attention.\1"),
    (r"head\.norm\.(.*)", HEAD + r"norm.\1"),
    (r"head\.output\.(.*)", HEAD + r"classifier.\1"),
    (r"decoder\.embedding\.(.*)", DECODER + r"token_embedding.\1"),
    (r"decoder\.norm\.(.*)", DECODER + r"ln_f.\1"),
    (r"decoder\.blocks\.(\d+)\.norm1\.(.*)", DECODER + r"layers.\1.self_attn_norm.\2"),
    (r"decoder\.blocks\.(\d+)\.norm2\.(.*)", DECODER + r"layers.\1.ffn_norm.\2"),
    (r"decoder\.blocks\.(\d+)\.attention\.out\.(.*)", DECODER + r"layers.\1.out_proj.\2"),
    (r"decoder\.blocks\.(\d+)\.ffn\.(.*)", DECODER + r"layers.\1.ffn.\2"),
)
"""Our name, theirs; all other names are equal, or computed below."""

PROJECTION = {"0": "pool_norm_list.{}", "1": "vision_projection_list.{}.0"}
PROJECTION |= {"3": "vision_projection_list.{}.2", "4": "vision_norm_list.{}"}


def tasks_of_uvlm(plan: Plan, ledger: Ledger, tokenizer: Tokenizer | None) -> Built:
    """Class head and decoder, whichever the checkpoint holds, over one encoder.

    Raises:
        BundleError: it holds what this package has no place for; the message names it.
    """
    built: Built = {}
    if ledger.names("cls_head_list."):
        built |= _classification(plan, ledger)
    if ledger.names("llm_report_gen."):
        if plan.network == "UVLM_Qwen3":
            _refuse(ledger, "its language model is a fine-tuned Qwen3 behind two projections")
        built |= _report(plan, ledger, tokenizer)
    if not built:
        _refuse(ledger, "it holds neither a class head nor a decoder")
    if len(built) == 2:  # both read one encoder: a study passes it once
        built["report"][1].encoder = built["classification"][1].encoder
    return built


def _refuse(ledger: Ledger, found: str) -> None:
    raise BundleError.about(ledger.path, found, "Take the encoder alone: --encoder-only.")


def _classification(plan: Plan, ledger: Ledger) -> Built:
    labels = plan.arch.get("cls_columns") or ()
    classes = (labels,) if isinstance(labels, str) else tuple(labels)
    if ledger.names("cls_head_list.1."):
        _refuse(ledger, "it has several class heads")
    if HEAD + "class_query" not in ledger:
        _refuse(ledger, "its class head averages over the volume and asks no queries")
    queries, outputs = ledger.shape(HEAD + "class_query")[0], ledger.shape(HEAD + "classifier.bias")
    if not len(classes) == queries == outputs[0]:
        _refuse(
            ledger,
            f"its class head has {queries} queries and {outputs[0]} outputs, its plan "
            f"{len(classes)} labels; the three must be equal",
        )
    config = ClassificationConfig(encoder=plan.encoder, classes=classes, heads=HEADS)

    def take(name: str, shape: torch.Size) -> Tensor:
        return ledger.take(_theirs(name), shape)

    module = build(ClassificationModel, config, take)
    return {"classification": (part_of(plan, "classification", config), module)}


def _theirs(name: str) -> str:
    for ours, theirs in NAMES:
        if found := re.fullmatch(ours, name):
            return found.expand(theirs)
    return name


def _report(plan: Plan, ledger: Ledger, tokenizer: Tokenizer | None) -> Built:
    config = _report_config(plan, ledger)
    size = config.decoder.vocab_size
    if tokenizer is None:
        raise BundleError.about(
            ledger.path,
            f"its decoder writes {size} different tokens, and nothing says which",
            "Give the tokenizer it was trained with (Qwen3-4B's): --tokenizer FILE. Or take the "
            "encoder alone: --encoder-only.",
        )
    if tokenizer.vocab_size > size:
        raise BundleError.about(
            ledger.path,
            f"its decoder has {size} tokens, the tokenizer {tokenizer.vocab_size}",
            "Give the tokenizer it was trained with.",
        )
    start, end = tokenizer.vision_start_id, tokenizer.vision_end_id
    config = replace(config, vision_start_id=start, vision_end_id=end)
    skipped = _skipped(plan.arch)

    def take(name: str, shape: torch.Size) -> Tensor:
        return _report_tensor(ledger, config, skipped, name, shape)

    module = build(ReportModel, config, take)
    if not config.layer_stages:
        never_read = ("pool_norm_list.", "pool_embed_list.", "vision_projection_list.")
        for prefix in (*never_read, "vision_norm_list."):
            ledger.leave(
                ledger.names(prefix), "the published code reads them only where it injects stages"
            )
    return {"report": (part_of(plan, "report", config), module)}


def _skipped(arch: Mapping[str, Any]) -> int:
    """Shallow stages without a projection."""
    return int(arch.get("deepstack_skip_stages", 0))


def _report_config(plan: Plan, ledger: Ledger) -> ReportConfig:
    """The decoder's configuration, from the plan and the tensors' shapes."""
    arch, stages = plan.arch, plan.encoder.num_stages
    skipped, per_stage = _skipped(arch), int(arch.get("layers_per_stage", 5))
    injects = bool(arch.get("use_deepstack", False))
    source = int(arch.get("visual_token_length_source_stage", -1))
    number = max(1, min(stages, stages + 1 + source if source < 0 else source + 1))
    if source == 0 or number <= skipped:
        _refuse(ledger, f"its visual tokens come from stage {number}, which has no projection")
    if injects and ledger.names("pool_embed_list."):
        _refuse(ledger, "it shrinks stages by learned convolutions, not by averaging")
    vocabulary, width = ledger.shape(DECODER + "token_embedding.weight")
    (hidden,) = ledger.shape(f"vision_projection_list.{number - 1 - skipped}.0.bias")
    (ffn,) = ledger.shape(DECODER + "layers.0.ffn.0.bias")
    layers = 1 + max(int(name[len(DECODER) :].split(".")[1]) for name in _layers(ledger))
    expected = (stages - skipped) * per_stage if injects else per_stage
    if layers != expected:
        _refuse(ledger, f"its decoder has {layers} layers, its plan {expected}")
    decoder = DecoderConfig(
        vocab_size=vocabulary, layers=layers, width=width, heads=int(arch.get("num_heads", 8)),
        ffn=ffn,
    )  # fmt: skip
    injection = InjectionConfig(
        reference_stage=number - 1 - stages, layers=None if injects else (), hidden=hidden
    )
    plain = ReportConfig(
        encoder=plan.encoder, shape=plan.patch, decoder=decoder, injection=injection
    )
    config = authors(
        plain,
        skip_stages=skipped,
        layers_per_stage=per_stage,
        gate=bool(arch.get("use_gate", False)),
    )
    return replace(config, injection=replace(config.injection, hidden=hidden))


def _layers(ledger: Ledger) -> list[str]:
    return ledger.names(DECODER + "layers.")


def _report_tensor(
    ledger: Ledger, config: ReportConfig, skipped: int, name: str, shape: torch.Size
) -> Tensor:
    if found := re.fullmatch(r"align\.projections\.(?:stage(\d+)|input)\.(\d)\.(\w+)", name):
        stage = int(found[1] or config.reference_stage)
        theirs = PROJECTION[found[2]].format(stage - 1 - skipped)
        return ledger.take(f"{theirs}.{found[3]}", shape)
    if found := re.fullmatch(r"align\.gates\.(\d+)\.(.*)", name):
        return ledger.take(f"{DECODER}layers.{int(found[1]) - 1}.gate_proj.{found[2]}", shape)
    if found := re.fullmatch(r"decoder\.blocks\.(\d+)\.attention\.qkv\.(\w+)", name):
        assert isinstance(config.decoder, DecoderConfig)
        third = (shape[0] // 3, *shape[1:])
        q, k, v = (
            ledger.take(f"{DECODER}layers.{found[1]}.{each}_proj.{found[2]}", third)
            for each in "qkv"
        )
        heads = config.decoder.heads
        return torch.cat((_halves(q, heads), _halves(k, heads), v))
    return ledger.take(_theirs(name), shape)


def _halves(rows: Tensor, heads: int) -> Tensor:
    """Rows of a query or key matrix: per head, those of even channels before those of odd ones."""
    per_head = rows.reshape(heads, -1, *rows.shape[1:])
    return torch.cat((per_head[:, 0::2], per_head[:, 1::2]), dim=1).flatten(0, 1)
