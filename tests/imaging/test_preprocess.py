"""Preparing keeps places and densities; restoring ends on the source's own grid."""

import json
from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from uvlm.config import from_dict, to_dict
from uvlm.errors import ConfigError, ImageError
from uvlm.imaging.preprocess import (
    Grid,
    PreprocessSpec,
    grid_of,
    prepare,
    prepare_labels,
    preset,
    restore_labels,
    restore_map,
)
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Provenance, Volume

SHAPE = (24, 30, 36)
SMALL = (16, 20, 20)
RESAMPLED = PreprocessSpec(spacing=(3.0, 3.5, 3.5), shape=(40, 34, 34))
SPECS = {
    "paper": preset("paper", SMALL),
    "authors": preset("authors", SMALL),
    "enlarged": preset("paper", (50, 61, 72)),
    "resampled": RESAMPLED,
}


def volume(array, affine):
    return Volume(
        array=array,
        affine=np.asarray(affine, float),
        provenance=Provenance(path="ct.nii.gz", format="nifti", checksum="c0ffee"),
    )


def turned(order=(0, 1, 2), signs=(1, 1, 1), spacing=(2.0, 2.5, 4.0), tilt=0.0, oblique=0.0):
    """An affine whose voxel axes x, y, z run along the world's axes `order`."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign, mm) in enumerate(zip(order, signs, spacing, strict=True)):
        affine[axis, column] = sign * mm
    # A gantry tilt moves slices along y as z grows.
    affine[1, 2] += tilt * affine[2, 2]
    angle = np.radians(oblique)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    rotation[:3, 3] = [-50, 20, 300]
    return rotation @ affine


AFFINES = {
    "lps": turned(),
    "ras": turned(signs=(-1, -1, 1)),
    **{f"order{''.join(map(str, p))}": turned(p, (1, -1, 1)) for p in permutations(range(3))},
    "oblique": turned(oblique=20),
    "tilted": turned(tilt=0.3),
    "tilted and turned": turned((2, 0, 1), (1, -1, -1), tilt=0.0, oblique=12),
}


def blob(shape=SHAPE, centre=(13.0, 11.0, 20.0), width=2.5):
    z, y, x = np.indices(shape)
    squares = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.exp(-squares / (2 * width**2))


def world(affine, zyx):
    return (np.asarray(affine) @ [*reversed(zyx), 1])[:3]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("affine", AFFINES)
def test_a_blob_keeps_its_place_in_the_patient(affine, spec):
    source = volume(np.rint(-1000 + 1500 * blob()).astype(np.int16), AFFINES[affine])
    prepared = prepare(source, SPECS[spec])
    heights = np.maximum(prepared.array + 900.0, 0)
    found = world(prepared.grid.affine, ndimage.center_of_mass(heights))
    # A fifth of a source voxel; the authors' two neighbours sample a shrunken blob coarsely.
    np.testing.assert_allclose(found, world(source.affine, (13, 11, 20)), atol=0.6)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("affine", AFFINES)
def test_a_heat_map_returns_to_the_source_grid_with_its_peak(affine, spec):
    source = volume(np.rint(-1000 + 1500 * blob()).astype(np.int16), AFFINES[affine])
    prepared = prepare(source, SPECS[spec])
    restored = restore_map(prepared.array + 1024.0, prepared.grid)
    assert restored.shape == source.shape
    assert restored.dtype == np.float32
    peak = np.unravel_index(restored.argmax(), restored.shape)
    assert np.abs(np.subtract(peak, (13, 11, 20))).max() <= 1


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("spec", SPECS)
def test_a_mask_returns_to_the_source_grid(affine, spec):
    mask = np.zeros(SHAPE, np.uint8)
    mask[blob() > 0.1] = 3
    mask[blob(centre=(9.0, 22.0, 9.0)) > 0.1] = 200
    source = volume(mask, AFFINES[affine])
    restored = restore_labels(prepare_labels(source, SPECS[spec]), grid_of(source, SPECS[spec]))
    assert restored.shape == source.shape
    assert restored.dtype == np.uint8
    assert set(np.unique(restored)) == {0, 3, 200}
    # Voxels of the small grids are 3 x 1.5 x 1.8 source voxels; the blobs measure 11.
    assert min(dice(restored == label, mask == label) for label in (3, 200)) > 0.85


def test_orientation_of_the_file_does_not_change_what_is_prepared():
    array = np.rint(-1000 + 1500 * blob()).astype(np.int16)
    plain = prepare(volume(array, turned()), SPECS["paper"])
    flipped_affine = turned(signs=(-1, -1, 1))
    flipped = prepare(volume(array[:, ::-1, ::-1], flipped_affine), SPECS["paper"])
    np.testing.assert_array_equal(plain.array, flipped.array)


def test_a_gantry_tilt_is_straightened():
    # A rod along the patient's axis, drawn on slices that are shifted against one another.
    affine = turned(tilt=0.25)
    z, y, x = np.indices(SHAPE)
    y_mm = affine[1, 1] * y + affine[1, 2] * z
    rod = np.exp(-(((y_mm - 50) / 6) ** 2) - ((x - 18) / 3) ** 2)
    array = np.rint(1400 * rod - 1000).astype(np.int16)
    prepared = prepare(volume(array, affine), PreprocessSpec(shape=(24, 48, 36)))
    steps = np.array(prepared.grid.affine)[:3, :3]
    np.testing.assert_allclose(steps, np.diag(np.diag(steps)), atol=1e-9)
    rows = [
        ndimage.center_of_mass(plane + 1000.0)[0] for plane in np.maximum(prepared.array, -1000)
    ]
    assert np.ptp(rows) < 0.1


def test_a_tilted_mask_loses_nothing_where_it_is_enlarged():
    mask = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.uint8)
    source = volume(mask, turned(tilt=0.3))
    spec = preset("paper", (48, 96, 72))
    restored = restore_labels(prepare_labels(source, spec), grid_of(source, spec))
    np.testing.assert_array_equal(restored, mask)


def test_image_and_mask_share_one_grid():
    array = np.where(blob() > 0.1, 400, -1000).astype(np.int16)
    image = prepare(volume(array, AFFINES["tilted and turned"]), RESAMPLED)
    mask = prepare_labels(
        volume((array > 0).astype(np.uint8), AFFINES["tilted and turned"]), RESAMPLED
    )
    assert mask.shape == image.array.shape
    assert dice(image.array > -300, mask > 0) > 0.97


def test_the_authors_preset_is_scipy_zoom_with_aligned_corners():
    array = np.random.default_rng(0).integers(-3024, 3000, (20, 40, 44)).astype(np.int16)
    prepared = prepare(volume(array, turned()), preset("authors", (24, 20, 22)))
    expected = ndimage.zoom(array, (24 / 20, 20 / 40, 22 / 44), order=1)
    # Sums of products that end on .5 round either way.
    assert np.abs(prepared.array.astype(int) - expected).max() <= 1


def test_presets_are_those_of_the_paper_and_of_the_published_code():
    paper, authors = preset("paper"), preset("authors")
    assert paper == PreprocessSpec()
    assert (paper.shape, paper.clip, paper.antialias) == ((192, 256, 256), (-1024, 3071), True)
    assert (authors.clip, authors.antialias, authors.align_corners) == (None, False, True)


def test_padding_does_not_reach_its_neighbours():
    array = np.full((8, 32, 32), 40, np.int16)
    array[:, :, :16] = -3024
    prepared = prepare(volume(array, turned()), preset("paper", (8, 16, 16)))
    assert prepared.array.min() == -1024
    assert prepared.array.max() == 40


def test_a_small_volume_is_padded_with_air_and_a_large_one_cropped_around_its_centre():
    array = np.rint(100 * blob() + 20).astype(np.int16)
    spec = PreprocessSpec(spacing=(4.0, 2.5, 2.0), shape=(40, 20, 36))
    prepared = prepare(volume(array, turned()), spec)
    np.testing.assert_array_equal(prepared.array[8:32], array[:, 5:25])
    assert (prepared.array[:8] == -1024).all()
    assert (prepared.array[32:] == -1024).all()


def test_what_was_cropped_away_comes_back_empty():
    array = np.rint(100 * blob() + 20).astype(np.int16)
    spec = PreprocessSpec(spacing=(4.0, 2.5, 2.0), shape=(24, 20, 36))
    grid = grid_of(volume(array, turned()), spec)
    back = restore_labels(np.ones(spec.shape, np.uint8), grid)
    assert back.shape == SHAPE
    assert back[:, 5:25].all()
    assert not back[:, :5].any()


def test_one_slice_can_be_prepared():
    array = np.random.default_rng(0).integers(-1000, 400, (1, 30, 36)).astype(np.int16)
    for name in ("paper", "authors"):
        prepared = prepare(volume(array, turned()), preset(name, SMALL))
        assert restore_map(prepared.array, prepared.grid).shape == (1, 30, 36)


def test_normalised_has_mean_0_and_deviation_1():
    prepared = prepare(volume(np.rint(-1000 + 1500 * blob()), turned()), SPECS["paper"])
    values = prepared.normalised()
    assert values.dtype == np.float32
    assert abs(values.mean(dtype=np.float64)) < 1e-5
    assert values.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert prepared.mean == pytest.approx(prepared.array.mean(dtype=np.float64))
    assert prepared.std == pytest.approx(prepared.array.std(dtype=np.float64))


def test_without_normalisation_a_model_sees_hu():
    spec = PreprocessSpec(shape=SMALL, normalise="none")
    prepared = prepare(volume(np.rint(-1000 + 1500 * blob()), turned()), spec)
    np.testing.assert_array_equal(prepared.normalised(), prepared.array)


def test_source_is_left_as_it_was():
    array = np.rint(-1000 + 1500 * blob()).astype(np.float32)
    before = array.copy()
    for name in ("lps", "tilted"):
        prepare(volume(array, AFFINES[name]), PreprocessSpec(shape=SHAPE, clip=(-500, 100)))
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_are_refused(bad):
    array = np.rint(-1000 + 1500 * blob()).astype(np.float32)
    array[3, 4, 5] = bad
    with pytest.raises(ImageError, match=r"ct\.nii\.gz: 1 voxels are NaN or infinite"):
        prepare(volume(array, turned()), SPECS["paper"])


def test_a_flat_image_is_refused():
    with pytest.raises(ImageError, match="every voxel has the value -1000 HU"):
        prepare(volume(np.full(SHAPE, -1000, np.int16), turned()), SPECS["paper"])


def test_values_beyond_16_bits_are_refused_unless_clipped():
    array = np.rint(1e5 * blob()).astype(np.float32)
    with pytest.raises(ImageError, match="do not fit 16 bits"):
        prepare(volume(array, turned()), SPECS["authors"])
    assert prepare(volume(array, turned()), SPECS["paper"]).array.max() <= 3071


def test_a_result_of_another_shape_is_refused():
    grid = grid_of(volume(np.zeros(SHAPE, np.uint8), turned()), SPECS["paper"])
    with pytest.raises(ValueError, match=r"expected an array of \(16, 20, 20\)"):
        restore_labels(np.zeros(SHAPE, np.uint8), grid)


def test_equal_specifications_have_equal_hashes():
    spec = PreprocessSpec(clip=(-1000, 1000), spacing=(3, 1, 1))  # type: ignore[arg-type]
    again = from_dict(PreprocessSpec, json.loads(json.dumps(to_dict(spec))))
    assert again == spec
    assert again.hash == spec.hash


def test_every_field_changes_the_hash():
    variants = [
        PreprocessSpec(),
        PreprocessSpec(shape=(96, 256, 256)),
        PreprocessSpec(spacing=(3.0, 1.0, 1.0)),
        PreprocessSpec(antialias=False),
        PreprocessSpec(align_corners=True),
        PreprocessSpec(clip=None),
        PreprocessSpec(normalise="none"),
        PreprocessSpec(normalise="minmax"),
        PreprocessSpec(foreground=True),
    ]
    assert len({spec.hash for spec in variants}) == len(variants)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (0, 1, 1)}, "shape"),
        ({"shape": (8, 8)}, "shape"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "spacing"),
        ({"clip": (100.0, -100.0)}, "clip"),
        ({"clip": (-1e6, 0.0)}, "clip"),
    ],
)
def test_impossible_specifications_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        PreprocessSpec(**change)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="known: paper, authors, hsenet"):
        preset("papers")


def test_a_grid_survives_json():
    grid = grid_of(volume(np.zeros(SHAPE, np.uint8), AFFINES["oblique"]), RESAMPLED)
    assert Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    assert grid.source_spacing == pytest.approx((4.0, 2.5, 2.0))
    assert grid.spacing == pytest.approx((3.0, 3.5, 3.5))
    assert grid.source_checksum == "c0ffee"


def test_a_full_size_mask_survives_the_paper_preset():
    # Organs of 512 x 512 studies: a long thin one, a plate and a ball.
    z, y, x = np.ogrid[:40, :512, :512]
    mask = np.zeros((40, 512, 512), np.uint8)
    mask[(y - 200 - z) ** 2 + (x - 300 + 2 * z) ** 2 < 10**2] = 1
    mask[np.abs(y + x // 2 - 500) + 0 * z < 6] = 2
    mask[(6 * z - 120) ** 2 + (y - 120) ** 2 + (x - 120) ** 2 < 45**2] = 3
    source = volume(mask, turned(spacing=(0.78, 0.78, 5.0)))
    restored = restore_labels(
        prepare_labels(source, preset("paper")), grid_of(source, preset("paper"))
    )
    assert min(dice(restored == label, mask == label) for label in (1, 2, 3)) > 0.95


@pytest.mark.parametrize(
    "name",
    [
        "totalsegmentator/example_seg_fast_force_split.nii.gz",
        "totalsegmentator/example_seg_fast.nii.gz",
        "cip/lm-64.nii.gz",
        "cip/wholeLung-64.nii.gz",
        "kits19/case_00021_segmentation.nii.gz",
    ],
)
def test_real_masks_survive_the_paper_preset(real_data, name):
    source = read_volume(real_data / name, labels=True)
    restored = restore_labels(
        prepare_labels(source, preset("paper")), grid_of(source, preset("paper"))
    )
    sizes = np.bincount(source.array.ravel()) * source.voxel_ml
    organs = [label for label, ml in enumerate(sizes) if label and ml > 10]
    worst = min(dice(restored == label, source.array == label) for label in organs)
    assert worst >= 0.95


def test_a_real_ct_and_its_mask_are_prepared_onto_one_another(real_data):
    folder = real_data / "totalsegmentator"
    image = prepare(read_volume(folder / "example_ct.nii.gz"), preset("paper"))
    mask = prepare_labels(
        read_volume(folder / "example_seg_fast_force_split.nii.gz", labels=True), preset("paper")
    )
    names = json.loads((folder / "labels_total_v2.json").read_text())
    label = {name: int(value) for value, name in names.items()} if "1" in names else names
    liver, lung = (image.array[mask == label[n]] for n in ("liver", "lung_lower_lobe_left"))
    assert 0 < np.median(liver) < 200
    assert np.median(lung) < -500
