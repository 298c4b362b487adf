"""From checkpoints of the published HSENet code, or of M3D-CLIP, to a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
from torch import nn

from uvlm.errors import BundleError
from uvlm.imaging.preprocess import preset
from uvlm.models.bundle import Bundle
from uvlm.models.bundle_files import Part, sha256_of
from uvlm.models.config import PretrainedConfig
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.pretrained_base import base_tokenizer, read_settings
from uvlm.models.slice_weights import read_slice_encoder
from uvlm.models.text_tower import read_text_base, text_tokenizer
from uvlm.models.tower_config import TextTowerConfig, TowersConfig, ViTConfig
from uvlm.models.weights.checkpoint import Imported
from uvlm.models.weights.hsenet import Axes, contrastive_from_authors
from uvlm.models.weights.hsenet_report import ImportedReport, report_from_authors
from uvlm.models.weights.ledger import Record
from uvlm.text.tokenizer import TURN_END, Tokenizer

__all__ = ["HSENET_PROMPT", "import_hsenet", "import_hsenet_report"]

HSENET_PROMPT = "Can you summarize with findings the images presented?"
"""What the published code asks for a report, without turns."""

ABOUT = "checkpoint of the published HSENet code"


def import_hsenet(
    path: Path | str,
    bert: Path | str,
    *,
    region: str = "chest",
    axes: Axes = "zxy",
    vit: ViTConfig | None = None,
) -> Imported:
    """Stage 1 as part `contrastive`; stage 2 as `contrastive_2e3` with its teacher as the former.

    Args:
        path: `pytorch_model.bin` or `model.safetensors`, or the folder that holds one
        bert: folder of the text tower's base, bert-base-uncased: its tokenizer and number of heads
            are taken, its weights are those of the checkpoint
        region: body region it was trained for
        axes, vit: as `contrastive_from_authors`

    Raises:
        BundleError: it is no such checkpoint, or not every tensor has its place.
        ConfigError: `bert` is no BERT.
    """
    text = text_base(Path(bert))
    found = contrastive_from_authors(path, vit=vit, text=text, axes=axes)
    gated = _encoder(found.model).gated
    modules = {"contrastive_2e3" if gated else "contrastive": found.model}
    if found.teacher is not None:
        modules = {"contrastive": found.teacher, **modules}
    return Imported(
        bundle=Bundle(
            path=found.path,
            parts={name: _part(name, model, region) for name, model in modules.items()},
            modules=dict(modules),
            tokenizer=None,
            prompt=None,
            fingerprint=sha256_of(found.path)[:16],
            text_tokens=text_tokenizer(text),
        ),
        record=found.record,
    )


def import_hsenet_report(
    path: Path | str,
    stage2: Path | str,
    base: Path | str,
    slice_encoder: Path | str | None = None,
    *,
    region: str = "chest",
    **options: Any,
) -> Imported:
    """The model that writes reports or answers as part `report`.

    Args:
        path, stage2, base: as `report_from_authors`
        slice_encoder: folder of the 2D encoder, published BiomedCLIP, as part `slices`, without
            which a CT needs a slice bank
        region: body region it was trained for
        options: for `report_from_authors`

    Raises:
        BundleError: not every tensor has its place, or the 2D encoder's features are of another
            width than the gate takes.
        ConfigError: the base or the 2D encoder cannot be used.
    """
    found = report_from_authors(path, stage2, base, **options)
    config = found.model.config
    parts = {
        "report": Part(
            task="report",
            config=config,
            spec=preset("hsenet", config.shape),
            region=region,
            trained_on=ABOUT,
        )
    }
    modules: dict[str, nn.Module] = {"report": found.model}
    if slice_encoder is not None:
        parts["slices"], modules["slices"] = _slices(Path(slice_encoder), found, region)
    tokenizer = base_tokenizer(Path(base))
    assert isinstance(config.decoder, PretrainedConfig)
    end = config.decoder.hf.get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    return Imported(
        bundle=Bundle(
            path=found.path,
            parts=parts,
            modules=modules,
            tokenizer=tokenizer if end is None else ending_with(tokenizer, end),
            prompt=HSENET_PROMPT,
            fingerprint=sha256_of(found.path)[:16],
        ),
        record=_together(found.towers, found.packers),
    )


def ending_with(tokenizer: Tokenizer, end: int) -> Tokenizer:
    """A tokenizer whose end of a turn is entry `end`; the entry that was it takes that one's name.

    The published code ends an answer by the base's end of a text, this package by the end of a
    turn, which such a model has never seen.
    """
    content = json.loads(tokenizer.to_json())
    entries: dict[str, int] = content["model"]["vocab"]
    names = {entry["id"]: entry["content"] for entry in content["added_tokens"]}
    other = names.get(end)
    if other is None or other == TURN_END:
        return tokenizer
    swapped = {other: TURN_END, TURN_END: other}
    content["model"]["vocab"] = {swapped.get(name, name): i for name, i in entries.items()}
    for entry in content["added_tokens"]:
        entry["content"] = swapped.get(entry["content"], entry["content"])
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)))


def _slices(folder: Path, report: ImportedReport, region: str) -> tuple[Part, nn.Module]:
    config, module = read_slice_encoder(folder)
    encoder = report.model.config.encoder
    assert isinstance(encoder, TowersConfig)
    if config.width != encoder.slice_width:
        raise BundleError.about(
            folder,
            f"it describes a slice by {config.width} numbers, the gate takes {encoder.slice_width}",
            "Give the 2D encoder it was trained with, published BiomedCLIP.",
        )
    part = Part(task="slices", config=config, spec=None, region=region, trained_on=ABOUT)
    return part, module


def _together(first: Record, second: Record) -> Record:
    return Record(
        used=first.used + second.used,
        values=first.values + second.values,
        repeated=first.repeated + second.repeated,
        left_out={**first.left_out, **second.left_out},
    )


def text_base(folder: Path) -> TextTowerConfig:
    """The configuration of a text tower over this base, with as many tokens as it reads at most."""
    plain = TextTowerConfig(base=folder)
    if (folder / "config.json").is_file():
        positions = read_settings(folder / "config.json").get("max_position_embeddings")
        if isinstance(positions, int) and positions >= 2:
            plain = replace(plain, max_tokens=min(plain.max_tokens, positions))
    return read_text_base(plain)


def _part(name: str, model: ContrastiveModel, region: str) -> Part:
    return Part(
        task=name,
        config=model.config,
        spec=preset("hsenet", _encoder(model).shape),
        region=region,
        trained_on=f"{ABOUT} or of M3D-CLIP",
    )


def _encoder(model: ContrastiveModel) -> ViTConfig:
    encoder = model.config.encoder
    assert isinstance(encoder, ViTConfig)
    return encoder
