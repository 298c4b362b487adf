"""`uvlm features`: the run's settings in, a bank out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.toy_catalog import SPEC, make_catalog
from tests.inference.bundle_factory import tiny_bundle
from uvlm.cli.main import main
from uvlm.data.bank import Bank
from uvlm.errors import InputError


def test_processes_of_a_launcher_fill_a_bank_together(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    out, grid = tmp_path / "bank", ["8", "16", "16"]
    catalog = ["--data.catalog", str(make_catalog(tmp_path)), "--data.val-fraction", "0.3"]
    trained = tiny_bundle(tmp_path / "trained", ("classification",), spec=SPEC)
    catalog += ["--init", str(trained)]
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


@pytest.mark.parametrize("given", [[], ["--init", "bundle"]])
def test_a_row_whose_encoder_learns_is_refused_for_that(tmp_path: Path, capsys, given):
    """Not for a bundle or a vocabulary, which would not help."""
    name = "ct_rate/seg_fl-cls-rep+unfrozen"
    assert main(["features", name, *given, "--out", str(tmp_path / "bank")]) == 2
    error = capsys.readouterr().err
    assert "frozen encoder" in error
    assert "--tokenizer" not in error


def test_a_bank_asks_for_no_vocabulary(tmp_path: Path, capsys):
    """A report row of the paper gets as far as its catalog."""
    assert main(["features", "ct_rate/rep", "--out", str(tmp_path / "bank")]) == 2
    error = capsys.readouterr().err
    assert "no catalog was given" in error
    assert "--tokenizer" not in error


@pytest.mark.parametrize("name", ["report", "tiny_report"])
def test_a_bank_of_an_untrained_encoder_is_refused(tmp_path: Path, capsys, name):
    catalog = str(make_catalog(tmp_path, studies=3))
    out = tmp_path / "bank"
    assert main(["features", name, "--data.catalog", catalog, "--out", str(out)]) == 2
    assert "with --init; without any, as in row 1 of Table 5" in capsys.readouterr().err
    assert not out.exists()
