"""A ReXGroundingCT folder becomes studies whose lesions are where they were drawn."""

from __future__ import annotations

import argparse
import json
import shutil

import numpy as np
import pytest

from tests.preprocessing.rexgrounding_factory import make
from uvlm.errors import CatalogError, ConfigError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import PreprocessSpec, grid_of, prepare_labels
from uvlm.imaging.readers import read_volume
from uvlm.phantom.classes import CHEST_CLASSES
from uvlm.phantom.rexgrounding import LESIONS as DRAWN
from uvlm.preprocessing.sources import rexgrounding
from uvlm.preprocessing.sources.rexgrounding import list_rexgrounding
from uvlm.preprocessing.sources.rexgrounding_classes import CLASSES, LESIONS

SPEC = PreprocessSpec(shape=(64, 128, 128))
"""Twice the voxels along each axis, so that none is copied more often than another."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def rex(made, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(made[1], tmp_path / "rex")


def listed(rex, **how):
    return list_rexgrounding(rex, rex / "ct_rate", rex / "anatomy", **how)


def ids(listing):
    return [study.series_id for study in listing.studies]


def tables(rex):
    """(path, content) of both."""
    paths = [rex / name for name in ("dataset.json", "MICCAI_challenge_dataset.json")]
    return [(path, json.loads(path.read_text())) for path in paths]


def change(rex, series_id, **values):
    for path, table in tables(rex):
        for entry in (each for split in table.values() for each in split):
            if entry["name"] == f"{series_id}.nii.gz":
                entry.update(values)
        path.write_text(json.dumps(table))


def centroid(array, affine):
    """LPS mm of the voxels that are True, or None."""
    where = np.argwhere(array)[:, ::-1]
    return affine[:3, :3] @ where.mean(0) + affine[:3, 3] if len(where) else None


def truth(chest, series_id):
    """Value of a lesion to its drawn centroid, from the mask that the phantom was made with."""
    (path,) = (chest / "dataset/ts_seg").rglob(f"{series_id}.nii.gz")
    mask = read_volume(path, labels=True)
    places = {}
    # Linear atelectasis is another category than the passive one.
    for code in {code for code, _, _ in DRAWN.values()} - {"2a", "2b"}:
        drawn = [CHEST_CLASSES[name] for name, each in DRAWN.items() if each[0] == code]
        places[LESIONS[code]] = centroid(np.isin(mask.array, drawn), mask.affine)
    return places


def test_lesions_stay_where_they_were_drawn(made):
    """Through every quirk of the files, to the prepared grid, within 1 % of the field of view."""
    chest, rex = made
    flips, compared = set(), 0
    for study in listed(rex).studies:
        image = study.image.read()
        mask = study.mask.read(image)
        flips |= {flip for flip in ("'none'", "'xy'") if f"flip {flip}" in " ".join(mask.notes)}
        prepared = prepare_labels(mask.volume, SPEC)
        affine = np.array(grid_of(image, SPEC).affine)
        field = np.array(image.shape[::-1]) * np.array(image.spacing[::-1])
        for value, drawn in truth(chest, study.series_id).items():
            read = centroid(mask.volume.array == value, image.affine)
            kept = centroid(prepared == value, affine)
            assert (read is None) == (drawn is None)
            if drawn is not None and read is not None and kept is not None:
                assert np.abs(read - drawn).max() < 0.01
                assert (np.abs(kept - drawn) < 0.01 * field).all()
                compared += 1
    assert flips == {"'none'", "'xy'"}
    assert compared > 10


def test_sides_named_in_the_texts_are_those_of_the_masks(made):
    statements = [
        said
        for study in list_rexgrounding(made[1], made[1] / "ct_rate").studies
        for said in study.mask.read(study.image.read()).statements
    ]
    for side, whole in (("left", 1.0), ("right", 0.0)):
        named = [s.left_share for s in statements if s.text.endswith(f"in the {side} lung.")]
        assert named
        assert named == pytest.approx([whole] * len(named), abs=0.05)


def test_every_class_of_the_anatomy_is_read(made):
    found = set()
    for study in listed(made[1]).studies[:2]:
        found |= set(np.unique(study.mask.read(study.image.read()).volume.array).tolist())
    names = ("Heart", "Aorta", "Liver", "Spine", "Ribs", "Trachea and Airway", "Esophagus")
    assert {CLASSES[name] for name in names} | set(range(10, 15)) <= found


def test_splits_are_those_of_the_tables(made):
    listing = listed(made[1])
    (_, first), (_, second) = tables(made[1])
    names = {split: {e["name"] for t in (first, second) for e in t.get(split, [])} for split in (
        "train", "val", "test",
    )}  # fmt: skip
    splits = {f"{study.series_id}.nii.gz": study.split for study in listing.studies}
    excluded = {f"{each.series_id}.nii.gz": each.reason for each in listing.excluded}
    scored = {name for name in names["train"] if name.startswith("valid_")}
    assert scored
    assert {name for name, split in splits.items() if split == "train"} == names["train"] - scored
    assert {name for name, split in splits.items() if split == "valid"} == names["val"]
    assert excluded == (
        dict.fromkeys(names["test"], "the masks of the test studies are not published")
        | dict.fromkeys(scored, "CT-RATE validates on it, so that no other task may train on it")
    )


def test_what_must_stay_out_of_ct_rates_training_is_written_and_said(made):
    listing = listed(made[1])
    header, *rows = listing.tables["held_out.csv"]
    assert header == ("series_id", "patient_id")
    held_out = {
        entry["name"].removesuffix(".nii.gz")
        for _, table in tables(made[1])
        for split in ("val", "test")
        for entry in table.get(split, [])
    }
    assert {row[0] for row in rows} == held_out
    assert all(series.startswith(f"{patient}_") for series, patient in rows)
    assert "--held-out held_out.csv" in listing.warnings[0]


def test_findings_are_a_table(made):
    header, *rows = listed(made[1]).study_tables["findings.csv"]
    assert header == ("series_id", "finding", "category", "text")
    entry = json.loads((made[1] / "dataset.json").read_text())["train"][0]
    series = entry["name"].removesuffix(".nii.gz")
    for index, text in entry["findings"].items():
        assert (series, index, entry["categories"][index], text) in rows


def test_another_scan_of_a_held_out_patient_is_not_trained_on(rex):
    path, table = tables(rex)[0]
    held_out = table["test"][0]["name"]
    other = table["train"][0]["name"]
    renamed = held_out.replace("_a_1", "_b_1")
    table["train"][0]["name"] = renamed
    path.write_text(json.dumps(table))
    (rex / "segmentations" / other).rename(rex / "segmentations" / renamed)
    flat = rex / "flat"
    flat.mkdir()
    for image in (rex / "ct_rate").rglob("*.nii.gz"):
        shutil.copy(image, flat / image.name.replace(other, renamed))
    listing = list_rexgrounding(rex, flat)
    reasons = {each.series_id: each.reason for each in listing.excluded}
    series = renamed.removesuffix(".nii.gz")
    assert "another scan of the patient is in the test split" in reasons[series]
    assert series not in ids(listing)


def test_missing_files_are_recorded_and_the_rest_goes_on(rex):
    first, second, third, *rest = ids(listed(rex))
    (rex / "segmentations" / f"{first}.nii.gz").unlink()
    next((rex / "ct_rate").rglob(f"{second}.nii.gz")).unlink()
    shutil.rmtree(rex / "anatomy/totalsegmentator" / third)
    listing = listed(rex)
    assert ids(listing) == rest
    errors = {each.series_id: each.error for each in listing.rejected}
    assert "no masks: there is no" in errors[first]
    assert "no image of this series" in errors[second]
    assert "no anatomy" in errors[third]


def test_a_missing_airway_is_recorded_where_others_have_one(rex):
    first = ids(listed(rex))[0]
    (rex / "anatomy/atm22" / f"{first}.nii.gz").unlink()
    (rejected,) = listed(rex).rejected
    assert (rejected.series_id, "atm22" in rejected.error) == (first, True)


def test_a_folder_that_lacks_what_others_have_is_recorded(rex):
    first, second, *rest = ids(listed(rex))
    for series, names in ((first, ("heart", "aorta")), (second, ("thyroid_gland",))):
        for name in names:
            (rex / "anatomy/totalsegmentator" / series / f"{name}.nii.gz").unlink()
    listing = listed(rex)
    assert ids(listing) == [second, *rest]
    (rejected,) = listing.rejected
    assert rejected.series_id == first
    assert "lacks aorta and 1 more, which other studies have" in rejected.error


def test_findings_of_no_class_are_counted(rex):
    assert not any("14 categories" in warning for warning in listed(rex).warnings)
    entry = json.loads((rex / "dataset.json").read_text())["train"][0]
    series = entry["name"].removesuffix(".nii.gz")
    change(rex, series, categories={**entry["categories"], "0": "ground glas"})
    (warning,) = [each for each in listed(rex).warnings if "14 categories" in each]
    assert warning.startswith("1 of ")
    assert "'ground glas' 1" in warning


def test_vessels_of_hipas_are_found_in_both_layouts(rex):
    whole = listed(rex)
    for n, series in enumerate([each.series_id for each in (*whole.studies, *whole.excluded)]):
        for name in ("artery", "vein"):
            target = rex / "anatomy/hipas" / (
                f"{series}/{name}.nii.gz" if n % 2 else f"{series}_{name}.nii.gz"
            )  # fmt: skip
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(rex / f"anatomy/atm22/{series}.nii.gz", target)
    listing = listed(rex)
    assert not listing.rejected
    assert not any("hipas" in warning for warning in listing.warnings)
    study = listing.studies[0]
    assert [file.name for file in study.mask.files][-3:] == [
        f"{study.series_id}_artery.nii.gz",
        f"{study.series_id}_vein.nii.gz",
        f"{study.series_id}.nii.gz",
    ]


def test_totalsegmentator_may_have_written_one_file_per_study(rex):
    total = rex / "anatomy/totalsegmentator"
    studies = listed(rex).studies[:2]
    before = {s.series_id: s.mask.read(s.image.read()).volume.array for s in studies}
    names = {"1": "lung_upper_lobe_left", "2": "heart", "3": "thyroid_gland"}
    (total / "labels.json").write_text(json.dumps(names))
    for folder in [path for path in total.iterdir() if path.is_dir()]:
        parts = [read_volume(folder / f"{name}.nii.gz", labels=True) for name in names.values()]
        merged = sum(part.array * value for value, part in enumerate(parts, 1))
        shutil.rmtree(folder)
        write_nifti(total / f"{folder.name}.nii.gz", merged.astype(np.uint8), parts[0].affine)
    for study in listed(rex).studies[:2]:
        after = study.mask.read(study.image.read()).volume.array
        for name in ("Lung upper lobe L", "Heart"):
            expected = before[study.series_id] == CLASSES[name]
            np.testing.assert_array_equal(after == CLASSES[name], expected)
        assert CLASSES["Liver"] not in after
    (total / "labels.json").write_text('{"1": "lung_upper_lobe_lft"}')
    with pytest.raises(CatalogError, match="lung_upper_lobe_lft"):
        listed(rex)
    (total / "labels.json").unlink()
    with pytest.raises(CatalogError, match=r"labels\.json"):
        listed(rex)


def test_without_anatomy_there_are_the_lesions_alone_and_a_warning(made):
    _, rex = made
    listing = list_rexgrounding(rex, rex / "ct_rate")
    assert [scope.name for scope in listing.scopes] == ["lesions"]
    assert any("14 lesion classes only" in warning for warning in listing.warnings)
    study = listing.studies[0]
    values = set(np.unique(study.mask.read(study.image.read()).volume.array)) - {0}
    assert values <= set(listing.scopes[0].table)
    with pytest.raises(ConfigError, match="needs --anatomy"):
        list_rexgrounding(rex, rex / "ct_rate", scopes=["coarse"])


def test_scopes_come_in_the_order_asked_for(made):
    listing = listed(made[1], scopes=["coarse", "fine+lesions", "coarse"])
    assert [scope.name for scope in listing.scopes] == ["coarse", "fine+lesions"]


def test_names_that_are_not_ct_rates_are_found_in_a_plain_folder(rex):
    old = ids(listed(rex))[0]
    change(rex, old, name="hospital-7.nii.gz")
    for path in (rex / "segmentations" / f"{old}.nii.gz", rex / f"anatomy/atm22/{old}.nii.gz"):
        path.rename(path.with_name("hospital-7.nii.gz"))
    (rex / "anatomy/totalsegmentator" / old).rename(rex / "anatomy/totalsegmentator/hospital-7")
    image = next((rex / "ct_rate").rglob(f"{old}.nii.gz"))
    image.rename(rex / "ct_rate/hospital-7.nii.gz")
    study = next(s for s in listed(rex).studies if s.series_id == "hospital-7")
    assert (study.case_id, study.patient_id) == ("hospital-7", "hospital-7")
    assert study.mask.read(study.image.read()).statements


def test_a_name_that_leaves_the_folder_is_rejected(rex):
    change(rex, ids(listed(rex))[0], name="../../secret.nii.gz")
    (rejected,) = listed(rex).rejected
    assert "could not be a file name" in rejected.error


def test_studies_without_a_usable_finding_are_left_out(rex):
    first, second, *_ = ids(listed(rex))
    change(rex, first, findings={}, categories={})
    codes = json.loads((rex / "dataset.json").read_text())["train"]
    entry = next((e for e in codes if e["name"] == f"{second}.nii.gz"), codes[1])
    change(rex, second, categories=dict.fromkeys(entry["categories"], "3a"))
    reasons = {each.series_id: each.reason for each in listed(rex).excluded}
    assert reasons[first] == "it has no finding"
    assert reasons[second] == "none of its findings is of the 14 categories"


def test_ct_rate_version_1_gives_the_same_masks(made, tmp_path):
    from uvlm.phantom.ct_rate_v1 import write as write_v1

    chest, rex = made
    write_v1(chest, tmp_path, 0)
    old = list_rexgrounding(rex, tmp_path, rex / "anatomy")
    new = listed(rex)
    for one, two in list(zip(old.studies, new.studies, strict=True))[:2]:
        masks = [study.mask.read(study.image.read()).volume.array for study in (one, two)]
        np.testing.assert_array_equal(*masks)


def test_the_command_line_asks_for_the_same(made):
    _, rex = made
    parser = argparse.ArgumentParser()
    rexgrounding.add_arguments(parser)
    words = [str(rex), "--images", str(rex / "ct_rate"), "--anatomy", str(rex / "anatomy")]
    listing = rexgrounding.list_studies(parser.parse_args([*words, "--scopes", "coarse"]))
    assert listing == listed(rex, scopes=("coarse",))


def test_a_mask_turned_against_the_users_word_ends_elsewhere(made):
    """What `--mask-flip none` does to a turned mask: the reason for deciding by study."""
    _, rex = made
    right = list_rexgrounding(rex, rex / "ct_rate")
    wrong = list_rexgrounding(rex, rex / "ct_rate", mask_flip="none")
    same = set()
    for one, two in zip(right.studies, wrong.studies, strict=True):
        image = one.image.read()
        masks = [study.mask.read(image).volume.array for study in (one, two)]
        same.add(np.array_equal(*masks))
    assert same == {True, False}


@pytest.mark.parametrize("what", ["images", "anatomy"])
def test_folders_that_are_not_there_are_refused(rex, what):
    given = {"images": rex / "ct_rate", "anatomy": rex / "anatomy", what: rex / "nowhere"}
    with pytest.raises(CatalogError, match="nowhere"):
        list_rexgrounding(rex, **given)
