"""Recipes hold the paper's values, can be written down and read back, and refuse nonsense."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from uvlm.config import from_dict, to_dict
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.errors import ConfigError
from uvlm.models.config import EncoderConfig, JointConfig, ReportConfig
from uvlm.registry import PAPER_ROWS, RECIPES
from uvlm.training.config import READING, LoopConfig, RunConfig
from uvlm.training.recipes import recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_being_written_and_read(name):
    config = recipe(name)
    assert from_dict(RunConfig, to_dict(config)) == config


TASKS = {
    "hsenet_clip": "contrastive",
    "hsenet_2e3": "contrastive_2e3",
    "hsenet_report": "report",
    "hsenet_vqa": "report",
    "unet_clip": "contrastive",
    "unet_packed": "report",
    "towers_injected": "report",
}
"""Of recipes that are named otherwise."""


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in PAPER_ROWS])
def test_a_recipe_is_of_the_task_in_its_name(name):
    plain = name.removeprefix("tiny_")
    assert recipe(name).task == TASKS.get(plain, plain)


def test_the_paper_is_the_default():
    segmentation, classification, report = map(recipe, ("segmentation", "classification", "report"))
    for config in (segmentation, classification, report):
        assert config.model.encoder == EncoderConfig()
        assert config.data.shape == (192, 256, 256)
        assert config.data.batch_size == 2
    assert segmentation.data.patch == (96, 128, 128)
    assert (segmentation.optim.name, segmentation.optim.lr) == ("sgd", 0.01)
    assert (classification.optim.name, classification.optim.lr) == ("adamw", 2e-5)
    assert (classification.optim.encoder_lr, report.optim.encoder_lr) == (0.1, 0.0)
    assert isinstance(report.model, ReportConfig)
    decoder = report.model.decoder
    assert (decoder.layers, decoder.width, decoder.heads) == (8, 512, 8)


def test_no_recipe_mirrors_left_and_right_or_anything_under_a_report():
    for name in RECIPES:
        assert 2 not in recipe(name).data.augment.mirror
        if recipe(name).task in READING:
            assert recipe(name).data.augment.mirror == ()


def test_a_mirrored_report_is_refused():
    config = recipe("report")
    data = replace(config.data, augment=AugmentConfig(mirror=(1,)))
    with pytest.raises(ConfigError, match="contradict its report"):
        replace(config, data=data)


@pytest.mark.parametrize("name", ["hsenet_clip", "hsenet_2e3"])
def test_a_mirrored_pair_of_volume_and_report_is_refused(name):
    config = recipe(name)
    with pytest.raises(ConfigError, match="contradict its report"):
        replace(config, data=replace(config.data, augment=AugmentConfig(mirror=(1,))))


@pytest.mark.parametrize("name", ["segmentation", "classification", "joint", "hsenet_report"])
def test_chunks_are_for_contrastive_pretraining_only(name):
    config = recipe(name)
    with pytest.raises(ConfigError, match=r"loop\.chunk is for contrastive"):
        replace(config, loop=replace(config.loop, chunk=2))


@pytest.mark.parametrize("name", ["segmentation", "classification", "joint", "hsenet_clip"])
def test_only_a_report_model_is_asked_questions(name):
    config = recipe(name)
    with pytest.raises(ConfigError, match=r"data\.questions are answered by a report model"):
        replace(config, data=replace(config.data, questions=True))


def test_slices_are_for_encoders_that_look_at_them():
    config = recipe("report")
    with pytest.raises(ConfigError, match="takes no slices"):
        replace(config, data=replace(config.data, slices=Path("slices")))
    with pytest.raises(ConfigError, match="takes no slices"):
        replace(recipe("hsenet_clip"), slice_encoder=Path("encoder"))
    assert replace(recipe("hsenet_2e3"), slice_encoder=Path("encoder")).task == "contrastive_2e3"


def test_hsenet_is_the_papers():
    clip, gated, reports, vqa = map(
        recipe, ("hsenet_clip", "hsenet_2e3", "hsenet_report", "hsenet_vqa")
    )
    for config in (clip, gated, reports, vqa):
        assert config.data.shape == (32, 256, 256)
        assert (config.optim.name, config.optim.schedule) == ("adamw", "cosine")
        assert not config.data.augment.active
    assert clip.data.batch_size == gated.data.batch_size == 24
    assert gated.loss.consistency.weight_at(0) == 0.1
    assert gated.loss.consistency.weight_at(5000) == 0
    assert reports.optim.encoder_lr == vqa.optim.encoder_lr == 0
    assert isinstance(reports.model, ReportConfig)
    assert reports.model == vqa.model
    assert reports.model.num_visual_tokens == 256
    assert vqa.data.questions


def test_whole_volume_tasks_refuse_patches():
    config = recipe("classification")
    with pytest.raises(ConfigError, match="whole volumes"):
        replace(config, data=replace(config.data, patch=(96, 128, 128)))


def test_a_patch_the_encoder_cannot_halve_is_refused():
    config = recipe("segmentation")
    with pytest.raises(ConfigError, match="not divisible"):
        replace(config, data=replace(config.data, patch=(96, 128, 100)))


@pytest.mark.parametrize(
    "change",
    [{"foreground": 1.5}, {"val_fraction": 0.0}, {"batch_size": 0}, {"patch": (400, 8, 8)}],
)
def test_impossible_data_settings_are_refused(change):
    with pytest.raises(ConfigError):
        DataConfig(**change)


def test_impossible_loops_are_refused():
    with pytest.raises(ConfigError):
        LoopConfig(steps=0)


@pytest.mark.parametrize("size", ["", "tiny_"])
def test_a_joint_run_has_the_parts_of_the_two_it_joins(size):
    joint = recipe(f"{size}joint").model
    assert isinstance(joint, JointConfig)
    assert joint.classification == recipe(f"{size}classification").model
    assert joint.report == recipe(f"{size}report").model
    assert recipe(f"{size}joint").optim.encoder_lr > 0


@pytest.mark.parametrize(
    ("name", "answer"), [("tiny_reprot", "tiny_report"), ("ct_rate/seg-cls", "ct_rate/seg_")]
)
def test_an_unknown_recipe_is_answered_with_the_nearest(name, answer):
    with pytest.raises(ConfigError, match=f"Did you mean {answer}"):
        recipe(name)


def test_a_name_like_no_recipe_is_told_where_they_are_listed():
    with pytest.raises(ConfigError, match="--list"):
        recipe("x")


def test_configuration_and_recipes_need_no_torch():
    code = (
        "import sys, uvlm.training.recipes as r; r.recipe('report'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
