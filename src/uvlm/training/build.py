"""Model, task, optimiser and data of a run, from its session."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from uvlm.data.batching import Batch, training_batches, training_sampler, validation_batches
from uvlm.data.dataset import StudyDataset
from uvlm.errors import ConfigError
from uvlm.models.config import (
    ClassificationConfig,
    EncoderConfig,
    JointConfig,
    PretrainedConfig,
    ReportConfig,
    SegmentationConfig,
)
from uvlm.models.contrastive import ContrastiveModel
from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.handover import Handover
from uvlm.models.joint import JointModel
from uvlm.models.pretrained import load_base_weights
from uvlm.models.text_tower import load_text_weights
from uvlm.models.tower_handover import take_over
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.training.features import check_bank
from uvlm.training.optim import build_optimizer
from uvlm.training.session import Session, report_config
from uvlm.training.task import Task, to_device
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.contrastive import ContrastiveTask
from uvlm.training.tasks.joint import JointTask
from uvlm.training.tasks.report import ReportTask
from uvlm.training.tasks.segmentation import SegmentationTask
from uvlm.training.weights import divided

__all__ = ["build_model", "build_optimized", "build_task", "step_batches", "validator"]

log = logging.getLogger(__name__)

MODELS: dict[type, Callable[[Any], nn.Module]] = {
    SegmentationConfig: SegmentationModel,
    ClassificationConfig: ClassificationModel,
    ReportConfig: ReportModel,
    JointConfig: JointModel,
    ContrastiveConfig: ContrastiveModel,
}


def build_optimized(
    session: Session,
) -> tuple[Session, Task, torch.optim.Optimizer, Handover | None]:
    """The session with its bank checked, task, optimiser and what was handed over; all still on
    the CPU and of one process."""
    model, handover = build_model(session)
    if session.bank is not None:
        assert isinstance(model, ReportModel)
        bank = check_bank(session.bank, session.config, model, session.studies)
        session = replace(session, bank=bank)
    if handover is None and session.frozen:
        log.warning("the encoder is frozen but untrained; give a trained one with --init BUNDLE")
    optimizer = build_optimizer(model, session.config.optim)
    _speed(model, session)
    return session, build_task(session, model), optimizer, handover


def build_model(session: Session) -> tuple[nn.Module, Handover | None]:
    """The network as it is before the first step: from the seed, a base model, an earlier
    bundle."""
    torch.manual_seed(session.config.seed)
    model = MODELS[type(session.model_config)](session.model_config)
    report = report_config(session.model_config)
    if report is not None and isinstance(report.decoder, PretrainedConfig):
        whole: Any = model
        load_base_weights(whole.report if isinstance(model, JointModel) else whole)
    if isinstance(model, ContrastiveModel) and model.config.text.base is not None:
        load_text_weights(model.text)
    handover = None
    if session.earlier is not None:
        handover = take_over(model, session.earlier, session.studies.spec)
    if report is not None and session.config.task == "report":
        _freeze_unused(model, report)
    return model, handover


def _freeze_unused(model: nn.Module, config: ReportConfig) -> None:
    """Stages deeper than any that the decoder receives, and towers that it does not, get no
    gradient; data-parallel training would wait for it."""
    encoder: Any = model.get_submodule("encoder")
    used = config.stages_used
    if isinstance(config.encoder, EncoderConfig):
        unused = list(encoder.stages[max(used) :])
    else:
        towers = enumerate(getattr(encoder, "towers", (encoder,)), start=1)
        unused = [tower for number, tower in towers if number not in used]
    for part in unused:
        part.requires_grad_(False)


def _speed(model: nn.Module, session: Session) -> None:
    """What changes memory and time, not the method."""
    loop = session.config.loop
    if loop.activation_checkpointing:
        parts: list[Any] = [part for part in model.modules() if hasattr(part, "checkpointing")]
        for part in parts:
            part.checkpointing = True
    if loop.channels_last:
        # Weights keep their layout, so that what is stored does not depend on it.
        model.get_submodule("encoder").channels_last = True  # type: ignore[assignment]
    if loop.compile:
        # Part by part: that is how the encoder runs them, whoever asks for which stages.
        encoder: Any = model.get_submodule("encoder")
        for part in getattr(encoder, "stages", (encoder,)):
            part.compile()


def build_task(session: Session, model: nn.Module) -> Task:
    """The task that trains `model`."""
    config = session.config
    if isinstance(model, SegmentationModel):
        return SegmentationTask(model)
    if isinstance(model, ClassificationModel):
        return ClassificationTask(model, config.loss)
    writing: dict[str, Any] = {
        "loss": config.loss,
        "tokenizer": session.tokenizer,
        "limit": config.loop.validate_reports,
    }
    if isinstance(model, JointModel):
        return JointTask(model, frozen=session.frozen, **writing)
    if isinstance(model, ContrastiveModel):
        return ContrastiveTask(
            model,
            chunk=config.loop.chunk,
            teacher=_teacher(session),
            consistency=config.loss.consistency,
            accumulate=config.loop.accumulate,
        )
    assert isinstance(model, ReportModel)
    keep = not config.data.augment.active
    return ReportTask(model, frozen=session.frozen, keep=keep, **writing)


def _teacher(session: Session) -> ContrastiveModel | None:
    """Stage 1, for stage 2 to stay near; none where its weight is nothing."""
    if session.config.task != "contrastive_2e3" or not session.config.loss.consistency.weight:
        return None
    found = session.earlier.modules.get("contrastive") if session.earlier else None
    if not isinstance(found, ContrastiveModel):
        raise ConfigError(
            "stage 2 stays near the cosines of stage 1, and there is none. Give the bundle of "
            "stage 1 with --init BUNDLE, or set --loss.consistency.weight 0."
        )
    return copy.deepcopy(found)


def step_batches(session: Session, first_step: int) -> Iterator[Batch]:
    """This process's training batches from `first_step` on."""
    config, accelerator = session.config, session.accelerator
    sampler = training_sampler(
        session.studies.train,
        config.data,
        seed=config.seed,
        first=(first_step - 1) * config.loop.accumulate,
        last=config.loop.steps * config.loop.accumulate,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
        accumulate=config.loop.accumulate,
    )
    return training_batches(_dataset(session, train=True), sampler, session.pad_id)


def _dataset(session: Session, *, train: bool) -> StudyDataset:
    report = report_config(session.model_config)
    return StudyDataset(
        session.studies.train if train else session.studies.val,
        session.config.data,
        session.studies.spec,
        need=session.learned,
        encode=session.encode,
        train=train,
        bank=session.bank,
        spacing=report is not None and report.spacing,
        findings=session.studies.labels if report is not None and report.findings else (),
        slices=session.slices,
        encode_text=session.text_tokens.encode if session.text_tokens else None,
        questions=session.studies.questions,
        encode_question=session.encode_question,
    )


def validator(session: Session, task: nn.Module) -> Callable[[], dict[str, float]]:
    """What validates a prepared task.

    The main process alone does it and the others wait, unless the weights are divided: then all
    do the same. Every process receives the metric that tells the best weights.
    """
    accelerator = session.accelerator
    unwrapped: Any = accelerator.unwrap_model(task)
    metric: str = unwrapped.best_by[0]
    limit = session.config.loop.validate_studies
    batches = validation_batches(_dataset(session, train=False), limit, session.pad_id)

    @torch.no_grad()
    def validate() -> dict[str, float]:
        on_device = (to_device(batch, accelerator.device) for batch in batches)
        metrics: dict[str, float] = {}
        task.eval()
        if divided(accelerator):
            metrics = task({}, validation=on_device)
        elif accelerator.is_main_process:
            with accelerator.autocast():
                metrics = unwrapped.evaluate(on_device)
        task.train()
        if accelerator.num_processes > 1:
            own = metrics.get(metric, float("nan")) if accelerator.is_main_process else 0.0
            value = torch.tensor([own], dtype=torch.float64, device=accelerator.device)
            metrics = {**metrics, metric: float(accelerator.reduce(value, "sum")[0])}
        return metrics

    return validate
