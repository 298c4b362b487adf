"""A mask comes to lie on its image's voxels, or is refused with both files named."""

from __future__ import annotations

import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvlm.errors import ConfigError, ImageError
from uvlm.imaging.geometry import Reorientation, to_lps
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.masks import (
    MaskFile,
    Structure,
    StructureFolder,
    align,
    bounding_box,
    values_in,
)

TURNS = [
    Reorientation(order, flip)  # type: ignore[arg-type]
    for order in itertools.permutations(range(3))
    for flip in itertools.product((False, True), repeat=3)
]
OBLIQUE = np.array(
    [[0.7, 0.1, 0.3, -90], [-0.12, 0.69, 0.2, 40], [-0.05, -0.08, 1.4, 7], [0, 0, 0, 1]], np.float64
)


def volume(array, affine=None, path="mask.nii.gz") -> Volume:
    source = Provenance(path=path, format="nifti", checksum="0")
    affine = np.diag([0.7, 0.8, 2.5, 1.0]) if affine is None else affine
    return Volume(array=array, affine=affine, provenance=source)


def numbered(shape=(3, 4, 5)):
    return (np.arange(np.prod(shape)).reshape(shape) % 200 + 1).astype(np.uint8)


def turned(source: Volume, turn: Reorientation) -> Volume:
    return replace(
        source,
        array=turn.apply(source.array),
        affine=turn.affine(source.affine, source.shape),
    )


@pytest.mark.parametrize("affine", [None, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_all_48_orientations_come_back_to_the_image(turn, affine):
    image = volume(numbered(), affine, "ct.nii.gz")
    mask = turned(replace(image, array=numbered()), turn)
    aligned, notes = align(mask, image)
    np.testing.assert_array_equal(aligned.array, numbered())
    np.testing.assert_array_equal(aligned.affine, image.affine)
    assert len(notes) == (turn != TURNS[0])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(TURNS),
    st.sampled_from(TURNS),
    st.tuples(*[st.floats(-0.02, 0.02)] * 3),
)
def test_any_pair_of_orientations_aligns_within_the_tolerance(first, second, shift):
    base = volume(numbered((2, 3, 4)), OBLIQUE)
    image, mask = turned(base, first), turned(base, second)
    moved = mask.affine.copy()
    moved[:3, 3] += shift
    aligned, _ = align(replace(mask, affine=moved), image)
    np.testing.assert_array_equal(aligned.array, image.array)


def thin(spacing, shape=(2, 512, 512)) -> Volume:
    """A wide volume, its first voxel at 0."""
    return volume(np.ones(shape, np.uint8), np.diag([spacing, spacing, 2.5, 1.0]))


@pytest.mark.parametrize("spacing", [0.7031, 0.703, 0.7035])
def test_a_rounded_spacing_is_seen_through_and_noted(spacing):
    image = thin(0.703125)
    aligned, notes = align(thin(spacing), image)
    np.testing.assert_array_equal(aligned.affine, image.affine)
    assert ("rounded" in "".join(notes)) == (spacing != 0.7031)


@pytest.mark.parametrize("spacing", [0.702, 0.7045, 0.71])
def test_a_spacing_that_no_rounding_explains_is_refused(spacing):
    with pytest.raises(ImageError, match="mm away"):
        align(thin(spacing), thin(0.703125))


def moved_by(mm):
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[0, 3] = mm
    return affine


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (volume(numbered(), moved_by(0.06)), "0.06 mm away"),
        (volume(numbered(), moved_by(2.0)), "2.00 mm away"),
        (volume(numbered(), np.diag([0.7, 0.8, 2.4, 1.0])), "mm away"),
        (volume(numbered(), np.diag([0.35, 0.8, 2.5, 1.0])), "mm away"),
        (volume(numbered((2, 4, 5))), r"\(2, 4, 5\) voxels.*centres are 1.2 mm apart"),
        (volume(numbered((5, 4, 3))), r"\(5, 4, 3\) voxels"),
        (volume(numbered(), OBLIQUE), "mm away"),
    ],
    ids=["nearly", "shift", "spacing", "half spacing", "crop", "other shape", "rotated"],
)
def test_another_grid_is_refused_naming_both_files(mask, message):
    image = volume(numbered(), path="ct.nii.gz")
    with pytest.raises(ImageError, match=message) as error:
        align(mask, image)
    assert "mask.nii.gz" in str(error.value)
    assert "ct.nii.gz" in str(error.value)
    assert "Resample" in str(error.value)


def test_a_mirrored_patient_is_not_a_turned_axis():
    """Same axes code, other place: flipping it would swap left and right."""
    image = volume(numbered(), path="ct.nii.gz")
    flip = Reorientation((0, 1, 2), (False, False, True))
    wrong = replace(image, array=flip.apply(image.array), affine=np.diag([-0.7, 0.8, 2.5, 1]))
    with pytest.raises(ImageError, match="away"):
        align(wrong, image)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), max_size=6))
def test_box_and_values_equal_brute_force(points):
    array = np.zeros((4, 5, 6), np.uint8)
    for k, point in enumerate(sorted(points), start=1):
        array[point] = k
    assert values_in(array) == tuple(np.unique(array[array > 0]))
    turned = bounding_box(TURNS[30].apply(array))
    box = bounding_box(array)
    if not points:
        assert box is None
        return
    for axis, part in enumerate(box):
        inside = [point[axis] for point in points]
        assert (part.start, part.stop) == (min(inside), max(inside) + 1)
    np.testing.assert_array_equal(TURNS[30].apply(array)[turned].sum(), array.sum())
    assert sorted(p.stop - p.start for p in turned) == sorted(p.stop - p.start for p in box)


@pytest.fixture
def image() -> Volume:
    return volume(np.zeros((4, 5, 6), np.int16), path="ct.nii.gz")


def write(path: Path, array, affine=None) -> Path:
    write_nifti(path, array, np.diag([0.7, 0.8, 2.5, 1.0]) if affine is None else affine)
    return path


def test_a_file_of_known_values_is_read(tmp_path, image):
    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 2, 3] = 4
    source = MaskFile(write(tmp_path / "m.nii.gz", array), (1, 4))
    mask = source.read(image)
    np.testing.assert_array_equal(mask.volume.array, array)
    assert source.files == (tmp_path / "m.nii.gz",)
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_file_with_unknown_values_names_them(tmp_path, image):
    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 2, 3:] = (4, 7, 9)
    path = write(tmp_path / "m.nii.gz", array)
    with pytest.raises(ImageError, match=r"m.nii.gz: holds the values \[7, 9\].*1 to 4"):
        MaskFile(path, (1, 2, 3, 4)).read(image)


def test_a_file_without_any_structure_is_refused(tmp_path, image):
    path = write(tmp_path / "m.nii.gz", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(ImageError, match="no structure"):
        MaskFile(path, (1,)).read(image)


ORGANS = (
    Structure(name="liver", value=1),
    Structure(name="stomach", value=2),
    Structure(name="liver_segment_1", value=3, rank=1),
    Structure(name="liver_lesion", value=4, rank=2),
    Structure(name="liver_cyst", value=4, rank=2),
)


def box_mask(value=1, **box):
    array = np.zeros((4, 5, 6), np.uint8)
    array[:, :, box.get("start", 0) : box.get("stop", 6)] = value
    return array


def folder_of(path: Path, **arrays) -> StructureFolder:
    path.mkdir(exist_ok=True)
    for name, array in arrays.items():
        write(path / f"{name}.nii.gz", array)
    return StructureFolder(folder=path, structures=ORGANS)


def row(mask):
    return mask.volume.array[0, 0].tolist()


def test_lesions_win_over_parts_and_parts_over_organs(tmp_path, image):
    source = folder_of(
        tmp_path / "s",
        liver_lesion=box_mask(start=3, stop=4),
        liver_segment_1=box_mask(start=2, stop=5),
        liver=box_mask(start=1),
    )
    mask = source.read(image)
    assert row(mask) == [0, 1, 3, 4, 3, 1]
    assert mask.volume.array.dtype == np.uint8
    assert mask.notes == ()


def test_within_a_rank_the_later_wins_and_the_overlap_is_noted(tmp_path, image):
    source = folder_of(tmp_path / "s", stomach=box_mask(start=4), liver=box_mask(stop=5))
    mask = source.read(image)
    assert row(mask) == [1, 1, 1, 1, 2, 2]
    assert mask.notes == (
        "Structures overlap and the later of each pair was kept (voxels): liver and stomach: 20.",
    )


def test_structures_of_one_value_join_without_a_note(tmp_path, image):
    source = folder_of(tmp_path / "s", liver_lesion=box_mask(stop=3), liver_cyst=box_mask(stop=4))
    mask = source.read(image)
    assert row(mask) == [4, 4, 4, 4, 0, 0]
    assert mask.notes == ()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_merging_equals_the_slow_way(data):
    """Voxel by voxel: the highest rank, then the latest of the list."""
    import tempfile

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    structures = tuple(
        Structure(name=f"s{k}", value=k + 1, rank=int(rng.integers(0, 3))) for k in range(4)
    )
    arrays = {each.name: (rng.random((2, 3, 4)) < 0.4).astype(np.uint8) for each in structures}
    arrays["s0"][0, 0, 0] = 1
    wanted = np.zeros((2, 3, 4), int)
    for at in np.ndindex(2, 3, 4):
        here = [
            (each.rank, k, each.value) for k, each in enumerate(structures) if arrays[each.name][at]
        ]
        wanted[at] = max(here, default=(0, 0, 0))[2]
    with tempfile.TemporaryDirectory() as name:
        for key, array in arrays.items():
            write(Path(name) / f"{key}.nii", array)
        source = StructureFolder(folder=Path(name), structures=structures)
        mask = source.read(volume(np.zeros((2, 3, 4), np.int16)))
    np.testing.assert_array_equal(mask.volume.array, wanted)


def test_files_in_another_orientation_are_turned_with_one_note(tmp_path, image):
    source = folder_of(tmp_path / "s")
    for name, part in (("liver", box_mask(stop=2)), ("stomach", box_mask(start=4))):
        other = turned(volume(part), Reorientation((2, 0, 1), (True, False, True)))
        write(tmp_path / "s" / f"{name}.nii.gz", np.ascontiguousarray(other.array), other.affine)
    mask = source.read(image)
    assert row(mask) == [1, 1, 0, 0, 2, 2]
    assert len(mask.notes) == 1
    assert "turned" in mask.notes[0]


def test_255_is_inside_too_and_an_empty_file_is_fine(tmp_path, image):
    source = folder_of(
        tmp_path / "s", liver=box_mask(255, stop=1), stomach=np.zeros((4, 5, 6), np.uint8)
    )
    assert row(source.read(image)) == [1, 0, 0, 0, 0, 0]


def test_a_file_of_several_structures_is_refused(tmp_path, image):
    several = box_mask(stop=3)
    several[..., 0] = 5
    for k, wrong in enumerate((several, box_mask(2), np.where(several == 5, 255, several))):
        source = folder_of(tmp_path / str(k), liver=wrong.astype(np.uint8))
        with pytest.raises(ImageError, match=r"liver.nii.gz: values up to .* several structures"):
            source.read(image)


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path, image):
    source = folder_of(tmp_path / "s", liver=box_mask(), liver_leson=box_mask())
    with pytest.raises(ImageError, match="'liver_leson' is no known structure"):
        source.read(image)


def test_ignored_hidden_and_other_files_are_passed_over(tmp_path, image):
    source = folder_of(tmp_path / "s", liver=box_mask(), pancreatic_duct=box_mask(7))
    (tmp_path / "s" / "._liver.nii.gz").write_bytes(b"")
    (tmp_path / "s" / "notes.txt").write_text("x")
    assert row(replace(source, ignored=("pancreatic_duct",)).read(image)) == [1] * 6


def test_a_missing_structure_is_noted_only_if_required(tmp_path, image):
    source = folder_of(tmp_path / "s", liver=box_mask())
    assert source.read(image).notes == ()
    required = tuple(replace(each, required=each.name == "stomach") for each in ORGANS)
    mask = replace(source, structures=required).read(image)
    assert mask.notes == ("There is no file for stomach.",)


def test_many_missing_structures_are_one_note(tmp_path, image):
    named = tuple(Structure(name=f"s{k}", value=k, required=True) for k in range(1, 12))
    source = replace(folder_of(tmp_path / "s"), structures=named)
    write(tmp_path / "s" / "s1.nii.gz", box_mask())
    (note,) = source.read(image).notes
    assert note == "There is no file for s2, s3, s4, s5, s6, s7, s8, s9 and 2 more."


def test_one_file_per_organ_makes_the_published_mask_of_all(real_data):
    """117 files of TotalSegmentator and its own multi-label mask of the same CT."""
    folder = real_data / "totalsegmentator"
    names = json.loads((folder / "labels_total_v2.json").read_text())
    organs = tuple(Structure(name=name, value=int(value)) for value, name in names.items())
    ct = read_volume(folder / "example_ct_sm.nii.gz")
    merged = StructureFolder(folder=folder / "example_seg_fast", structures=organs).read(ct)
    whole = read_volume(folder / "example_seg_fast.nii.gz", labels=True)
    np.testing.assert_array_equal(merged.volume.array, align(whole, ct)[0].array)
    assert len(values_in(merged.volume.array)) == 40
    assert merged.notes == ()


@pytest.mark.parametrize("case", ["00015", "00021"])
def test_a_mask_stored_slice_axis_first_comes_back(real_data, case):
    """KiTS masks are stored IPL; a CT of the same grid usually is LPS."""
    mask = read_volume(real_data / f"kits19/case_{case}_segmentation.nii.gz", labels=True)
    wanted, _ = to_lps(mask)
    ct = replace(wanted, array=np.zeros(wanted.shape, np.int16))
    aligned, notes = align(mask, ct)
    np.testing.assert_array_equal(aligned.array, wanted.array)
    assert notes == ("The mask's axes (IPL) were turned to those of the image (LPS).",)


def test_what_holds_no_mask_is_refused(tmp_path, image):
    with pytest.raises(ImageError, match="cannot be read as a folder"):
        StructureFolder(folder=tmp_path / "none", structures=ORGANS).read(image)
    with pytest.raises(ImageError, match=r"no mask file in it.*liver.nii.gz"):
        folder_of(tmp_path / "bare").read(image)
    empty = folder_of(tmp_path / "zeros", liver=np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(ImageError, match="every voxel is 0"):
        empty.read(image)


def test_a_structure_stored_twice_is_refused(tmp_path, image):
    source = folder_of(tmp_path / "s", liver=box_mask())
    write(tmp_path / "s" / "liver.nii", box_mask())
    with pytest.raises(ImageError, match="same structure"):
        source.read(image)


def test_a_structure_on_another_grid_is_refused(tmp_path, image):
    source = folder_of(tmp_path / "s", liver=box_mask())
    write(tmp_path / "s" / "stomach.nii.gz", box_mask(), np.diag([0.7, 0.8, 5, 1]))
    with pytest.raises(ImageError, match=r"stomach.nii.gz.*ct.nii.gz"):
        source.read(image)


@pytest.mark.parametrize(
    "structures",
    [
        (Structure(name="a", value=0),),
        (Structure(name="a", value=256),),
        (Structure(name="a", value=1), Structure(name="a", value=2)),
        (Structure(name="a", value=1), Structure(name="b", value=1, rank=1)),
    ],
)
def test_impossible_tables_are_refused(structures):
    with pytest.raises(ConfigError):
        StructureFolder(folder=Path("x"), structures=structures)
