"""Stock nnU-Net trains on what `uvlm prepare` writes, whatever the source."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uvlm.data.split import split_rows
from uvlm.imaging.nifti import read_nifti
from uvlm.preprocessing.catalog import read_catalog

SHORT = """
import runpy, sys
from pathlib import Path
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

initialize = nnUNetTrainer.initialize

def shorten(self):
    self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 3, 1
    initialize(self)

nnUNetTrainer.initialize = shorten
sys.argv[0] = str(Path(sys.executable).with_name("nnUNetv2_train"))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The command `nnUNetv2_train` with its own trainer, three steps long. A trainer with another name
would be looked for in all of nnU-Net's files, of which some need torchvision, perhaps absent."""


KINDS = {
    "abdomen-atlas": ["--region", "abdomen", "--studies", "10"],
    "ct-rate": ["--layout", "ct-rate", "--studies", "10"],
    # Only studies with a lesion take part, and fold 0 needs patients on both sides.
    "rexgrounding": ["--layout", "rexgrounding", "--studies", "20", "--min-prevalence", "0.3"],
}


def prepared_by(source: str, base: Path) -> Path:
    """Folder of the nnU-Net dataset that `uvlm prepare` makes of phantoms."""
    from uvlm.cli.main import main

    made = ["phantom", "make", str(base / "made"), *KINDS[source], "--shape", "32", "64", "64"]
    assert main(made) == 0
    words = ["prepare", source, str(base / "made"), "--out", str(base / "out"), "--nnunet", "145"]
    if source == "rexgrounding":
        words += ["--images", str(base / "made/ct_rate"), "--anatomy", str(base / "made/anatomy")]
    assert main([*words, "--shape", "16", "32", "32"]) == 0
    (folder,) = (base / "out" / "nnUNet_preprocessed").iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("source", ["abdomen-atlas", "rexgrounding", "ct-rate"])
def test_stock_nnunet_trains_and_validates_on_what_is_prepared(tmp_path: Path, source: str):
    """One short epoch of `nnUNetv2_train`, and its own validation of every case of fold 0."""
    prepared = prepared_by(source, tmp_path)
    (tmp_path / "raw").mkdir()
    environment = os.environ | {
        "nnUNet_raw": str(tmp_path / "raw"),
        "nnUNet_preprocessed": str(prepared.parent),
        "nnUNet_results": str(tmp_path / "results"),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
    }
    command = [sys.executable, "-c", SHORT, "145", "3d_fullres", "0", "-device", "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (out,) = (tmp_path / "results").glob(f"{prepared.name}/*/fold_0")
    assert (out / "checkpoint_final.pth").is_file()
    losses = re.findall(r"(?:train|val)_loss (\S+)", done.stdout)
    assert len(losses) == 2
    assert all(math.isfinite(float(loss)) for loss in losses)
    summary = json.loads((out / "validation" / "summary.json").read_text())
    validated = [Path(case["reference_file"]).name for case in summary["metric_per_case"]]
    rows = read_catalog(tmp_path / "out" / "catalog.csv").rows
    _, expected = split_rows(rows, 0.2)
    assert validated
    assert sorted(validated) == sorted(f"{row.series_id}.nii.gz" for row in expected)
    for case in summary["metric_per_case"]:
        predicted = read_nifti(case["prediction_file"], labels=True)
        truth = read_nifti(case["reference_file"], labels=True)
        np.testing.assert_allclose(predicted.affine, truth.affine, atol=1e-4)
