"""A user's masks: found, named, numbered, merged, and kept in place."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.preprocessing.sources.test_folder import csv, touch
from uvlm.errors import CatalogError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import grid_of, prepare_labels, preset
from uvlm.imaging.readers import read_volume
from uvlm.preprocessing.masks import MaskFile, StructureFolder
from uvlm.preprocessing.sources.folder import Columns, list_folder

SPEC = preset("paper", (96, 128, 128))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return touch(tmp_path / "in", "a.nii.gz", "deep/er/b.nrrd", "c.d.mha")


@pytest.fixture
def masks(tmp_path: Path, images: Path) -> Path:
    return touch(images / "masks", "a.nii.gz", "deep/er/b.nii.gz")


def test_masks_are_found_by_their_images_names(images, masks):
    (masks / "labels.json").write_text(json.dumps({"2": "liver", "5": "spleen"}))
    listing = list_folder(images, masks=masks)
    (scope,) = listing.scopes
    assert (scope.classes, scope.table) == ({"liver": 1, "spleen": 2}, {2: 1, 5: 2})
    found = {study.series_id: study.mask for study in listing.studies}
    assert found == {
        "a": MaskFile(masks / "a.nii.gz", (2, 5)),
        "b": MaskFile(masks / "deep/er/b.nii.gz", (2, 5)),
        "c.d": None,
    }
    assert "1 of 3 studies have no mask." in listing.warnings


def test_nnunets_dataset_json_names_the_values(images, masks, tmp_path):
    names = tmp_path / "dataset.json"
    names.write_text(json.dumps({"labels": {"background": 0, "liver": 1}, "numTraining": 2}))
    assert list_folder(images, masks=masks, mask_labels=names).scopes[0].classes == {"liver": 1}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"liver": [1, 2]}', '{"1": "a", "2": "a"}', '{"0": "background"}']
)
def test_unusable_names_are_refused(images, masks, tmp_path, text):
    names = csv(tmp_path / "names.json", text)
    with pytest.raises(CatalogError, match=r"names\.json"):
        list_folder(images, masks=masks, mask_labels=names)


def test_mask_files_need_names(images, masks):
    with pytest.raises(CatalogError, match="--mask-labels"):
        list_folder(images, masks=masks)


def test_folders_of_structures_are_merged_with_the_finer_on_top(tmp_path, images):
    folders = ("a/liver.nii.gz", "a/liver_lesion.nii.gz", "b/segmentations/left_lung.nii.gz")
    masks = touch(tmp_path / "masks", *folders)
    listing = list_folder(images, masks=masks)
    assert listing.scopes[0].classes == {"left_lung": 1, "liver": 2, "liver_lesion": 3}
    found = {study.series_id: study.mask for study in listing.studies}
    assert isinstance(found["a"], StructureFolder)
    assert found["a"].folder == masks / "a"
    assert found["b"].folder == masks / "b" / "segmentations"  # type: ignore[union-attr]
    ranks = {each.name: each.rank for each in found["a"].structures}
    assert ranks["liver"] < ranks["left_lung"] < ranks["liver_lesion"]


def test_a_lesion_covers_its_organ(tmp_path):
    array = np.zeros((4, 4, 4), np.uint8)
    write_nifti(tmp_path / "in.nii", (array - 1000.0).astype(np.int16), np.eye(4))
    for name, size in (("liver", 4), ("liver_lesion", 2)):
        (tmp_path / "m" / "in").mkdir(parents=True, exist_ok=True)
        inside = array.copy()
        inside[:size] = 1
        write_nifti(tmp_path / "m" / "in" / f"{name}.nii.gz", inside, np.eye(4))
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "in.nii").rename(root / "in.nii")
    (study,) = list_folder(root, masks=tmp_path / "m").studies
    assert study.mask is not None
    values = study.mask.read(study.image.read()).volume.array
    assert values[:, 0, 0].tolist() == [2, 2, 1, 1]


def test_a_mask_column_leads_to_the_masks(tmp_path, images, masks):
    names = csv(tmp_path / "names.json", '{"1": "liver"}')
    text = "id,seg\na,masks/a.nii.gz\nb,masks\\deep\\er\\b.nii.gz\nc.d,masks/none.nii.gz\n"
    listing = list_folder(
        images, csv(tmp_path / "t.csv", text), columns=Columns(mask="seg"), mask_labels=names
    )
    found = {study.series_id: study.mask for study in listing.studies}
    expected = {"a": masks / "a.nii.gz", "b": masks / "deep/er/b.nii.gz"}
    assert found == {name: MaskFile(path, (1,)) for name, path in expected.items()}
    assert "c.d" in listing.rejected[0].error
    assert listing.excluded == ()


def test_studies_travel_to_other_processes(images, masks):
    (masks / "labels.json").write_text('{"1": "liver"}')
    studies = list_folder(images, masks=masks).studies
    assert pickle.loads(pickle.dumps(studies)) == studies


def centroid(affine: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """LPS mm."""
    z, y, x = np.argwhere(inside).mean(axis=0)
    return (affine @ (x, y, z, 1))[:3]


@pytest.mark.parametrize(
    ("image", "mask", "liver"),
    [
        ("totalsegmentator/example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", 5),
        ("dcmqi/ct-3slice", "liver_spine_seg.nrrd", 1),
    ],
)
def test_real_masks_stay_in_place_to_the_prepared_grid(real_data, tmp_path, image, mask, liver):
    image, mask = real_data / image, real_data / image.split("/")[0] / mask
    for place, target in (("in", image), ("m", mask)):
        (tmp_path / place).mkdir()
        suffix = "" if target.is_dir() else "." + target.name.split(".", 1)[1]
        (tmp_path / place / f"one{suffix}").symlink_to(target)
    names = csv(
        tmp_path / "names.json", json.dumps({value: f"c{value}" for value in range(1, 118)})
    )
    (study,) = list_folder(tmp_path / "in", masks=tmp_path / "m", mask_labels=names).studies
    volume, drawn = study.image.read(), read_volume(mask, labels=True)
    assert study.mask is not None
    prepared = prepare_labels(study.mask.read(volume).volume, SPEC)
    kept = centroid(np.array(grid_of(volume, SPEC).affine), prepared == liver)
    field = np.array(volume.shape[::-1]) * np.array(volume.spacing[::-1])
    assert (np.abs(kept - centroid(drawn.affine, drawn.array == liver)) < 0.01 * field).all()
