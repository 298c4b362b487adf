"""Folders and archives of DICOM are read safely, and nothing in them is dropped in silence."""

from __future__ import annotations

import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.imaging.dicom_factory import anatomy, write_series
from uvlm.errors import ImageError
from uvlm.imaging.dicom import read_dicom

HU = anatomy()


def test_files_that_are_not_dicom_are_ignored_and_said(tmp_path):
    write_series(tmp_path / "deep" / "er", HU)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").touch()
    volume = read_dicom(tmp_path)
    assert "2 file(s) that are not DICOM were ignored." in volume.provenance.notes


@pytest.mark.parametrize("keep", [0, 100, 300, 600, -40])
def test_a_slice_cut_off_is_never_dropped_in_silence(tmp_path, keep):
    write_series(tmp_path, HU)
    last = sorted(tmp_path.iterdir())[0]
    last.write_bytes(last.read_bytes()[:keep])
    with pytest.raises(ImageError, match=r"damaged|decoded"):
        read_dicom(tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ImageError, match="no DICOM image among 1 files"):
        read_dicom(tmp_path)


def zipped(folder: Path, target: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return target


def test_a_zip_reads_as_its_folder_and_writes_nothing(tmp_path):
    write_series(tmp_path / "in", HU)
    path = zipped(tmp_path / "in", tmp_path / "study.zip", prefix="../../outside/")
    from_folder = read_dicom(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")
    volume = read_dicom(path)
    np.testing.assert_array_equal(volume.array, HU)
    assert sorted(volume.provenance.checksum) != ""
    assert set(tmp_path.iterdir()) == {path}
    np.testing.assert_array_equal(volume.affine, from_folder.affine)


def test_an_archive_that_inflates_without_end_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.dcm", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(ImageError, match="unpacks to 300 MiB"):
        read_dicom(path)


def test_a_damaged_zip_is_refused(tmp_path):
    path = tmp_path / "study.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ImageError, match="damaged zip"):
        read_dicom(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ImagePositionPatient", "0.0\\\\x\\\\0.0"), ("RescaleSlope", "1.x")],
)
def test_a_number_that_is_none_names_the_file(tmp_path, name, value):
    write_series(tmp_path, HU)
    file = sorted(tmp_path.iterdir())[2]
    data = bytearray(file.read_bytes())
    tag = {"ImagePositionPatient": b"\x20\x00\x32\x00DS", "RescaleSlope": b"\x28\x00\x53\x10DS"}
    at = data.index(tag[name]) + 8
    data[at : at + 1] = b"?"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=f"{file.name} has a damaged DICOM header"):
        read_dicom(tmp_path)


def test_an_old_file_without_preamble_is_read(tmp_path):
    write_series(tmp_path, HU)
    for file in tmp_path.iterdir():
        data = pydicom.dcmread(file)
        syntax = {"implicit_vr": True, "little_endian": True}
        bare = BytesIO()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.preamble = None
        data.save_as(bare, **syntax, enforce_file_format=False)
        file.write_bytes(bare.getvalue())
    np.testing.assert_array_equal(read_dicom(tmp_path).array, HU)


def test_no_warning_or_log_quotes_the_patient(tmp_path, caplog):
    def change(data, z):
        data.PatientID = "SECRET"

    write_series(tmp_path, HU, change=change)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes().replace(b"SECRET", b"SECR\xff\x00"))
    read_dicom(tmp_path)
    assert "SECR" not in caplog.text


def test_a_damaged_member_of_an_archive_is_named_by_its_place(tmp_path):
    write_series(tmp_path / "in", HU)
    path = zipped(tmp_path / "in", tmp_path / "study.zip")
    with zipfile.ZipFile(path) as archive:
        third = archive.infolist()[2].header_offset
    data = bytearray(path.read_bytes())
    data[third + 60 : third + 200] = bytes(140)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="file 3 of the archive"):
        read_dicom(path)
