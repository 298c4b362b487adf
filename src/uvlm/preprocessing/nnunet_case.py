"""One case of an nnU-Net dataset: image, mask, properties and the mask nnU-Net is scored on.

The image is put in place last, and nnU-Net lists a case by its image: a killed run leaves no case
half-written. Both arrays carry the entry `uvlm`, which says what they were made from.

Images are float32 because nnU-Net's final validation gives them to the network as they are; their
last mantissa bits are zeroed, which costs at most half a HU and saves a third of the disk.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.preprocessing.nnunet_plans import CASES, FILE_ENDING

# Command-line help imports this module for the dataset's name: SciPy and nibabel can wait.
if TYPE_CHECKING:
    from uvlm.imaging.preprocess import Prepared

__all__ = ["CaseFiles", "read_header", "write_case"]

KEY = "uvlm"
FORMAT = 1
TRUTH = "gt_segmentations"

VOXELS_PER_CLASS = 10_000
FOREGROUND_SAMPLES = 1_000
"""HU drawn per case for the intensities of the fingerprint."""

MANTISSA = 12
"""Bits kept of float32's 23: half a HU at 4096 HU from a volume's mean, 0.06 HU at 500."""


def write_case(folder: Path, series_id: str, prepared: Prepared, labels: NDArray[Any]) -> int:
    """Add a case to the dataset in `folder`, whole or not at all; returns the bytes written.

    A case already there that was made from the same voxels in the same way is kept, 0 bytes.

    Args:
        labels: (z, y, x) class values of the prepared mask, 0 for background

    Raises:
        ImageError: another case has this name, nnU-Net could not tell the name from a mask's, the
            labels are no class values, or the disk refuses.
    """
    if labels.shape != prepared.array.shape:
        raise ValueError(f"labels of {labels.shape} for an image of {prepared.array.shape}")
    files = CaseFiles.of(folder, series_id)
    _refuse_labels(files.seg, labels)
    header = _header(series_id, prepared, labels)
    if _is_there(files, header):
        return 0
    aside = folder / f".{series_id}.tmp"
    try:
        # One writer per series: what is there is left from a run that was killed.
        shutil.rmtree(aside, ignore_errors=True)
        for made in (aside, files.image.parent, files.truth.parent):
            made.mkdir(parents=True, exist_ok=True)
        moves = _write_aside(aside, files, prepared, labels, json.dumps(header))
        size = sum(path.stat().st_size for path, _ in moves)
        for path, target in moves:
            os.replace(path, target)
    except OSError as error:
        raise ImageError.about(
            files.image, f"could not be written ({error})", "Check the free space and permissions."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return size


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case, in the order they are put in place."""

    seg: Path
    properties: Path
    truth: Path
    image: Path

    @classmethod
    def of(cls, folder: Path, series_id: str) -> CaseFiles:
        """Where they lie in a dataset's folder.

        Raises:
            ImageError: nnU-Net would take the name for a mask's.
        """
        cases = folder / CASES
        image = cases / f"{series_id}.b2nd"
        if series_id.endswith("_seg"):
            raise ImageError.about(
                image, "nnU-Net takes a name that ends in _seg for a mask's", "Rename the series."
            )
        return cls(
            seg=cases / f"{series_id}_seg.b2nd",
            properties=cases / f"{series_id}.pkl",
            truth=folder / TRUTH / f"{series_id}{FILE_ENDING}",
            image=image,
        )


def _refuse_labels(path: Path, labels: NDArray[Any]) -> None:
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 32767:
        raise ImageError.about(
            path,
            f"labels of type {labels.dtype} from {labels.min()} to {labels.max()}",
            "Give whole class values from 0 to 32767.",
        )


def _header(series_id: str, prepared: Prepared, labels: NDArray[Any]) -> dict[str, Any]:
    """The entry of both arrays: what they were made from, and what the plans need of the case."""
    grid = prepared.grid
    rng = np.random.default_rng(zlib.crc32(series_id.encode()))
    found = np.flatnonzero(labels)
    drawn = rng.choice(found, FOREGROUND_SAMPLES) if len(found) else found
    return {
        "format": FORMAT,
        "spec_hash": grid.spec.hash,
        "source_checksum": grid.source_checksum,
        "image_crc32": isal_zlib.crc32(np.ascontiguousarray(prepared.array)),
        "labels_crc32": isal_zlib.crc32(np.ascontiguousarray(labels, dtype="<i2")),
        "shape": list(prepared.array.shape),
        "spacing": list(grid.spacing),
        "foreground": prepared.array.reshape(-1)[drawn].tolist(),
    }


def _is_there(files: CaseFiles, header: Mapping[str, Any]) -> bool:
    """Whether the case is there, whole; refuses files of its name that are another's."""
    there = [path for path in (files.image, files.seg) if path.exists()]
    strangers = files.properties.exists() or files.truth.exists()
    if files.image.exists() and any(read_header(path) != header for path in there):
        other: Path | None = files.image
    elif there:
        # A mask without an image is left from a run that was killed, if it is ours.
        other = None if read_header(there[-1]) is not None else there[-1]
    else:
        other = files.properties if strangers else None
    if other is not None:
        raise ImageError.about(
            other, "another case has this name", "Choose another folder, or move that case away."
        )
    return len(there) == 2 and files.properties.exists() and files.truth.exists()


def _write_aside(
    aside: Path, files: CaseFiles, prepared: Prepared, labels: NDArray[Any], header: str
) -> list[tuple[Path, Path]]:
    """Write the files of a case into `aside`; returns (from, to) in the order to move them.

    The mask first: it says that the others are ours.
    """
    from uvlm.imaging.nifti import write_nifti

    named = [(aside / path.name, path) for path in vars(files).values()]
    seg, properties, truth, image = (path for path, _ in named)
    seg.write_bytes(_packed(labels.astype(np.int8 if labels.max() <= 127 else np.int16), header))
    properties.write_bytes(pickle.dumps(_properties(files.image.stem, prepared, labels), 4))
    true_type = np.uint8 if labels.max() <= 255 else np.int16
    write_nifti(truth, labels.astype(true_type), np.array(prepared.grid.affine))
    image.write_bytes(_packed(_trimmed(prepared.normalised()), header))
    return named


def _trimmed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` rounded in place to `MANTISSA` bits, so that they compress."""
    drop = 23 - MANTISSA
    bits = values.view(np.uint32)
    bits += np.uint32(1 << (drop - 1))
    bits &= np.uint32(0xFFFFFFFF >> drop << drop)
    return values


def _packed(array: NDArray[Any], header: str) -> bytes:
    """A Blosc2 file of `array` with a channel axis; in memory, where a full disk cannot cut it."""
    import blosc2

    from uvlm.imaging.store import BLOCKS, CHUNKS

    chunks = tuple(map(min, CHUNKS, array.shape))
    blocks = tuple(map(min, BLOCKS, chunks))
    stored = blosc2.asarray(
        np.ascontiguousarray(array)[None],
        chunks=(1, *chunks),
        blocks=(1, *blocks),
        contiguous=True,
        cparams={
            "codec": blosc2.Codec.ZSTD,
            "clevel": 1,
            "filters": [blosc2.Filter.SHUFFLE],
            "nthreads": 1,
        },
    )
    stored.schunk.vlmeta[KEY] = header
    return bytes(stored.to_cframe())


def _properties(series_id: str, prepared: Prepared, labels: NDArray[Any]) -> dict[str, Any]:
    """What nnU-Net remembers of a case: its geometry, for exports, and where its classes are.

    The geometry is that of the prepared volume, on which nnU-Net validates: nothing is cropped.
    """
    affine = np.array(prepared.grid.affine)
    z, y, x = prepared.grid.spacing
    shape = tuple(prepared.array.shape)
    return {
        "sitk_stuff": {
            "spacing": (x, y, z),
            "origin": tuple(affine[:3, 3].tolist()),
            "direction": tuple((affine[:3, :3] / (x, y, z)).ravel().tolist()),
        },
        "spacing": [z, y, x],
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, size] for size in shape],
        "shape_after_cropping_and_before_resampling": shape,
        "class_locations": _class_locations(series_id, labels),
    }


def _class_locations(series_id: str, labels: NDArray[Any]) -> dict[int, NDArray[np.int16]]:
    """Class value to (n, 4) voxels (0, z, y, x), n at most 10,000; the same for the same series.

    int16, for nnU-Net reads the whole table for every patch it draws.
    """
    rng = np.random.default_rng(zlib.crc32(series_id.encode()))
    flat = labels.reshape(-1)
    found = np.flatnonzero(flat)
    values = flat[found]
    # Sorted once: looking for each of fifty classes takes five times as long.
    order = np.argsort(values, kind="stable")
    classes, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    locations = {}
    for value, start, count in zip(classes.tolist(), starts, counts, strict=True):
        drawn = rng.choice(count, min(count, VOXELS_PER_CLASS), replace=False, shuffle=False)
        where = np.unravel_index(found[order[start + drawn]], labels.shape)
        locations[value] = np.stack([np.zeros_like(drawn), *where], axis=1).astype(np.int16)
    return locations


def read_header(path: Path) -> dict[str, Any] | None:
    """The entry `uvlm` of a case's array; None for a file of another origin."""
    import blosc2

    try:
        # The entries live as long as their array does.
        array = blosc2.open(str(path), mode="r")
        entries = array.schunk.vlmeta
        header = json.loads(entries[KEY]) if KEY in entries else None
    except (RuntimeError, ValueError, TypeError, OSError):
        return None
    ours = isinstance(header, dict) and header.get("format") == FORMAT
    return header if ours else None
