"""Chest studies as a hospital might hand them over: mixed formats, odd names, an Excel table.

images/AB 001/*.dcm        DICOM, one folder per study
images/AB 002.zip          DICOM in an archive
images/Thorax.v2_003.nii.gz, images/scan-é_004.nrrd
images/leftover.nii.gz     in no table (a copy of the first study)
masks/<same names>.nii.gz  and masks/labels.json
reports.xlsx               one row per study, whole numbers as labels
reports.csv                the same, semicolons, Windows encoding, yes and no
"""

from __future__ import annotations

import csv
import datetime
import io
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from uvlm.imaging.geometry import to_lps
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.phantom.source import SourceStudy, read_source_folder
from uvlm.registry import CT_RATE_LABELS

__all__ = ["write"]

sitk: Any = SimpleITK
NAMES = ("AB {:03d}", "AB {:03d}", "Thorax.v2_{:03d}", "scan-é_{:03d}")
"""Of studies stored as a DICOM folder, a zip, NIfTI and NRRD, in turn."""

LEFT_OVER = "leftover.nii.gz"
SAME_PATIENT = 3
"""Every so many studies, one is of the patient before."""

EPOCH = (1980, 1, 1, 0, 0, 0)
MOMENT = datetime.datetime(2000, 1, 1)


def write(source: Path, out: Path, seed: int) -> None:
    """Write the studies of `source` (CT-RATE v2's layout) to `out`; equal input, equal bytes."""
    studies = read_source_folder(source)
    (out / "images").mkdir()
    (out / "masks").mkdir()
    rows = []
    for number, study in enumerate(studies):
        name = NAMES[number % len(NAMES)].format(number + 1)
        _write_image(out / "images", name, number, study)
        if study.mask is not None:
            shutil.copyfile(study.mask, out / "masks" / f"{name}.nii.gz")
        rows.append(_row(number, name, study))
    shutil.copyfile(studies[0].image, out / "images" / LEFT_OVER)
    names = source / "dataset" / "ts_seg" / "labels.json"
    shutil.copyfile(names, out / "masks" / "labels.json")
    for folder in (out, out / "images"):
        shutil.copyfile(source / "dataset" / "source.txt", folder / "source.txt")
    _write_excel(out / "reports.xlsx", rows)
    _write_csv(out / "reports.csv", rows)


def _write_image(folder: Path, name: str, number: int, study: SourceStudy) -> None:
    kind = number % len(NAMES)
    if kind == 2:
        shutil.copyfile(study.image, folder / f"{name}.nii.gz")
        return
    volume = read_volume(study.image)
    if kind == 3:
        _write_nrrd(folder / f"{name}.nrrd", volume)
        return
    slices = dicom_slices(volume, patient=f"P{number + 1:03d}", uid=study.series_id)
    if kind == 0:
        (folder / name).mkdir()
        for slice_name, data in slices.items():
            (folder / name / slice_name).write_bytes(data)
        return
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for slice_name, data in slices.items():
            archive.writestr(zipfile.ZipInfo(f"export/{slice_name}", EPOCH), data)


def _write_nrrd(path: Path, volume: Volume) -> None:
    image = sitk.GetImageFromArray(volume.array)
    matrix = volume.affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix / spacing).ravel().tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path), True)


def dicom_slices(volume: Volume, patient: str, uid: str) -> dict[str, bytes]:
    """File name to bytes of a CT series; the names run against the position.

    Args:
        patient: PatientID.
        uid: any text; equal texts give equal identifiers.
    """
    from pydicom.uid import generate_uid

    turned, _ = to_lps(volume)
    series = generate_uid(entropy_srcs=[uid, "series"])
    files = {}
    for z, plane in enumerate(turned.array):
        data = _dataset(series, uid, z)
        data.PatientID = patient
        data.PatientName = f"{patient}^Phantom"
        data.InstanceNumber = len(turned.array) - z
        position = turned.affine @ (0, 0, z, 1)
        data.ImagePositionPatient = [f"{value:.6f}" for value in position[:3]]
        spacing = turned.spacing
        axes = (turned.affine[:3, 0] / spacing[2], turned.affine[:3, 1] / spacing[1])
        data.ImageOrientationPatient = [f"{value:.8f}" for value in np.concatenate(axes)]
        data.PixelSpacing = [f"{spacing[1]:.8f}", f"{spacing[2]:.8f}"]
        data.SliceThickness = f"{spacing[0]:.6f}"
        data.Rows, data.Columns = plane.shape
        data.PixelData = (plane.astype(np.int32) + 8192).astype("<u2").tobytes()
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
        files[f"IM{data.InstanceNumber:04d}.dcm"] = buffer.getvalue()
    return files


def _dataset(series: str, uid: str, z: int) -> Any:
    """One slice without its geometry and pixels."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(z)])
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = series
    data.StudyInstanceUID = generate_uid(entropy_srcs=[uid, "study"])
    data.SeriesNumber = 1
    data.SeriesDescription = "synthetic"
    data.Modality = "CT"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -8192, "HU"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    return data


def _row(number: int, name: str, study: SourceStudy) -> dict[str, object]:
    labels: Mapping[str, object] = {
        label: None if study.labels[label] == "" else int(study.labels[label])
        for label in CT_RATE_LABELS
    }
    patient = number - (number % SAME_PATIENT == 1)
    return {
        "No": number + 1,
        "Study": name,
        "Patient ID": f"P{patient + 1:03d}",
        "Age, years": 50.5 + number,
        "Findings": study.findings,
        "Impression": study.impression,
        **labels,
    }


def _write_excel(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Reports"
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.properties.creator = "uvlm"
    book.properties.created = MOMENT
    written = io.BytesIO()
    book.save(written)
    # openpyxl stamps the present time; equal seeds are to give equal files.
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "docProps/core.xml":
                stamp = MOMENT.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
                data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", stamp, data)
            new.writestr(zipfile.ZipInfo(entry.filename, EPOCH), data)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    words = {None: "", 0: "no", 1: "yes"}
    with path.open("w", newline="", encoding="cp1252") as file:
        writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
        writer.writerow(rows[0])
        for row in rows:
            cells = {**row, "Age, years": str(row["Age, years"]).replace(".", ",")}
            for label in CT_RATE_LABELS:
                cells[label] = words[row[label]]  # type: ignore[index]
            writer.writerow(cells.values())
