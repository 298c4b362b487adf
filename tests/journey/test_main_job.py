"""The main job, end to end and small: studies made, prepared, three tasks trained, a report."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import uvlm
from uvlm.cli.main import main
from uvlm.imaging.readers import read_volume

RAS_TO_LPS = np.diag([-1, -1, 1, 1])

REAL = {
    "totalsegmentator/example_ct.nii.gz": "3 mm, lower chest to pelvis",
    "totalsegmentator/example_ct_sm.nii.gz": "the same, 30 slices",
    "cip/ct-64.nii.gz": "whole chest, 4 mm",
    "crlm/CRLM-CT-1004.nii.gz": "abdomen at full resolution, padded with -3024",
    "dcmqi/ct-3slice": "three DICOM slices",
}


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw studies, a prepared dataset and a bundle of all three parts."""
    folder = tmp_path_factory.mktemp("journey")
    shape = ("--shape", 32, 64, 64)
    made = run(
        "phantom", "make", folder / "raw", "--studies", 8, "--seed", 3, "--region", "chest", *shape
    )
    assert made == 0
    assert run("prepare", "ct-rate", folder / "raw", "--out", folder / "prepared", *shape) == 0
    init: tuple[object, ...] = ()
    for task in ("segmentation", "classification", "report"):
        out = folder / task
        common = ("--data.catalog", folder / "prepared/catalog.csv", "--out", out)
        few = ("--loop.steps", 2, "--data.batch-size", 2, "--loop.validate-studies", 2)
        assert run("train", f"tiny_{task}", *common, *few, *init) == 0
        init = ("--init", out / "bundle")
    return folder


@pytest.fixture(scope="module")
def bundle(work: Path) -> Path:
    return work / "report/bundle"


@pytest.fixture(scope="module")
def study(work: Path) -> Path:
    return sorted((work / "raw/dataset").glob("valid_fixed/**/*.nii.gz"))[0]


def same_grid(mask_path: Path, source: Path) -> None:
    """The mask has the input's shape and affine."""
    mask = nib.load(mask_path)
    if source.is_dir():
        volume = read_volume(source)
        assert mask.shape == volume.shape[::-1]
        np.testing.assert_allclose(mask.affine, RAS_TO_LPS @ volume.affine, atol=1e-4)
        return
    image = nib.load(source)
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_the_last_bundle_holds_all_three_parts(bundle):
    assert uvlm.load(bundle, device="cpu").tasks == ("classification", "report", "segmentation")


def test_a_made_study_gets_its_report(bundle, study, tmp_path):
    words = ("--model", bundle, "--out", tmp_path, "--device", "cpu", "--max-new-tokens", 30)
    assert run("report", study, *words) == 0
    name = study.name.removesuffix(".nii.gz")
    same_grid(tmp_path / f"{name}_mask.nii.gz", study)
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(content["probabilities"]) == 18
    assert content["trained_on"] == "Model trained on: synthetic chest studies (6 series)."
    assert not [text for text in content["warnings"] if text.startswith("Another body region")]


def test_two_runs_differ_in_nothing_but_time(bundle, study, tmp_path):
    contents = []
    for name in ("first", "second"):
        words = ("--model", bundle, "--out", tmp_path / name, "--max-new-tokens", 30)
        assert run("report", study, *words, "--device", "cpu") == 0
        (path,) = (tmp_path / name).glob("*.json")
        content = json.loads(path.read_text())
        content.pop("timings")
        (mask,) = (tmp_path / name).glob("*.nii.gz")
        contents.append((content, mask.read_bytes()))
    assert contents[0] == contents[1]


def test_a_prepared_study_is_used_as_it_is(bundle, work, tmp_path):
    stored = sorted((work / "prepared/imagesTr").glob("*.b2nd"))[0]
    words = ("--model", bundle, "--out", tmp_path, "--max-new-tokens", 5, "--device", "cpu")
    assert run("report", stored, *words) == 0


@pytest.mark.parametrize("name", REAL)
def test_real_volumes_get_a_report_and_a_mask_on_their_grid(bundle, real_data, name, tmp_path):
    source = real_data / name
    words = ("--model", bundle, "--out", tmp_path, "--max-new-tokens", 10, "--device", "cpu")
    assert run("report", source, *words) == 0
    (mask,) = tmp_path.glob("*_mask.nii.gz")
    same_grid(mask, source)


def test_a_real_abdomen_is_flagged_by_a_chest_model(bundle, real_data, tmp_path):
    source = real_data / "crlm/CRLM-CT-1004.nii.gz"
    words = ("--model", bundle, "--out", tmp_path, "--max-new-tokens", 5, "--device", "cpu")
    assert run("report", source, *words) == 0
    content = json.loads((tmp_path / "CRLM-CT-1004.json").read_text())
    assert content["warnings"][0].startswith("Another body region")
    assert content["report"].startswith("WARNING: Another body region")


def test_evaluate_scores_the_bundle(bundle, work, tmp_path, capsys):
    pytest.importorskip("pycocoevalcap")
    pytest.importorskip("sklearn")
    catalog = work / "prepared/catalog.csv"
    words = ("--model", bundle, "--catalog", catalog, "--limit", 2, "--device", "cpu")
    assert run("evaluate", "bundle", *words, "--out", tmp_path / "scores") == 0
    assert "bleu@vlm3d" in capsys.readouterr().out
