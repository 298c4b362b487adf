"""Write and load a bundle: the folder that holds trained parts and all that is needed to use them.

Weights that two parts share, as an encoder handed on and frozen, are stored once; encoders equal
in every weight come back as one module, so that a study passes them once. Of a pretrained decoder
with adapters only these are stored: its base is named, and given again when the bundle is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from uvlm.errors import BundleError, ConfigError
from uvlm.models.backbone import EncoderOnly
from uvlm.models.bundle_files import (
    CARD,
    ENCODERS,
    EXTRAS,
    PARTS,
    REMEDY,
    TEXT_TOKENIZER,
    TOKENIZER,
    WEIGHTS,
    BundleInfo,
    Part,
    adapted,
    extra_file,
    read_bundle_info,
    verify,
    write_checksums,
    write_descriptions,
)
from uvlm.models.card import model_card
from uvlm.models.config import ReportConfig
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.markers import known_markers
from uvlm.models.pretrained import load_base_weights, load_own_state, own_state
from uvlm.models.pretrained_base import check_base
from uvlm.models.slice_encoder import SliceEncoder
from uvlm.models.tensor_file import save_tensors
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.text.report_tokens import ReportTokens
from uvlm.text.tokenizer import Tokenizer

__all__ = ["Bundle", "Part", "load_bundle", "read_bundle_info", "save_bundle"]

MODELS: dict[str, Any] = {
    "encoder": EncoderOnly,
    "segmentation": SegmentationModel,
    "classification": ClassificationModel,
    "contrastive": ContrastiveModel,
    "contrastive_2e3": ContrastiveModel,
    "report": ReportModel,
    "slices": SliceEncoder,
}

WITH_BUFFERS = (ContrastiveModel, SliceEncoder)
"""Have buffers that no file holds; they are made as usual, not without memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A loaded bundle. Equal encoders are one module: copy a module before training it."""

    path: Path
    parts: dict[str, Part]
    modules: dict[str, nn.Module]
    """In eval mode, on the CPU."""
    tokenizer: Tokenizer | None
    prompt: str | None
    fingerprint: str
    """16 hexadecimal digits that change when any file does."""

    extras: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Name -> tensors of what is no part: see `EXTRAS`. The draft only with the report part."""

    text_tokens: ReportTokens | None = None
    """Of the contrastive parts, which share it."""


def save_bundle(
    folder: Path | str,
    parts: Mapping[str, Part],
    modules: Mapping[str, nn.Module],
    tokenizer: Tokenizer | None = None,
    prompt: str | None = None,
    extras: Mapping[str, Mapping[str, Tensor]] | None = None,
    text_tokens: ReportTokens | None = None,
) -> Path:
    """Write a bundle, whole or not at all.

    Args:
        parts, modules: the same keys, of `PARTS`
        tokenizer: needed by the report part
        extras: what is no part, with keys of `EXTRAS`
        text_tokens: needed by the contrastive parts

    Raises:
        BundleError: `folder` exists; bundles are never overwritten.
        ConfigError: parts, modules and tokenizer do not fit together.
    """
    folder = Path(folder)
    _check_parts(parts, modules, tokenizer)
    _check_text(parts, text_tokens)
    if folder.exists():
        raise BundleError.about(folder, "it exists already", "Choose a new folder.")
    ordered = {name: parts[name] for name in PARTS if name in parts}
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    aside.mkdir(parents=True)
    try:
        stored, shared = _stored_once({name: modules[name] for name in ordered})
        # One metadata key: safetensors writes several in random order, and equal weights must give
        # equal files.
        save_tensors(stored, aside / WEIGHTS, metadata={"shared": json.dumps(shared)})
        write_descriptions(aside, ordered, prompt)
        if tokenizer is not None:
            tokenizer.save(aside / TOKENIZER)
        if text_tokens is not None:
            (aside / TEXT_TOKENIZER).write_text(text_tokens.to_json(), encoding="utf-8")
        for name, tensors in (extras or {}).items():
            assert name in EXTRAS
            save_tensors(dict(tensors), aside / extra_file(name))
        card = model_card(ordered, reports_inside="draft" in (extras or {}))
        (aside / CARD).write_text(card, encoding="utf-8")
        write_checksums(aside)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def load_bundle(folder: Path | str, base: Path | None = None, *, task: str | None = None) -> Bundle:
    """Verify every file, build every part and give it its weights.

    Args:
        folder: a bundle; or a checkpoint (`*.pth`) that nnU-Net or this package's trainers wrote
        base: folder of the pretrained language model whose adapters the bundle holds
        task: the only part to load, so that others of a bundle ask for neither memory nor base

    Raises:
        BundleError: a file is missing, altered, of a later format, or does not fit the others; or
            the base is missing or another one.
    """
    folder = Path(folder)
    if folder.suffix == ".pth" and folder.is_file():
        from uvlm.models.weights import checkpoint_bundle

        bundle = checkpoint_bundle(folder, base=base)
        if task is None:
            return bundle
        _check_part(task, bundle.parts, folder)
        return replace(
            bundle, parts={task: bundle.parts[task]}, modules={task: bundle.modules[task]}
        )
    verify(folder)
    info = read_bundle_info(folder)
    if task is not None:
        _check_part(task, info.parts, folder)
        info = replace(info, parts={task: info.parts[task]})
    _check_base(info, base)
    has_tokenizer = (folder / TOKENIZER).is_file()
    tokenizer = Tokenizer.load(folder / TOKENIZER) if has_tokenizer else None
    try:
        _check_tokenizer(info.parts, tokenizer)
        text_tokens = _read_text_tokens(folder, info.parts)
        _check_text(info.parts, text_tokens)
        modules = _build_modules(info.parts, folder / WEIGHTS, base)
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise BundleError.about(
            folder, f"its files do not fit together ({error})", REMEDY
        ) from error
    return Bundle(
        path=folder,
        parts=info.parts,
        modules=modules,
        tokenizer=tokenizer,
        prompt=info.prompt,
        fingerprint=info.fingerprint,
        extras=_read_extras(folder, info.parts),
        text_tokens=text_tokens,
    )


def _read_extras(folder: Path, parts: Mapping[str, Part]) -> dict[str, dict[str, Tensor]]:
    names = [name for name in EXTRAS if name != "draft" or "report" in parts]
    files = {name: folder / extra_file(name) for name in names}
    # Clones, so that nothing depends on the files afterwards.
    return {
        name: {key: tensor.clone() for key, tensor in load_file(file).items()}
        for name, file in files.items()
        if file.is_file()
    }


def _read_text_tokens(folder: Path, parts: Mapping[str, Part]) -> ReportTokens | None:
    configs = [part.config for part in parts.values() if isinstance(part.config, ContrastiveConfig)]
    if not configs or not (folder / TEXT_TOKENIZER).is_file():
        return None
    text = configs[0].text
    content = (folder / TEXT_TOKENIZER).read_text(encoding="utf-8")
    return ReportTokens.from_json(content, text.max_tokens, text.truncate)


def _check_text(parts: Mapping[str, Part], text_tokens: ReportTokens | None) -> None:
    for name, part in parts.items():
        if not isinstance(part.config, ContrastiveConfig):
            continue
        if text_tokens is None:
            raise ConfigError(f"the {name} part needs the tokenizer of its text tower.")
        if text_tokens.vocab_size > part.config.text.vocab_size:
            raise ConfigError(
                f"the text tower's tokenizer has {text_tokens.vocab_size} entries, the {name} part "
                f"{part.config.text.vocab_size}."
            )


def _check_part(task: str, parts: Mapping[str, Part], path: Path) -> None:
    if task not in parts:
        raise BundleError.about(
            path,
            f"it has no {task} part; it holds {', '.join(parts)}",
            f"Give a bundle that was trained for {task}.",
        )


def _check_base(info: BundleInfo, base: Path | None) -> None:
    """Adapters are nothing without the weights they were trained on."""
    for part in info.parts.values():
        config = adapted(part.config)
        if config is None:
            continue
        name = config.base.name if config.base else config.hf.get("model_type")
        needed = (
            f"its {part.task} part holds adapters of the language model {name} with fingerprint "
            f"{config.fingerprint}"
        )
        if base is None:
            remedy = "Give that model's folder: --base FOLDER, or base=FOLDER in Python."
            raise BundleError.about(info.path, f"{needed}, which is not in the bundle", remedy)
        try:
            check_base(config, base)
        except ConfigError as error:
            raise BundleError.about(
                info.path, f"{needed}; {error}", "Give it to --base."
            ) from error


def _check_parts(
    parts: Mapping[str, Part], modules: Mapping[str, nn.Module], tokenizer: Tokenizer | None
) -> None:
    if not parts or parts.keys() != modules.keys():
        raise ConfigError(f"parts {sorted(parts)} and modules {sorted(modules)} must be the same.")
    for name, part in parts.items():
        if part.task != name or not isinstance(modules[name], MODELS[part.task]):
            raise ConfigError(
                f"part {name!r} is a {part.task} part with a {type(modules[name]).__name__}."
            )
    _check_tokenizer(parts, tokenizer)


def _check_tokenizer(parts: Mapping[str, Part], tokenizer: Tokenizer | None) -> None:
    """The report part and its tokenizer must agree on size and markers."""
    for part in parts.values():
        if not isinstance(part.config, ReportConfig):
            continue
        if tokenizer is None:
            raise ConfigError("the report part needs its tokenizer.")
        markers = known_markers(part.config, tokenizer)
        size = part.config.decoder.vocab_size
        if tokenizer.vocab_size > size or markers != part.config.marker_ids:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} entries and markers {markers}, the "
                f"report model {size} and {part.config.marker_ids}."
            )


def _stored_once(modules: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors to store by key, and the keys left out -> the stored key they equal.

    Only tensors of one name in several parts are compared: equal zeros elsewhere are chance.
    """
    stored: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    for part, module in modules.items():
        for name, value in own_state(module).items():
            tensor = value.detach().cpu().contiguous()
            earlier = (f"{other}.{name}" for other in modules if other != part)
            same = next((key for key in earlier if _equal(stored.get(key), tensor)), None)
            if same is None:
                stored[f"{part}.{name}"] = tensor
            else:
                shared[f"{part}.{name}"] = same
    return stored, shared


def _equal(a: Tensor | None, b: Tensor) -> bool:
    return a is not None and a.dtype == b.dtype and torch.equal(a, b)


def _build_modules(
    parts: Mapping[str, Part], weights: Path, base: Path | None
) -> dict[str, nn.Module]:
    modules = {name: _empty(part) for name, part in parts.items()}
    with safe_open(weights, framework="pt") as file:
        shared: dict[str, str] = json.loads((file.metadata() or {})["shared"])
        stored = {
            name: {key: shared.get(f"{name}.{key}", f"{name}.{key}") for key in own_state(module)}
            for name, module in modules.items()
        }
        wanted = {key for keys in stored.values() for key in keys.values()}
        # Clones are aligned, as fresh weights are, so that both compute the same to the last bit;
        # and nothing depends on the file afterwards.
        tensors = {key: file.get_tensor(key).clone() for key in wanted}
    encoders: dict[Any, nn.Module] = {}
    for name, module in modules.items():
        config: Any = parts[name].config
        keys = stored[name]
        if isinstance(module, ReportModel) and adapted(config):
            load_base_weights(module, base)
        load_own_state(module, {key: tensors[full] for key, full in keys.items()}, assign=True)
        if name not in ENCODERS:
            continue
        source = tuple(full for key, full in keys.items() if key.startswith("encoder."))
        encoder = module.get_submodule("encoder")
        module.encoder = encoders.setdefault((config.encoder, source), encoder)
    return modules


def _empty(part: Part) -> nn.Module:
    """A module without weights of its own."""
    kind = MODELS[part.task]
    if kind in WITH_BUFFERS:
        made: nn.Module = kind(part.config)
        return made.eval()
    with torch.device("meta"):
        made = kind(part.config)
    return made.eval()
