"""Finding the DICOM images of a folder, an archive or one file, and reading their headers.

Names inside an archive are never used as paths, and nothing is unpacked to disk, so `../` names
and links are harmless. An archive that would inflate beyond all reason is refused beforehand.
"""

from __future__ import annotations

import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pydicom
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)
from tqdm import tqdm

from uvlm.errors import ImageError, InputError

__all__ = [
    "CT_CLASSES",
    "Header",
    "Scan",
    "Source",
    "quiet_pydicom",
    "read_dataset",
    "scan",
    "sources",
]

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
MAX_MEMBERS = 100_000
MAX_BYTES = 32 << 30
MAX_RATIO = 100
RATIO_FREE_BYTES = 256 << 20
"""Small archives may compress better than `MAX_RATIO`: a synthetic study can be all air."""

TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "PatientID", "PatientName", "Modality", "ImageType",
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "PixelRepresentation", "PixelPaddingValue", "BitsStored", "ConvolutionKernel",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
"""What of a header is read; texts that could name the patient serve only to count patients."""

SINGLE = {
    "SeriesNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "SliceThickness",
    "RescaleSlope", "RescaleIntercept", "BitsStored", "PixelPaddingValue",
}  # fmt: skip
"""Those of `TAGS` that are one number where present."""


@dataclass(frozen=True)
class Source:
    """One file, on disk or in an archive."""

    name: str
    """For messages: the path below the folder, or the place in the archive."""

    open: Callable[[], IO[bytes]]

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()


@dataclass(frozen=True)
class Header:
    """A DICOM image without its pixels."""

    source: Source
    data: Any


@dataclass(frozen=True)
class Scan:
    """What a folder or archive holds."""

    images: tuple[Header, ...]
    not_dicom: int
    """Files that are no DICOM."""
    not_image: int
    """DICOM objects without pixels: directories, structured reports, contours."""


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Read tolerantly and without warnings, which could quote a patient's name."""
    settings, log = pydicom.config.settings, logging.getLogger("pydicom")
    mode, level = settings.reading_validation_mode, log.level
    settings.reading_validation_mode = pydicom.config.IGNORE
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode = mode
        log.setLevel(level)


@contextmanager
def sources(path: Path) -> Iterator[list[Source]]:
    """Every file of a folder (at any depth) or zip archive, or the one file itself."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        yield [Source(str(p.relative_to(path)), lambda p=p: p.open("rb")) for p in files]  # type: ignore[misc]
    elif zipfile.is_zipfile(path):
        with _archive(path) as archive:
            yield [
                Source(f"file {n} of the archive", lambda m=member: archive.open(m))  # type: ignore[misc]
                for n, member in enumerate(archive.infolist(), 1)
                if not member.is_dir()
            ]
    elif path.suffix.lower() == ".zip":
        raise ImageError.about(path, "a damaged zip archive", "Copy or pack it again.")
    else:
        yield [Source(path.name, lambda: path.open("rb"))]


def _archive(path: Path) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    size = sum(m.file_size for m in members)
    packed = max(1, sum(m.compress_size for m in members))
    bomb = size > RATIO_FREE_BYTES and size / packed > MAX_RATIO
    if len(members) > MAX_MEMBERS or size > MAX_BYTES or bomb:
        archive.close()
        raise ImageError.about(
            path,
            f"an archive of {len(members)} files that unpacks to {size / 2**20:.0f} MiB, "
            f"{size / packed:.0f} times its size",
            f"Unpack it yourself and give the folder (limits: {MAX_MEMBERS} files, "
            f"{MAX_BYTES >> 30} GiB, {MAX_RATIO} times).",
        )
    if any(m.flag_bits & 1 for m in members):
        archive.close()
        raise ImageError.about(
            path, "an archive with a password", "Unpack it yourself and give the folder."
        )
    return archive


def scan(path: Path, files: list[Source]) -> Scan:
    """Read the header of every DICOM image among `files`.

    Raises:
        ImageError: there is none, or one is cut off within its header.
    """
    images: list[Header] = []
    not_dicom = not_image = 0
    for source in tqdm(files, desc="headers", unit="file", delay=2, disable=None, leave=False):
        data = _header(path, source)
        if data is None:
            not_dicom += 1
        elif all(tag in data for tag in ("Rows", "Columns", "SeriesInstanceUID")):
            images.append(Header(source, data))
        elif data.file_meta.get("MediaStorageSOPClassUID", data.get("SOPClassUID")) in CT_CLASSES:
            raise _damaged(path, source)
        else:
            not_image += 1
    if not images:
        raise ImageError.about(
            path,
            f"no DICOM image among {len(files)} files ({not_image} DICOM objects without one)",
            "Give the folder or .zip that holds the CT slices.",
        )
    return Scan(tuple(images), not_dicom, not_image)


def _header(path: Path, source: Source) -> Any | None:
    """The header, None where the file is no DICOM. Raises ImageError for one that breaks off."""
    bare = False
    try:
        with source.open() as file:
            start = file.read(132)
            # Files from before 1993 lack the preamble and start with group 0008.
            bare = start[:2] == b"\x08\x00" and len(start) == 132
            if start[128:] != b"DICM" and not bare:
                if len(start) < 132 and source.name.lower().endswith(".dcm"):
                    raise _damaged(path, source)
                return None
            file.seek(0)
            data = pydicom.dcmread(
                file, stop_before_pixels=True, specific_tags=list(TAGS), force=bare
            )
        _convert(data)
        return data
    except ImageError:
        raise
    # A damaged header makes pydicom raise nearly anything.
    except Exception as error:
        if bare:
            return None
        raise _damaged(path, source) from error


def read_dataset(data: bytes) -> Any:
    """A whole file with its pixels; a transfer syntax is added to one too old to name its own."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = plain if little else ExplicitVRBigEndian
    return dataset


def _convert(data: Any) -> None:
    """Look at every value: pydicom converts only then, and a bad one is to be found here."""

    def check(_: Any, element: Any) -> None:
        value = element.value
        if value in (None, ""):
            return
        if element.keyword in SINGLE:
            float(value)
        elif element.VR == "DS":
            for item in [value] if element.VM == 1 else value:
                float(item)

    data.walk(check)


def _damaged(path: Path, source: Source) -> InputError:
    return ImageError.about(
        path, f"{source.name} has a damaged DICOM header", "Export or copy that slice again."
    )
