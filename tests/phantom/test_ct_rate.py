"""Chest sets are written in CT-RATE's layout, byte for byte repeatable."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from uvlm.errors import ConfigError, InputError
from uvlm.imaging.nifti import read_nifti
from uvlm.phantom.classes import CHEST_CLASSES, label_class
from uvlm.phantom.ct_rate import METADATA_COLUMNS, REPORT_COLUMNS, volume_name, volume_path
from uvlm.phantom.make import make_chest
from uvlm.phantom.plan import is_valid
from uvlm.registry import CT_RATE_LABELS

SHAPE = (16, 32, 32)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or ()), list(reader)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "chest"
    return out, make_chest(out, studies=12, seed=5, shape=SHAPE, min_prevalence=0.2)


def test_columns_are_ct_rates(made):
    root = made[0] / "dataset"
    for split, long in (("train", "train"), ("valid", "validation")):
        columns, _ = table(root / "radiology_text_reports" / f"{long}_reports.csv")
        assert tuple(columns) == REPORT_COLUMNS
        columns, _ = table(root / "multi_abnormality_labels" / f"{split}_predicted_labels.csv")
        assert tuple(columns) == ("VolumeName", *CT_RATE_LABELS)
        columns, _ = table(root / "metadata" / f"{long}_metadata.csv")
        assert tuple(columns) == METADATA_COLUMNS
        assert len(columns) == 44


def test_metadata_columns_are_those_of_the_real_table(real_data):
    columns, _ = table(real_data / "ctrate_metadata" / "validation_metadata.csv")
    assert tuple(columns) == METADATA_COLUMNS


def test_metadata_are_those_of_two_kinds_of_scanner(made):
    _, rows = table(made[0] / "dataset" / "metadata" / "train_metadata.csv")
    assert {row["RescaleIntercept"] for row in rows} == {"-1024", "-8192"}
    for row in rows:
        siemens = row["Manufacturer"] == "Siemens Healthineers"
        assert siemens == (row["RescaleIntercept"] == "-8192")


def test_every_row_has_its_image_and_mask_on_one_grid(made):
    root = made[0] / "dataset"
    names = json.loads((root / "ts_seg" / "labels.json").read_text())
    assert {name: int(value) for value, name in names.items()} == CHEST_CLASSES
    seen = 0
    for split in ("train", "valid"):
        _, rows = table(root / "multi_abnormality_labels" / f"{split}_predicted_labels.csv")
        for row in rows:
            path = volume_path(split, row["VolumeName"])
            image = read_nifti(root / path)
            mask = read_nifti(root / "ts_seg" / path, labels=True)
            assert image.array.dtype == np.int16
            assert sorted(image.shape) == sorted(SHAPE)
            assert np.array_equal(image.affine, mask.affine)
            for label in CT_RATE_LABELS:
                if label != "Cardiomegaly" and row[label]:
                    present = (mask.array == CHEST_CLASSES[label_class(label)]).any()
                    assert present == (row[label] == "1"), label
            seen += 1
    assert seen == made[1].studies == 12
    assert len(list(root.rglob("*.nii.gz"))) == 24


def test_the_studies_say_that_they_are_synthetic(made):
    assert (made[0] / "dataset/source.txt").read_text() == "synthetic chest studies\n"


def test_labels_of_undrawable_classes_are_empty_and_named(made):
    root, result = made
    refused = {lost.label for lost in result.left_out}
    assert refused
    _, rows = table(root / "dataset" / "multi_abnormality_labels" / "train_predicted_labels.csv")
    for row in rows:
        assert {label for label in CT_RATE_LABELS if row[label] == ""} == refused
        assert all(row[label] in ("0", "1") for label in set(CT_RATE_LABELS) - refused)
    assert set(result.counts) == set(CT_RATE_LABELS) - refused
    assert all(count >= 0.2 * 12 for count in result.counts.values())


def test_the_same_seed_gives_the_same_bytes(made, tmp_path):
    make_chest(tmp_path / "again", studies=12, seed=5, shape=SHAPE, min_prevalence=0.2)
    assert digest(tmp_path / "again") == digest(made[0])


def test_a_study_does_not_depend_on_how_many_are_made(tmp_path):
    for n in (2, 3):
        make_chest(tmp_path / str(n), studies=n, seed=9, shape=SHAPE)
    small, large = digest(tmp_path / "2"), digest(tmp_path / "3")
    images = [name for name in small if name.endswith(".nii.gz")]
    assert len(images) == 4
    assert all(small[name] == large[name] for name in images)


def test_patients_are_numbered_within_their_split():
    names = [volume_name(i) for i in range(47)]
    assert len(set(names)) == 47
    for split in ("train", "valid"):
        numbers = [int(n.split("_")[1]) for s, n in names if s == split]
        assert numbers == list(range(1, len(numbers) + 1))
    assert [s == "valid" for s, _ in names] == [is_valid(i) for i in range(47)]


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not an empty folder"):
        make_chest(tmp_path, studies=1, seed=0, shape=SHAPE)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_when_making_fails(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("uvlm.phantom.ct_rate.write_tables", fail)
    with pytest.raises(OSError, match="disk full"):
        make_chest(tmp_path / "out", studies=1, seed=0, shape=SHAPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"studies": 0}, "studies must be at least 1"),
        ({"seed": -1}, "seed"),
        ({"shape": (4, 32, 32)}, "at least 8 voxels"),
        ({"min_prevalence": 1.5}, "between 0 and 1"),
    ],
)
def test_impossible_requests_are_refused(tmp_path, change, message):
    request = {"studies": 1, "seed": 0, "shape": SHAPE} | change
    with pytest.raises(ConfigError, match=message):
        make_chest(tmp_path / "out", **request)
    assert not (tmp_path / "out").exists()


def test_the_smallest_shapes_are_drawn_or_refused_with_the_reason(tmp_path):
    request = {"studies": 12, "seed": 0, "min_prevalence": 0.3}
    made = make_chest(tmp_path / "small", shape=(8, 16, 16), **request)
    assert made.counts["Atelectasis"]
    assert made.counts["Pericardial effusion"]
    with pytest.raises(ConfigError, match="a lobe has no voxel in a study of 8 x 8 x 8"):
        make_chest(tmp_path / "smallest", shape=(8, 8, 8), **request)
