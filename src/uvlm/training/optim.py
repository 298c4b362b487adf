"""Optimiser and learning rate; the rate follows from the step, so resuming needs no schedule."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch
from torch import nn

from uvlm.training.config import OptimConfig

__all__ = ["build_optimizer", "learning_rate", "set_learning_rate"]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Two groups: the encoder at its own multiple of the rate, and the rest.

    An `encoder_lr` of 0 takes the encoder's parameters out of training altogether; parameters
    that are frozen already stay out as well. What a model names in `undecayed` is a third group,
    without weight decay.
    """
    encoder = list(model.get_submodule("encoder").parameters())
    inside = {id(parameter) for parameter in encoder}
    if config.encoder_lr == 0:
        for parameter in encoder:
            parameter.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    free = [parameter for parameter in getattr(model, "undecayed", ()) if parameter.requires_grad]
    apart = inside | {id(parameter) for parameter in free}
    rest = [parameter for parameter in trained if id(parameter) not in apart]
    encoder = [parameter for parameter in trained if id(parameter) in inside]
    groups: list[dict[str, Any]] = [{"params": rest, "scale": 1.0}]
    if encoder:
        groups.append({"params": encoder, "scale": config.encoder_lr})
    if free:
        groups.append({"params": free, "scale": 1.0, "weight_decay": 0.0})
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, config.lr, momentum=0.99, nesterov=True, weight_decay=config.weight_decay
        )
    # In one pass over memory, where there is such a kernel.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trained)
    return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay, fused=fused)


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """Rate of step `step` of `steps` (counted from 1): linear rise, then the fall to zero, as a
    polynomial or half a cosine."""
    if step <= config.warmup:
        return config.lr * step / config.warmup
    share = (step - 1 - config.warmup) / max(steps - config.warmup, 1)
    if config.schedule == "cosine":
        return config.lr * (1 + cos(pi * share)) / 2
    return float(config.lr * (1 - share) ** config.power)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimConfig, step: int, steps: int
) -> float:
    """Give each group its rate for this step; returns the base rate."""
    rate = learning_rate(config, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    return rate
