"""What each task minimises: the parts that must count do, the others leave no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from uvlm.models.config import (
    ClassificationConfig,
    EncoderConfig,
    SegmentationConfig,
)
from uvlm.models.unet import SegmentationModel
from uvlm.models.uvlm import ClassificationModel
from uvlm.training.tasks.classification import ClassificationTask, auroc, known_bce
from uvlm.training.tasks.segmentation import SegmentationTask, supervision_weights

ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
SHAPE = (4, 8, 8)
IMAGE = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(1, [1.0]), (2, [1.0, 0.0]), (4, [4 / 7, 2 / 7, 1 / 7, 0.0])],
)
def test_deep_supervision_halves_and_drops_the_coarsest(levels, expected):
    assert supervision_weights(levels) == pytest.approx(expected)


@pytest.fixture
def segmentation() -> SegmentationTask:
    torch.manual_seed(0)
    config = SegmentationConfig(encoder=ENCODER, classes=("a", "b"))
    return SegmentationTask(SegmentationModel(config))


def test_segmentation_loss_is_lower_for_a_better_map(segmentation, monkeypatch):
    truth = torch.randint(0, 3, (2, 1, *SHAPE))
    right = torch.nn.functional.one_hot(truth[:, 0], 3).movedim(-1, 1).float() * 20
    wrong = right.roll(1, dims=1)
    losses = []
    for logits in (right, wrong):
        monkeypatch.setattr(segmentation.model, "forward", lambda x, out=logits: [out])
        losses.append(segmentation.losses({"image": IMAGE, "seg": truth})["loss"].item())
    assert losses[0] == pytest.approx(-1, abs=1e-3)
    assert losses[1] > 5


def test_every_parameter_takes_part_in_the_segmentation_loss(segmentation):
    seg = torch.randint(0, 3, (2, 1, *SHAPE), dtype=torch.int16)
    segmentation.losses({"image": IMAGE, "seg": seg})["loss"].backward()
    assert [n for n, p in segmentation.named_parameters() if p.grad is None] == []


def test_segmentation_dice_counts_voxels(segmentation, monkeypatch):
    truth = torch.zeros(1, 1, 1, 2, 2, dtype=torch.int16)
    truth[..., 0, :] = 1
    predicted = torch.tensor([[[1, 1], [1, 0]]])
    logits = torch.nn.functional.one_hot(predicted[None], 3).movedim(-1, 1).float()
    monkeypatch.setattr(segmentation.model, "forward", lambda x: logits)
    metrics = segmentation.evaluate([{"image": IMAGE[:1], "seg": truth}])
    assert metrics["dice/a"] == pytest.approx(2 * 2 / (2 + 3))
    assert np.isnan(metrics["dice/b"])
    assert metrics["dice"] == metrics["dice/a"]


def test_unknown_labels_give_neither_loss_nor_gradient():
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = known_bce(logits, torch.tensor([[1.0, float("nan")], [0.0, float("nan")]]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0, 0]
    assert (logits.grad[:, 0] != 0).all()


def test_a_batch_without_known_labels_has_loss_zero():
    loss = known_bce(torch.zeros(1, 2, requires_grad=True), torch.full((1, 2), float("nan")))
    assert loss.item() == 0


def test_auroc_is_scikit_learns_where_labels_are_known():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60).astype(np.float32)
    scores = rng.integers(0, 9, 60).astype(np.float32)
    expected = roc_auc_score(labels, scores)
    padded = np.append(labels, np.float32("nan")), np.append(scores, np.float32(3))
    assert auroc(*padded) == pytest.approx(expected)


def test_auroc_of_one_class_is_not_a_number():
    assert np.isnan(auroc(np.ones(3, np.float32), np.arange(3, dtype=np.float32)))


def test_classification_reports_bce_and_auroc():
    torch.manual_seed(0)
    config = ClassificationConfig(encoder=ENCODER, classes=("x", "y"), heads=2)
    task = ClassificationTask(ClassificationModel(config))
    labels = torch.tensor([[0.0, 1.0], [1.0, float("nan")]])
    metrics = task.evaluate([{"image": IMAGE, "labels": labels}])
    assert metrics["bce"] == pytest.approx(
        task.losses({"image": IMAGE, "labels": labels})["loss"].item()
    )
    assert metrics["auroc/x"] in (0.0, 0.5, 1.0)
    assert np.isnan(metrics["auroc/y"])
