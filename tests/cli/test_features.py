"""`uvlm features`: the run's settings in, a bank out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.toy_catalog import make_catalog
from uvlm.cli.main import main
from uvlm.data.bank import Bank
from uvlm.errors import InputError


def test_processes_of_a_launcher_fill_a_bank_together(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    out, grid = tmp_path / "bank", ["8", "16", "16"]
    catalog = ["--data.catalog", str(make_catalog(tmp_path)), "--data.val-fraction", "0.3"]
    shape = ["--data.shape", *grid, "--model.shape", *grid]
    sizes = {"features": ["4", "8", "8"], "strides": ["1", "2", "2"], "blocks": ["1", "1", "1"]}
    encoder = [word for name, v in sizes.items() for word in (f"--model.encoder.{name}", *v)]
    arguments = ["tiny_report", *catalog, *shape, *encoder, "--out", str(out)]
    assert main(["features", *arguments]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with pytest.raises(InputError, match="missing"):  # the other process's shard
        Bank.open(out)
    assert main(["features", *arguments, "--rank", "0"]) == 0
    assert Bank.open(out).index.key.token_grid == (2, 4, 4)


def test_an_unknown_recipe_names_the_nearest(capsys):
    assert main(["features", "tiny_reprot"]) == 2
    assert "Did you mean tiny_report?" in capsys.readouterr().err
    assert main(["features"]) == 2


def test_a_run_of_the_paper_without_what_it_starts_from_is_refused(tmp_path: Path, capsys):
    """As `uvlm train` refuses it, before a bank of an untrained encoder is made."""
    assert main(["features", "ct_rate/seg_fl-cls-rep", "--out", str(tmp_path / "bank")]) == 2
    assert "Train ct_rate/seg_fl-cls first" in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()


def test_a_recipe_without_a_frozen_encoder_is_refused(tmp_path: Path, capsys):
    arguments = ["tiny_classification", "--out", str(tmp_path / "bank")]
    assert main(["features", *arguments]) == 2
    assert "serves report runs" in capsys.readouterr().err
