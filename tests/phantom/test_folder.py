"""The hospital's folder: every format readable, every table the same, left stays left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uvlm.imaging.measure import require_same_grid
from uvlm.imaging.preprocess import grid_of, prepare_labels, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.phantom import folder
from uvlm.phantom.make import make_chest
from uvlm.phantom.source import SourceStudy, class_names, read_source_folder
from uvlm.preprocessing.sources.folder import describe, list_folder

BONE_HU = 250
SPEC = preset("paper", (48, 64, 64))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("source") / "chest"
    make_chest(out, studies=6, seed=5, shape=(24, 48, 48), min_prevalence=0.2)
    return out


@pytest.fixture(scope="module")
def written(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folder")
    folder.write(source, out, seed=0)
    return out


def centroid(affine: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Millimetres to the left, back and head."""
    z, y, x = np.argwhere(inside).mean(axis=0)
    return (affine @ (x, y, z, 1))[:3]


def field_of_view(volume: Volume) -> np.ndarray:
    """Millimetres along x, y, z."""
    return np.array(volume.shape[::-1]) * np.array(volume.spacing[::-1])


def test_every_study_is_found_with_report_labels_and_mask(source, written):
    studies = read_source_folder(source)
    for table in ("reports.xlsx", "reports.csv"):
        listing = list_folder(written, written / table, masks=written / "masks")
        assert (listing.name, listing.region) == ("synthetic chest studies", "chest")
        assert listing.rejected == ()
        assert [each.series_id for each in listing.excluded] == ["images/leftover.nii.gz"]
        assert len(listing.studies) == len(studies)
        for study, true in zip(listing.studies, studies, strict=True):
            values = {name: "" if v is None else f"{v:.0f}" for name, v in study.labels.items()}
            assert values == {name: true.labels[name] for name in values}
            assert study.report == f"Findings: {true.findings} Impression: {true.impression}"
        assert len({study.patient_id for study in listing.studies}) == 4
        assert "not UTF-8" in describe(listing) or table.endswith("xlsx")


def assert_same_place(written_study, true: SourceStudy, classes: dict[str, int]) -> None:
    image, original = written_study.image.read(), read_volume(true.image)
    mask = written_study.mask.read(image).volume
    assert true.mask is not None
    true_mask = read_volume(true.mask, labels=True)
    require_same_grid(image, mask)
    limit = 0.01 * field_of_view(original)
    prepared, stored = prepare_labels(mask, SPEC), np.array(grid_of(image, SPEC).affine)
    for name in ("lung_upper_lobe_left", "liver"):
        value = classes[name]
        drawn = centroid(true_mask.affine, true_mask.array == value)
        assert (np.abs(centroid(mask.affine, mask.array == value) - drawn) < limit).all()
        assert (np.abs(centroid(stored, prepared == value) - drawn) < limit).all()
    bright = centroid(image.affine, image.array > BONE_HU)
    there = centroid(original.affine, original.array > BONE_HU)
    assert (np.abs(bright - there) < limit).all()


def test_left_stays_left_in_every_format(source, written):
    classes = class_names(source)
    listing = list_folder(written, written / "reports.xlsx", masks=written / "masks")
    formats = set()
    for study, true in zip(listing.studies, read_source_folder(source), strict=True):
        assert_same_place(study, true, classes)
        formats.add(study.image.read().provenance.format)
    assert formats == {"dicom", "nifti", "nrrd"}


def test_values_survive_every_format(source, written):
    listing = list_folder(written / "images", written / "reports.xlsx")
    for study, true in zip(listing.studies, read_source_folder(source), strict=True):
        ours, original = study.image.read(), read_volume(true.image)
        np.testing.assert_array_equal(np.sort(ours.array, None), np.sort(original.array, None))


def test_masks_not_named_as_such_make_their_images_ambiguous(written):
    listing = list_folder(written, written / "reports.csv")
    assert listing.studies == ()
    assert {"2 CTs may be" in each.error for each in listing.rejected} == {True}


def test_equal_input_gives_equal_bytes(source, written, tmp_path):
    folder.write(source, tmp_path, seed=0)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert len(files) > 30
    assert [f for f in files if (written / f).read_bytes() != (tmp_path / f).read_bytes()] == []
