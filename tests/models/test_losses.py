"""Chunks change the memory of a cross-entropy and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.config import DecoderConfig
from uvlm.models.decoder import Decoder
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


@pytest.mark.parametrize("gradient", [True, False])
def test_each_row_meets_the_head_once_and_no_more_than_a_chunk_together(parts, gradient):
    hidden, head, targets = parts
    seen: list[int] = []

    def counted(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return head(rows)

    with torch.set_grad_enabled(gradient):
        loss = answer_cross_entropy(hidden, counted, targets, chunk=4)
    assert seen == [4, 4, 2]
    assert loss.requires_grad == gradient


def test_gradients_are_scaled_by_what_follows(parts):
    hidden, head, targets = parts
    expected = torch.autograd.grad(
        F.cross_entropy(head(hidden), targets) * 3, (hidden, head.weight)
    )
    loss = answer_cross_entropy(hidden, head, targets, chunk=4) / ROWS * 3
    torch.testing.assert_close(torch.autograd.grad(loss, (hidden, head.weight)), expected)


def test_frozen_heads_and_frozen_rows(parts):
    hidden, head, targets = parts
    head.requires_grad_(False)
    answer_cross_entropy(hidden, head, targets, chunk=4).backward()
    assert hidden.grad is not None
    assert head.weight.grad is None
    head.requires_grad_(True)
    answer_cross_entropy(hidden.detach(), head, targets, chunk=4).backward()
    assert head.weight.grad is not None


def test_a_weight_used_before_and_in_the_head_gets_both_gradients():
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(vocab_size=50, layers=1, width=8, heads=2, ffn=8))
    ids, targets = torch.tensor([1, 2, 3]), torch.tensor([2, 3, 4])

    def gradient(chunk: int | None) -> list[Tensor]:
        decoder.zero_grad()
        hidden = decoder.embedding(ids)
        if chunk is None:
            loss = F.cross_entropy(decoder.head(hidden), targets, reduction="sum")
        else:
            loss = answer_cross_entropy(hidden, decoder.head, targets, chunk=chunk)
        loss.backward()
        return [p.grad.clone() for p in decoder.parameters() if p.grad is not None]

    torch.testing.assert_close(gradient(2), gradient(None))


def test_logits_in_16_bits_are_summed_in_32(parts):
    hidden, head, targets = parts
    with torch.autocast("cpu", torch.bfloat16):
        loss = answer_cross_entropy(hidden, head, targets, chunk=4)
    assert loss.dtype == torch.float32
    plain = F.cross_entropy(head(hidden), targets, reduction="sum")
    assert loss.item() == pytest.approx(plain.item(), rel=0.02)


def test_no_row_is_no_loss_and_a_gradient_of_zeros(parts):
    hidden, head, targets = parts
    loss = answer_cross_entropy(hidden[:0], head, targets[:0])
    loss.backward()
    assert loss.item() == 0
    assert head.weight.grad is not None
    assert not head.weight.grad.any()


def test_rows_and_targets_must_be_as_many(parts):
    hidden, head, targets = parts
    with pytest.raises(ValueError, match="10 rows for 9 targets"):
        answer_cross_entropy(hidden, head, targets[1:])
    with pytest.raises(ValueError, match="at least 1"):
        answer_cross_entropy(hidden, head, targets, chunk=0)
