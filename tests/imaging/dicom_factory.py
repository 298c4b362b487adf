"""Writes synthetic DICOM series: classic and enhanced CT, plain and compressed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Change = Callable[[Dataset, int], None]


@dataclass
class SeriesSpec:
    """What a written series is; every field can be changed by a test."""

    number: int = 1
    uid: str = ""
    patient: str = "PATIENT-1"
    name: str = "Rossi^Anna"
    modality: str = "CT"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    sop_class: str = CTImageStorage
    spacing: tuple[float, float] = (0.8, 0.7)
    orientation: tuple[float, ...] = AXIAL
    origin: tuple[float, float, float] = (-10.0, -20.0, -30.0)
    step: tuple[float, float, float] = (0.0, 0.0, 2.5)
    thickness: float = 2.5
    slope: float = 1.0
    intercept: float = -1024.0
    signed: bool = False
    syntax: str = ExplicitVRLittleEndian
    prefix: str = "slice"

    def position(self, z: int) -> list[float]:
        return [o + z * s for o, s in zip(self.origin, self.step, strict=True)]

    def affine(self) -> NDArray[np.float64]:
        """(4, 4), as the written geometry says."""
        affine = np.eye(4)
        affine[:3, 0] = np.array(self.orientation[:3]) * self.spacing[1]
        affine[:3, 1] = np.array(self.orientation[3:]) * self.spacing[0]
        affine[:3, 2] = self.step
        affine[:3, 3] = self.origin
        return affine


def anatomy(slices: int = 6, rows: int = 12, columns: int = 10, seed: int = 0) -> NDArray[np.int16]:
    """(z, y, x) HU with noise, so that no two slices are alike."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 1500, (slices, rows, columns)).astype(np.int16)


def write_series(
    folder: Path,
    hu: NDArray[Any],
    spec: SeriesSpec | None = None,
    *,
    only: Sequence[int] | None = None,
    change: Change | None = None,
) -> SeriesSpec:
    """One file per slice of `hu` (z, y, x); instance numbers run against the position.

    Args:
        only: slices to write; all without it.
        change: called with each dataset and its slice number before it is written.
    """
    spec = spec or SeriesSpec()
    spec.uid = spec.uid or generate_uid()
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(len(hu)) if only is None else only:
        data = _dataset(spec)
        data.InstanceNumber = len(hu) - z
        data.ImagePositionPatient = [f"{v:.6f}" for v in spec.position(z)]
        data.ImageOrientationPatient = [f"{v:.10f}" for v in spec.orientation]
        data.PixelSpacing = list(spec.spacing)
        data.SliceThickness = spec.thickness
        data.RescaleSlope = spec.slope
        data.RescaleIntercept = spec.intercept
        data.RescaleType = "HU"
        stored = np.rint((hu[z] - spec.intercept) / spec.slope)
        _pixels(data, spec, stored[None])
        if change is not None:
            change(data, z)
        _compress(data, spec)
        data.save_as(folder / f"{spec.prefix}{len(hu) - z:04d}.dcm", enforce_file_format=True)
    return spec


def write_enhanced(path: Path, hu: NDArray[Any], spec: SeriesSpec | None = None) -> SeriesSpec:
    """One enhanced CT file; frames in shuffled order, slope and intercept differing by frame."""
    spec = spec or SeriesSpec()
    spec.uid = spec.uid or generate_uid()
    spec.sop_class = EnhancedCTImageStorage
    data = _dataset(spec)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=list(spec.orientation))]
    measures = _item(PixelSpacing=list(spec.spacing), SliceThickness=spec.thickness)
    shared.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    order = np.random.default_rng(1).permutation(len(hu))
    frames, stored = [], []
    for z in order:
        intercept = spec.intercept - float(z)
        frame = Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=spec.position(int(z)))]
        frame.PixelValueTransformationSequence = [
            _item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")
        ]
        frames.append(frame)
        stored.append(hu[z] - intercept)
    data.PerFrameFunctionalGroupsSequence = frames
    data.NumberOfFrames = len(hu)
    _pixels(data, spec, np.stack(stored))
    _compress(data, spec)
    data.save_as(path, enforce_file_format=True)
    return spec


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _dataset(spec: SeriesSpec) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = spec.sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = spec.sop_class
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = spec.uid
    data.StudyInstanceUID = generate_uid(entropy_srcs=[spec.uid])
    data.SeriesNumber = spec.number
    data.SeriesDescription = "synthetic"
    data.PatientID = spec.patient
    data.PatientName = spec.name
    data.Modality = spec.modality
    data.ImageType = list(spec.image_type)
    return data


def _pixels(data: Dataset, spec: SeriesSpec, stored: NDArray[Any]) -> None:
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[1:]
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = int(spec.signed)
    kind = np.int16 if spec.signed else np.uint16
    data.PixelData = stored.astype(kind).tobytes()


def _compress(data: Dataset, spec: SeriesSpec) -> None:
    if spec.syntax == ExplicitVRLittleEndian:
        return
    if spec.syntax != JPEGLosslessSV1:
        data.compress(spec.syntax, generate_instance_uid=False)
        return
    frames = np.frombuffer(data.PixelData, np.uint16).reshape(-1, data.Rows, data.Columns)
    data.PixelData = encapsulate([jpeg_lossless(frame) for frame in frames])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1


def jpeg_lossless(image: NDArray[np.uint16]) -> bytes:
    """(rows, columns) as JPEG lossless, process 14, predictor 1 (ITU-T T.81, annex H).

    The commonest compression of CT, which no library here writes. Every difference category has
    a code of five bits, so the table is as simple as it can be.
    """
    rows, columns = image.shape
    values = image.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << 15
    differences = ((values - predicted + (1 << 15)) % (1 << 16)) - (1 << 15)
    bits = []
    for difference in differences.ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:05b}")
        if 0 < size < 16:
            extra = difference if difference > 0 else difference + (1 << size) - 1
            bits.append(f"{extra:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = struct.pack(">BHHBBBB", 16, rows, columns, 1, 1, 0x11, 0)
    counts = bytes([0, 0, 0, 0, 17] + [0] * 11)
    return (
        b"\xff\xd8"
        + _segment(0xC3, frame)
        + _segment(0xC4, b"\0" + counts + bytes(range(17)))
        + _segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
        + scan
        + b"\xff\xd9"
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
