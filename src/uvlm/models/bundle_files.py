"""The files of a bundle, without torch: what each says, and whether all are there and unaltered.

model.safetensors  weights, keys "<part>.<name>"
config.json        each part's network, region, training data and metrics; the prompt
labels.json        class name -> output index, per part
preprocess.json    how each part's studies are prepared
tokenizer.json     vocabulary of the report part
text_tokenizer.json  vocabulary of the contrastive parts
draft.safetensors, typical.safetensors   see `EXTRAS`; not in every bundle
model_card.md      the same for people
checksums.json     SHA-256 of every other file
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uvlm.config import from_dict, to_dict
from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.config import Grid, PretrainedConfig, ReportConfig
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.parts import (
    ENCODERS,
    PARTS,
    Calibration,
    OperatingPoint,
    Part,
    Split,
    TaskConfig,
    adapted,
)

__all__ = [
    "ENCODERS",
    "EXTRAS",
    "PARTS",
    "BundleInfo",
    "Calibration",
    "OperatingPoint",
    "Part",
    "Split",
    "TaskConfig",
    "adapted",
    "extra_file",
    "read_bundle_info",
    "sha256_of",
    "verify",
]

FORMAT = 1
WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.json", "labels.json"
PREPROCESS, TOKENIZER, CARD = "preprocess.json", "tokenizer.json", "model_card.md"
TEXT_TOKENIZER = "text_tokenizer.json"
CHECKSUMS = "checksums.json"
EXTRAS = ("draft", "typical")
"""What a bundle may hold beside its parts: every training report, readable, from which decoding
proposes tokens, and which belongs to the report part; and what the features of training studies are
like."""

REQUIRED = (WEIGHTS, CONFIG, LABELS, PREPROCESS, CARD)
REMEDY = "Copy the whole bundle again from where it was trained."


def extra_file(name: str) -> str:
    """The file of one of `EXTRAS`."""
    return f"{name}.safetensors"


@dataclass(frozen=True, kw_only=True)
class _Described:
    """What config.json says of a part beside its network."""

    region: str
    trained_on: str
    patch: Grid | None
    metrics: dict[str, Any]
    split: Split | None = None
    calibration: Calibration | None = None


@dataclass(frozen=True, kw_only=True)
class BundleInfo:
    """All a bundle says about itself, its weights aside."""

    path: Path
    parts: dict[str, Part]
    prompt: str | None
    fingerprint: str
    """16 hexadecimal digits that change when any file does."""


def read_bundle_info(folder: Path | str) -> BundleInfo:
    """Read everything but the weights and the tokenizer, whose checksums are left unread too.

    Raises:
        BundleError: a file is missing, altered, or of a later format.
    """
    folder = Path(folder)
    verify(folder, skip=(WEIGHTS, TOKENIZER))
    config, specs = _read_json(folder / CONFIG), _read_json(folder / PREPROCESS)
    if config.get("format") != FORMAT:
        raise BundleError.about(
            folder / CONFIG,
            f"its format is {config.get('format')}, this version reads {FORMAT}",
            "Install the uvlm version that wrote it.",
        )
    try:
        parts = {
            name: _part_from_dict(name, values, specs[name]["spec"])
            for name, values in config["parts"].items()
        }
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise BundleError.about(
            folder / CONFIG,
            f"a setting cannot be read ({error})",
            "Install the uvlm version that wrote it.",
        ) from error
    return BundleInfo(
        path=folder,
        parts=parts,
        prompt=config.get("prompt"),
        fingerprint=sha256_of(folder / CHECKSUMS)[:16],
    )


def verify(folder: Path, skip: tuple[str, ...] = ()) -> None:
    """Compare every file with checksums.json.

    Args:
        skip: files that must be there but are not read

    Raises:
        BundleError: naming the file that is missing or altered.
    """
    _refuse_other(folder)
    expected = _read_json(folder / CHECKSUMS)
    for name in dict.fromkeys((*REQUIRED, *expected)):
        file = folder / name
        if name not in expected or Path(name).name != name:
            raise BundleError.about(folder / CHECKSUMS, f"it does not cover {name}", REMEDY)
        if not file.is_file():
            raise BundleError.about(file, "the file is missing", REMEDY)
        if name not in skip and sha256_of(file) != expected[name]:
            raise BundleError.about(file, "the file was altered since it was written", REMEDY)


def _refuse_other(folder: Path) -> None:
    """Refuse what is no bundle at all; a run's folder, easily mistaken for one, is told apart."""
    found = "no such folder"
    if folder.is_dir():
        if any((folder / name).exists() for name in (CHECKSUMS, WEIGHTS)):
            return
        inner = folder / "bundle"
        if (inner / CHECKSUMS).is_file():
            raise BundleError.about(folder, "it is a training run, not a bundle", f"Give {inner}.")
        found = f"it is not a bundle, it holds neither {CHECKSUMS} nor {WEIGHTS}"
    elif folder.exists():
        found = "it is a file, not a bundle"
    raise BundleError.about(folder, found, "Give the folder `bundle` that training wrote.")


def write_descriptions(folder: Path, parts: Mapping[str, Part], prompt: str | None) -> None:
    """config.json, labels.json and preprocess.json."""
    described = {name: _part_to_dict(part) for name, part in parts.items()}
    config = {"format": FORMAT, "parts": described, "prompt": prompt}
    _write_json(folder / CONFIG, config)
    _write_json(folder / LABELS, {name: part.labels for name, part in parts.items()})
    specs = {
        name: {"hash": part.spec.hash if part.spec else None, "spec": to_dict(part.spec)}
        for name, part in parts.items()
    }
    _write_json(folder / PREPROCESS, specs)


def write_checksums(folder: Path) -> str:
    """checksums.json over all files there are; returns the bundle's fingerprint."""
    sums = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
    _write_json(folder / CHECKSUMS, sums)
    return sha256_of(folder / CHECKSUMS)[:16]


def _part_to_dict(part: Part) -> dict[str, Any]:
    return {
        "config": to_dict(_portable(part.config)),
        "region": part.region,
        "trained_on": part.trained_on,
        "patch": to_dict(part.patch),
        "metrics": {name: _finite(value) for name, value in part.metrics.items()},
        "split": to_dict(part.split),
        "calibration": to_dict(part.calibration),
    }


def _portable(config: TaskConfig) -> TaskConfig:
    """Without the place of the base on the machine that trained it: its folder's name is enough."""
    if isinstance(config, ReportConfig) and isinstance(config.decoder, PretrainedConfig):
        base = config.decoder.base
        return replace(config, decoder=replace(config.decoder, base=base and Path(base.name)))
    if isinstance(config, ContrastiveConfig) and config.text.base is not None:
        return replace(config, text=replace(config.text, base=Path(config.text.base.name)))
    return config


def _part_from_dict(name: str, values: Mapping[str, Any], spec: Mapping[str, Any] | None) -> Part:
    if name not in PARTS:
        raise ConfigError(f"unknown part {name!r}")
    others = {key: value for key, value in values.items() if key != "config"}
    described = from_dict(_Described, others, name)
    # `config` and `spec` have one type per task, which the field's union cannot tell.
    return Part(
        task=name,
        config=from_dict(PARTS[name], values["config"], f"{name}.config"),
        spec=None if spec is None else from_dict(PreprocessSpec, spec, f"{name}.spec"),
        region=described.region,
        trained_on=described.trained_on,
        patch=described.patch,
        metrics=described.metrics,
        split=described.split,
        calibration=described.calibration,
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN: a metric that could not be computed is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise BundleError.about(file, "the file is missing", REMEDY)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError.about(file, f"it is not JSON ({error})", REMEDY) from error
    if not isinstance(content, dict):
        raise BundleError.about(file, "it is not a table of settings", REMEDY)
    return content


def _write_json(file: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def sha256_of(file: Path) -> str:
    """Checksum of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
