"""Groups, freezing and the learning rate as a function of the step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.models.tiny_contrastive import config as contrastive_config
from uvlm.errors import ConfigError
from uvlm.models.contrastive import ContrastiveModel
from uvlm.training.config import OptimConfig
from uvlm.training.optim import build_optimizer, learning_rate, set_learning_rate


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.head = nn.Linear(2, 1)


def test_the_encoder_has_its_own_rate():
    optimizer = build_optimizer(Toy(), OptimConfig(lr=1.0, encoder_lr=0.1))
    set_learning_rate(optimizer, OptimConfig(lr=1.0), 1, 10)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]


def test_a_frozen_encoder_is_out_of_training():
    model = Toy()
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=0.0))
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_sgd_is_nnunets():
    optimizer = build_optimizer(Toy(), OptimConfig(name="sgd", lr=0.01, weight_decay=3e-5))
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)


def test_the_rate_falls_polynomially_from_the_first_step():
    rates = [learning_rate(OptimConfig(lr=2.0), step, 4) for step in range(1, 5)]
    assert rates == pytest.approx([2.0, 2 * 0.75**0.9, 2 * 0.5**0.9, 2 * 0.25**0.9])


def test_warmup_rises_to_the_full_rate():
    config = OptimConfig(lr=1.0, warmup=4)
    rates = [learning_rate(config, step, 10) for step in range(1, 7)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[5] < 1


def test_the_cosine_falls_from_the_full_rate_to_nothing():
    config = OptimConfig(lr=2.0, schedule="cosine", warmup=2)
    rates = [learning_rate(config, step, 6) for step in range(1, 7)]
    assert rates == pytest.approx([1, 2, 2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5])


def test_what_is_frozen_already_stays_out():
    model = Toy()
    model.head.bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig())
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_temperature_is_pulled_to_nothing_only_where_the_authors_do(name):
    for temperature, decay in (("exp", 0.0), ("authors", 0.5)):
        model = ContrastiveModel(replace(contrastive_config(), temperature=temperature))
        optimizer = build_optimizer(model, OptimConfig(name=name, weight_decay=0.5))
        groups = optimizer.param_groups
        (own,) = [g for g in groups if any(p is model.scale for p in g["params"])]
        assert own["weight_decay"] == decay
        others = {g["weight_decay"] for g in groups if g is not own}
        assert others == {0.5}
        parameters = [id(p) for g in groups for p in g["params"]]
        assert sorted(parameters) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("change", [{"lr": 0.0}, {"clip": -1.0}, {"encoder_lr": -0.1}])
def test_impossible_values_are_refused(change):
    with pytest.raises(ConfigError):
        OptimConfig(**change)
