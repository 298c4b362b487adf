"""From a configuration to a bundle: one training run, new or resumed.

OUT/config.json  handover.json  log.csv  progress.png  tensorboard/  checkpoint/  bundle/
    best/   the best bundle so far, with loop.best
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from uvlm.config import to_dict
from uvlm.preprocessing.disk import lock
from uvlm.training.build import build_optimized, step_batches, validator
from uvlm.training.calibration import calibrate
from uvlm.training.checkpoint import (
    Running,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from uvlm.training.config import RunConfig
from uvlm.training.fitting import check_here
from uvlm.training.folder import CONFIG, check_folder, note, settings
from uvlm.training.hooks import History, ProgressBar
from uvlm.training.loop import Hook, fit
from uvlm.training.memory import memory_error, out_of_memory
from uvlm.training.processes import prepare
from uvlm.training.results import replace_bundle, tidy, whole_model, write_bundle
from uvlm.training.session import NEED, Session, open_session
from uvlm.training.typical import typical_features
from uvlm.training.validation import Validation, Watch
from uvlm.training.weights import Average, divided, own_names, whole_weights, write_weights

__all__ = ["NEED", "train"]

log = logging.getLogger(__name__)

LET_GO = 30.0
"""Seconds that loader processes, which a killed one leaves behind, have to end before the folder
counts as in use."""


@dataclass(kw_only=True)
class Progress:
    """How far the run is, beside its weights."""

    first_step: int
    watch: Watch
    recent: dict[str, list[float]]
    """What the log has collected since its last row."""


def train(config: RunConfig, *, resume: bool = False) -> Path:
    """Train as configured and return the folder of the bundle.

    Every process of a distributed run calls this with the same configuration.

    Raises:
        InputError: `out` is not empty and `resume` was not asked for, or belongs to another run.
        ConfigError, CatalogError, BundleError: what the run was given cannot be used, or another
            process is still training in `out`.
        TrainingDivergedError, MemoryExhaustedError: see `fit`.
    """
    if os.environ.get("RANK", "0") != "0":  # the first process speaks for all
        logging.getLogger("uvlm").setLevel(logging.ERROR)
    out = check_folder(config, resume)
    if (out / "bundle").exists():
        log.info("%s: the run is complete", out)
        return out / "bundle"
    session = open_session(config, out)
    accelerator = session.accelerator
    known = replace(config, model=session.model_config)
    check_here(known, accelerator.device.type, accelerator.num_processes)
    log.info(
        "%s: %d steps over %d series on %s",
        config.task,
        config.loop.steps,
        len(session.studies.train),
        accelerator.device.type,
    )
    if config.optim.warmup >= config.loop.steps:
        log.warning(
            "the learning rate only rises: --optim.warmup %d, --loop.steps %d",
            config.optim.warmup,
            config.loop.steps,
        )
    with ExitStack() as held:
        try:
            session, running = _begin(session, held)
            progress = _resume(session, running)
        except (RuntimeError, MemoryError, OSError) as error:
            if not out_of_memory(error):
                raise
            raise memory_error(error, "before the first step") from error
        _run_steps(session, running, progress)
        accelerator.wait_for_everyone()
        _finish(session, running, progress.watch)
        accelerator.wait_for_everyone()
    return out / "bundle"


def _begin(session: Session, held: ExitStack) -> tuple[Session, Running]:
    """Everything in memory, on its device; the folder made, held against other runs, described."""
    accelerator, out = session.accelerator, session.out
    session, task, optimizer, handover = build_optimized(session)
    model: Any = task.model
    names = own_names(model, given_encoder=session.earlier is not None)
    prepared, prepared_optimizer = prepare(accelerator, task, optimizer)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        held.enter_context(lock(out, LET_GO))
        tidy(out)
        note(out / CONFIG, settings(session.config))
        if handover is not None:
            note(out / "handover.json", to_dict(handover))
    accelerator.wait_for_everyone()
    ema = session.config.optim.ema
    running = Running(
        task=prepared,
        model=model,
        optimizer=prepared_optimizer,
        accelerator=accelerator,
        names=names,
        average=Average(prepared, ema) if ema > 0 else None,
    )
    return session, running


def _resume(session: Session, running: Running) -> Progress:
    """Go on from the last checkpoint, if there is one."""
    unwrapped: Any = running.accelerator.unwrap_model(running.task)
    metric, mode = unwrapped.best_by
    progress = Progress(first_step=1, watch=Watch(metric=metric, mode=mode), recent={})
    found = latest_checkpoint(session.out / "checkpoint")
    if found is not None:
        saved = load_checkpoint(found, running, session.identity)
        progress.first_step = 1 + int(saved["step"])
        unwrapped.resume(progress.first_step)
        progress.watch = Watch(**saved["progress"]["watch"])
        progress.recent = saved["progress"]["recent"]
        log.info("resuming at step %d", progress.first_step)
    return progress


def _run_steps(session: Session, running: Running, progress: Progress) -> None:
    """The loop with its hooks."""
    loop, accelerator = session.config.loop, running.accelerator
    validation = Validation(
        validator(session, running.task),
        loop,
        progress.watch,
        weights=partial(_validated_weights, running),
        on_better=partial(_keep_best, session, running, progress.watch) if loop.best else _nothing,
    )
    if validation.stopped or progress.first_step > loop.steps:
        return
    hooks: list[Hook] = [running.average] if running.average else []
    hooks.append(validation)
    closing: list[Any] = []
    recent: dict[str, list[float]] = {}
    if accelerator.is_main_process:
        first = progress.first_step
        bar = ProgressBar(session.config.task, first, loop.steps)
        history = History(session.out, loop.log_every, loop.steps, first, progress.recent)
        recent = history.recent
        hooks += [bar, history]
        closing = [bar, history]

    def save(step: int, scalars: dict[str, float]) -> None:
        if step % loop.checkpoint_every == 0 or step == loop.steps or validation.stopped:
            now = {"watch": progress.watch.state(), "recent": recent}
            state = {**session.identity, "progress": now}
            save_checkpoint(session.out / "checkpoint", step, running, state)

    try:
        fit(
            running.task,
            step_batches(session, progress.first_step),
            running.optimizer,
            accelerator,
            loop,
            session.config.optim,
            first_step=progress.first_step,
            hooks=[*hooks, save],
        )
    finally:
        for hook in closing:
            hook.close()


def _nothing(step: int) -> None:
    """Nothing is kept of a validation."""


def _validated_weights(running: Running) -> AbstractContextManager[None]:
    """Those that are validated and stored: the averages, where they are kept."""
    return running.average.applied() if running.average else nullcontext()


def _keep_best(session: Session, running: Running, watch: Watch, step: int) -> None:
    """Remember the weights in place and write them to OUT/best; every process calls this."""
    accelerator = running.accelerator
    running.best = whole_weights(running.task, accelerator, running.names)
    if accelerator.is_main_process:
        model = whole_model(session, running.best) if divided(accelerator) else running.model
        replace_bundle(session, session.out / "best", model, watch.best)
        running.task.train()
    accelerator.wait_for_everyone()


def _finish(session: Session, running: Running, watch: Watch) -> None:
    """Write the bundle of the best, averaged or last weights."""
    accelerator = running.accelerator
    best = session.config.loop.best and watch.best_step > 0
    if session.config.loop.best and not best:
        log.warning("no validation gave a finite %s; the last weights are stored", watch.metric)
    with nullcontext() if best else _validated_weights(running):
        weights = running.best
        if divided(accelerator) and not best:
            weights = whole_weights(running.task, accelerator, running.names)
        if not accelerator.is_main_process:
            return
        model = running.model
        if divided(accelerator):
            model = whole_model(session, weights)
        elif best:
            write_weights(model, weights)
        metrics = watch.best if best else watch.latest
        write_bundle(
            session,
            session.out / "bundle",
            model,
            metrics,
            calibrate(session, model),
            typical_features(session, model),
        )
