"""Prepared volumes on disk: Blosc2 arrays (`.b2nd`) that carry how they were made.

A file is an ordinary Blosc2 array, readable by `np.asarray(blosc2.open(path))`, with one extra
metadata entry, `uvlm`: a JSON text with the fields of `StoreMeta`, the shape and type, and the
CRC-32 of the content. Chunks are small enough that a training patch is read without the volume.

Files written without that entry (by `blosc2.save_array`, or by other software) load with a warning,
for their preprocessing is unknown.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from uvlm.config import LATER, from_dict, to_dict
from uvlm.errors import ConfigError, ImageError
from uvlm.imaging.preprocess import Grid, Prepared, PreprocessSpec

__all__ = [
    "StoreMeta",
    "StoredArray",
    "meta_of",
    "read_meta",
    "read_scaling",
    "read_store",
    "write_store",
]

log = logging.getLogger(__name__)
# Blosc2 imports numexpr, which announces its thread count.
logging.getLogger("numexpr").setLevel(logging.WARNING)

KEY = "uvlm"
FORMAT = 1
CHUNKS = (64, 128, 128)
BLOCKS = (16, 16, 32)
"""16 kB, small enough that a 96x128x128 patch of 192x256x256 decodes a fifth of the volume, in less
than a quarter of the whole's time; a whole volume takes about a tenth longer than with 64 kB, and
2 % less disk (`benchmarks/patch_read.py --table`)."""

AGAIN = "The file is damaged: delete it and prepare the study again."


@dataclass(frozen=True, kw_only=True)
class StoreMeta:
    """What a stored array is and how it was made."""

    kind: Literal["image", "labels"]
    spec_hash: str
    grid: Grid
    mean: float = 0.0
    """HU over the whole volume; of an image."""

    std: float = 1.0
    """HU over the whole volume; of an image."""

    low: float = field(default=0.0, metadata=LATER)
    """HU of the lowest voxel; of an image that is normalised by it."""

    high: float = field(default=0.0, metadata=LATER)
    """HU of the highest voxel; of an image that is normalised by it."""

    classes: Mapping[str, int] | None = None
    """Name to value; of labels."""


def meta_of(prepared: Prepared) -> StoreMeta:
    """The metadata of a prepared image."""
    spec, array = prepared.grid.spec, prepared.array
    limited = spec.normalise == "minmax"
    return StoreMeta(
        kind="image",
        spec_hash=spec.hash,
        grid=prepared.grid,
        mean=prepared.mean,
        std=prepared.std,
        low=float(array.min()) if limited else 0.0,
        high=float(array.max()) if limited else 0.0,
    )


def write_store(path: Path | str, array: NDArray[Any], meta: StoreMeta) -> None:
    """Write `array` (z, y, x) whole or not at all.

    Writing what is already there changes nothing.

    Raises:
        ImageError: another file has that name, or the disk refuses.
    """
    path = Path(path)
    array = np.ascontiguousarray(array)
    header = to_dict(meta) | {
        "format": FORMAT,
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "crc32": isal_zlib.crc32(array),
    }
    if path.exists():
        if _read_header(path) == header:
            return
        raise ImageError.about(
            path, "another file has this name", "Choose another folder, or move that file away."
        )
    # One writer per process at a time; the suffix tells Blosc2 what to write.
    beside = path.with_name(f".{path.stem}.{os.getpid()}.tmp.b2nd")
    try:
        _write(beside, array, header)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        raise ImageError.about(
            path, f"could not be written ({error})", "Check the free space and permissions."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _write(path: Path, array: NDArray[Any], header: dict[str, Any]) -> None:
    import blosc2

    chunks = tuple(map(min, CHUNKS, array.shape))
    stored = blosc2.asarray(
        array,
        urlpath=str(path),
        mode="w",
        chunks=chunks,
        blocks=tuple(map(min, BLOCKS, chunks)),
        # Never the DELTA filter: partial reads of it return wrong values.
        cparams={
            "codec": blosc2.Codec.ZSTD,
            "clevel": 1,
            "filters": [blosc2.Filter.SHUFFLE],
            "nthreads": 1,
        },
    )
    stored.schunk.vlmeta[KEY] = json.dumps(header)


class StoredArray:
    """An open `.b2nd` file. Indexing decodes only the blocks it touches.

    Opening checks that the file is complete and agrees with its metadata; `read` also checks the
    content.

    Attributes:
        path: the file
        shape: (z, y, x)
        dtype: of the array
        meta: None if written without metadata

    Raises:
        ImageError: no such file, not a Blosc2 array, cut short, damaged, or not 3D.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._array = _open(self.path)
        header = _parse_header(self.path, self._array)
        self._crc = None if header is None else header.get("crc32")
        self.meta = None if header is None else _parse_meta(self.path, header)
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self.dtype = np.dtype(self._array.dtype)
        if len(self.shape) != 3:
            raise ImageError.about(
                self.path, f"an array of shape {self.shape}", "Give one 3D volume."
            )
        if header is None:
            log.warning("%s carries no metadata: its preprocessing is unknown.", self.path)
        elif (header.get("shape"), header.get("dtype")) != (list(self.shape), self.dtype.str):
            raise ImageError.about(
                self.path, f"an array of {self.shape}, but its metadata disagree", AGAIN
            )

    def __getitem__(self, region: tuple[slice, slice, slice]) -> NDArray[Any]:
        try:
            values: NDArray[Any] = self._array[region]
        except RuntimeError as error:
            raise ImageError.about(
                self.path, f"a chunk cannot be decoded ({error})", AGAIN
            ) from None
        return values

    def read(self) -> NDArray[Any]:
        """The whole array, its checksum compared.

        Raises:
            ImageError: the content is not what was written.
        """
        values = np.ascontiguousarray(self[:, :, :])
        if self._crc is not None and isal_zlib.crc32(values) != self._crc:
            raise ImageError.about(self.path, "its content does not match its checksum", AGAIN)
        return values


def read_store(path: Path | str, region: tuple[slice, slice, slice] | None = None) -> NDArray[Any]:
    """A stored array (z, y, x), or `region` of it; whole reads are checked against the CRC-32.

    Raises:
        ImageError: as `StoredArray`.
    """
    stored = StoredArray(path)
    return stored.read() if region is None else stored[region]


def read_meta(path: Path | str) -> StoreMeta | None:
    """The metadata of a stored array; None, with a warning, if it was written without.

    Raises:
        ImageError: as `StoredArray`.
    """
    return StoredArray(path).meta


def read_scaling(stored: StoredArray, spec: PreprocessSpec) -> tuple[float, float]:
    """(a, b): a model trained with `spec` sees (HU - a) / b of a stored image.

    A file without metadata must be read whole for them.

    Raises:
        ImageError: it cannot be read, or every voxel has one value.
    """
    meta = stored.meta
    if meta is not None:
        offset, scale = spec.scaling(mean=meta.mean, std=meta.std, low=meta.low, high=meta.high)
    else:
        whole = stored[:, :, :]
        offset, scale = spec.scaling(
            mean=float(whole.mean(dtype=np.float64)),
            std=float(whole.std(dtype=np.float64)),
            low=float(whole.min()),
            high=float(whole.max()),
        )
    if not scale > 0:
        raise ImageError.about(
            stored.path, "every voxel has one value", "Prepare the study again from its original."
        )
    return offset, scale


def _read_header(path: Path) -> dict[str, Any] | None:
    try:
        return _parse_header(path, _open(path))
    except ImageError:
        return None


def _open(path: Path) -> Any:
    """The Blosc2 array in `path`, after checking that the file is as long as it says."""
    import blosc2

    _check_length(path)
    try:
        opened = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
    except Exception as error:
        raise ImageError.about(path, f"not readable as Blosc2 ({error})", AGAIN) from None
    if isinstance(opened, blosc2.NDArray):
        return opened
    return _unpack(path, opened)


def _check_length(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(24)
    except FileNotFoundError:
        raise ImageError.about(path, "no such file", "Check the path.") from None
    except OSError as error:
        raise ImageError.about(path, f"cannot be read ({error.strerror})", "Check it.") from None
    if start[2:8] != b"b2fram":
        raise ImageError.about(path, "not a Blosc2 file", "Give a .b2nd file.")
    # The frame's own length: a big-endian 64-bit integer after its marker at byte 16.
    says, holds = int.from_bytes(start[16:24], "big"), path.stat().st_size
    if says != holds:
        raise ImageError.about(path, f"{holds} bytes of {says}", AGAIN)


def _unpack(path: Path, packed: Any) -> Any:
    """What `blosc2.save_array` wrote: a plain sequence of bytes with shape and type beside it."""
    import blosc2

    if "__pack_tensor__" not in packed.vlmeta:
        raise ImageError.about(
            path, "Blosc2 data without a shape", "Write it with blosc2.save_array or asarray."
        )
    kind, shape, dtype = packed.vlmeta["__pack_tensor__"]
    if kind != "numpy" or not isinstance(dtype, str):
        raise ImageError.about(path, f"a packed {kind} object", "Give a NumPy array.")
    array = np.empty(shape, np.dtype(dtype))
    try:
        packed.get_slice(out=array)
    except RuntimeError as error:
        raise ImageError.about(path, f"cannot be decoded ({error})", AGAIN) from None
    return blosc2.asarray(array)


def _parse_header(path: Path, array: Any) -> dict[str, Any] | None:
    entries = array.schunk.vlmeta
    if KEY not in entries:
        return None
    try:
        header = json.loads(entries[KEY])
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("an unknown format")
    except (ValueError, TypeError, RuntimeError) as error:
        raise ImageError.about(path, f"its metadata are unreadable ({error})", AGAIN) from None
    return header


def _parse_meta(path: Path, header: dict[str, Any]) -> StoreMeta:
    known = {f.name: header[f.name] for f in fields(StoreMeta) if f.name in header}
    try:
        return from_dict(StoreMeta, known, "metadata")
    except ConfigError as error:
        raise ImageError.about(path, str(error), AGAIN) from None
