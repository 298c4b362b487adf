"""`uvlm segment`: a mask on the input's grid, with statistics that agree with it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.inference.bundle_factory import CLASSES, tiny_bundle, write_ct
from uvlm.cli.main import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "seg", ("segmentation",))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "chest.nii.gz")


def segment(ct: Path, bundle: Path, out: Path, *more: str) -> int:
    return main(
        ["segment", str(ct), "--model", str(bundle), "--out", str(out), "--device", "cpu", *more]
    )


def test_statistics_are_those_of_the_written_mask(bundle, ct, tmp_path):
    out = tmp_path / "out"
    assert segment(ct, bundle, out, "--statistics") == 0
    image, mask = nib.load(ct), nib.load(out / "chest_mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, image.affine)
    hu, labels = np.asarray(image.dataobj), np.asarray(mask.dataobj)
    assert labels.shape == hu.shape
    statistics = json.loads((out / "chest_statistics.json").read_text())
    assert tuple(statistics) == CLASSES
    assert labels.any(), "the random model marks something, or this test shows nothing"
    for label, name in enumerate(CLASSES, start=1):
        where = labels == label
        assert statistics[name]["volume_ml"] == pytest.approx(where.sum() * 6 * 6 * 9 / 1000)
        expected = hu[where].mean() if where.any() else None
        assert statistics[name]["mean_hu"] == pytest.approx(expected)


def test_without_the_flag_there_is_no_statistics_file(bundle, ct, tmp_path):
    assert segment(ct, bundle, tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["chest.json", "chest.md", "chest_mask.nii.gz"]


def test_the_json_names_the_values_in_the_mask(bundle, ct, tmp_path):
    segment(ct, bundle, tmp_path / "out")
    content = json.loads((tmp_path / "out/chest.json").read_text())
    assert content["mask"]["classes"] == {name: i for i, name in enumerate(CLASSES, start=1)}
    assert content["report"] is None
