"""The class head reads all of the deepest stage, one query per label (Eq. 2)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.tiny import ENCODER, SHAPE
from uvlm.errors import ConfigError
from uvlm.models.config import ClassificationConfig
from uvlm.models.heads import QueryHead
from uvlm.models.uvlm import ClassificationModel

DEEPEST = torch.randn(2, 8, 2, 2, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def head() -> QueryHead:
    torch.manual_seed(0)
    return QueryHead(channels=8, labels=3, heads=2)


def test_equals_equation_two_written_out(head: QueryHead) -> None:
    tokens = DEEPEST.flatten(2).transpose(1, 2)
    w_q, w_k, w_v = head.attention.in_proj_weight.chunk(3)
    b_q, b_k, b_v = head.attention.in_proj_bias.chunk(3)
    q = (head.queries @ w_q.T + b_q).view(3, 2, 4).transpose(0, 1)
    k = (tokens @ w_k.T + b_k).view(2, 16, 2, 4).transpose(1, 2)
    v = (tokens @ w_v.T + b_v).view(2, 16, 2, 4).transpose(1, 2)
    read = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
    crossed = head.attention.out_proj(read.transpose(1, 2).reshape(2, 3, 8))
    torch.testing.assert_close(head(DEEPEST), head.output(head.norm(crossed).flatten(1)))


def test_every_position_matters(head: QueryHead) -> None:
    before = head(DEEPEST)
    for position in range(16):
        changed = DEEPEST.clone()
        changed.flatten(2)[:, :, position] += 5
        assert not torch.allclose(head(changed), before, atol=1e-4)


def test_every_parameter_receives_a_gradient() -> None:
    config = ClassificationConfig(encoder=ENCODER, classes=("a", "b", "c"), heads=2)
    model = ClassificationModel(config)
    logits = model(torch.randn(2, 1, *SHAPE))
    nn.functional.binary_cross_entropy_with_logits(logits, torch.ones(2, 3)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_classify_continues_from_the_stages() -> None:
    model = ClassificationModel(ClassificationConfig(encoder=ENCODER, classes=("a", "b"), heads=2))
    x = torch.randn(1, 1, *SHAPE)
    assert torch.equal(model(x), model.classify(model.encoder(x)))


def test_no_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs classes"):
        ClassificationModel(ClassificationConfig(encoder=ENCODER, heads=2))
