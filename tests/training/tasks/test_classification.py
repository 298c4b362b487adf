"""Label smoothing and normalisation of the class loss."""

from __future__ import annotations

import pytest
import torch

from uvlm.models.config import ClassificationConfig, EncoderConfig
from uvlm.models.uvlm import ClassificationModel
from uvlm.training.config import LossConfig
from uvlm.training.tasks.classification import ClassificationTask, known_bce

NAN = float("nan")
LOGITS = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
LABELS = torch.tensor([[1.0, 0.0], [0.0, NAN]])


def test_smoothing_draws_targets_towards_a_half():
    p = LOGITS.sigmoid()
    targets = torch.tensor([[0.95, 0.05], [0.05, NAN]])
    terms = -(targets * p.log() + (1 - targets) * (1 - p).log())
    expected = terms[~targets.isnan()].mean()
    torch.testing.assert_close(known_bce(LOGITS, LABELS, smoothing=0.1), expected)


def test_smoothing_keeps_unknown_labels_without_gradient():
    logits = LOGITS.clone().requires_grad_()
    known_bce(logits, LABELS, smoothing=0.3).backward()
    assert logits.grad is not None
    assert logits.grad[1, 1] == 0
    assert (logits.grad.flatten()[:3] != 0).all()


def test_smoothing_prefers_doubt_over_certainty():
    sure, doubting = torch.tensor([[20.0]]), torch.tensor([[2.0]])
    right = torch.tensor([[1.0]])
    assert known_bce(sure, right) < known_bce(doubting, right)
    assert known_bce(sure, right, smoothing=0.2) > known_bce(doubting, right, smoothing=0.2)


@pytest.mark.parametrize("count", [0.5, 3.0, 7.5])
def test_the_sum_is_divided_by_the_count_given_even_below_one(count: float):
    """One label known to two processes together is half a label for each."""
    torch.testing.assert_close(
        known_bce(LOGITS, LABELS, count), known_bce(LOGITS, LABELS) * 3 / count
    )


def test_the_task_smooths_its_loss_but_not_its_validation():
    torch.manual_seed(0)
    encoder = EncoderConfig(features=(4, 8), strides=(1, 2), blocks=(1, 1))
    model = ClassificationModel(ClassificationConfig(encoder=encoder, classes=("x", "y"), heads=2))
    batch = {"image": torch.randn(2, 1, 4, 4, 4), "labels": LABELS}
    plain = ClassificationTask(model)
    smooth = ClassificationTask(model, LossConfig(label_smoothing=0.5))
    assert smooth.losses(batch)["loss"] != plain.losses(batch)["loss"]
    assert smooth.evaluate([batch]) == pytest.approx(plain.evaluate([batch]), nan_ok=True)
