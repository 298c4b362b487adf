"""NIfTI-1 and NIfTI-2 files: read with their geometry checked, written whole or not at all.

NIfTI stores voxels (i, j, k) with i fastest, so the bytes already lie in (z, y, x) order: int16 is
used without a copy, other types are converted slice by slice as the file is read. Its affine is
RAS; ours is LPS. Of the two affines a file may carry, the sform counts where its code is above 0,
otherwise the qform, as nibabel does; a disagreement is noted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from uvlm.errors import ImageError, InputError
from uvlm.imaging.geometry import is_sheared
from uvlm.imaging.gzip import FileReader, GzipReader, is_gzip
from uvlm.imaging.values import image_values, label_values, refuse_mask
from uvlm.imaging.volume import Provenance, Volume

__all__ = ["affine_of", "read_header", "read_nifti", "scaling_of", "write_nifti"]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MAGIC: dict[bytes, Any] = {b"n+1\0": nib.Nifti1Header, b"n+2\0": nib.Nifti2Header}
AGREEMENT_MM = 0.1
"""Two affines agree when they put every corner within this distance."""


def read_nifti(path: Path | str, labels: bool = False) -> Volume:
    """A `.nii` or `.nii.gz` file; compression is found by content, not by name.

    Returns:
        Volume of int16 HU where that loses nothing, otherwise float32; with `labels` uint8 or
        uint16. Slope and intercept are applied. Notes say what was decided about the geometry.

    Raises:
        ImageError: empty, truncated, damaged or not NIfTI; not one 3D volume of plain numbers;
            spacing zero or not finite; NaN or infinite voxels; a mask read as an image, or an
            image read as `labels`.
    """
    notes: list[str] = []
    with FileReader(path) as file:
        stream = GzipReader(file, path) if is_gzip(file.start) else file
        header, offset = read_header(stream, path)
        shape = _shape(header, path, notes)
        slope, intercept = scaling_of(header)
        voxels = _Voxels(stream, header, shape, offset, path)
        if labels:
            array = label_values(voxels, path, slope, intercept)
        else:
            # Other types are converted as they come, or float64 alone would take four times the
            # memory of the result.
            raw = voxels.whole() if voxels.dtype == np.int16 else voxels
            array = image_values(raw, path, slope, intercept)
        # Reading on to the end of a compressed file verifies its checksum.
        stream.read(1 << 16)
        checksum = file.checksum()
    if not labels:
        refuse_mask(array, path)
    affine = affine_of(header, shape, path, notes)
    details = {
        "dtype": str(header.get_data_dtype()),
        "slope": slope,
        "intercept": intercept,
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
    }
    return Volume(
        array=array,
        affine=RAS_TO_LPS @ affine,
        provenance=Provenance(
            path=str(path), format="nifti", checksum=checksum, notes=tuple(notes), details=details
        ),
    )


def read_header(stream: GzipReader | FileReader, path: Path | str) -> tuple[Any, int]:
    """The header (nibabel's), and how many bytes of the stream were taken for it.

    Raises:
        ImageError: not NIfTI, half of a pair, or damaged.
    """
    start = stream.read(348)
    taken = len(start)
    magic = start[344:348]
    if start[4:8] == b"n+2\0":
        magic = start[4:8]
        start += stream.read(540 - taken)
        taken = len(start)
    if magic in (b"ni1\0", b"ni2\0"):
        raise ImageError.about(
            path,
            "one half of a .hdr/.img pair",
            "Convert the pair to a single .nii.gz file.",
        )
    if magic not in MAGIC or taken != MAGIC[magic].sizeof_hdr:
        raise ImageError.about(
            path,
            "no NIfTI header" if taken >= 348 else f"only {taken} bytes",
            "Give a NIfTI file (.nii or .nii.gz), or export it again.",
        )
    try:
        header = MAGIC[magic](start, check=False)
        header.get_data_dtype()
    except (nib.spatialimages.HeaderDataError, KeyError) as error:
        raise _damaged_header(path, "a damaged NIfTI header") from error
    return header, taken


def _damaged_header(path: Path | str, found: str) -> InputError:
    return ImageError.about(path, found, "Export or download it again.")


def _shape(header: Any, path: Path | str, notes: list[str]) -> tuple[int, int, int]:
    """Voxels along x, y, z."""
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise _damaged_header(path, f"a damaged NIfTI header: {rank} dimensions")
    dims = [int(n) for n in header["dim"][1 : rank + 1]]
    if min(dims) < 1:
        raise _damaged_header(path, f"a damaged NIfTI header: dimensions {dims}")
    if len(dims) < 3 or min(dims[:3]) < 2:
        raise ImageError.about(
            path,
            f"a 2D image of {' x '.join(map(str, dims))} voxels",
            "Give a 3D volume of at least two slices.",
        )
    if any(n > 1 for n in dims[3:]):
        raise ImageError.about(
            path,
            f"{len(dims)} dimensions ({' x '.join(map(str, dims))})",
            "Give one 3D volume; extract one time point or channel first.",
        )
    if len(dims) > 3:
        notes.append(f"Stored with {len(dims)} dimensions, the last of length 1; read as 3D.")
    return dims[0], dims[1], dims[2]


class _Voxels:
    """The voxels (z, y, x) as stored, still in the file: slice after slice, or all at once."""

    def __init__(
        self,
        stream: GzipReader | FileReader,
        header: Any,
        shape: tuple[int, int, int],
        taken: int,
        path: Path | str,
    ) -> None:
        offset = float(header["vox_offset"])
        if not taken <= offset < 2**31:
            raise _damaged_header(path, f"a damaged NIfTI header: voxels at byte {offset:g}")
        stream.read(int(offset) - taken)
        self._stream, self._path = stream, path
        self.dtype: np.dtype[Any] = header.get_data_dtype()
        self.shape = shape[::-1]
        try:
            # Takes no memory until it is written to, yet fails where there can never be enough.
            np.empty(self.shape, np.uint8)
        except (MemoryError, ValueError):
            raise _damaged_header(
                path, f"a header that promises {' x '.join(map(str, shape))} voxels"
            ) from None

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Each slice (y, x) in the same memory as the one before it."""
        piece = np.empty(self.shape[1:], self.dtype)
        for z in range(self.shape[0]):
            self._fill(piece, z * piece.nbytes)
            yield piece

    def whole(self) -> NDArray[Any]:
        """All slices, in memory that the caller owns."""
        raw = np.empty(self.shape, self.dtype)
        self._fill(raw, 0)
        return raw

    def _fill(self, target: NDArray[Any], before: int) -> None:
        filled = self._stream.readinto(target.reshape(-1).view(np.uint8).data)
        if filled < target.nbytes:
            promised = math.prod(self.shape) * self.dtype.itemsize
            raise ImageError.about(
                self._path,
                f"truncated: {before + filled} of {promised} bytes of voxels",
                "Copy or download it again.",
            )


def scaling_of(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or not finite means none, as the standard says."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0.0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def affine_of(
    header: Any, shape: tuple[int, int, int], path: Path | str, notes: list[str]
) -> NDArray[np.float64]:
    """(4, 4), voxel (x, y, z) to RAS millimetres.

    Args:
        shape: of the voxels, to tell how far two affines are apart
        notes: sentences on what was decided are added

    Raises:
        ImageError: spacing zero or not finite.
    """
    zooms = np.asarray(header["pixdim"][1:4], np.float64)
    if not np.isfinite(zooms).all() or (zooms == 0).any():
        raise ImageError.about(
            path,
            f"a voxel spacing of {' x '.join(f'{z:g}' for z in zooms)} mm",
            "Export the file again with its true voxel spacing.",
        )
    if (zooms < 0).any():
        notes.append("The header's spacing has a negative sign, which was ignored.")
        header["pixdim"][1:4] = np.abs(zooms)
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        notes.append(f"The header's length unit is code {unit}; numbers were taken as millimetres.")
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = _qform(header, notes) if header["qform_code"] > 0 else None
    if sform is None and qform is None:
        notes.append(
            "Neither sform nor qform is set: position and orientation are unknown; "
            "spacing was taken from the header, axes as right to left, back to front, feet to head."
        )
        return np.asarray(header.get_base_affine(), np.float64)
    if sform is None:
        return np.asarray(qform, np.float64)
    if qform is not None:
        _compare(sform, qform, shape, notes)
    return np.asarray(sform, np.float64)


def _qform(header: Any, notes: list[str]) -> NDArray[np.float64] | None:
    try:
        return np.asarray(header.get_qform(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        notes.append("The qform is invalid and was ignored.")
        return None


def _compare(
    sform: NDArray[np.float64],
    qform: NDArray[np.float64],
    shape: tuple[int, int, int],
    notes: list[str],
) -> None:
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= np.array(shape) - 1
    apart = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
    if apart > AGREEMENT_MM:
        notes.append(f"sform and qform disagree by up to {apart:.1f} mm; the sform was used.")


def write_nifti(path: Path | str, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a (z, y, x) array with its LPS affine, whole or not at all.

    Compressed where the name ends in `.gz`. sform and qform are both set, with code 1 (scanner
    coordinates); the qform is left out where the axes are sheared, which it cannot express.
    The affine comes back as it was read: the sform holds float32, as in the file it came from.
    """
    path = Path(path)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    ras = RAS_TO_LPS @ affine
    header = MAGIC[b"n+1\0"]()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape[::-1])
    header.set_xyzt_units("mm")
    header.set_sform(ras, code=1)
    header.set_qform(ras, code=0 if is_sheared(affine) else 1)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    native = array.astype(header.get_data_dtype(), order="C", copy=False)
    body = header.binaryblock + bytes(4) + native.tobytes()
    if path.name.endswith(".gz"):
        body = igzip.compress(body, mtime=0)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_bytes(body)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
