"""A plan of nnU-Net with a residual network in it. No torch import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from uvlm.errors import ConfigError
from uvlm.nnunet.settings import NETWORK_KEYS, read_settings
from uvlm.preprocessing.nnunet_plans import BLOCKS, NETWORK, inherited

__all__ = ["residual_plan"]

TRAINING = (
    "num_epochs",
    "num_iterations_per_epoch",
    "num_val_iterations_per_epoch",
    "initial_lr",
    "weight_decay",
)
"""Keys that nnU-Net's own training follows too; its trainer has an attribute of each name."""


def residual_plan(
    plans: Mapping[str, Any], configuration: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan with a residual network, and attributes of the trainer that it sets.

    A network that is residual stays; of another one the stages, their channels, kernels and
    strides stay and each gets as many residual blocks as nnU-Net's residual plans give it.

    Returns:
        a copy, in which `network_arch_init_kwargs` holds keys of the network only and `region`
        stands at the top

    Raises:
        ConfigError: no such configuration, a network of another kind, or a key that is unknown or
            impossible.
    """
    changed: dict[str, Any] = deepcopy(dict(plans))
    try:
        found = inherited(changed["configurations"], configuration)
    except KeyError:
        there = ", ".join(changed["configurations"])
        raise ConfigError(
            f"the plan has no usable configuration {configuration!r}; it has {there}."
        ) from None
    if "architecture" not in found:
        raise ConfigError(
            "the plan is of an old nnU-Net; run nnUNetv2_plan_experiment of 2.4 or later."
        )
    architecture = deepcopy(found["architecture"])
    kwargs: dict[str, Any] = architecture["arch_kwargs"]
    asked = {key: kwargs.pop(key) for key in TRAINING if key in kwargs}
    region = {key: kwargs.pop(key) for key in ("region",) if key in kwargs}
    where = str(plans.get("plans_name", "the plan"))
    read_settings(asked | region, where)
    changed |= region
    network = str(architecture["network_class_name"]).rpartition(".")[2]
    if network == "PlainConvUNet":
        _make_residual(architecture)
    elif network not in ("ResidualEncoderUNet", "ResEncoderUNet"):
        raise ConfigError(
            f"the plan's network is {network}; nnUNetTrainer_ResEncoderUNet trains U-Nets. Give "
            "another plan with -p, or write one: uvlm nnunet plans seg."
        )
    else:
        architecture["network_class_name"] = NETWORK
    for key in set(kwargs) - set(NETWORK_KEYS):
        known = (*TRAINING, "region")
        near = difflib.get_close_matches(key, (*NETWORK_KEYS, *known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        raise ConfigError(
            f"{where}: network_arch_init_kwargs: {key!r} means nothing to a segmentation; {hint}"
        )
    changed["configurations"][configuration]["architecture"] = architecture
    return changed, asked


def _make_residual(architecture: dict[str, Any]) -> None:
    kwargs = architecture["arch_kwargs"]
    stages = int(kwargs["n_stages"])
    blocks = [*BLOCKS, *[BLOCKS[-1]] * stages][:stages]
    kwargs.pop("n_conv_per_stage", None)
    kwargs["n_blocks_per_stage"] = blocks
    kwargs["n_conv_per_stage_decoder"] = [1] * (stages - 1)
    architecture["network_class_name"] = NETWORK
