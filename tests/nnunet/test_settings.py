"""What a plan may say: all keys of the README, checked; anything else is refused by name."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from uvlm.errors import ConfigError
from uvlm.nnunet.settings import NETWORK_KEYS, PlanSettings, read_settings

README = {
    "mode": "both",
    "csv_paths": ["/data/training_data.csv"],
    "cls_columns": ["Liver lesion", "Kidney lesion", "Pancreas lesion"],
    "report_column": "report",
    "llm_embed_dim": 512,
    "num_heads": 8,
    "initial_lr": 2e-5,
    "use_lora": False,
}
"""The README's example, and the key its text names."""

AUTHORS = {
    "series_id_column": "series_id",
    "case_id_column": "case_id",
    "visual_token_length_source_stage": -1,
    "data_format": "blosc2",
    "force_regenerate_shapes": False,
    "optimizer_type": "AdamW",
    "weight_decay": 0.01,
    "betas": [0.9, 0.999],
    "encoder_lr_multiplier": 0.1,
    "pretrained_encoder_checkpoint_path": None,
    "freeze_encoder": True,
    "enable_nnunet_augmentation": True,
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
    "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1] * 5,
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
"""Beside the README's, what the published plans hold."""


def test_the_keys_of_the_readme_and_of_the_published_plans_are_read():
    settings = read_settings(README | AUTHORS, "plan.json")
    assert settings.mode == "both"
    assert settings.cls_columns == tuple(README["cls_columns"])
    assert settings.use_lora is False
    assert settings.encoder.features == (32, 64, 128, 256, 320, 320)
    assert settings.encoder.strides == (1, 2, 2, 2, 2, 2)
    assert settings.frozen


def test_an_empty_table_is_the_paper():
    settings = read_settings({}, "plan.json")
    assert (settings.llm_embed_dim, settings.num_heads, settings.num_layers) == (512, 8, 8)
    assert (settings.lora_r, settings.lora_alpha, settings.use_lora) == (64, 128, True)
    assert settings.use_deepstack
    assert settings.initial_lr == 2e-5


def test_every_key_has_a_default_and_every_network_key_of_ours_is_known():
    assert all(
        each.default is not MISSING or each.default_factory is not MISSING
        for each in fields(PlanSettings)
    )
    known = {each.name for each in fields(PlanSettings)}
    # The one that only networks without residual blocks have.
    assert set(NETWORK_KEYS) - known == {"n_conv_per_stage"}


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("cls_column", "cls_columns"),
        ("llm_embeding_dim", "llm_embed_dim"),
        ("inital_lr", "initial_lr"),
        ("use_Lora", "use_lora"),
        ("csv_path", "csv_paths"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(wrong, near):
    with pytest.raises(ConfigError, match=f"plan.json: .*'{wrong}'; did you mean '{near}'"):
        read_settings({wrong: 1}, "plan.json")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "cls"}, "only_cls"),
        ({"n_stages": 5}, "n_stages is 5"),
        ({"strides": [[1, 1, 1], [1, 2, 2], *[[2, 2, 2]] * 4]}, "same along every axis"),
        ({"kernel_sizes": [[1, 3, 3]] + [[3, 3, 3]] * 5}, "same along every axis"),
        ({"kernel_sizes": [5] * 6}, "must be 3"),
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "conv_op"),
        ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, "norm_op_kwargs must be"),
        ({"betas": [0.9, 0.95]}, "betas must be"),
        ({"dropout_op": "torch.nn.Dropout3d"}, "dropout_op"),
        ({"report_column": "answer"}, "report_column"),
        ({"num_epochs": 0}, "at least 1"),
        ({"deepstack_skip_stages": 6}, "deepstack_skip_stages"),
        ({"layers_per_stage": 0}, "layers_per_stage must be at least 1"),
        ({"n_conv_per_stage": [2] * 6}, "no residual blocks.*uvlm nnunet plans"),
        ({"region": "leg"}, "region"),
        ({"llm_embed_dim": "512"}, "llm_embed_dim"),
    ],
)
def test_an_impossible_value_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        assert read_settings(values, "plan.json").encoder


@pytest.mark.parametrize(
    ("values", "frozen"),
    [
        ({"mode": "only_report"}, True),
        ({"mode": "only_cls"}, False),
        ({"mode": "both"}, False),
        ({"mode": "only_report", "freeze_encoder": False}, False),
        ({"mode": "only_cls", "freeze_encoder": True}, True),
    ],
)
def test_the_encoder_is_frozen_for_reports_alone_unless_the_plan_says_otherwise(values, frozen):
    assert read_settings(values, "plan.json").frozen is frozen
