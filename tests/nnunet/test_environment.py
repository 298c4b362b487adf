"""Stock nnU-Net finds the trainers, also where torchvision is missing or broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from uvlm.errors import ConfigError
from uvlm.nnunet.environment import STARTUP, TRAINERS, command_of, environment, search_fails

FIND = """
import sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
for name in sys.argv[1:]:
    print("FOUND", find(name).__name__)
"""

BROKEN = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
WORKING = "# a torchvision that can be imported, as far as the search is concerned\n"


def python(code: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(os.environ | variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_nnunets_own_search_finds_our_trainers_and_its_own():
    names = (
        "nnUNetTrainer_ResEncoderUNet",
        "nnUNetTrainer_UVLM",
        "nnUNetTrainer_UVLM_Qwen3",
        "nnUNetTrainer_onlyMirror01",
        "nnUNetTrainer",
    )
    done = python(FIND, *names)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert found == list(names)


def fake_timm(folder: Path) -> None:
    """Whatever name nnU-Net's search wants of it is a class."""
    (folder / "timm" / "models").mkdir(parents=True)
    for name in ("__init__.py", "layers.py", "models/__init__.py", "models/eva.py"):
        # Not for __path__ and the like, which the import system asks for.
        text = "def __getattr__(name):\n    if name[:2] == '__':\n        raise AttributeError\n"
        (folder / "timm" / name).write_text(f"{text}    return type(name, (), {{}})\n")


def test_where_timm_can_be_imported_the_folder_of_the_trainers_is_enough(tmp_path: Path):
    fake_timm(tmp_path)
    variables = {"PYTHONPATH": str(tmp_path), "nnUNet_extTrainer": str(TRAINERS)}
    done = subprocess.run(
        [sys.executable, "-c", FIND, "nnUNetTrainer_ResEncoderUNet"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "FOUND nnUNetTrainer_ResEncoderUNet" in done.stdout


def test_a_search_that_would_fail_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert str(search_fails()).startswith("timm cannot be imported (")
    monkeypatch.setitem(sys.modules, "timm", sys)
    assert search_fails() is None


def test_a_broken_torchvision_is_stepped_over(tmp_path: Path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/__init__.py").write_text(BROKEN)
    done = python(FIND, "nnUNetTrainer_UVLM", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "FOUND nnUNetTrainer_UVLM" in done.stdout


def test_with_a_working_timm_nothing_is_skipped(tmp_path: Path):
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm/__init__.py").write_text(WORKING)
    code = (
        "import sys\n"
        "skip = next(f for f in sys.meta_path if type(f).__name__ == 'Skip')\n"
        "assert skip.find_spec('nnunetv2.training.nnUNetTrainer.primus.primus_trainers') is None\n"
        "assert 'timm' in sys.modules\n"
    )
    done = python(code, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_sitecustomize_still_runs_and_nothing_heavy_is_imported(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.other_was_here = True\n")
    code = (
        "import sys\n"
        "assert sys.other_was_here\n"
        "assert sum(type(f).__name__ == 'Skip' for f in sys.meta_path) == 1\n"
        "assert not {'torch', 'timm', 'nnunetv2', 'uvlm'} & set(sys.modules)\n"
    )
    done = python(code, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]


def test_folders_come_first_and_once():
    others = {"nnUNet_extTrainer": "/other", "PYTHONPATH": f"/lib{os.pathsep}{STARTUP}", "X": "1"}
    made = environment(others)
    assert made["nnUNet_extTrainer"] == os.pathsep.join([str(TRAINERS), "/other"])
    assert made["PYTHONPATH"] == os.pathsep.join([str(STARTUP), "/lib"])
    assert made["X"] == "1"
    assert environment(made) == made


def test_only_commands_of_nnunet_are_run():
    assert command_of("nnUNetv2_train").is_file()
    for wrong in ("nnUNetv2_trian", "python", "../bin/nnUNetv2_train"):
        with pytest.raises(ConfigError, match="is no command of nnU-Net"):
            command_of(wrong)
