"""A plan of nnU-Net gets a residual network, and keeps the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from uvlm.errors import ConfigError
from uvlm.nnunet.residual import residual_plan

PLAIN = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 16, 16],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage": [2, 2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2, 2],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


def plan_of(kwargs: dict[str, Any], network: str) -> dict[str, Any]:
    architecture = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return {
        "plans_name": "nnUNetPlans",
        "configurations": {
            "3d_fullres": {"batch_size": 2, "architecture": architecture},
            "small": {"inherits_from": "3d_fullres", "batch_size": 1},
        },
    }


def test_a_plain_network_becomes_residual_with_its_stages():
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plan = plan_of(dict(PLAIN), "PlainConvUNet")
    before = copy.deepcopy(plan)
    changed, asked = residual_plan(plan, "3d_fullres")
    assert plan == before, "the plan given must stay as it was"
    assert asked == {}
    architecture = changed["configurations"]["3d_fullres"]["architecture"]
    kwargs = architecture["arch_kwargs"]
    assert kwargs["n_blocks_per_stage"] == [1, 3, 4, 6]
    for kept in ("features_per_stage", "kernel_sizes", "strides"):
        assert kwargs[kept] == PLAIN[kept]
    with torch.device("meta"):
        network = get_network_from_plans(
            architecture["network_class_name"],
            kwargs,
            architecture["_kw_requires_import"],
            1,
            3,
            allow_init=False,
            deep_supervision=True,
        )
    assert type(network).__name__ == "ResidualEncoderUNet"
    assert len(network.encoder.stages) == 4


def test_a_configuration_that_inherits_gets_its_own_network():
    changed, _ = residual_plan(plan_of(dict(PLAIN), "PlainConvUNet"), "small")
    configurations = changed["configurations"]
    assert "n_blocks_per_stage" in configurations["small"]["architecture"]["arch_kwargs"]
    assert "n_conv_per_stage" in configurations["3d_fullres"]["architecture"]["arch_kwargs"]


def test_keys_for_training_leave_the_network_and_reach_the_trainer():
    kwargs = {key: value for key, value in PLAIN.items() if key != "n_conv_per_stage"}
    kwargs |= {"n_blocks_per_stage": [1] * 4, "num_epochs": 2, "region": "abdomen"}
    changed, asked = residual_plan(plan_of(kwargs, "ResidualEncoderUNet"), "3d_fullres")
    assert asked == {"num_epochs": 2}
    assert changed["region"] == "abdomen"
    left = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert left["n_blocks_per_stage"] == [1] * 4
    assert not {"num_epochs", "region"} & set(left)


@pytest.mark.parametrize(
    ("plan", "configuration", "message"),
    [
        (
            plan_of(PLAIN | {"mode": "only_cls"}, "PlainConvUNet"),
            "3d_fullres",
            "'mode' means nothing",
        ),
        (plan_of(PLAIN | {"num_epoch": 2}, "PlainConvUNet"), "3d_fullres", "mean 'num_epochs'"),
        (plan_of(PLAIN | {"num_epochs": "2"}, "PlainConvUNet"), "3d_fullres", "expected int"),
        (plan_of(PLAIN | {"region": "leg"}, "PlainConvUNet"), "3d_fullres", "'abdomen'"),
        (plan_of(dict(PLAIN), "Primus"), "3d_fullres", "network is Primus"),
        (plan_of(dict(PLAIN), "PlainConvUNet"), "2d", "no usable configuration '2d'"),
        ({"configurations": {"3d_fullres": {}}}, "3d_fullres", "of an old nnU-Net"),
        ({"configurations": {"a": {"inherits_from": "a"}}}, "a", "no usable configuration 'a'"),
    ],
)
def test_other_plans_are_refused(plan, configuration, message):
    with pytest.raises(ConfigError, match=message):
        residual_plan(plan, configuration)
