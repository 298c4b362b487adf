"""`uvlm evaluate bundle` writes whole results or nothing, and overwrites nothing."""

import csv
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from uvlm.cli import evaluate as command
from uvlm.errors import BundleError, InputError
from uvlm.evaluation.labels.classification import classification_scores
from uvlm.evaluation.run import Prediction
from uvlm.evaluation.scorecard import Scorecard

FILES = ["predictions.csv", "scorecard.json", "scorecard.md"]


@pytest.fixture
def scored(monkeypatch):
    """Replace reading and running by two finished predictions."""
    labels = classification_scores(np.array([[0.0], [1.0]]), np.array([[0.1], [0.9]]), ["Nodule"])
    card = Scorecard(about={"studies": 2}, classification=labels)
    predictions = [
        Prediction(row=SimpleNamespace(series_id=f"s{i}"), text=t, probabilities={"Nodule": p})
        for i, (t, p) in enumerate([("Clear, no effusion.", 0.1), ('A "4 mm"\nnodule.', 0.9)])
    ]
    monkeypatch.setattr("uvlm.preprocessing.catalog.read_catalog", lambda path: path)
    monkeypatch.setattr(
        "uvlm.inference.pipeline.Pipeline.load", classmethod(lambda cls, path, device, base: path)
    )
    monkeypatch.setattr(
        "uvlm.evaluation.run.evaluate", lambda pipeline, catalog, **options: (card, predictions)
    )


def arguments(out):
    return ["bundle", "--model", "b", "--catalog", "c.csv", "--out", str(out)]


def test_results_are_written_and_the_table_printed(scored, tmp_path, capsys):
    out = tmp_path / "scores"
    assert command.main(arguments(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert "AUROC, macro over 1 labels" in capsys.readouterr().out
    assert json.loads((out / "scorecard.json").read_text())["classification"]["macro_auroc"] == 1


def test_predictions_hold_ids_probabilities_and_reports(scored, tmp_path):
    command.main(arguments(tmp_path))
    with open(tmp_path / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["series_id", "Nodule", "generated_report"],
        ["s0", "0.100000", "Clear, no effusion."],
        ["s1", "0.900000", 'A "4 mm"\nnodule.'],
    ]


@pytest.mark.parametrize("name", FILES)
def test_an_existing_result_is_refused_before_anything_is_read(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        command.main(arguments(tmp_path))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        command.main(arguments(tmp_path / "out"))


def test_a_missing_bundle_is_named_and_nothing_written(tmp_path, monkeypatch):
    monkeypatch.setattr("uvlm.preprocessing.catalog.read_catalog", lambda path: path)
    with pytest.raises(BundleError, match="b"):
        command.main(arguments(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [["--limit", "0"], ["--split", "train"]])
def test_impossible_options_are_refused(tmp_path, wrong):
    with pytest.raises(SystemExit) as stop:
        command.main([*arguments(tmp_path), *wrong])
    assert stop.value.code == 2


def test_help_needs_no_torch():
    code = (
        "import sys\nfrom uvlm.cli.main import main\n"
        "try: main(['evaluate', 'bundle', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
