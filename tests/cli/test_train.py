"""`uvlm train`: help without torch, settings by flag, clear refusals, and a run."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.toy_catalog import make_catalog
from uvlm.cli.main import main as uvlm
from uvlm.cli.train import _parse, main
from uvlm.errors import ConfigError, InputError
from uvlm.registry import PAPER_ROWS, RECIPES
from uvlm.training.recipes import recipe

TOY = "--data.shape 8 16 16 --model.encoder.strides 1 2 2 --model.encoder.features 4 8 8 "
TOY += "--model.encoder.blocks 1 1 1 --data.val-fraction 0.3 --loop.steps 2"


def test_help_lists_the_recipes(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES if name not in PAPER_ROWS)
    assert f"the {len(PAPER_ROWS)} runs of the paper" in text


def test_help_of_a_recipe_shows_its_values(capsys):
    assert main(["segmentation", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--optim.lr FLOAT" in text
    assert "(default: 96 128 128)" in text


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys; from uvlm.cli.train import main; main(['tiny_report', '--help']);"
        "sys.exit('torch' in sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: what a clock says depends on what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_flags_change_the_recipe():
    arguments = [
        "--data.catalog",
        "a.csv",
        "b.csv",
        "--out",
        "run",
        "--optim.lr",
        "0.5",
        "--resume",
    ]
    config, resume, smoke = _parse("tiny_segmentation", arguments)
    assert config.data.catalog == (Path("a.csv"), Path("b.csv"))
    assert (config.out, config.optim.lr) == (Path("run"), 0.5)
    assert (resume, smoke) == (True, False)


def test_a_misspelt_flag_is_answered_with_the_right_one(capsys):
    assert uvlm(["train", "tiny_report", "--optim.rl", "1"]) == 2
    assert "--optim.lr" in capsys.readouterr().err


def test_a_value_of_another_type_is_refused(capsys):
    assert uvlm(["train", "tiny_report", "--loop.steps", "many"]) == 2
    assert "--loop.steps" in capsys.readouterr().err


def test_an_impossible_value_is_refused(capsys):
    assert uvlm(["train", "tiny_report", "--data.batch-size", "0"]) == 2
    assert "batch_size" in capsys.readouterr().err
    assert uvlm(["train", "tiny_report", "--optim.weight-decay", "-1"]) == 2
    assert "weight_decay" in capsys.readouterr().err


def test_an_unknown_recipe_is_told_where_all_are_listed():
    with pytest.raises(ConfigError, match=r"no recipe 'huge'.*uvlm train --list"):
        main(["huge"])


def test_a_trial_of_a_pretrained_row_asks_for_its_model_before_making_studies(capsys):
    assert uvlm(["train", "ct_rate/seg_fl-cls-rep+q4b_lora", "--smoke"]) == 2
    told = capsys.readouterr()
    assert "--model.decoder.base" in told.err
    assert "studies" not in told.out


def test_a_misspelt_recipe_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"Did you mean ct_rate/seg_fl-cls\?"):
        main(["ct_rate/seg_fl-clz"])


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_every_run_of_the_paper_can_be_changed_by_flags(name):
    words = ["--data.catalog", "a.csv", "--out", "run", "--seed", "3", "--init", "bundle"]
    config, resume, smoke = _parse(name, words)
    assert (config.seed, config.init, config.out) == (3, Path("bundle"), Path("run"))
    assert replace(config, seed=0, init=None, out=None, data=recipe(name).data) == recipe(name)
    assert (resume, smoke) == (False, False)


def test_a_chain_without_its_beginning_is_refused(tmp_path: Path, capsys):
    words = ["--data.catalog", "a.csv", "--out", f"{tmp_path}/run"]
    assert uvlm(["train", "ct_rate/seg_fl-cls", *words]) == 2
    told = capsys.readouterr().err
    assert "Train ct_rate/seg_fl first" in told
    assert "--init" in told
    assert not (tmp_path / "run").exists()


def test_classes_of_a_run_of_the_paper_can_be_left_to_the_catalog():
    config, _, _ = _parse("ct_rate/seg_fl", ["--model.classes"])
    assert config.model.classes == ()


def test_a_catalog_of_other_classes_is_refused(tmp_path: Path):
    (tmp_path / "toy").mkdir()
    words = ["--data.catalog", str(make_catalog(tmp_path / "toy")), "--out", f"{tmp_path}/run"]
    with pytest.raises(ConfigError, match=r"48 \(Spleen, .*--model\.classes and no value"):
        main(["ct_rate/seg_fl", *words, *TOY.split(), "--data.patch", "8", "16", "16"])


def test_no_catalog_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--data\.catalog"):
        main(["tiny_report", "--out", str(tmp_path / "run")])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_prints_its_bundle_and_a_second_one_refuses_the_folder(tmp_path: Path, capsys):
    (tmp_path / "toy").mkdir()
    catalog = make_catalog(tmp_path / "toy")
    arguments = ["tiny_segmentation", "--data.catalog", str(catalog), "--out", f"{tmp_path}/run"]
    arguments += TOY.split()
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == f"{tmp_path}/run/bundle"
    with pytest.raises(InputError, match="not empty"):
        main(arguments)
    assert main([*arguments, "--resume"]) == 0


NEED_MORE = ("tiny_hsenet_2e3", "tiny_hsenet_report", "tiny_hsenet_vqa")
"""Recipes that need slices or questions beside studies."""


@pytest.mark.parametrize("name", [*NEED_MORE, "hsenet_2e3"])
def test_smoke_says_what_else_a_recipe_needs(name: str):
    with pytest.raises(ConfigError, match=f"{name} needs features of slices"):
        main([name, "--smoke"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in RECIPES if name.startswith("tiny_") and name not in NEED_MORE]
)
def test_smoke_runs_a_recipe_on_synthetic_studies(name: str, capsys):
    assert main([name, "--smoke"]) == 0
    assert "passed" in capsys.readouterr().out
