"""One study: what is written, what is remembered, and that a broken one leaves nothing behind."""

import errno
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.preprocessing.studies_factory import (
    ALL,
    LUNG,
    NAMES,
    Broken,
    TwoValues,
    body,
    make_files,
    study,
)
from uvlm.errors import ImageError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import read_meta, read_store
from uvlm.preprocessing import disk, work
from uvlm.preprocessing.disk import DiskFullError
from uvlm.preprocessing.study import Scope, VolumeFile
from uvlm.preprocessing.work import Job, prepare_study

SPEC = preset("paper", (8, 16, 16))
NAME = NAMES[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_files(tmp_path_factory.mktemp("made"), NAMES[:2])


@pytest.fixture
def out(tmp_path):
    for name in ("imagesTr", "labelsTr", "all/labelsTr", "lung+x/labelsTr"):
        (tmp_path / "out" / name).mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def job(made, out):
    return Job(study=study(made, NAME), scopes=(ALL,), spec=SPEC, out=out)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_image_and_mask_are_stored_as_prepared(made, job, out):
    assert prepare_study(job).error is None
    assert files(out) == {f"imagesTr/{NAME}.b2nd", f"labelsTr/{NAME}.b2nd"}
    expected = prepare(read_volume(made / f"{NAME}.nii.gz"), SPEC)
    image = read_store(out / "imagesTr" / f"{NAME}.b2nd")
    mask = read_store(out / "labelsTr" / f"{NAME}.b2nd")
    assert np.array_equal(image, expected.array)
    assert set(np.unique(mask)) == {0, 1, 2}
    assert np.median(image[mask == 1]) < -600
    assert np.median(image[mask == 2]) > -200
    assert read_meta(out / "labelsTr" / f"{NAME}.b2nd").classes == {"lung": 1, "body": 2}


def test_the_record_says_what_is_known_of_the_study(job, out):
    record = prepare_study(job)
    assert (record.series_id, record.source) == (NAME, str(job.study.image.path))
    assert record.image["orientation"] == "LPS"
    assert record.masks["all"]["lung"]["voxels"] > 0
    assert (record.labels, record.columns) == ({"Mass": 1.0}, {"lung_ml": "12"})
    assert record.statements[0].left_share == 0.25
    assert record.notes == ("Nothing overlaps.",)
    assert record.bytes_written == sum((out / name).stat().st_size for name in files(out))
    assert 0 < record.seconds < 60
    assert 0.01 < record.peak_gb < 100
    json.loads(record.line())


def test_every_scope_has_its_own_mask_of_the_shared_image(job, out):
    record = prepare_study(replace(job, scopes=(ALL, LUNG)))
    assert files(out) == {
        f"imagesTr/{NAME}.b2nd", f"all/labelsTr/{NAME}.b2nd", f"lung+x/labelsTr/{NAME}.b2nd",
    }  # fmt: skip
    assert set(np.unique(read_store(out / f"lung+x/labelsTr/{NAME}.b2nd"))) == {0, 1}
    assert read_meta(out / f"lung+x/labelsTr/{NAME}.b2nd").classes == {"lung": 1}
    assert record.masks.keys() == {"all", "lung+x"}


def test_a_study_without_a_mask_has_an_image_only(made, job, out):
    assert prepare_study(replace(job, study=study(made, NAME, mask=False))).error is None
    assert files(out) == {f"imagesTr/{NAME}.b2nd"}


def test_a_mask_value_without_a_name_is_refused_by_value(job, out):
    scope = Scope(name="all", classes={"lung": 1}, table={10: 1})
    record = prepare_study(replace(job, scopes=(scope,)))
    assert "_mask.nii.gz: holds the values [200] that have no name" in record.error
    assert files(out) == set()


def test_scopes_with_many_classes_keep_every_value(made, job, out):
    classes = {f"c{number}": number for number in range(1, 301)}
    scope = Scope(name="all", classes=classes, table={10: 300, 200: 299})
    assert prepare_study(replace(job, scopes=(scope,))).error is None
    assert set(np.unique(read_store(out / f"labelsTr/{NAME}.b2nd"))) == {0, 299, 300}


def test_a_mask_on_another_grid_is_refused(made, job, out, tmp_path):
    array, affine = body()
    moved = affine.copy()
    moved[2, 3] += 40
    write_nifti(tmp_path / "mask.nii.gz", (array > -500).astype(np.uint8) * 200, moved)
    broken = replace(job.study, mask=TwoValues(tmp_path / "mask.nii.gz"))
    assert "mm away" in prepare_study(replace(job, study=broken)).error
    assert files(out) == set()


def test_values_that_are_not_hu_are_refused(job, out, tmp_path):
    array, affine = body()
    write_nifti(tmp_path / "ct.nii.gz", array + 1024, affine)
    broken = replace(job.study, image=VolumeFile(tmp_path / "ct.nii.gz"))
    assert "1024" in prepare_study(replace(job, study=broken)).error
    assert files(out) == set()


def test_an_unexpected_error_is_recorded_with_its_kind(made, job, out):
    record = prepare_study(replace(job, study=study(made, NAME, image=Broken)))
    assert f"{NAME}.nii.gz: ZeroDivisionError: surprise" in record.error
    assert files(out) == set()


def test_too_little_memory_is_recorded_with_what_to_do(job, monkeypatch):
    def starve(*_):
        try:
            raise MemoryError
        except MemoryError:
            # What a reader that turns every error into its own makes of it.
            raise ImageError("ct.nii.gz: cannot be read") from None

    monkeypatch.setattr(work, "prepare", starve)
    assert "more memory than a worker may use. Use fewer workers" in prepare_study(job).error


def test_what_is_done_is_kept(job, out):
    first = prepare_study(job)
    times = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    second = prepare_study(replace(job, previous=first))
    assert second == replace(first, kept=True)
    assert {name: (out / name).stat().st_mtime_ns for name in files(out)} == times


@pytest.mark.parametrize("name", ["imagesTr", "labelsTr"])
def test_a_file_that_is_missing_is_made_again(job, out, name):
    first = prepare_study(job)
    path = out / name / f"{NAME}.b2nd"
    before = path.read_bytes()
    path.unlink()
    second = prepare_study(replace(job, previous=first))
    assert (second.kept, second.error) == (False, None)
    assert path.read_bytes() == before


def test_a_file_without_a_record_is_left_as_it_is(job, out):
    first = prepare_study(job)
    times = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    second = prepare_study(job)
    assert (second.error, second.image, second.masks) == (None, first.image, first.masks)
    assert {name: (out / name).stat().st_mtime_ns for name in files(out)} == times


def test_an_nnunet_dataset_asked_for_later_is_added(job, tmp_path):
    job = replace(job, spec=preset("paper", (32, 32, 32)))
    first = prepare_study(job)
    asked = replace(job, previous=first, nnunet={"all": tmp_path / "Dataset001_X"})
    second = prepare_study(asked)
    assert (second.kept, second.error) == (False, None)
    cases = files(tmp_path / "Dataset001_X" / "nnUNetPlans_3d_fullres")
    assert cases == {f"{NAME}.b2nd", f"{NAME}_seg.b2nd", f"{NAME}.pkl"}
    assert prepare_study(replace(asked, previous=second)).kept


def test_a_changed_source_is_not_taken_for_the_old_one(job, tmp_path):
    path = tmp_path / "ct.nii.gz"
    array, affine = body()
    write_nifti(path, array, affine)
    job = replace(job, study=replace(job.study, image=VolumeFile(path), mask=None))
    first = prepare_study(job)
    assert prepare_study(replace(job, previous=first)).kept
    write_nifti(path, array[1:], affine)
    again = prepare_study(replace(job, previous=first))
    assert "another file has this name" in again.error


@pytest.mark.parametrize("name", ["imagesTr", "labelsTr"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_output_is_reported_and_left(job, out, name, recorded):
    first = prepare_study(job)
    path = out / name / f"{NAME}.b2nd"
    damaged = path.read_bytes()[:-10]
    path.write_bytes(damaged)
    record = prepare_study(replace(job, previous=first if recorded else None))
    assert "delete it and prepare the study again" in record.error
    assert path.read_bytes() == damaged


def test_the_key_tells_every_way_of_preparing_apart(made, job, tmp_path):
    other = study(made, NAMES[1])
    keys = [
        job.key,
        replace(job, spec=preset("authors", (8, 16, 16))).key,
        replace(job, scopes=(LUNG,)).key,
        replace(job, scopes=()).key,
        replace(job, study=replace(job.study, image=other.image)).key,
        replace(job, study=replace(job.study, mask=other.mask)).key,
        replace(job, study=replace(job.study, mask=None)).key,
    ]
    assert len(set(keys)) == len(keys)
    assert replace(job, study=replace(job.study, report="Other."), out=tmp_path).key == job.key


def full_write(*_):
    error = OSError(errno.ENOSPC, "No space left on device")
    raise ImageError("x.b2nd: could not be written") from error


def blosc2_write(*_):
    raise ImageError("x.b2nd: could not be written") from RuntimeError("blosc2 says nothing")


@pytest.mark.parametrize("write", [full_write, blosc2_write])
def test_a_full_disk_stops_the_run_instead_of_blaming_the_study(job, monkeypatch, write):
    monkeypatch.setattr(work, "write_store", write)
    usage = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=100))
    monkeypatch.setattr(disk, "shutil", usage)
    with pytest.raises(DiskFullError, match=r"0\.0 MB free.*run the same command again"):
        prepare_study(job)


def test_a_write_that_fails_with_room_left_is_an_error_of_the_study(job, monkeypatch):
    monkeypatch.setattr(work, "write_store", blosc2_write)
    assert "could not be written" in prepare_study(job).error


def test_a_mask_is_cropped_as_its_image_is(made, tmp_path, job, out):
    """Around the body is padding, so that without the crop the mask would lie elsewhere."""
    for name in (f"{NAME}.nii.gz", f"{NAME}_mask.nii.gz"):
        whole = read_volume(made / name, labels="mask" in name)
        filler = 0 if "mask" in name else -2000
        padded = np.pad(whole.array, ((2, 5), (9, 1), (3, 30)), constant_values=filler)
        write_nifti(tmp_path / name, padded, whole.affine)
    cropped = replace(job, study=study(tmp_path, NAME), spec=preset("hsenet", (8, 16, 16)))
    assert prepare_study(cropped).error is None
    image = read_meta(out / f"imagesTr/{NAME}.b2nd")
    mask = read_meta(out / f"labelsTr/{NAME}.b2nd")
    depth, height, width = whole.array.shape
    first, end = np.array(image.grid.crop).T
    assert (first >= (2, 9, 3)).all()
    assert (end <= (2 + depth, 9 + height, 3 + width)).all()
    assert mask.grid.crop == image.grid.crop
    assert mask.grid.affine == image.grid.affine
    hu, labels = (read_store(out / f"{folder}/{NAME}.b2nd") for folder in ("imagesTr", "labelsTr"))
    assert np.median(hu[labels == 1]) < -600
    assert np.median(hu[labels == 2]) > -200
