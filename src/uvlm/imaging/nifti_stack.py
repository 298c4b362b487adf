"""A NIfTI file of several binary masks of one CT, read into one array of bits.

Such a stack has four axes, the masks along the first or the last. A scan with ten findings would
take a gigabyte as ten masks; as bits of one array it takes two bytes a voxel, and the file is read
piece by piece without ever being in memory as a whole.

Shapes: bits (z, y, x); a file's own axes are named i, j, k, l, fastest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError, InputError
from uvlm.imaging.gzip import FileReader, GzipReader, is_gzip
from uvlm.imaging.nifti import RAS_TO_LPS, affine_of, read_header, scaling_of
from uvlm.imaging.volume import Volume

__all__ = ["MaskStack", "read_mask_stack"]

MOST = 64
"""Masks in a stack: the bits of the widest integer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskStack:
    """Masks of one grid."""

    bits: NDArray[Any]
    """(z, y, x), unsigned; bit n is set where mask n is not 0."""

    count: int
    """How many masks."""

    affine: NDArray[np.float64]
    """(4, 4), voxel index (x, y, z) to LPS mm, as the file says."""

    placed: bool
    """Whether the file says where its voxels lie; not if its affine is the identity."""

    checksum: str
    """SHA-256 of the file's bytes."""

    notes: tuple[str, ...] = ()

    def mask(self, index: int) -> NDArray[np.bool_]:
        """(z, y, x), where mask `index` is."""
        return np.asarray(self.bits & self.bits.dtype.type(1 << index), bool)


def read_mask_stack(path: Path | str, image: Volume, count: int) -> MaskStack:
    """Read the masks of `image`.

    The axis of the masks is the one beside those that have the image's length; where that leaves
    both, the one of length `count`. A file of three axes is a stack of one.

    Raises:
        ImageError: unreadable; not a stack of masks with the image's voxels; both axes could be
            that of the masks; more than 64 masks; negative, fractional or NaN values.
    """
    with FileReader(path) as file:
        stream = GzipReader(file, path) if is_gzip(file.start) else file
        header, taken = read_header(stream, path)
        dims = [int(n) for n in header["dim"][1 : min(int(header["dim"][0]), 7) + 1]]
        first = _masks_first(path, dims, image, count)
        masks = dims[0 if first else 3] if len(dims) > 3 else 1
        notes: list[str] = []
        affine = affine_of(header, image.shape, path, notes)
        _refuse(header, masks, taken, path)
        stream.read(int(header["vox_offset"]) - taken)
        reader = _Reader(stream, header.get_data_dtype(), path)
        shape = _spatial(dims, first) if len(dims) > 3 else image.shape
        bits = _read_first(reader, shape, masks) if first else _read_last(reader, shape, masks)
        stream.read(1 << 16)  # to the end of a compressed file, which verifies its checksum
        checksum = file.checksum()
    placed = not np.allclose(affine, np.eye(4), atol=1e-6)
    return MaskStack(
        bits=bits,
        count=masks,
        affine=RAS_TO_LPS @ affine,
        placed=placed,
        checksum=checksum,
        notes=tuple(notes) if placed else (),
    )


def _refuse(header: Any, masks: int, taken: int, path: Path | str) -> None:
    """Raise ImageError for a header that no stack of masks has."""
    if not 1 <= masks <= MOST:
        raise ImageError.about(path, f"{masks} masks", f"At most {MOST} can be read at once.")
    slope, intercept = scaling_of(header)
    if slope < 0 or intercept != 0:
        raise ImageError.about(path, "a mask with slope and intercept", "Export it without.")
    if not taken <= float(header["vox_offset"]) < 2**31:
        raise ImageError.about(path, "a damaged NIfTI header", "Export or download it again.")


def _spatial(dims: list[int], first: bool) -> tuple[int, int, int]:
    """Voxels (z, y, x)."""
    x, y, z = dims[1:4] if first else dims[:3]
    return z, y, x


def _masks_first(path: Path | str, dims: list[int], image: Volume, count: int) -> bool:
    """Whether the masks lie along the file's first axis, and not along its last."""
    shown = " x ".join(map(str, dims))
    alone = len(dims) == 3 or (len(dims) == 4 and dims[3] == 1)
    if alone and count == 1 and tuple(dims[2::-1]) == image.shape:
        return False
    if len(dims) != 4:
        raise ImageError.about(
            path,
            f"{shown} voxels where {count} masks of {_sizes(image)} are expected",
            "Give the stack of masks that belongs to this image.",
        )
    fits = [
        first for first in (True, False) if sorted(_spatial(dims, first)) == sorted(image.shape)
    ]
    if len(fits) == 2:
        fits = [first for first in fits if (dims[0] if first else dims[3]) == count]
    if len(fits) != 1:
        found = f"{shown} voxels; the image {image.provenance.path} has {_sizes(image)}"
        raise ImageError.about(
            path,
            f"{found}, and {count} masks are expected along the first or last axis",
            "Give the stack of masks that belongs to this image.",
        )
    return fits[0]


def _sizes(image: Volume) -> str:
    return " x ".join(map(str, image.shape[::-1]))


class _Reader:
    """Numbers from a stream, in pieces, as bool."""

    def __init__(self, stream: GzipReader | FileReader, dtype: Any, path: Path | str) -> None:
        if dtype.kind not in "iufb" or dtype.itemsize > 8:
            raise ImageError.about(path, f"values of type {dtype}", "Give masks of integers.")
        self._stream, self._dtype, self._path = stream, dtype, path

    def next(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        try:
            piece = np.empty(prod(shape), self._dtype)
        except (MemoryError, ValueError):
            raise self._damaged(f"a header that promises {shape} values in a piece") from None
        if self._stream.readinto(piece.view(np.uint8).data) < piece.nbytes:
            raise self._damaged("truncated")
        if piece.dtype.kind == "f" and not (np.rint(piece) == piece).all():
            raise ImageError.about(
                self._path, "values that are not whole numbers", "Give masks, not images."
            )
        if piece.dtype.kind != "u" and (piece < 0).any():
            raise ImageError.about(self._path, "negative values", "Give masks, not images.")
        return np.asarray(piece.reshape(shape) != 0)

    def _damaged(self, found: str) -> InputError:
        return ImageError.about(self._path, found, "Copy or download it again.")


def _bits_for(masks: int) -> type[np.unsignedinteger[Any]]:
    return next(
        kind
        for width, kind in ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))
        if masks <= width
    )


def _read_first(reader: _Reader, shape: tuple[int, int, int], masks: int) -> NDArray[Any]:
    """Masks along the fastest axis: plane by plane of z."""
    bits = np.zeros(shape, _bits_for(masks))
    # The bytes of every voxel's bits, lowest first whatever the machine's own order is.
    packed = bits.astype(bits.dtype.newbyteorder("<"), copy=False)[..., None].view(np.uint8)
    used = -(-masks // 8)
    for plane in packed:
        inside = reader.next((*plane.shape[:2], masks))
        if inside.any():
            plane[..., :used] = np.packbits(inside, axis=-1, bitorder="little")
    whole = packed.view(bits.dtype.newbyteorder("<"))[..., 0]
    return np.asarray(whole, bits.dtype)


def _read_last(reader: _Reader, shape: tuple[int, int, int], masks: int) -> NDArray[Any]:
    """Masks along the slowest axis: mask by mask, plane by plane."""
    kind = _bits_for(masks)
    bits = np.zeros(shape, kind)
    for n in range(masks):
        for plane in bits:
            plane[reader.next(plane.shape)] |= kind(1 << n)
    return bits
