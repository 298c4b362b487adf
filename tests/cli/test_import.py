"""`uvlm import`: a published checkpoint becomes a bundle that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.bundle_factory import write_ct
from tests.models.weights.published import (
    LABELS,
    Published,
    dataset,
    plans,
    save,
    stock_unet,
    tokenizer,
)
from uvlm.cli.main import main
from uvlm.models.bundle import load_bundle
from uvlm.text.prompts import AUTHORS_PROMPT


def test_a_published_checkpoint_becomes_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Published(mode="both").save(tmp_path / "fold_0" / "checkpoint_best.pth")
    words = tokenizer().save(tmp_path / "qwen" / "tokenizer.json")
    out = tmp_path / "bundle"
    assert main(["import", str(path), "--out", str(out), "--tokenizer", str(words)]) == 0
    said = capsys.readouterr().out
    assert "classification, report" in said
    assert "51 second copies" in said
    bundle = load_bundle(out)
    assert bundle.prompt == AUTHORS_PROMPT
    assert bundle.parts["report"].config.decoder.rotary == "authors"
    assert bundle.modules["report"].encoder is bundle.modules["classification"].encoder


@pytest.mark.parametrize("imported", [True, False], ids=["bundle", "checkpoint itself"])
def test_it_writes_reports_and_probabilities_for_a_ct(tmp_path: Path, imported: bool) -> None:
    model = Published(mode="both").save(tmp_path / "fold_0" / "checkpoint_best.pth")
    tokenizer().save(model.parent)
    if imported:
        assert main(["import", str(model), "--out", str(tmp_path / "bundle")]) == 0
        model = tmp_path / "bundle"
    ct, out = write_ct(tmp_path / "ct.nii.gz"), tmp_path / "out"
    arguments = ["report", str(ct), "--model", str(model), "--out", str(out)]
    assert main([*arguments, "--max-new-tokens", "8", "--device", "cpu"]) == 0
    content = json.loads((out / "ct.json").read_text())
    assert set(content["probabilities"]) == set(LABELS)


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "x.pth", stock_unet().state_dict(), plans(), dataset())
    assert main(["import", str(path), "--out", str(tmp_path / "b"), "--encoder-only"]) == 0
    assert "left out: only the encoder was asked for" in capsys.readouterr().out
    assert list(load_bundle(tmp_path / "b").parts) == ["encoder"]


def test_a_bundle_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "x.pth", stock_unet().state_dict(), plans(), dataset())
    (tmp_path / "b").mkdir()
    assert main(["import", str(path), "--out", str(tmp_path / "b")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_wrong_file_is_the_users_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(tmp_path / "none.pth"), "--out", str(tmp_path / "b")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
