"""What a run leaves: the bundle at its end, and the best one so far while it goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from uvlm.errors import ConfigError
from uvlm.models.bundle import Part, save_bundle
from uvlm.models.bundle_files import Calibration, Split
from uvlm.models.config import ClassificationConfig, JointConfig, ReportConfig, SegmentationConfig
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.joint import JointModel
from uvlm.models.slice_weights import read_slice_encoder
from uvlm.models.tower_config import SliceEncoderConfig
from uvlm.training.build import build_model
from uvlm.training.draft import draft_tensors
from uvlm.training.session import Session
from uvlm.training.weights import write_weights

__all__ = ["replace_bundle", "tidy", "whole_model", "write_bundle"]


def whole_model(session: Session, weights: Mapping[str, Tensor]) -> nn.Module:
    """A model of one process with these weights."""
    model, _ = build_model(session)
    write_weights(model, weights)
    return model


def write_bundle(
    session: Session,
    folder: Path,
    model: nn.Module,
    metrics: Mapping[str, Any],
    calibration: Calibration | None = None,
    typical: Mapping[str, Tensor] | None = None,
) -> Path:
    """The new parts beside the earlier ones; `model` is in eval mode afterwards.

    Args:
        calibration: of the class head, if one was trained
        typical: what the features of training studies are like, if it was found
    """
    earlier = session.earlier
    parts = dict(earlier.parts) if earlier else {}
    modules = dict(earlier.modules) if earlier else {}
    # An encoder without a task is a start only: what was trained from it holds its own.
    parts.pop("encoder", None)
    modules.pop("encoder", None)
    model.eval()
    for task, config, module in _trained(session, model):
        part = _part(session, task, config, metrics)
        parts[task] = replace(part, calibration=calibration) if task == "classification" else part
        modules[task] = module
    tokenizer = session.tokenizer or (earlier.tokenizer if earlier else None)
    prompt = session.prompt or (earlier.prompt if earlier else None)
    extras = dict(earlier.extras) if earlier else {}
    draft = draft_tensors(session) if session.config.draft else None
    if draft is not None:
        extras["draft"] = draft
    elif not session.config.draft:
        extras.pop("draft", None)
    if typical:
        extras["typical"] = typical
    text_tokens = session.text_tokens or (earlier.text_tokens if earlier else None)
    _add_slice_encoder(session, parts, modules)
    return save_bundle(folder, parts, modules, tokenizer, prompt, extras, text_tokens)


def _add_slice_encoder(
    session: Session, parts: dict[str, Part], modules: dict[str, nn.Module]
) -> None:
    """The 2D encoder that made the slices, if its folder was given."""
    folder, bank = session.config.slice_encoder, session.slices
    if folder is None or bank is None:
        return
    key = bank.index.key
    settings = SliceEncoderConfig(slices=key.slices, window=key.window)
    config, module = read_slice_encoder(folder, settings)
    if module.fingerprint != bank.encoder:
        raise ConfigError.about(
            folder,
            f"it is the 2D encoder {module.fingerprint}, {bank.path} was made with {bank.encoder}",
            "Give the folder that `uvlm slices` was given.",
        )
    about = f"as it was given, for slices of {session.studies.trained_on}"
    region = session.studies.region
    parts["slices"] = Part(task="slices", config=config, spec=None, region=region, trained_on=about)
    modules["slices"] = module


def replace_bundle(
    session: Session, folder: Path, model: nn.Module, metrics: Mapping[str, Any]
) -> None:
    """As `write_bundle`, in place of an earlier bundle of this run."""
    aside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    write_bundle(session, aside, model, metrics)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def tidy(out: Path) -> None:
    """Remove what a killed run had begun to write beside its final names."""
    for pattern in (".config.json.*.tmp", ".handover.json.*.tmp", ".bundle.*.tmp", ".best*"):
        for path in out.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _trained(session: Session, model: nn.Module) -> list[tuple[str, Any, nn.Module]]:
    """(part, its configuration, its module) of what the run trained."""
    config = session.model_config
    if isinstance(config, JointConfig):
        assert isinstance(model, JointModel)
        parts = model.parts()
        return [
            ("classification", config.classification, parts["classification"]),
            ("report", config.report, parts["report"]),
        ]
    kinds = (SegmentationConfig, ClassificationConfig, ReportConfig, ContrastiveConfig)
    assert isinstance(config, kinds)
    return [(session.config.task, config, model)]


def _part(session: Session, task: str, config: Any, metrics: Mapping[str, Any]) -> Part:
    data = session.config.data
    return Part(
        task=task,
        config=config,
        spec=session.studies.spec,
        region=session.studies.region,
        trained_on=session.studies.trained_on,
        patch=data.patch if task == "segmentation" else None,
        metrics=dict(metrics),
        split=Split(val_fraction=data.val_fraction),
    )
