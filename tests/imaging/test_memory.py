"""From file to store in a bounded multiple of the volume's size, whatever type the file has."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.imaging.bodies import chest
from uvlm.imaging.audit import check
from uvlm.imaging.gzip import FileReader
from uvlm.imaging.nifti import read_nifti
from uvlm.imaging.preprocess import PreprocessSpec, prepare, prepare_labels
from uvlm.imaging.store import meta_of, write_store

SHAPE = (150, 256, 256)
SPEC = PreprocessSpec(shape=(96, 128, 128))
PLAIN = int(np.prod(SHAPE)) * 2
"""Bytes of the volume as int16."""

Save = Callable[..., Path]


def peak_of(action: Callable[[], object]) -> int:
    """The most bytes `action` holds at a time, in Python's and NumPy's memory."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    """A chest of `SHAPE` with noise."""
    small = chest(50, 40).array[:, 5:91, 5:91]
    large = small.repeat(3, 0).repeat(3, 1).repeat(3, 2)[:, :256, :256]
    noise = np.random.default_rng(0).integers(-9, 10, SHAPE, np.int16)
    return (large + noise).astype(np.int16)


@pytest.fixture(scope="module")
def save(hu, tmp_path_factory) -> Save:
    folder = tmp_path_factory.mktemp("ct")

    def save(dtype: str, end: str, change: float = 0.0, mask: bool = False) -> Path:
        path = folder / f"{dtype}_{change}_{mask}{end}"
        values = ((hu > -300) * 1 + (hu > 300) if mask else hu + change).astype(dtype)
        image = nib.Nifti1Image(values.T, np.diag([-1.5, -1.5, 2.0, 1.0]), dtype=dtype)
        nib.save(image, path)
        return path

    return save


@pytest.mark.parametrize(
    ("dtype", "end", "change", "volumes"),
    [
        ("int16", ".nii.gz", 0.0, 1.0),
        ("int16", ".nii", 0.0, 1.0),
        ("float64", ".nii.gz", 0.0, 1.0),
        ("float64", ".nii", 0.0, 1.0),
        # What is no whole number stays float32, two int16; the first slices were int16.
        ("float64", ".nii", 0.25, 3.0),
    ],
)
def test_reading_holds_the_volume_once(save, dtype, end, change, volumes):
    path = save(dtype, end, change)
    assert peak_of(lambda: read_nifti(path)) < (volumes + 0.25) * PLAIN


@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_from_file_to_store_holds_less_than_two_volumes(save, tmp_path, dtype):
    path = save(dtype, ".nii.gz")

    def ingest() -> None:
        volume = read_nifti(path)
        check(volume)
        prepared = prepare(volume, SPEC)
        write_store(tmp_path / f"{dtype}.b2nd", prepared.array, meta_of(prepared))

    assert peak_of(ingest) < 2 * PLAIN


def test_the_audit_adds_a_fraction_of_a_volume(save):
    volume = read_nifti(save("int16", ".nii"))
    assert peak_of(lambda: check(volume)) < 0.7 * PLAIN


def test_a_mask_is_read_and_prepared_in_little_more_than_itself(save):
    path = save("float64", ".nii.gz", mask=True)
    mask = read_nifti(path, labels=True)
    assert mask.array.dtype == np.uint8
    assert peak_of(lambda: read_nifti(path, labels=True)) < 0.75 * PLAIN
    assert peak_of(lambda: prepare_labels(mask, SPEC)) < 0.75 * PLAIN


def test_a_file_is_read_in_pieces_and_hashed_whole(tmp_path):
    import hashlib

    path = tmp_path / "file"
    content = np.random.default_rng(0).bytes(3_000_001)
    path.write_bytes(content)

    def read() -> None:
        with FileReader(path) as file:
            assert content.startswith(file.start)
            assert file.read(1_000) == content[:1_000]
            assert file.checksum() == hashlib.sha256(content).hexdigest()
            assert file.read(1) == b""

    assert peak_of(read) < 1_000_000
