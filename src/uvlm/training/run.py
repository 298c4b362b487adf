"""From a configuration to a bundle: one training run, new or resumed.

OUT/config.json  handover.json  log.csv  progress.png  tensorboard/  checkpoint/  bundle/
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from uvlm.config import to_dict
from uvlm.data.batching import DrawSampler, training_batches, validation_batches
from uvlm.data.dataset import StudyDataset
from uvlm.data.studies import Need, Studies, load_studies
from uvlm.errors import ConfigError, InputError
from uvlm.models.bundle import Bundle, Part, load_bundle, save_bundle
from uvlm.models.bundle_files import Split
from uvlm.models.config import (
    ClassificationConfig,
    JointConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.handover import Handover, check_split, load_encoder
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.text.prompts import DEFAULT_PROMPT, build_example
from uvlm.text.tokenizer import Tokenizer, train_tokenizer
from uvlm.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from uvlm.training.config import ModelConfig, RunConfig, TaskName
from uvlm.training.hooks import History, ProgressBar, Validation
from uvlm.training.loop import Hook, fit
from uvlm.training.optim import build_optimizer
from uvlm.training.task import Task, to_device
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.report import ReportTask
from uvlm.training.tasks.segmentation import SegmentationTask

__all__ = ["NEED", "train"]

log = logging.getLogger(__name__)

CONFIG = "config.json"

NEED: dict[TaskName, tuple[Need, ...]] = {
    "segmentation": SegmentationTask.need,
    "classification": ClassificationTask.need,
    "report": ReportTask.need,
}
"""What a study must have for each task."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The parts of a run that its steps, its validation and its bundle share."""

    config: RunConfig
    out: Path
    studies: Studies
    tokenizer: Tokenizer | None
    model_config: ModelConfig
    earlier: Bundle | None
    accelerator: Accelerator

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_id if self.tokenizer else 0


def train(config: RunConfig, *, resume: bool = False) -> Path:
    """Train as configured and return the folder of the bundle.

    Raises:
        InputError: `out` is not empty and `resume` was not asked for, or belongs to another run.
        ConfigError, CatalogError, BundleError: what the run was given cannot be used.
        TrainingDivergedError: see `fit`.
    """
    out = _check_folder(config, resume)
    if (out / "bundle").exists():
        log.info("%s: the run is complete", out)
        return out / "bundle"
    session = _prepare(config, out)
    accelerator = session.accelerator
    task, optimizer, handover = _build(session)
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        _note(out / CONFIG, _settings(config))
        if handover is not None:
            _note(out / "handover.json", to_dict(handover))
    accelerator.wait_for_everyone()
    model = accelerator.unwrap_model(task).model
    state = {"studies": session.studies.digest, "processes": accelerator.num_processes}
    first_step = 1
    found = latest_checkpoint(out / "checkpoint")
    if found is not None:
        first_step = 1 + load_checkpoint(found, model, optimizer, accelerator, state)
        log.info("resuming at step %d", first_step)

    save = partial(_save, session=session, model=model, optimizer=optimizer, state=state)
    metrics = _run_steps(session, task, optimizer, first_step, save)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _write_bundle(session, model, metrics)
    accelerator.wait_for_everyone()
    return out / "bundle"


def _check_folder(config: RunConfig, resume: bool) -> Path:
    """OUT, if it is empty or holds this run."""
    if config.out is None:
        raise ConfigError("no output folder was given. Name one with --out.")
    out = config.out
    note = out / CONFIG
    if resume and note.exists():
        _compare(json.loads(note.read_text()), _settings(config), note)
    elif out.exists() and not out.is_dir():
        raise InputError.about(out, "it is a file", "Name a new folder.")
    elif out.exists() and any(out.iterdir()):
        raise InputError.about(
            out, "the folder is not empty", "Name a new folder, or continue with --resume."
        )
    return out


def _settings(config: RunConfig) -> Any:
    """What a resumed run must have in common with the one it continues; it may have moved."""
    return json.loads(json.dumps(to_dict(replace(config, out=None))))


def _note(path: Path, content: Any) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(json.dumps(content, indent=2))
    os.replace(aside, path)


def _compare(before: dict[str, Any], now: dict[str, Any], note: Path) -> None:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            _compare(old, new, note)
        elif old != new:
            raise InputError.about(
                note,
                f"the run was started with {key} {old}, now it is {new}",
                "Resume with the settings it was started with, or start anew in another folder.",
            )


def _prepare(config: RunConfig, out: Path) -> Session:
    earlier = load_bundle(config.init) if config.init else None
    if earlier is not None:
        check_split(earlier, Split(val_fraction=config.data.val_fraction))
    studies = load_studies(config.data, NEED[config.task])
    accelerator = _accelerator(config)
    tokenizer = _tokenizer(config, studies) if config.task == "report" else None
    return Session(
        config=config,
        out=out,
        studies=studies,
        tokenizer=tokenizer,
        model_config=_complete(config.model, studies, tokenizer),
        earlier=earlier,
        accelerator=accelerator,
    )


def _accelerator(config: RunConfig) -> Accelerator:
    # A process may train more than once, with another precision each time.
    AcceleratorState._reset_state()
    precision = config.loop.precision
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=config.loop.accumulate,
            cpu=config.loop.device == "cpu",
        )
    except ValueError as error:
        raise ConfigError(f"loop.precision {precision} cannot be used here: {error}") from error
    # Without a GPU, Accelerate would say nothing and compute in 32 bits.
    if precision == "fp16" and accelerator.scaler is None:
        raise ConfigError("loop.precision fp16 needs a GPU; choose bf16 or no.")
    return accelerator


def _tokenizer(config: RunConfig, studies: Studies) -> Tokenizer:
    assert isinstance(config.model, ReportConfig)
    if config.tokenizer is not None:
        return Tokenizer.load(config.tokenizer)
    reports = [row.report or "" for row in studies.train]
    # Every sequence begins with the prompt: unless its words are learned with the reports', a
    # small vocabulary spells it out, a third of the sequence.
    prompts = [re.sub(r"<\|.*?\|>", " ", DEFAULT_PROMPT)] * len(reports)
    return train_tokenizer(reports + prompts, config.model.decoder.vocab_size)


def _complete(model: ModelConfig, studies: Studies, tokenizer: Tokenizer | None) -> ModelConfig:
    """Fill in what only the catalog and the tokenizer know."""
    if isinstance(model, ReportConfig):
        assert tokenizer is not None
        return replace(
            model,
            shape=studies.spec.shape,
            decoder=replace(model.decoder, vocab_size=tokenizer.vocab_size),
            vision_start_id=tokenizer.vision_start_id,
            vision_end_id=tokenizer.vision_end_id,
        )
    assert not isinstance(model, JointConfig)
    found = studies.classes if isinstance(model, SegmentationConfig) else studies.labels
    if model.classes not in ((), found):
        raise ConfigError(
            f"model.classes are {model.classes}, the catalog's are {found}; leave them unset."
        )
    return replace(model, classes=found)


def _build(session: Session) -> tuple[Any, Any, Handover | None]:
    """Task and optimiser on their device, the encoder taken from the earlier bundle."""
    config = session.config
    torch.manual_seed(config.seed)
    model = _model(session.model_config)
    handover = None
    if session.earlier is not None:
        handover = load_encoder(model, session.earlier, session.studies.spec)
    elif config.optim.encoder_lr == 0:
        log.warning("the encoder is frozen but untrained; give a trained one with --init BUNDLE")
    optimizer = build_optimizer(model, config.optim)
    task, prepared = session.accelerator.prepare(_task(config, model), optimizer)
    return task, prepared, handover


def _model(config: ModelConfig) -> nn.Module:
    if isinstance(config, SegmentationConfig):
        return SegmentationModel(config)
    if isinstance(config, ClassificationConfig):
        return ClassificationModel(config)
    assert isinstance(config, ReportConfig)
    return ReportModel(config)


def _task(config: RunConfig, model: nn.Module) -> Task:
    if isinstance(model, SegmentationModel):
        return SegmentationTask(model)
    if isinstance(model, ClassificationModel):
        return ClassificationTask(model)
    assert isinstance(model, ReportModel)
    return ReportTask(
        model, frozen=config.optim.encoder_lr == 0, keep=not config.data.augment.active
    )


def _run_steps(
    session: Session, task: Any, optimizer: Any, first_step: int, save: Hook
) -> dict[str, float]:
    """The loop with its hooks; returns the metrics of the last validation."""
    loop, accelerator = session.config.loop, session.accelerator
    sampler = DrawSampler(
        studies=len(session.studies.train),
        batch_size=session.config.data.batch_size,
        seed=session.config.seed,
        first=(first_step - 1) * loop.accumulate,
        last=loop.steps * loop.accumulate,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    dataset = _dataset(session, train=True)
    batches = training_batches(dataset, sampler, session.pad_id)
    validate = _validator(session, accelerator.unwrap_model(task))
    hooks: Sequence[Hook] = ()
    closing: Sequence[Any] = ()
    validation = Validation(validate, loop.validate_every, loop.steps)
    if accelerator.is_main_process:
        bar = ProgressBar(session.config.task, first_step, loop.steps)
        history = History(session.out, loop.log_every, loop.steps, first_step)
        hooks, closing = (bar, validation, history), (bar, history)
    try:
        fit(
            task,
            batches,
            optimizer,
            accelerator,
            loop,
            session.config.optim,
            first_step=first_step,
            hooks=(*hooks, save),
        )
    finally:
        for hook in closing:
            hook.close()
    # A run resumed after its last step has nothing left to validate.
    return validation.latest or (validate() if accelerator.is_main_process else {})


def _dataset(session: Session, *, train: bool) -> StudyDataset:
    encode = None
    if session.tokenizer is not None:
        encode = partial(build_example, session.tokenizer, DEFAULT_PROMPT)
    rows = session.studies.train if train else session.studies.val
    need = NEED[session.config.task]
    return StudyDataset(
        rows, session.config.data, session.studies.spec, need=need, encode=encode, train=train
    )


def _validator(session: Session, task: Task) -> Any:
    dataset = _dataset(session, train=False)
    limit = session.config.loop.validate_studies
    batches = validation_batches(dataset, limit, session.pad_id)
    device = session.accelerator.device

    def validate() -> dict[str, float]:
        task.eval()
        with session.accelerator.autocast():
            metrics = task.evaluate(to_device(batch, device) for batch in batches)
        task.train()
        return metrics

    return validate


def _save(
    step: int,
    scalars: dict[str, float],
    *,
    session: Session,
    model: nn.Module,
    optimizer: Any,
    state: dict[str, Any],
) -> None:
    """The checkpoint hook; every process takes part."""
    loop = session.config.loop
    if step % loop.checkpoint_every == 0 or step == loop.steps:
        folder = session.out / "checkpoint"
        save_checkpoint(folder, step, model, optimizer, session.accelerator, state)


def _write_bundle(session: Session, model: nn.Module, metrics: dict[str, float]) -> None:
    """The new part beside the earlier ones."""
    config, earlier = session.config, session.earlier
    part = Part(
        task=config.task,
        config=session.model_config,  # type: ignore[arg-type]
        spec=session.studies.spec,
        region=session.studies.region,
        trained_on=session.studies.trained_on,
        patch=config.data.patch if config.task == "segmentation" else None,
        metrics=metrics,
        split=Split(val_fraction=config.data.val_fraction),
    )
    parts = dict(earlier.parts) if earlier else {}
    modules = dict(earlier.modules) if earlier else {}
    tokenizer = session.tokenizer or (earlier.tokenizer if earlier else None)
    prompt = DEFAULT_PROMPT if session.tokenizer else (earlier.prompt if earlier else None)
    save_bundle(
        session.out / "bundle",
        {**parts, config.task: part},
        {**modules, config.task: model.eval()},
        tokenizer,
        prompt,
    )
