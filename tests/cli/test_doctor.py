"""`uvlm doctor`: what it finds, what it predicts, how it ends."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from uvlm.cli import installation
from uvlm.cli.main import main


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The speed of this machine is no part of these tests."""
    monkeypatch.setattr("uvlm.training.probe.measured_tflops", lambda *_: 0.05)


def test_the_installation_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("uvlm", "torch", "nnU-Net", "transformers", "main memory", "disk"):
        assert word in out
    assert "BAD" not in out


def test_a_recipe_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "tiny_report", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "tiny_report on the CPU" in out
    assert "fits, by prediction" in out
    assert "measured here" in out


def test_a_run_that_does_not_fit_ends_with_1_and_names_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "classification", "--gpu-gb", "10"]) == 1
    out = capsys.readouterr().out
    assert "DOES NOT FIT" in out
    assert "10.0 GB are free" in out
    assert "--loop.activation-checkpointing" in out


def test_fields_change_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    memory = []
    for extra in ((), ("--loop.activation-checkpointing",)):
        main(["doctor", "classification", "--gpu-gb", "80", *extra])
        lines = capsys.readouterr().out.splitlines()
        line = next(line for line in lines if line.strip().startswith("memory"))
        memory.append(float(line.split()[1]))
    assert memory[1] < memory[0]


def test_an_unknown_recipe_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "clasification"]) == 2
    assert "Did you mean classification?" in capsys.readouterr().err


def test_a_torchvision_that_does_not_fit_is_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def broken(name: str, *args: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *args)

    monkeypatch.setattr(installation.importlib, "import_module", broken)
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: object())
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "BAD" in out
    assert "operator torchvision::nms does not exist" in out


def test_timm_without_torchvision_is_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"torchvision": None, "timm": object()}
    monkeypatch.setattr(installation.importlib.util, "find_spec", there.get)
    assert main(["doctor"]) == 1
    assert "`pip uninstall timm`" in capsys.readouterr().out


@pytest.mark.parametrize("option", [("--gpu-gb", "-3"), ("--processes", "0"), ("--text", "-5")])
def test_numbers_that_mean_nothing_are_refused(
    option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "report", *option]) == 2
    assert f"{option[0]} must be above 0, got {option[1]}" in capsys.readouterr().err


def test_without_a_gpu_nothing_is_said_to_fit_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uvlm.training.fitting._gpu_gb", lambda: None)
    assert main(["doctor", "report", "--device", "cuda"]) == 0
    out = capsys.readouterr().out
    assert "fits, by prediction" not in out
    assert "--gpu-gb" in out


def test_what_saves_main_memory_alone_shows_main_memory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["doctor", "classification", "--gpu-gb", "80"])
    (line,) = (each for each in capsys.readouterr().out.splitlines() if "--data.workers" in each)
    assert "GB of main memory" in line


def test_a_missing_library_is_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        installation.metadata, "requires", lambda _: ["no-such-library>=1.0", "torch>=999"]
    )
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "no-such-library (not installed)" in out
    assert "at least 999 is needed" in out
