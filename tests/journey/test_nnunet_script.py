"""runs/nnunet.sh executed small: stock nnU-Net's commands, then labels and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from uvlm.imaging.nifti import read_nifti, write_nifti
from uvlm.models.bundle import load_bundle

ROOT = Path(__file__).resolve().parents[2]

ORGANS = {
    "lung_left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "lung_right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "kidneys": ("kidney_left", "kidney_right"),
    "aorta": ("aorta",),
}

SECTION = 64
"""Slices of 3 mm per case."""


def real_dataset(source: Path, out: Path) -> None:
    """Seven overlapping sections of one real CT with a few merged organs; the last one to test."""
    names = json.loads((source / "labels_total_v2.json").read_text())
    values = {name: int(value) for value, name in names.items()}
    table = np.zeros(256, np.uint8)
    for value, parts in enumerate(ORGANS.values(), start=1):
        table[[values[part] for part in parts]] = value
    image = read_nifti(source / "example_ct.nii.gz")
    mask = read_nifti(source / "example_seg_fast_force_split.nii.gz", labels=True)
    merged = table[mask.array]
    assert len(np.unique(merged)) > 4
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (out / folder).mkdir(parents=True)
    for number in range(7):
        start = number * (image.array.shape[0] - SECTION) // 6
        part = slice(start, start + SECTION)
        affine = image.affine.copy()
        affine[:3, 3] += start * affine[:3, 2]
        test = number == 6
        to = out / ("imagesTs" if test else "imagesTr") / f"section_{number}_0000.nii.gz"
        write_nifti(to, image.array[part].astype(np.int16), affine)
        if not test:
            write_nifti(out / f"labelsTr/section_{number}.nii.gz", merged[part], affine)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: i for i, name in enumerate(ORGANS, start=1)}},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (out / "dataset.json").write_text(json.dumps(described))


def run_script(out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "TINY": "1", "OUT": str(out), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(ROOT / "runs" / "nnunet.sh")],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def check(out: Path, dataset: str, region: str, masks: list[str]) -> None:
    """What every stage must have left."""
    results = out / "nnUNet_results"
    seg = results / dataset / f"nnUNetTrainer_ResEncoderUNet__UVLMPlans_{region}_seg__3d_fullres"
    seg = seg / "fold_0"
    part = load_bundle(seg / "bundle").parts["segmentation"]
    assert (part.region, part.spec, len(part.config.classes)) == (region, None, 6)
    assert len(json.loads((seg / "validation/summary.json").read_text())["metric_per_case"]) == 2
    assert sorted(path.name for path in (out / "masks").glob("*.nii.gz")) == masks
    given = load_bundle(seg / "checkpoint_best.pth").modules["segmentation"].encoder.state_dict()
    folds = {
        kind: results / f"Dataset502_Reports/nnUNetTrainer_UVLM__UVLMPlans_{region}_{kind}"
        "__3d_fullres/fold_0"
        for kind in ("cls", "report")
    }
    handed = json.loads((folds["cls"] / "run/handover.json").read_text())
    assert (handed["source"], handed["tensors"]) == ("segmentation", len(given))
    labels = load_bundle(folds["cls"] / "checkpoint_best.pth")
    report = load_bundle(folds["report"] / "checkpoint_best.pth")
    assert set(report.parts) == {"segmentation", "classification", "report"}
    learned = labels.modules["classification"].encoder.state_dict()
    frozen = report.modules["report"].encoder.state_dict()
    assert all(torch.equal(frozen[name], learned[name]) for name in learned)
    assert any(not torch.equal(given[name], learned[name]) for name in given)
    assert "random report" in (out / "scores" / "scorecard.md").read_text()


@pytest.mark.slow
def test_the_script_runs_on_synthetic_studies_and_skips_what_is_done(tmp_path: Path):
    done = run_script(tmp_path / "out")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    check(tmp_path / "out", "Dataset501_Organs", "chest", ["valid_1_a_1.nii.gz"])
    again = run_script(tmp_path / "out")
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count("done before") == again.stdout.count("\n== ") - 1


@pytest.mark.slow
def test_the_script_trains_on_a_raw_dataset_of_real_ct(tmp_path: Path, real_data: Path):
    raw = tmp_path / "raw" / "Dataset511_Sections"
    real_dataset(real_data / "totalsegmentator", raw)
    done = run_script(tmp_path / "out", RAW=str(raw))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    check(tmp_path / "out", "Dataset511_Sections", "chest", ["section_6.nii.gz"])
    mask = read_nifti(tmp_path / "out/masks/section_6.nii.gz", labels=True)
    image = read_nifti(raw / "imagesTs/section_6_0000.nii.gz")
    assert mask.array.shape == image.array.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)


@pytest.mark.slow
def test_a_network_trained_on_what_uvlm_prepared_is_applied_by_uvlm(tmp_path: Path, monkeypatch):
    """The plan says the region, dataset.json the preprocessing; both reach the bundle."""
    from uvlm.cli.main import main
    from uvlm.nnunet.environment import environment

    made = ["phantom", "make", str(tmp_path / "raw"), "--region", "abdomen", "--studies", "10"]
    assert main([*made, "--shape", "32", "64", "64"]) == 0
    words = ["prepare", "abdomen-atlas", str(tmp_path / "raw"), "--out", str(tmp_path / "out")]
    assert main([*words, "--nnunet", "145", "--shape", "16", "32", "32"]) == 0
    (prepared,) = (tmp_path / "out" / "nnUNet_preprocessed").iterdir()
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_preprocessed", str(prepared.parent))
    words = ["nnunet", "plans", "seg", "--dataset", prepared.name, "--region", "abdomen"]
    for change in (
        "features_per_stage=[4, 8, 8]",
        "n_blocks_per_stage=[1, 1, 1]",
        "num_epochs=1",
        "num_iterations_per_epoch=2",
        "num_val_iterations_per_epoch=1",
    ):
        words += ["--set", change]
    assert main(words) == 0
    command = str(Path(sys.executable).with_name("nnUNetv2_train"))
    arguments = ["145", "3d_fullres", "0", "-tr", "nnUNetTrainer_ResEncoderUNet"]
    variables = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"}

    def train(*more: str) -> None:
        done = subprocess.run(
            [command, *arguments, "-p", "UVLMPlans_abdomen_seg", "-device", "cpu", *more],
            env=environment(os.environ | variables),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    train()
    (fold,) = (tmp_path / "results" / prepared.name).glob("*/fold_0")
    once = load_bundle(fold / "bundle").fingerprint
    plan = prepared / "UVLMPlans_abdomen_seg.json"
    plan.write_text(plan.read_text().replace('"num_epochs": 1', '"num_epochs": 2'))
    train("--c")
    assert load_bundle(fold / "bundle").fingerprint != once
    final = load_bundle(fold / "checkpoint_final.pth").modules["segmentation"].state_dict()
    kept = load_bundle(fold / "bundle").modules["segmentation"].state_dict()
    assert all(torch.equal(kept[name], final[name]) for name in final)
    part = load_bundle(fold / "bundle").parts["segmentation"]
    assert part.region == "abdomen"
    assert part.spec is not None
    assert part.spec.shape == (16, 32, 32)
    ct = sorted((tmp_path / "raw").rglob("ct.nii.gz"))[0]
    out = tmp_path / "masks"
    words = ["segment", str(ct), "--model", str(fold / "checkpoint_best.pth"), "--out", str(out)]
    assert main(words) == 0
    (mask,) = out.rglob("*.nii.gz")
    assert read_nifti(mask, labels=True).array.shape == read_nifti(ct).array.shape


def test_without_a_dataset_the_script_says_what_is_missing(tmp_path: Path):
    done = run_script(tmp_path / "out", TINY="")
    assert done.returncode == 2
    assert "RAW is not set" in done.stderr
