"""Partially labelled masks: what a study does not know is neither wanted nor forbidden in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models.config import EncoderConfig, SegmentationConfig
from uvlm.models.unet import SegmentationModel
from uvlm.training.tasks.segmentation import SegmentationTask, merge_unknown

ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
SHAPE = (4, 8, 8)
GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.randn(2, 1, *SHAPE, generator=GENERATOR)
LOGITS = 3 * torch.randn(2, 4, *SHAPE, generator=GENERATOR)
TRUTH = torch.randint(0, 4, (2, 1, *SHAPE), dtype=torch.int16, generator=GENERATOR)
ALL = torch.ones(2, 4, dtype=torch.bool)
PARTIAL = torch.tensor([[True, True, False, True], [True, False, True, False]])


@pytest.fixture
def task() -> SegmentationTask:
    torch.manual_seed(0)
    return SegmentationTask(
        SegmentationModel(SegmentationConfig(encoder=ENCODER, classes=("a", "b", "c")))
    )


def as_drawn(truth: Tensor, known: Tensor) -> Tensor:
    """Masks as a dataset that knows only some classes has them: the others are background."""
    hidden = ~known[torch.arange(len(truth))[:, None], truth.flatten(1).long()]
    return truth.masked_fill(hidden.view_as(truth), 0)


def batch(known: Tensor | None, truth: Tensor = TRUTH) -> dict[str, Any]:
    seg = truth if known is None else as_drawn(truth, known)
    made: dict[str, Any] = {"image": IMAGE, "seg": seg}
    return made if known is None else made | {"known": known}


def fixed(task: SegmentationTask, monkeypatch: pytest.MonkeyPatch, logits: Tensor) -> None:
    monkeypatch.setattr(task.model, "forward", lambda x: [logits] if task.training else logits)


def test_the_background_takes_in_the_probabilities_of_unknown_classes():
    merged = merge_unknown(LOGITS[0], PARTIAL[0]).softmax(0)
    full = LOGITS[0].softmax(0)
    torch.testing.assert_close(merged[0], full[0] + full[2])
    torch.testing.assert_close(merged[1:], full[[1, 3]])


def test_knowing_all_classes_is_the_plain_loss(task: SegmentationTask):
    plain, known = task.losses(batch(None))["loss"], task.losses(batch(ALL))["loss"]
    assert torch.equal(plain, known)


def test_a_fully_known_study_counts_the_same_beside_a_partial_one(
    task: SegmentationTask, monkeypatch
):
    """The slow path of mixed batches against the plain loss of each study alone."""
    known = torch.stack([ALL[0], PARTIAL[1]])
    fixed(task, monkeypatch, LOGITS)
    both = task.losses(batch(known))["loss"]
    singles = []
    for i in (0, 1):
        fixed(task, monkeypatch, LOGITS[i : i + 1])
        one = {key: value[i : i + 1] for key, value in batch(known).items()}
        singles.append(task.losses(one)["loss"])
    fixed(task, monkeypatch, LOGITS[:1])
    plain = task.losses({"image": IMAGE[:1], "seg": TRUTH[:1]})["loss"]
    torch.testing.assert_close(singles[0], plain)
    torch.testing.assert_close(both, sum(singles) / 2)


def test_the_loss_is_that_of_probabilities_added_by_hand(task: SegmentationTask, monkeypatch):
    """Cross-entropy over known classes and Dice over known foreground, written out."""
    fixed(task, monkeypatch, LOGITS)
    expected = []
    for logits, known, seg in zip(LOGITS, PARTIAL, as_drawn(TRUTH, PARTIAL), strict=True):
        p = logits.softmax(0)
        p_background = p[~known].sum(0) + p[0]
        right = torch.where(seg[0] == 0, p_background, p.gather(0, seg.long())[0])
        dices = []
        for c in range(1, 4):
            if known[c]:
                truth = (seg[0] == c).float()
                dices.append((2 * (p[c] * truth).sum() + 1e-5) / (p[c].sum() + truth.sum() + 1e-5))
        expected.append(-right.log().mean() - torch.stack(dices).mean())
    loss = task.losses(batch(PARTIAL))["loss"]
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_an_unknown_class_may_be_said_where_the_background_is(task: SegmentationTask, monkeypatch):
    """Moving belief between background and unknown classes costs nothing; to known ones it does."""
    known = PARTIAL[:1].expand(2, -1)
    seg = torch.zeros_like(TRUTH)
    losses = {}
    for said in range(4):
        logits = 9 * F.one_hot(torch.full((2, *SHAPE), said), 4).movedim(-1, 1).float()
        fixed(task, monkeypatch, logits)
        losses[said] = task.losses(batch(known, seg))["loss"].item()
    assert losses[2] == pytest.approx(losses[0], rel=1e-6)
    assert min(losses[1], losses[3]) > losses[0] + 4


@pytest.mark.parametrize("known", [ALL, PARTIAL])
def test_every_parameter_gets_a_gradient(task: SegmentationTask, known: Tensor):
    task.losses(batch(known))["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None] == []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.parameters())


def test_halves_normalised_together_are_the_whole(task: SegmentationTask):
    whole = task.losses(batch(PARTIAL))["loss"]
    counts = task.counts(batch(PARTIAL))
    halves = [{k: v[i : i + 1] for k, v in batch(PARTIAL).items()} for i in (0, 1)]
    parts = [task.losses(half, counts)["loss"] for half in halves]
    torch.testing.assert_close(sum(parts), whole)


def test_validation_counts_a_class_only_where_it_is_known(task: SegmentationTask, monkeypatch):
    """Perfect belief everywhere, unknown classes included, is a perfect score."""
    task.eval()
    fixed(task, monkeypatch, 9 * F.one_hot(TRUTH[:, 0].long(), 4).movedim(-1, 1).float())
    metrics = task.evaluate([batch(PARTIAL)])
    assert metrics == {"dice": 1.0, "dice/a": 1.0, "dice/b": 1.0, "dice/c": 1.0}
    # Read as complete masks, the same belief would be wrong wherever a class is unknown.
    complete = {key: value for key, value in batch(PARTIAL).items() if key != "known"}
    assert task.evaluate([complete])["dice"] < 0.9
