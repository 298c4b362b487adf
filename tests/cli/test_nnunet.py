"""`uvlm nnunet`: the folder, the plans, and nnU-Net's commands run as they are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.data.toy_catalog import make_catalog
from uvlm.cli import nnunet
from uvlm.cli.main import main
from uvlm.nnunet.environment import STARTUP, TRAINERS


def test_path_prints_the_folder_alone_and_warns_aside(capsys, monkeypatch):
    monkeypatch.setattr("uvlm.nnunet.environment.search_fails", lambda: "torchvision is missing")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert main(["nnunet", "path"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{TRAINERS}\n"
    assert "torchvision is missing" in shown.err
    assert "uvlm nnunet run" in shown.err
    monkeypatch.setenv("PYTHONPATH", str(STARTUP))
    assert main(["nnunet", "path"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["nnunet", "path", "--startup"]) == 0
    assert capsys.readouterr().out == f"{STARTUP}\n"


def test_plans_takes_values_as_json_or_text(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "studies").mkdir()
    catalog = make_catalog(tmp_path / "studies")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    words = ["nnunet", "plans", "report", "--dataset", "Dataset145_Toy", "--catalog", str(catalog)]
    words += ["--set", "features_per_stage=[4, 8]", "--set", "n_blocks_per_stage=[1, 1]"]
    assert main([*words, "--set", "llm_model_path=models/Qwen3-4B", "--set", "use_lora=false"]) == 0
    path = Path(capsys.readouterr().out.strip())
    plan = json.loads(path.read_text())
    kwargs = plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [4, 8]
    assert kwargs["llm_model_path"] == "models/Qwen3-4B"
    assert kwargs["use_lora"] is False
    assert main([*words, "--set", "num_epochs"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_run_gives_its_place_to_the_command_with_everything_after_its_name(capsys, monkeypatch):
    called = []
    monkeypatch.setattr(nnunet.os, "execve", lambda *given: called.append(given))
    main(["nnunet", "run", "nnUNetv2_train", "1", "3d_fullres", "0", "--c", "--help"])
    ((command, words, variables),) = called
    assert command == str(Path(sys.executable).with_name("nnUNetv2_train"))
    assert words == [command, "1", "3d_fullres", "0", "--c", "--help"]
    assert variables["nnUNet_extTrainer"].split(os.pathsep)[0] == str(TRAINERS)
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(STARTUP)
    called.clear()
    assert main(["nnunet", "run", sys.executable]) == 2
    assert "is no command of nnU-Net" in capsys.readouterr().err
    assert main(["nnunet", "run"]) == 2
    assert called == []
