"""runs/hsenet.sh: HSENet's procedure, tried on synthetic studies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uvlm.imaging.store import StoredArray
from uvlm.inference.index import Index
from uvlm.inference.study import prepared_inputs, read_study
from uvlm.models.bundle import load_bundle, read_bundle_info
from uvlm.preprocessing.catalog import read_catalog

SCRIPT = Path(__file__).resolve().parents[2] / "runs" / "hsenet.sh"
PARTS = {
    "clip": {"contrastive"},
    "2e3": {"contrastive", "contrastive_2e3", "slices"},
    "report": {"contrastive", "contrastive_2e3", "slices", "report"},
    "vqa": {"contrastive", "contrastive_2e3", "slices", "report"},
}


def run_script(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_without_data_or_models_the_script_says_what_to_give(tmp_path: Path) -> None:
    assert "give the folder of CT-RATE (CT_RATE), RadGenome" in run_script(tmp_path).stderr
    done = run_script(tmp_path, CT_RATE="ct", BERT="bert")
    assert done.returncode != 0
    assert "BIOMEDCLIP: give the folder of BiomedCLIP" in done.stderr


@pytest.mark.parametrize(
    ("words", "size", "message"),
    [((), "small", "SIZE is paper or tiny"), (("no.nii.gz",), "tiny", "does not exist")],
)
def test_what_cannot_be_done_is_refused_at_once(
    words: tuple[str, ...], size: str, message: str, tmp_path: Path
) -> None:
    done = run_script(tmp_path, *words, SIZE=size)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_paper_s_way_with_both_datasets(tmp_path: Path) -> None:
    """Which folders each command receives; nothing is prepared or trained."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "uvlm"
    fake.write_text('#!/bin/sh\necho "uvlm $@"\n')
    fake.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    given = {"CT_RATE": "ct", "RADGENOME": "rad", "BERT": "bert", "BIOMEDCLIP": "2d", "PHI4": "phi"}
    done = subprocess.run(
        ["bash", str(SCRIPT)], cwd=tmp_path, env={**given, "PATH": path}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    said = done.stdout
    for line in (
        "prepare ct-rate ct --preset hsenet --no-masks",
        "prepare radgenome rad --images ct --preset hsenet",
        "slices hsenet/data/radgenome/catalog.csv --encoder 2d",
        "train hsenet_clip --data.catalog hsenet/data/ct_rate/catalog.csv --model.text.base bert",
        "train hsenet_vqa --data.catalog hsenet/data/radgenome/catalog.csv --data.slices "
        "hsenet/slices/radgenome --slice-encoder 2d --model.decoder.base phi --init hsenet/models",
        "ask hsenet/data/radgenome/catalog.csv --bundle hsenet/models/vqa/bundle --base phi",
    ):
        assert line in said


@pytest.mark.slow
def test_the_procedure_runs_on_synthetic_studies(tmp_path: Path, real_data: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    ct = str(real_data / "cip" / "ct-64.nii.gz")
    done = run_script(tmp_path, ct, SIZE="tiny", OUT="trial")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    out = tmp_path / "trial"

    for name, parts in PARTS.items():
        assert set(read_bundle_info(out / "models" / name / "bundle").parts) == parts
    held_out = {row.series_id for row in read_catalog(out / "data/radgenome/catalog.csv").rows
                if row.split == "valid"}  # fmt: skip
    for name in ("clip", "2e3"):
        index = Index.load(out / "index" / f"{name}.npz")
        assert set(index.ids) == held_out
        assert index.text is not None
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert {row["series_id"] for row in answers} == held_out
    assert {row["type"] for row in answers} == {"abnormality", "location", "presence", "size"}
    assert not any(row["error"] for row in answers)
    assert (out / "reports" / "predictions.csv").stat().st_size > 0
    for name in ("retrieval_clip", "retrieval_2e3", "report", "vqa"):
        assert json.loads((out / "scores" / name / "result.json").read_text())
    asked = done.stdout.split("Is there a pleural effusion?")[1]
    assert "Which abnormalities does the lung show?" in asked
    assert "   1  +" in asked  # the study of the index that is most like the CT
    same_slices_from_file_and_catalog(out, sorted(held_out)[0])

    # Again: everything is done, nothing is trained.
    again = run_script(tmp_path, SIZE="tiny", OUT="trial")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "took" not in again.stdout
    assert again.stdout.count("done before") == again.stdout.count("\n== ") - 1


def same_slices_from_file_and_catalog(out: Path, series: str) -> None:
    """The slices that evaluation cuts are those that a prepared file gives."""
    bundle = load_bundle(out / "models/report/bundle")
    file = out / "data/radgenome/imagesTr" / f"{series}.b2nd"
    study = read_study(file)
    array = study.input_for(bundle.parts["report"].our_spec, "report")
    of_catalog = prepared_inputs(bundle, array, StoredArray(file).read())
    np.testing.assert_array_equal(of_catalog("slices"), study.inputs(bundle.parts)("slices"))
