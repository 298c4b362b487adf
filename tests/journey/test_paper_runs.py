"""runs/ct_rate.sh and runs/abdomen_atlas.sh: the paper's procedure, tried on synthetic studies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.tiny_base import tiny_base
from uvlm.registry import DATASETS, PAPER_ROWS
from uvlm.training.paper import SCOPES, earlier_recipe
from uvlm.training.recipes import recipe

ROOT = Path(__file__).resolve().parents[2]
MAIN = {
    "ct_rate": "ct_rate/seg_fl-cls-rep+sc",
    "abdomen_atlas": "abdomen_atlas/seg_cl-cls-rep+sc",
}
ABLATIONS = {
    "ct_rate": ("ct_rate/rep", "ct_rate/seg_fl-cls-rep+q4b_lora"),
    "abdomen_atlas": ("abdomen_atlas/seg_c",),
}


def bash(*words: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", *words],
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def ask(dataset: str, folder: Path, question: str) -> dict[str, str]:
    """What a function of the scripts answers for each recipe of a dataset."""
    names = [name for name in PAPER_ROWS if name.startswith(f"{dataset}/")]
    text = (ROOT / "runs" / f"{dataset}.sh").read_text(encoding="utf-8")
    (folder / "beginning.sh").write_text(text.split("if [[ -n $TINY")[0], encoding="utf-8")
    for shared in ("paper_steps.sh", "steps.sh"):
        shutil.copy(ROOT / "runs" / shared, folder)
    loop = f'. ./beginning.sh; for name in "$@"; do echo "$({question} "$name")"; done'
    done = bash("-c", loop, "bash", *names, folder=folder, OUT="out")
    assert done.returncode == 0, done.stderr
    return dict(zip(names, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_scripts_train_what_the_recipes_start_from(dataset, tmp_path):
    answers = ask(dataset, tmp_path, "before")
    assert answers == {name: earlier_recipe(name) or "" for name in answers}


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_scripts_give_each_first_task_its_masks(dataset, tmp_path):
    answers = ask(dataset, tmp_path, "catalog_of")
    for step, scope in SCOPES.items():
        assert Path(answers[f"{dataset}/{step}"]).parent.name == scope
    later = {answers[name] for name in answers if earlier_recipe(name)}
    assert later == {answers[f"{dataset}/cls"]}


@pytest.mark.parametrize("dataset", DATASETS)
def test_one_bank_serves_the_runs_that_look_at_the_same_stages(dataset, tmp_path):
    seen: dict[str, object] = {}
    for name, bank in ask(dataset, tmp_path, "bank_of").items():
        config = recipe(name)
        frozen = config.task == "report" and config.optim.encoder_lr == 0
        assert bool(bank) == (frozen and earlier_recipe(name) is not None)
        if bank:
            looked = (earlier_recipe(name), config.model.injection, config.data.batch_size)
            assert seen.setdefault(bank, looked) == looked


@pytest.mark.parametrize("dataset", DATASETS)
def test_without_the_data_the_script_says_what_to_give(dataset, tmp_path):
    variable = {"ct_rate": "CT_RATE", "abdomen_atlas": "ATLAS"}[dataset]
    done = bash(str(ROOT / "runs" / f"{dataset}.sh"), folder=tmp_path)
    assert done.returncode != 0
    assert f"{variable}: give the folder of" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATASETS)
def test_the_procedure_runs_on_synthetic_studies(dataset, tmp_path):
    pytest.importorskip("pycocoevalcap")
    script, more = str(ROOT / "runs" / f"{dataset}.sh"), ABLATIONS[dataset]
    (tmp_path / "base").mkdir()
    tiny_base(tmp_path / "base", positions=4096)
    done = bash(script, *more, folder=tmp_path, TINY="1", OUT="trial", BASE="base")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in (MAIN[dataset], *more):
        card = json.loads((tmp_path / "trial/scores" / name / "scorecard.json").read_text())
        assert card
    assert list((tmp_path / "trial/banks").rglob("*"))

    # Again: everything is done, nothing is trained.
    again = bash(script, folder=tmp_path, TINY="1", OUT="trial")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "took" not in again.stdout
    steps = {"ct_rate": 8, "abdomen_atlas": 7}[dataset]
    assert again.stdout.count("done before") == steps


def test_a_pretrained_row_without_its_model_says_what_to_give(tmp_path):
    name = "ct_rate/seg_cl-cls-rep+q4b_lora"
    command = f'OUT=out TINY= DATASET=x; catalog_of() {{ :; }}; . "$0"; arguments {name}'
    done = bash("-c", command, str(ROOT / "runs" / "paper_steps.sh"), folder=tmp_path)
    assert done.returncode != 0
    assert f"{name} needs the folder of Qwen3-4B" in done.stderr


@pytest.mark.slow
def test_an_interrupted_procedure_goes_on(tmp_path):
    """A step that fails stops the script; what came before it is not done again."""
    script = str(ROOT / "runs" / "abdomen_atlas.sh")
    done = bash(script, folder=tmp_path, TINY="1", OUT="trial", LAUNCH="false")
    assert done.returncode != 0
    assert "prepare AbdomenAtlas took" in done.stdout
    assert "features" not in done.stdout
    again = bash(script, folder=tmp_path, TINY="1", OUT="trial", LAUNCH="echo")
    assert "prepare AbdomenAtlas: done before" in again.stdout
    assert "train abdomen_atlas/seg_cl --data.catalog trial/data/coarse+lesions" in again.stdout
