"""Chunks change the memory of a cross-entropy and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.losses import answer_cross_entropy

ROWS, WIDTH, VOCABULARY = 10, 6, 17


@pytest.fixture
def parts() -> tuple[Tensor, nn.Linear, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    return hidden, nn.Linear(WIDTH, VOCABULARY), torch.randint(0, VOCABULARY, (ROWS,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 3, 10, 128])
def test_loss_and_gradients_are_those_of_all_rows_at_once(parts, chunk, smoothing):
    hidden, head, targets = parts
    plain = F.cross_entropy(head(hidden), targets, reduction="sum", label_smoothing=smoothing)
    expected = torch.autograd.grad(plain, (hidden, head.weight, head.bias))
    loss = answer_cross_entropy(hidden, head, targets, smoothing=smoothing, chunk=chunk)
    found = torch.autograd.grad(loss, (hidden, head.weight, head.bias))
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, expected)


def test_no_more_rows_than_a_chunk_meet_the_head(parts):
    hidden, head, targets = parts
    seen: list[int] = []

    def counted(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return head(rows)

    answer_cross_entropy(hidden, counted, targets, chunk=4).backward()
    assert max(seen) == 4
    # Each chunk forward, and again on the way back.
    assert sorted(seen) == [2, 2, 4, 4, 4, 4]


def test_nothing_is_computed_again_without_a_gradient(parts):
    hidden, head, targets = parts
    calls: list[int] = []

    def counted(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return head(rows)

    with torch.no_grad():
        answer_cross_entropy(hidden, counted, targets, chunk=4)
    assert calls == [4, 4, 2]


def test_logits_in_16_bits_are_summed_in_32(parts):
    hidden, head, targets = parts
    with torch.autocast("cpu", torch.bfloat16):
        loss = answer_cross_entropy(hidden, head, targets, chunk=4)
    assert loss.dtype == torch.float32
    plain = F.cross_entropy(head(hidden), targets, reduction="sum")
    assert float(loss) == pytest.approx(float(plain), rel=0.02)


def test_no_row_is_no_loss_and_a_gradient_of_zeros(parts):
    hidden, head, targets = parts
    loss = answer_cross_entropy(hidden[:0], head, targets[:0])
    loss.backward()
    assert float(loss) == 0
    assert head.weight.grad is not None
    assert not head.weight.grad.any()


def test_rows_and_targets_must_be_as_many(parts):
    hidden, head, targets = parts
    with pytest.raises(ValueError, match="10 rows for 9 targets"):
        answer_cross_entropy(hidden, head, targets[1:])
    with pytest.raises(ValueError, match="at least 1"):
        answer_cross_entropy(hidden, head, targets, chunk=0)
