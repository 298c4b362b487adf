"""From a plan to a training run of this package. No torch import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uvlm.config import from_dict, to_dict
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.errors import ConfigError
from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    InjectionConfig,
    JointConfig,
    PretrainedConfig,
    ReportConfig,
    authors,
)
from uvlm.nnunet.settings import PlanSettings
from uvlm.preprocessing.catalog import read_catalog
from uvlm.training.config import LoopConfig, LossConfig, ModelConfig, OptimConfig, RunConfig

__all__ = ["Place", "run_config"]

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a trainer knows beside the settings of its plan."""

    plan: Path
    """The plan's file; relative paths start in its folder."""

    shape: Grid
    """The configuration's patch: the whole volume, voxels (z, y, x)."""

    batch_size: int
    """The configuration's: studies per step over all processes."""

    processes: int
    device: Literal["cuda", "cpu"]
    out: Path
    pretrained: bool
    """Whether the decoder is a pretrained one."""


def run_config(settings: PlanSettings, place: Place) -> RunConfig:
    """The run that the plan describes.

    Raises:
        ConfigError: the batch cannot be divided, a path is missing from the plan, the catalogs have
            other labels, or a setting is impossible; the message names the plan.
        CatalogError: a catalog cannot be read.
    """
    try:
        config = _run_config(settings, place)
        return _changed(config, settings.run)
    except ConfigError as error:
        raise ConfigError(f"{place.plan}: {error}") from None


def _run_config(settings: PlanSettings, place: Place) -> RunConfig:
    if place.batch_size % place.processes:
        raise ConfigError(
            f"batch_size {place.batch_size} cannot be divided by {place.processes} processes; "
            "start as many as divide it, or change it in the plan."
        )
    if not settings.csv_paths:
        raise ConfigError("csv_paths is empty; name the catalogs that `uvlm prepare` has written.")
    catalogs = tuple(place.plan.parent / path for path in settings.csv_paths)
    if settings.cls_columns and settings.mode != "only_report":
        _check_labels(settings.cls_columns, catalogs)
    gpu = place.device == "cuda"
    epoch = settings.num_iterations_per_epoch
    return RunConfig(
        model=_model(settings, place),
        data=DataConfig(
            catalog=catalogs,
            shape=place.shape,
            batch_size=place.batch_size // place.processes,
            balance=settings.enable_balancing,
            augment=AugmentConfig(spatial=settings.enable_nnunet_augmentation),
            workers=settings.num_workers if gpu else 0,
        ),
        optim=OptimConfig(
            name="adamw" if settings.optimizer_type == "AdamW" else "sgd",
            lr=settings.initial_lr,
            weight_decay=settings.weight_decay,
            encoder_lr=0.0 if settings.frozen else settings.encoder_lr_multiplier,
        ),
        loss=LossConfig(report_weight=settings.report_loss_weight, prompt=settings.authors),
        loop=LoopConfig(
            steps=settings.num_epochs * epoch,
            precision=settings.precision or ("bf16" if gpu else "no"),
            device="auto" if gpu else "cpu",
            log_every=min(10, epoch),
            validate_every=epoch,
            validate_studies=settings.num_val_iterations_per_epoch * place.batch_size,
            checkpoint_every=epoch,
            best=True,
        ),
        init=_path(settings.pretrained_encoder_checkpoint_path, place),
        tokenizer=None if place.pretrained else _tokenizer(settings, place),
        seed=settings.seed,
        out=place.out,
    )


def _check_labels(asked: tuple[str, ...], catalogs: tuple[Path, ...]) -> None:
    known = [label for path in catalogs for label in read_catalog(path).labels]
    for label in asked:
        if label not in known:
            near = difflib.get_close_matches(label, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"they have {', '.join(known)}."
            raise ConfigError(f"cls_columns: the catalogs have no label {label!r}; {hint}")
    if others := [label for label in dict.fromkeys(known) if label not in asked]:
        raise ConfigError(
            f"cls_columns lacks {', '.join(others)}, which the catalogs have; all labels are "
            "learned. Add them, leave the key out, or prepare catalogs without them."
        )


def _model(settings: PlanSettings, place: Place) -> ModelConfig:
    # The catalogs say the classes: of cls_columns those may be missing that no study knows.
    labels = ClassificationConfig(encoder=settings.encoder)
    if settings.mode == "only_cls":
        return labels
    report = _report(settings, place)
    if settings.mode == "only_report":
        return report
    return JointConfig(classification=labels, report=report)


def _report(settings: PlanSettings, place: Place) -> ReportConfig:
    decoder, pairs = _decoder(settings, place)
    report = ReportConfig(
        encoder=settings.encoder,
        shape=place.shape,
        injection=InjectionConfig(
            reference_stage=settings.visual_token_length_source_stage,
            layers=pairs,
            gate=settings.use_gate,
        ),
        decoder=decoder,
        mask="vision_bidirectional" if settings.use_vision_aware_mask else "causal",
    )
    if not settings.authors:
        return report
    skip, layers = settings.deepstack_skip_stages, settings.layers_per_stage
    return authors(report, skip_stages=skip, layers_per_stage=layers or 2, gate=settings.use_gate)


def _decoder(
    settings: PlanSettings, place: Place
) -> tuple[DecoderConfig | PretrainedConfig, tuple[tuple[int, int], ...] | None]:
    """The language model, and the (layer, stage) pairs of injection; None for the paper's."""
    stages, each = settings.n_stages, settings.layers_per_stage
    pairs: tuple[tuple[int, int], ...] | None = None if settings.use_deepstack else ()
    layers = settings.num_layers
    if each is not None:
        layers = each
        if settings.use_deepstack:
            layers = (stages - settings.deepstack_skip_stages) * each
            pairs = tuple((1 + i, stages - i // each) for i in range(layers))
    if place.pretrained:
        if settings.llm_model_path is None:
            raise ConfigError("llm_model_path is missing; name the folder of the language model.")
        tuning: Literal["lora", "full"] = "lora" if settings.use_lora else "full"
        base = PretrainedConfig(
            base=_path(settings.llm_model_path, place),
            tuning=tuning,
            rank=settings.lora_r,
            alpha=settings.lora_alpha,
        )
        return base, pairs
    decoder = DecoderConfig(
        vocab_size=settings.vocab_size,
        layers=layers,
        width=settings.llm_embed_dim,
        heads=settings.num_heads,
        ffn=settings.ffn_dim,
    )
    return decoder, pairs


def _path(path: Path | None, place: Place) -> Path | None:
    return None if path is None else place.plan.parent / path


def _tokenizer(settings: PlanSettings, place: Place) -> Path | None:
    path = _path(settings.tokenizer_path, place)
    return path / "tokenizer.json" if path is not None and path.is_dir() else path


def _changed(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """`config` with the fields of the plan's key `run`."""
    if not changes:
        return config
    table = to_dict(config)
    for name, value in changes.items():
        inner = table
        *parents, last = name.split(".")
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or name == "out":
            raise ConfigError(f"run: {name!r} is no field of a {config.task} run to set there.")
        if last not in inner:
            near = difflib.get_close_matches(last, inner, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(inner)}."
            raise ConfigError(f"run: {name!r} is unknown to a {config.task} run; {hint}")
        inner[last] = value
    return from_dict(RunConfig, table, "run")
