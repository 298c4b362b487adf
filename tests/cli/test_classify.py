"""`uvlm classify`: a table, JSON lines, or files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.bundle_factory import tiny_bundle, write_ct
from uvlm.cli.main import main
from uvlm.registry import CT_RATE_LABELS, DISCLAIMER


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "cls", ("classification",))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "chest.nii.gz")


def classify(*arguments: object, bundle: Path) -> int:
    words = [str(argument) for argument in arguments]
    return main(["classify", *words, "--model", str(bundle), "--device", "cpu"])


def test_the_table_ranks_every_label(bundle, ct, capsys):
    assert classify(ct, bundle=bundle) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if any(label in line for label in CT_RATE_LABELS)]
    values = [float(line.split()[-1]) for line in lines]
    assert len(values) == len(CT_RATE_LABELS)
    assert values == sorted(values, reverse=True)
    assert DISCLAIMER in out


def test_json_is_one_object_per_study_failures_included(bundle, ct, tmp_path, capsys):
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("no")
    assert classify(ct, bad, "--json", bundle=bundle) == 3
    good, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert set(good["probabilities"]) == set(CT_RATE_LABELS)
    assert failed["study"] == "bad"
    assert "bad.nii.gz" in failed["error"]


def test_out_writes_files_and_no_mask(bundle, ct, tmp_path):
    assert classify(ct, "--out", tmp_path / "out", bundle=bundle) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["chest.json", "chest.md"]


def test_existing_results_are_refused(bundle, ct, tmp_path, capsys):
    assert classify(ct, "--out", tmp_path / "out", bundle=bundle) == 0
    assert classify(ct, "--out", tmp_path / "out", bundle=bundle) == 2
    assert "exists already" in capsys.readouterr().err
