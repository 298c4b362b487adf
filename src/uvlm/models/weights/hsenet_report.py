"""Packers and adapters of the published HSENet code, over its towers and a language model.

    [base_model.model.]model.mm_projector.*     packer of stage 1's tokens
    [base_model.model.]model.mm_projector2.*    of stage 2's; without it one packs both
    [base_model.model.]model.layers.*.lora_[AB]*    adapters of the language model (PEFT)

The trainer saves these alone: towers are those of a stage-2 checkpoint, which holds stage 1, and
all other weights those of the language model's folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from uvlm.errors import BundleError
from uvlm.models.config import Grid, InjectionConfig, PretrainedConfig, ReportConfig
from uvlm.models.pretrained import load_base_weights, load_own_state, own_state, read_base
from uvlm.models.tower_config import PackerConfig, TowersConfig, ViTConfig
from uvlm.models.uvlm import ReportModel
from uvlm.models.weights.hsenet import (
    TEACHER,
    VISION,
    Axes,
    close,
    open_authors,
    renamed,
    vit_from_authors,
)
from uvlm.models.weights.ledger import Ledger, Record

__all__ = ["ImportedReport", "packers_from_authors", "report_from_authors"]

REMEDY = (
    "Give the packers and adapters that the published HSENet code saved, with the kernel and the "
    "language model they were trained with."
)
PACKER, SECOND = "mm_projector.", "mm_projector2."
PACKERS = (
    (r"project\.(\w+)\.(\w+)", r"proj_mpls.\1.\2"),
    (r"query\.(\w+)", r"resolution_attention.Wq.\1"),
    (r"key\.(\w+)", r"resolution_attention.Wk.\1"),
    (r"value\.(\w+)", r"resolution_attention.Wv.\1"),
    (r"out\.(\w+)", r"resolution_attention.output_linear.\1"),
    (r"norm\.(\w+)", r"resolution_attention.norm.\1"),
)
"""Our name of a packer's tensor -> theirs."""

ALPHA = 32
"""Of the published adapters; no tensor tells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImportedReport:
    """What the checkpoints gave; in eval mode, on the CPU."""

    path: Path
    """The file of packers and adapters."""

    model: ReportModel

    towers: Record
    """Of the stage-2 checkpoint."""

    packers: Record
    """Of packers and adapters."""


def report_from_authors(
    path: Path | str,
    stage2: Path | str,
    base: Path | str,
    *,
    vit: ViTConfig | None = None,
    kernel: Grid = (1, 4, 4),
    axes: Axes = "zxy",
    alpha: int = ALPHA,
) -> ImportedReport:
    """The whole model that writes reports or answers.

    Args:
        path: packers and adapters
        stage2: checkpoint of stage 2, with stage 1 inside
        base: folder of the language model, published Phi-4-mini-instruct
        vit: shape, patch and heads of both towers; default the published ones
        kernel: tokens along z, y, x of a region
        axes: of the volumes it was trained on
        alpha: scale of the adapters

    Raises:
        BundleError: a tensor of either checkpoint is missing, unknown or of another shape.
        ConfigError: the base cannot be used, or the kernel does not divide the grid.
    """
    towers, state, seen = _towers(Path(stage2), vit, axes)
    ledger = open_authors(Path(path), REMEDY)
    # Adapters alone are trained: what this package adds to a vocabulary has no rows of its own.
    decoder = replace(read_base(_decoder(ledger, Path(base), alpha)), new_tokens=())
    config = _config(ledger, towers, decoder, kernel, axes)
    with torch.random.fork_rng(devices=()):
        model = ReportModel(config)
    load_base_weights(model)
    state |= packers_from_authors(ledger, model)
    packers = close(ledger)
    load_own_state(model, state)
    return ImportedReport(path=ledger.path, model=model.eval(), towers=seen, packers=packers)


def packers_from_authors(ledger: Ledger, model: ReportModel) -> dict[str, Tensor]:
    """Tensors of `model.align` and of its decoder's adapters, by their names in `model`.

    Raises:
        BundleError: one is missing or of another shape.
    """
    front = _front(ledger)
    state = {}
    for name, tensor in own_state(model).items():
        if found := re.fullmatch(r"align\.packers\.(\w+)\.(.+)", name):
            packer = SECOND if found[1] == "stage2" else PACKER
            theirs = f"{front}model.{packer}{renamed(PACKERS, found[2])}"
        elif re.search(r"\.lora_[AB]\.", name):
            theirs = front + name.removeprefix("decoder.model.")
            # PEFT leaves the adapter's name out where it saves adapters alone.
            theirs = theirs if theirs in ledger else theirs.replace(".default.", ".")
        else:
            continue
        state[name] = ledger.take(theirs, tensor.shape)
    return state


def _towers(
    path: Path, vit: ViTConfig | None, axes: Axes
) -> tuple[TowersConfig, dict[str, Tensor], Record]:
    """Both towers of a stage-2 checkpoint, with their names in a report model."""
    ledger = open_authors(path)
    volume, first = vit_from_authors(ledger, TEACHER + VISION, like=vit, axes=axes)
    slices, second = vit_from_authors(ledger, VISION, like=vit, axes=axes)
    if not slices.gated:
        raise BundleError.about(path, "its tower has no gate", "Give a checkpoint of stage 2.")
    state = {f"encoder.volume.{name}": tensor for name, tensor in first.items()}
    state |= {f"encoder.slices.{name}": tensor for name, tensor in second.items()}
    others = r"(stage1_pretrained_CLIP\.)?(language_encoder\.|mm_(vision|language)_proj\.|logit_)"
    ledger.leave(
        [name for name in ledger.tensors if re.match(others, name)],
        "a report model has no text tower",
    )
    return TowersConfig(volume=volume, slices=slices), state, close(ledger)


def _front(ledger: Ledger) -> str:
    """What PEFT puts before every name."""
    known = re.compile(rf"(.*?)model\.{re.escape(PACKER)}")
    found = next((match for name in ledger.tensors if (match := known.match(name))), None)
    if found is None:
        raise BundleError.about(ledger.path, f"it lacks {PACKER}*", REMEDY)
    return found[1]


def _decoder(ledger: Ledger, base: Path, alpha: int) -> PretrainedConfig:
    """Rank and targets as the adapters' names and shapes tell."""
    adapter = re.compile(r"\.(\w+)\.lora_A\.(?:default\.)?weight$")
    found = {name: match[1] for name in ledger.tensors if (match := adapter.search(name))}
    if not found:
        raise BundleError.about(ledger.path, "it lacks adapters (lora_A)", REMEDY)
    rank = (*ledger.shape(min(found)), 0)[0]
    targets = tuple(sorted(set(found.values())))
    return PretrainedConfig(base=base, rank=rank, alpha=alpha, targets=targets)


def _config(
    ledger: Ledger, towers: TowersConfig, decoder: PretrainedConfig, kernel: Grid, axes: Axes
) -> ReportConfig:
    front = f"{_front(ledger)}model."
    hidden = ledger.shape(f"{front}{PACKER}proj_mpls.0.bias")[0]
    start = decoder.bos_id
    assert towers.volume is not None
    return ReportConfig(
        encoder=towers,
        shape=towers.volume.shape,
        injection=InjectionConfig(layers=()),
        packer=PackerConfig(
            kernel=kernel,
            shared=not ledger.names(front + SECOND),
            hidden=0 if hidden == decoder.width else hidden,
            order=axes,
        ),
        decoder=decoder,
        mask="causal",
        markers="none" if start is None else "bos",
        vision_start_id=start,
    )
