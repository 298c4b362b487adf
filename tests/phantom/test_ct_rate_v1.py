"""Version 1 holds the same studies, but nothing of what a header or HU would tell."""

from __future__ import annotations

import ast
import csv
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uvlm.errors import ConfigError
from uvlm.imaging.audit import audit
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti import read_nifti
from uvlm.phantom.layouts import LAYOUTS
from uvlm.phantom.make import make_chest

REQUEST = {"studies": 6, "seed": 3, "shape": (24, 48, 48)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("set")
    make_chest(out / "v2", **REQUEST)
    make_chest(out / "v1", **REQUEST, layout="ct-rate-v1")
    return out


def metadata(root: Path) -> dict[str, dict[str, str]]:
    rows = {}
    for path in (root / "dataset" / "metadata").glob("*.csv"):
        with path.open(newline="") as file:
            rows |= {row["VolumeName"]: row for row in csv.DictReader(file)}
    return rows


def volumes(root: Path, end: str) -> dict[str, Path]:
    folders = [root / "dataset" / f"{split}{end}" for split in ("train", "valid")]
    return {path.name: path for folder in folders for path in folder.rglob("*.nii.gz")}


def test_every_volume_has_the_other_versions_folders(made):
    first, second = volumes(made / "v1", ""), volumes(made / "v2", "_fixed")
    assert first.keys() == second.keys() == metadata(made / "v1").keys()
    assert len(first) == 6
    assert first["train_1_a_1.nii.gz"].parent.relative_to(made / "v1").as_posix() == (
        "dataset/train/train_1/train_1_a"
    )
    assert volumes(made / "v1", "_fixed") == {}


def test_values_are_shifted_by_what_the_metadata_says(made):
    rows = metadata(made / "v1")
    for name, path in volumes(made / "v1", "").items():
        found = audit(read_nifti(path))
        assert (found.verdict, found.offset) == ("shifted", -float(rows[name]["RescaleIntercept"]))
    makers = {row["RescaleIntercept"]: row["Manufacturer"] for row in rows.values()}
    assert makers == {"-1024": "Phantom", "-8192": "Siemens Healthineers"}


def test_the_header_says_nothing(made):
    for path in volumes(made / "v1", "").values():
        image = nib.load(path)
        assert np.array_equal(image.affine, np.eye(4))
        assert image.dataobj.slope == 1


def test_metadata_and_stored_values_give_version_2(made):
    rows = metadata(made / "v1")
    first, second = volumes(made / "v1", ""), volumes(made / "v2", "_fixed")
    for name, row in rows.items():
        raw = read_nifti(first[name]).array.astype(int)
        hu, _ = to_lps(read_nifti(second[name]))
        assert np.array_equal(raw + int(row["RescaleIntercept"]), hu.array)
        x, y = ast.literal_eval(row["XYSpacing"])
        assert hu.spacing == pytest.approx((float(row["ZSpacing"]), y, x), abs=1e-4)
        position = ast.literal_eval(row["ImagePositionPatient"])
        assert hu.affine[:3, 3] == pytest.approx(position, abs=1e-3)
        assert row["ImageOrientationPatient"] == "[1, 0, 0, 0, 1, 0]"
        shape = tuple(int(row[c]) for c in ("NumberofSlices", "Rows", "Columns"))
        assert shape == raw.shape == hu.shape


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_tables_and_masks_are_those_of_version_2_and_the_bytes_repeat(made, tmp_path):
    one, two = digest(made / "v1"), digest(made / "v2")
    shared = {name for name in one if "ts_seg" in name or not name.endswith(".nii.gz")}
    assert all(one[name] == two[name] for name in shared)
    assert len(shared) == len(two) - 6
    make_chest(tmp_path / "again", **REQUEST, layout="ct-rate-v1")
    assert digest(tmp_path / "again") == one


def test_an_unknown_layout_is_refused_and_a_failing_one_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="unknown layout 'dicom'; known: ct-rate, ct-rate-v1"):
        make_chest(tmp_path / "out", **REQUEST, layout="dicom")

    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr("uvlm.phantom.ct_rate_v1.write", fail)
    with pytest.raises(OSError, match="disk full"):
        make_chest(tmp_path / "out", studies=1, seed=0, shape=(16, 32, 32), layout="ct-rate-v1")
    assert list(tmp_path.iterdir()) == []


def test_every_layout_has_its_writer():
    others = {"rexgrounding", "bimcv-r", "radgenome", "folder", "nnunet-raw"}
    assert set(LAYOUTS) == {"ct-rate-v1", *others}
