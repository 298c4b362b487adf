"""`uvlm export --to torch` and its siblings, and the flags `--precision` and `--runtime`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.bundle_factory import tiny_bundle, write_ct
from uvlm.cli.main import main


def test_the_encoder_is_written_and_its_difference_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = tiny_bundle(tmp_path / "bundle", ("report",)), tmp_path / "out"
    assert main(["export", str(bundle), "--to", "torch", "--out", str(out)]) == 0
    assert "differ from PyTorch's by at most" in capsys.readouterr().out
    assert json.loads((out / "encoder.json").read_text())["format"] == "torch"
    assert (out / "encoder.pt2").is_file()


def test_spacing_is_nnunets_only(tmp_path: Path) -> None:
    arguments = ["export", str(tmp_path), "--to", "onnx", "--out", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--spacing", "1", "1", "1"])
    assert stop.value.code == 2


def test_a_report_says_in_what_precision_it_was_made(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", ("classification", "report"))
    ct = write_ct(tmp_path / "a.nii.gz")
    arguments = ["report", str(ct), "--model", str(bundle), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--precision", "int8", "--max-new-tokens", "4"]) == 0
    manifest = json.loads((tmp_path / "o" / "a.json").read_text())["manifest"]
    assert (manifest["precision"], manifest["runtime"]) == ("int8", "torch")
