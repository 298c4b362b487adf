"""`uvlm export`: a bundle's segmentation becomes a results folder of nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.bundle_factory import tiny_bundle
from uvlm.cli.main import main


def test_a_bundle_becomes_a_results_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = tiny_bundle(tmp_path / "bundle"), tmp_path / "out"
    spacing = ["--spacing", "2", "1.5", "1.5"]
    assert main(["export", str(bundle), "--to", "nnunet", "--out", str(out), *spacing]) == 0
    assert f"-m {out}" in capsys.readouterr().out
    plans = json.loads((out / "plans.json").read_text())
    assert plans["configurations"]["3d_fullres"]["spacing"] == [2.0, 1.5, 1.5]
    assert (out / "fold_0" / "checkpoint_final.pth").is_file()


def test_a_bundle_without_segmentation_is_the_users_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", ("classification",))
    arguments = ["export", str(bundle), "--to", "nnunet", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "no segmentation part" in capsys.readouterr().err


@pytest.mark.parametrize("spacing", ["0", "-1", "nan", "inf"])
def test_an_impossible_spacing_is_refused(tmp_path: Path, spacing: str) -> None:
    arguments = ["export", str(tmp_path), "--to", "nnunet", "--out", str(tmp_path / "o")]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--spacing", spacing, "1", "1"])
    assert stop.value.code == 2
