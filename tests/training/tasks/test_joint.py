"""Labels and report from one pass of the encoder: the loss is half of each, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from uvlm.models.config import (
    ClassificationConfig,
    DecoderConfig,
    EncoderConfig,
    JointConfig,
    ReportConfig,
)
from uvlm.models.joint import JointModel
from uvlm.training.config import LossConfig
from uvlm.training.tasks.classification import ClassificationTask
from uvlm.training.tasks.joint import JointTask
from uvlm.training.tasks.report import ReportTask

ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
SHAPE = (4, 8, 8)
CONFIG = JointConfig(
    classification=ClassificationConfig(encoder=ENCODER, classes=("x", "y"), heads=2),
    report=ReportConfig(
        encoder=ENCODER,
        shape=SHAPE,
        decoder=DecoderConfig(vocab_size=20, layers=3, width=16, heads=2, ffn=32),
        vision_start_id=3,
        vision_end_id=4,
    ),
)


def joint_batch() -> dict[str, Any]:
    answer = torch.tensor([[False, False, True, True, True], [False, False, True, True, False]])
    return {
        "image": torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0)),
        "series_id": ["a", "b"],
        "labels": torch.tensor([[1.0, 0.0], [0.0, float("nan")]]),
        "tokens": torch.tensor([[7, 8, 9, 10, 2], [7, 8, 11, 2, 0]]),
        "answer": answer,
    }


def make_task(**settings: Any) -> JointTask:
    torch.manual_seed(0)
    return JointTask(JointModel(CONFIG), **settings)


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_half_of_both_tasks(weight: float, smoothing: float):
    loss = LossConfig(report_weight=weight, label_smoothing=smoothing)
    task, batch = make_task(loss=loss), joint_batch()
    found = task.losses(batch)
    parts: Any = task.model.parts()
    bce = ClassificationTask(parts["classification"], loss).losses(batch)["loss"]
    ce = ReportTask(parts["report"], frozen=False, loss=loss).losses(batch)["loss"]
    torch.testing.assert_close(found["bce"], bce)
    torch.testing.assert_close(found["answer_ce"], ce)
    torch.testing.assert_close(found["loss"], (bce + weight * ce) / 2)


def test_the_encoder_runs_once(monkeypatch):
    task = make_task()
    calls = []
    task.model.encoder.stem.register_forward_hook(lambda *_: calls.append(1))
    task.losses(joint_batch())
    assert len(calls) == 1
    task.evaluate([joint_batch()])
    assert len(calls) == 2


def test_every_parameter_gets_a_gradient_from_both():
    task = make_task()
    task.losses(joint_batch())["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None] == []


def test_a_batch_without_a_known_label_still_reaches_every_parameter():
    """Data-parallel training waits for the gradient of every parameter."""
    task, batch = make_task(), joint_batch()
    batch["labels"].fill_(float("nan"))
    losses = task.losses(batch)
    losses["loss"].backward()
    assert losses["bce"].item() == 0
    assert [n for n, p in task.named_parameters() if p.grad is None] == []
    assert all(bool(p.grad.isfinite().all()) for p in task.parameters() if p.grad is not None)


def test_a_frozen_encoder_gives_the_same_loss_and_gets_no_gradient():
    free, frozen = make_task(), make_task(frozen=True)
    loss = frozen.losses(joint_batch())["loss"]
    torch.testing.assert_close(loss, free.losses(joint_batch())["loss"])
    loss.backward()
    assert all(p.grad is None for p in frozen.model.encoder.parameters())
    rest = [p for n, p in frozen.model.named_parameters() if not n.startswith("encoder.")]
    assert all(p.grad is not None for p in rest)


def test_the_task_registers_nothing_twice():
    task = make_task()
    assert list(task.state_dict()) == [f"model.{name}" for name in task.model.state_dict()]


def test_halves_normalised_together_are_the_whole():
    task, batch = make_task(), joint_batch()
    counts = task.counts(batch)
    assert counts == {"labels": 3, "tokens": 5}
    whole = task.losses(batch)
    halves = [{key: value[i : i + 1] for key, value in batch.items()} for i in (0, 1)]
    parts = [task.losses(half, counts) for half in halves]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_validation_has_the_metrics_of_both():
    task, batch = make_task(loss=LossConfig(label_smoothing=0.2)), joint_batch()
    task.eval()
    halves = [{key: value[i : i + 1] for key, value in batch.items()} for i in (0, 1)]
    metrics = task.evaluate(halves)
    plain = JointTask(task.model).losses(batch)  # validation does not smooth
    assert metrics["bce"] == pytest.approx(plain["bce"].item(), rel=1e-5)
    assert metrics["answer_ce"] == pytest.approx(plain["answer_ce"].item(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(plain["loss"].item(), rel=1e-5)
    assert set(metrics) == {"loss", "bce", "auroc", "auroc/x", "auroc/y", "answer_ce"}
    assert metrics["auroc/x"] in (0.0, 1.0)
    assert task.best_by == ("loss", "min")
