"""NRRD (`.nrrd`, `.nhdr`) and MetaImage (`.mha`, `.mhd`) files, read by ITK.

ITK's own space is LPS, so origin, spacing and direction are used as they are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from uvlm.errors import ImageError
from uvlm.imaging.values import image_values, label_values, refuse_mask
from uvlm.imaging.volume import Provenance, Volume

__all__ = ["read_itk"]

sitk: Any = SimpleITK
"""Its functions carry no types."""
DETACHED = (".nhdr", ".mhd")


def read_itk(path: Path | str, labels: bool = False) -> Volume:
    """One NRRD or MetaImage file.

    Returns:
        Volume of int16 HU where that loses nothing, otherwise float32; with `labels` uint8 or
        uint16. The checksum of a detached header also covers the voxels.

    Raises:
        ImageError: unreadable; not one 3D volume of plain numbers; NaN or infinite voxels; a mask
            read as an image, or an image read as `labels`.
    """
    path = Path(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    data = path.read_bytes()
    nrrd = data[:4] == b"NRRD"
    if not nrrd and b"NDims" not in data[:4096]:
        # Asked before ITK is, which would also print complaints of its own.
        raise ImageError.about(path, "no NRRD or MetaImage header", "Export or copy it again.")
    # ITK goes by the name; a file told by its content may have any.
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    try:
        reader.ReadImageInformation()
        _refuse_shape(reader, path)
        image = reader.Execute()
    except RuntimeError as error:
        zero = "spacing" in str(error)
        raise ImageError.about(
            path,
            "a voxel spacing of zero" if zero else "ITK cannot read it: damaged or not whole",
            "Export it again with its true spacing."
            if zero
            else "Export or copy it again; a detached header needs its data file beside it.",
        ) from error
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    raw = sitk.GetArrayFromImage(image)
    details = {"dtype": str(raw.dtype)}
    del image
    digest = hashlib.sha256(data)
    if path.suffix.lower() in DETACHED:
        digest.update(raw.data)
    array = (label_values if labels else image_values)(raw, path)
    if not labels:
        refuse_mask(array, path)
    return Volume(
        array=array,
        affine=affine,
        provenance=Provenance(
            path=str(path),
            format="nrrd" if nrrd else "metaimage",
            checksum=digest.hexdigest(),
            details=details,
        ),
    )


def _refuse_shape(reader: Any, path: Path) -> None:
    size = reader.GetSize()
    text = " x ".join(map(str, size))
    channels = reader.GetNumberOfComponents()
    if channels != 1:
        raise ImageError.about(
            path,
            f"{channels} values per voxel (colours, vectors or complex numbers)",
            "Export one number per voxel, in Hounsfield units (int16 or float32).",
        )
    if len(size) == 2 or (len(size) == 3 and min(size) < 2):
        raise ImageError.about(
            path, f"a 2D image of {text} voxels", "Give a 3D volume of at least two slices."
        )
    if len(size) != 3:
        raise ImageError.about(
            path,
            f"{len(size)} dimensions ({text})",
            "Give one 3D volume; extract one time point or channel first.",
        )
