"""One function for every kind of CT file: `read_volume`.

The content decides, not the name: a folder or a zip archive is DICOM, and a file is recognised by
its first bytes (NIfTI, plain or compressed; DICOM; NRRD; MetaImage; Blosc2).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from uvlm.errors import ImageError
from uvlm.imaging.gzip import is_gzip
from uvlm.imaging.values import image_values, label_values, refuse_mask
from uvlm.imaging.volume import Provenance, Volume

__all__ = ["FORMATS", "read_volume"]

FORMATS = (
    "a DICOM folder or .zip, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) "
    "or Blosc2 (.b2nd)"
)


def read_volume(path: Path | str, *, series: str | None = None, labels: bool = False) -> Volume:
    """Read a CT volume, or with `labels` a mask, in the file's own axis order.

    Args:
        path: file or folder.
        series: of a DICOM folder or archive, which series: its SeriesInstanceUID, its number, or
            `#1` for the first of the list. Without it the rule of `dicom_series` chooses.
        labels: read a mask: whole numbers 0..65535; an image is refused. Without it a mask is
            refused, by the rule of `values.looks_like_mask`.

    Returns:
        Volume in HU, int16 where that loses nothing, otherwise float32; labels uint8 or uint16.

    Raises:
        ImageError: it cannot be read or is not such a volume; says what was found and what to do.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "dicom":
        if labels:
            raise ImageError.about(
                path, "DICOM given as a mask", "Give the mask as a NIfTI file on the CT's grid."
            )
        from uvlm.imaging.dicom import read_dicom

        return read_dicom(path, series)
    if series is not None:
        raise ImageError.about(
            path, f"series {series!r} asked of a single file", "Leave the series out."
        )
    if kind == "itk":
        from uvlm.imaging.itk import read_itk

        return read_itk(path, labels)
    if kind == "b2nd":
        return _read_b2nd(path, labels)
    from uvlm.imaging.nifti import read_nifti

    return read_nifti(path, labels)


def _kind(path: Path) -> str:
    if not path.exists():
        raise ImageError.about(path, "no such file or folder", "Check the path.")
    suffix = path.suffix.lower()
    if path.is_dir():
        return "dicom"
    if suffix == ".b2nd":
        return "b2nd"
    try:
        with path.open("rb") as file:
            start = file.read(352)
    except OSError as error:
        raise ImageError.about(
            path, f"cannot be read ({error.strerror})", "Check the path and its permissions."
        ) from None
    if not start:
        raise ImageError.about(path, "an empty file", "Copy or download it again.")
    named_nifti = path.name.lower().endswith((".nii", ".nii.gz"))
    nifti = start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")
    if is_gzip(start) or nifti or named_nifti:
        return "nifti"
    if start[:4] == b"PK\x03\x04" or start[128:132] == b"DICM" or suffix in (".dcm", ".zip"):
        return "dicom"
    if start[:4] == b"NRRD" or suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        return "itk"
    raise ImageError.about(path, "a file of no known image format", f"Give {FORMATS}.")


def _read_b2nd(path: Path, labels: bool) -> Volume:
    """A stored array with the grid written inside it; 1 mm voxels where there is none."""
    from uvlm.imaging.store import StoredArray

    stored = StoredArray(path)
    meta = stored.meta
    kind = "labels" if labels else "image"
    if meta is not None and meta.kind != kind:
        raise ImageError.about(path, f"a store of kind {meta.kind}", f"Give one of kind {kind}.")
    raw = stored.read()
    notes: tuple[str, ...] = ()
    affine = np.eye(4)
    if meta is None:
        notes = ("No metadata: preprocessing is unknown, voxels were taken as 1 mm, in LPS order.",)
    else:
        affine = np.array(meta.grid.affine, np.float64)
    with path.open("rb") as file:
        checksum = hashlib.sha256(file.read()).hexdigest()
    source = Provenance(
        path=str(path),
        format="b2nd",
        checksum=checksum,
        notes=notes,
        details={"dtype": str(raw.dtype)},
    )
    volume = Volume(array=raw, affine=affine, provenance=source)
    array = (label_values if labels else image_values)(raw, path)
    if not labels:
        refuse_mask(array, path)
    return replace(volume, array=array)
