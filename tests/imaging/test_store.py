"""Stored volumes: exact, complete or refused, read in parts, open to plain Blosc2."""

import json
import logging
from itertools import product
from pathlib import Path

import blosc2
import numpy as np
import pytest

from uvlm.errors import ImageError
from uvlm.imaging.preprocess import PreprocessSpec, prepare
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import (
    StoredArray,
    StoreMeta,
    meta_of,
    read_meta,
    read_store,
    write_store,
)
from uvlm.imaging.volume import Provenance, Volume

NO_LENGTH = b"\x7f"
"""A block of these cannot be decoded; of bytes 255 it could be, as the same value throughout."""

SPEC = PreprocessSpec(shape=(130, 128, 140))


@pytest.fixture(scope="module")
def prepared():
    array = np.random.default_rng(0).integers(-1000, 1000, (130, 64, 70)).astype(np.int16)
    source = Volume(
        array=array,
        affine=np.diag([-1.5, -1.5, 2.0, 1.0]),
        provenance=Provenance(path="ct.nii.gz", format="nifti", checksum="c0ffee"),
    )
    return prepare(source, SPEC)


@pytest.fixture
def stored(prepared, tmp_path):
    path = tmp_path / "train_1_a_1.b2nd"
    write_store(path, prepared.array, meta_of(prepared))
    return path


def test_what_is_read_is_what_was_written(stored, prepared):
    array = read_store(stored)
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, prepared.array)


def test_metadata_return_as_written(stored, prepared):
    meta = read_meta(stored)
    assert meta == meta_of(prepared)
    assert meta.spec_hash == SPEC.hash
    assert meta.grid.spec == SPEC
    assert meta.grid.source_checksum == "c0ffee"
    assert (meta.mean, meta.std) == (prepared.mean, prepared.std)


def test_labels_carry_the_names_of_their_values(prepared, tmp_path):
    path = tmp_path / "mask.b2nd"
    meta = StoreMeta(
        kind="labels", spec_hash=SPEC.hash, grid=prepared.grid, classes={"liver": 1, "lung": 2}
    )
    write_store(path, (prepared.array > 0).astype(np.uint8), meta)
    assert read_meta(path).classes == {"liver": 1, "lung": 2}
    assert read_store(path).dtype == np.uint8


def test_plain_blosc2_opens_it(stored, prepared):
    np.testing.assert_array_equal(np.asarray(blosc2.open(str(stored))), prepared.array)


def test_a_volume_read_from_it_lies_where_it_was_prepared(stored, prepared):
    volume = read_volume(stored)
    np.testing.assert_allclose(volume.affine, prepared.grid.affine)
    np.testing.assert_array_equal(volume.array, prepared.array)


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 8), slice(0, 64), slice(0, 64)),
        (slice(60, 70), slice(100, 128), slice(120, 140)),
        (slice(None), slice(5, 6), slice(None)),
        (slice(0, 130, 3), slice(None), slice(None)),
    ],
)
def test_a_region_is_that_part_of_the_volume(stored, prepared, region):
    np.testing.assert_array_equal(StoredArray(stored)[region], prepared.array[region])
    np.testing.assert_array_equal(read_store(stored, region), prepared.array[region])


def corrupt_all_chunks_but_the_first(path):
    """Overwrite their compressed bytes."""
    array = blosc2.open(str(path))
    assert array.schunk.nchunks == 6
    chunks = [array.schunk.get_chunk(number) for number in range(1, 6)]
    content = bytearray(path.read_bytes())
    for chunk in chunks:
        start = content.find(chunk)
        content[start : start + len(chunk)] = b"\xff" * len(chunk)
    path.write_bytes(bytes(content))


def test_a_region_does_not_touch_the_chunks_it_lies_outside_of(stored, prepared):
    handle = StoredArray(stored)
    corrupt_all_chunks_but_the_first(stored)
    first = (slice(0, 64), slice(0, 128), slice(0, 128))
    np.testing.assert_array_equal(handle[first], prepared.array[first])
    with pytest.raises(ImageError, match="cannot be decoded"):
        handle[60:70, 0:8, 0:8]


def block_bytes(path):
    """((z, y, x) of a block's first voxel, where its compressed bytes lie in the file) of all."""
    array, content = blosc2.open(str(path)), path.read_bytes()
    grid = [range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True)]
    within = [range(0, c, b) for c, b in zip(array.chunks, array.blocks, strict=True)]
    found = []
    for number, corner in enumerate(product(*grid)):
        chunk = array.schunk.get_chunk(number)
        at = content.find(chunk)
        inner = list(product(*within))
        # A chunk is a header of 32 bytes, the start of each block, and the blocks.
        starts = np.frombuffer(chunk, "<i4", len(inner), 32).tolist()
        ends = dict(zip(sorted(starts), [*sorted(starts)[1:], len(chunk)], strict=True))
        for place, start in zip(inner, starts, strict=True):
            first = tuple(c + p for c, p in zip(corner, place, strict=True))
            found.append((first, slice(at + start, at + ends[start])))
    return found, array.blocks


def reaches(first, blocks, region):
    return all(
        p < r.stop and r.start < p + b for p, b, r in zip(first, blocks, region, strict=True)
    )


def test_a_patch_decodes_only_the_blocks_it_touches(prepared, tmp_path):
    """All others are overwritten, and nothing notices; one of its own is, and it does."""
    smooth = np.add.outer(np.arange(128), np.add.outer(np.arange(128), np.arange(256)))
    smooth = smooth.astype(np.int16)
    path = tmp_path / "smooth.b2nd"
    write_store(path, smooth, meta_of(prepared))
    region = (slice(30, 70), slice(33, 63), slice(100, 150))
    content = bytearray(path.read_bytes())
    blocks, size = block_bytes(path)
    own = [where for first, where in blocks if reaches(first, size, region)]
    for first, where in blocks:
        if not reaches(first, size, region):
            content[where] = NO_LENGTH * (where.stop - where.start)
    assert 0 < len(own) < 0.1 * len(blocks)
    path.write_bytes(bytes(content))
    np.testing.assert_array_equal(read_store(path, region), smooth[region])
    content[own[0]] = NO_LENGTH * (own[0].stop - own[0].start)
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_store(path, region)


def test_a_training_patch_decodes_at_most_30_percent_of_a_volume(prepared, tmp_path):
    shape, patch = (192, 256, 256), (96, 128, 128)
    path = tmp_path / "ct.b2nd"
    write_store(path, np.zeros(shape, np.int16), meta_of(prepared))
    stored = blosc2.open(str(path))
    # Every offset is as likely as any other, along each axis for itself.
    share = [
        np.mean([(o + p - 1) // b - o // b + 1 for o in range(n - p + 1)]) * b / n
        for n, p, b in zip(shape, patch, stored.blocks, strict=True)
    ]
    assert np.prod(share) <= 0.30


def test_a_store_of_other_chunks_and_blocks_is_read_as_well(stored, prepared, tmp_path):
    other = tmp_path / "other.b2nd"
    copy = blosc2.asarray(
        prepared.array, urlpath=str(other), chunks=(64, 128, 128), blocks=(8, 64, 64)
    )
    original = blosc2.open(str(stored))
    copy.schunk.vlmeta["uvlm"] = original.schunk.vlmeta["uvlm"]
    assert read_meta(other) == meta_of(prepared)
    np.testing.assert_array_equal(read_store(other), prepared.array)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes by /proc/self/io")
def test_a_small_region_reads_a_small_part_of_the_file(stored):
    def bytes_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    handle = StoredArray(stored)
    before = bytes_read()
    handle[0:8, 0:64, 0:64]
    assert bytes_read() - before < 0.1 * stored.stat().st_size


def test_an_altered_voxel_is_noticed_when_the_whole_is_read(stored, prepared):
    array = blosc2.open(str(stored), mode="a")
    array[5, 6, 7] = prepared.array[5, 6, 7] + 1
    with pytest.raises(ImageError, match="does not match its checksum"):
        read_store(stored)


@pytest.mark.parametrize("keep", [0, 10, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused_even_for_a_region(stored, keep):
    content = stored.read_bytes()
    size = int(keep * len(content)) if isinstance(keep, float) else keep
    stored.write_bytes(content[:size])
    with pytest.raises(ImageError, match=r"train_1_a_1\.b2nd: .*(not a Blosc2 file|bytes of)"):
        read_store(stored, (slice(0, 1), slice(0, 1), slice(0, 1)))


def test_files_that_are_no_stored_volume_are_refused(tmp_path):
    text = tmp_path / "text.b2nd"
    text.write_text("a text file that is named like an array")
    with pytest.raises(ImageError, match="not a Blosc2 file"):
        read_store(text)
    with pytest.raises(ImageError, match="no such file"):
        read_store(tmp_path / "absent.b2nd")
    flat = tmp_path / "flat.b2nd"
    blosc2.asarray(np.zeros((4, 5)), urlpath=str(flat))
    with pytest.raises(ImageError, match=r"shape \(4, 5\)"):
        read_store(flat)
    raw = tmp_path / "raw.b2nd"
    blosc2.SChunk(data=b"1234" * 100, urlpath=str(raw))
    with pytest.raises(ImageError, match="without a shape"):
        read_store(raw)


@pytest.mark.parametrize(
    "entry", ["not JSON", json.dumps({"format": 99}), json.dumps({"format": 1, "kind": "image"})]
)
def test_unreadable_metadata_are_refused(tmp_path, entry):
    path = tmp_path / "ct.b2nd"
    array = blosc2.asarray(np.zeros((2, 3, 4), np.int16), urlpath=str(path))
    array.schunk.vlmeta["uvlm"] = entry
    with pytest.raises(ImageError, match="metadata"):
        read_meta(path)


def test_files_of_other_software_load_with_a_warning(tmp_path, caplog):
    volume = np.random.default_rng(0).normal(size=(19, 25, 26)).astype(np.float32)
    packed, plain = tmp_path / "packed.b2nd", tmp_path / "plain.b2nd"
    blosc2.save_array(volume, str(packed), mode="w")
    blosc2.asarray(volume, urlpath=str(plain), mode="w")
    for path in (packed, plain):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert read_meta(path) is None
        assert "preprocessing is unknown" in caplog.text
        np.testing.assert_array_equal(read_store(path), volume)
        np.testing.assert_array_equal(StoredArray(path)[3:5, :, 7:9], volume[3:5, :, 7:9])


def test_writing_the_same_again_changes_nothing(stored, prepared):
    before = stored.stat().st_mtime_ns
    write_store(stored, prepared.array, meta_of(prepared))
    assert stored.stat().st_mtime_ns == before


def test_another_file_is_never_overwritten(stored, prepared):
    before = stored.read_bytes()
    with pytest.raises(ImageError, match="another file has this name"):
        write_store(stored, prepared.array + 1, meta_of(prepared))
    assert stored.read_bytes() == before
    stored.write_text("notes")
    with pytest.raises(ImageError, match="another file has this name"):
        write_store(stored, prepared.array, meta_of(prepared))
    assert stored.read_text() == "notes"


def test_a_failed_write_leaves_nothing(prepared, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("uvlm.imaging.store.os.replace", full)
    with pytest.raises(ImageError, match="no space left"):
        write_store(tmp_path / "ct.b2nd", prepared.array, meta_of(prepared))
    assert list(tmp_path.iterdir()) == []


def test_a_volume_smaller_than_a_chunk_is_stored(prepared, tmp_path):
    path = tmp_path / "tiny.b2nd"
    array = np.arange(2 * 3 * 5, dtype=np.int16).reshape(2, 3, 5)
    write_store(path, array, meta_of(prepared))
    np.testing.assert_array_equal(read_store(path), array)
