"""Made studies in ReXGroundingCT's layout: whole, true, with the quirks of the real ones."""

from __future__ import annotations

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
from tests.preprocessing.rexgrounding_factory import make

from uvlm.imaging.geometry import orientation_code
from uvlm.imaging.readers import read_volume
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.layouts import writer_of
from uvlm.phantom.rexgrounding import LESIONS, write
from uvlm.text.sides import sides_in


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def tables(made):
    names = ("dataset.json", "MICCAI_challenge_dataset.json")
    return [json.loads((made[1] / name).read_text()) for name in names]


@pytest.fixture(scope="module")
def entries(tables):
    """Name to entry, of all splits."""
    return {e["name"]: e for table in tables for split in table.values() for e in split}


def test_the_layout_is_known_to_the_command():
    assert writer_of("rexgrounding") is write


def test_every_study_with_a_lesion_is_in_one_split(made, tables, entries):
    with_lesion = set()
    for mask in (made[0] / "dataset/ts_seg").rglob("*.nii.gz"):
        drawn = [CHEST_CLASSES[name] for name in LESIONS]
        if np.isin(read_volume(mask, labels=True).array, drawn).any():
            with_lesion.add(mask.name)
    assert set(entries) == with_lesion
    train = {entry["name"] for entry in tables[0]["train"]}
    val, test = ({entry["name"] for entry in tables[1][split]} for split in ("val", "test"))
    assert min(len(train), len(val), len(test)) > 0
    assert len(train | val | test) == len(train) + len(val) + len(test)
    assert {e["name"] for e in tables[0]["val"]} <= val


def test_studies_have_masks_but_for_the_test(made, tables, entries):
    test = {entry["name"] for entry in tables[1]["test"]}
    stacks = {path.name for path in (made[1] / "segmentations").iterdir()}
    assert stacks == set(entries) - test


def test_each_finding_has_a_category_and_a_mask_of_as_many_voxels(made, entries):
    for path in (made[1] / "segmentations").iterdir():
        entry = entries[path.name]
        assert entry["findings"].keys() == entry["categories"].keys() == entry["pixels"].keys()
        stack = np.asarray(nib.load(path).dataobj)
        stack = np.moveaxis(stack, -1, 0) if stack.shape[-1] == len(entry["findings"]) else stack
        counts = [int((mask > 0).sum()) for mask in stack]
        assert counts == list(entry["pixels"].values())
        assert [int(mask.max()) for mask in stack] == list(entry["entity_counts"].values())


def test_half_of_the_affines_say_nothing_and_the_findings_are_first_or_last(made):
    kinds = set()
    for path in (made[1] / "segmentations").iterdir():
        image = nib.load(path)
        kinds.add((np.array_equal(image.affine, np.eye(4)), image.shape[-1] < image.shape[0]))
    assert kinds == {(False, False), (True, True), (False, True), (True, False)}


def test_images_are_whole_studies_of_ct_rate_in_lps(made):
    chest, rex = made
    for folder in ("metadata", "radiology_text_reports", "multi_abnormality_labels"):
        assert (rex / "ct_rate/dataset" / folder).is_dir()
    assert (rex / "ct_rate/dataset/source.txt").is_file()
    images = sorted((rex / "ct_rate/dataset").glob("*_fixed/**/*.nii.gz"))
    assert len(images) == 8
    for path in images:
        there = chest / path.relative_to(rex / "ct_rate")
        one, other = read_volume(path), read_volume(there)
        assert orientation_code(one.affine) == "LPS"
        assert one.array.sum(dtype=np.int64) == other.array.sum(dtype=np.int64)


def test_structures_of_a_study_do_not_overlap_and_the_lobes_hold_the_lesions(made):
    folder = next((made[1] / "anatomy/totalsegmentator").iterdir())
    masks = {p.name: read_volume(p, labels=True).array for p in folder.iterdir()}
    assert np.sum([mask > 0 for mask in masks.values()], axis=0).max() == 1
    assert not masks["spleen.nii.gz"].any()
    lungs = sum(mask.sum() for name, mask in masks.items() if name.startswith("lung_"))
    (source,) = (made[0] / "dataset/ts_seg").rglob(f"{folder.name}.nii.gz")
    drawn = read_volume(source, labels=True).array
    assert lungs >= np.isin(drawn, range(1, 6)).sum()


def test_texts_of_split_findings_name_one_side(entries):
    said = [text for entry in entries.values() for text in entry["findings"].values()]
    split = [text for text in said if text.endswith(("in the left lung.", "in the right lung."))]
    assert split
    assert all(len(sides_in(text)) == 1 for text in split)


def test_equal_seeds_give_equal_files(made, tmp_path):
    write(made[0], tmp_path, seed=3)

    def digests(root):
        return {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*")
            if path.is_file()
        }

    assert digests(tmp_path) == digests(made[1])
