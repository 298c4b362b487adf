"""AbdomenAtlas 3.0: what is listed, what is left out and why, and what the masks become."""

from __future__ import annotations

import argparse
import csv
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from uvlm.errors import CatalogError, ConfigError, ImageError
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.phantom.abdomen import ABDOMEN_CLASSES
from uvlm.phantom.make import make_abdomen
from uvlm.preprocessing.masks import StructureFolder
from uvlm.preprocessing.sources.abdomen_atlas import (
    EXTRA_COLUMNS,
    add_arguments,
    list_abdomen_atlas,
    list_studies,
)
from uvlm.preprocessing.sources.abdomen_classes import (
    CLASSES,
    COARSE,
    IGNORED,
    LESIONS,
    SCOPES,
    STRUCTURES,
    VALUES,
    scopes_of,
)
from uvlm.preprocessing.sources.abdomen_masks import masks_of
from uvlm.preprocessing.sources.abdomen_tables import METADATA
from uvlm.registry import ABDOMEN_LABELS


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("abdomen") / "raw"
    make_abdomen(out, studies=6, seed=5, shape=(32, 64, 64), min_prevalence=0.5)
    return out


@pytest.fixture
def atlas(made, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "atlas"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_there_are_41_classes_in_the_order_of_the_phantoms():
    assert dict(VALUES) == ABDOMEN_CLASSES
    assert len(CLASSES) == 41
    assert tuple(LESIONS) == ABDOMEN_LABELS


def test_every_class_is_in_one_coarse_group():
    members = [name for group in COARSE.values() for name in group]
    assert sorted(members) == sorted(CLASSES)


@pytest.mark.parametrize(
    ("name", "count"), [("fine+lesions", 41), ("coarse+lesions", 15), ("coarse", 12)]
)
def test_scopes_number_their_classes_from_one_and_know_every_value(name, count):
    each = SCOPES[name]
    assert list(each.classes.values()) == list(range(1, count + 1))
    assert set(each.table) == set(range(1, 42))
    assert set(each.table.values()) == set(each.classes.values())


@pytest.mark.parametrize(
    ("structure", "coarse"),
    [
        ("liver_lesion", "liver"),
        ("celiac_aa", "aorta"),
        ("prostate", "bladder"),
        ("adrenal_gland_left", "kidney"),
        ("duodenum", "stomach"),
        ("veins", "postcava"),
    ],
)
def test_coarse_groups_gather_what_the_authors_gather(structure, coarse):
    assert SCOPES["coarse"].table[VALUES[structure]] == SCOPES["coarse"].classes[coarse]


def test_lesions_are_the_last_three_of_the_coarse_scope_with_them():
    assert list(SCOPES["coarse+lesions"].classes)[12:] == list(LESIONS.values())


def test_scopes_have_the_authors_names_too():
    assert [each.name for each in scopes_of(["seg_basic", "coarse", "seg_full"])] == [
        "coarse",
        "fine+lesions",
    ]
    with pytest.raises(ConfigError, match="unknown scope 'fine'"):
        scopes_of(["fine"])
    with pytest.raises(ConfigError, match="no scope"):
        scopes_of([])


def test_ranks_put_lesions_over_vessels_over_parts_over_organs():
    ranks = {each.name: each.rank for each in STRUCTURES}
    order = ["spleen", "liver_segment_4", "hepatic_vessel", "liver_lesion"]
    assert [ranks[name] for name in order] == [0, 1, 2, 3]
    names = [each.name for each in STRUCTURES]
    assert names.index("veins") < names.index("portal_vein_and_splenic_vein")
    assert set(CLASSES) <= set(names)
    assert not set(IGNORED) & set(names)


def test_every_case_is_listed_with_its_texts_and_split(made):
    listing = list_abdomen_atlas(made)
    rows = {row["BDMAP ID"]: row for row in table(made / METADATA)}
    test = {row["BDMAP ID"] for row in table(made / "TrainTestIDS/IID_test.csv")}
    assert [study.series_id for study in listing.studies] == sorted(rows)
    assert (listing.labels, listing.region) == (ABDOMEN_LABELS, "abdomen")
    assert listing.warnings == ()
    for study in listing.studies:
        row = rows[study.series_id]
        assert study.split == ("test" if study.series_id in test else "train")
        assert study.report == " ".join(row["structured report"].split())
        assert study.extra["report_structured"] == row["structured report"]
        assert study.extra["sex"] == row["sex"]
        assert set(study.extra) <= set(EXTRA_COLUMNS)
        assert pickle.loads(pickle.dumps(study)) == study
        assert repr(study.mask) == repr(pickle.loads(pickle.dumps(study)).mask)


def test_another_report_and_the_other_split_can_be_chosen(made):
    listing = list_abdomen_atlas(made, report="narrative", split="OOD", scopes=("coarse",))
    test = {row["BDMAP ID"] for row in table(made / "TrainTestIDS/OOD_test.csv")}
    assert {s.series_id for s in listing.studies if s.split == "test"} == test
    assert "Impression:" in listing.studies[0].report
    assert [each.name for each in listing.scopes] == ["coarse"]


def test_cases_without_the_chosen_report_are_left_out(made):
    listing = list_abdomen_atlas(made, report="fusion_narrative")
    assert listing.studies == ()
    assert {each.reason for each in listing.excluded} == {"no fusion narrative report"}


@pytest.mark.parametrize("number", range(6))
def test_masks_become_labels_and_measures_as_the_metadata_say(made, number):
    study = list_abdomen_atlas(made).studies[number]
    image = study.image.read()
    mask = study.mask.read(image)
    row = {r["BDMAP ID"]: r for r in table(made / METADATA)}[study.series_id]
    for label, organ in zip(ABDOMEN_LABELS, ("liver", "kidney", "pancreatic"), strict=True):
        stated = float(row[f"total {organ} lesion volume (cm^3)"])
        assert float(mask.columns[f"{label}_volume_ml"]) == pytest.approx(stated, abs=0.06)
        assert mask.columns[f"{label}_count"] == row[f"number of {organ} lesion instances"]
        assert mask.labels[label] == float(stated > 0)
        cm = float(row[f"largest {organ} lesion diameter (cm)"] or 0)
        measured = float(mask.columns[f"{label}_largest_diameter_mm"])
        # Drawn shape against voxels of this grid, counted from edge to edge.
        assert abs(measured - 10 * cm) <= 1.5 * float(np.hypot(*image.spacing[1:]))
    assert mask.notes == ()


def test_the_merged_mask_is_the_one_that_was_drawn(made):
    study = list_abdomen_atlas(made).studies[0]
    mask = study.mask.read(study.image.read()).volume
    for name in ("spleen", "kidney_left", "liver_segment_7", "aorta"):
        file = made / "mask_only" / study.series_id / "segmentations" / f"{name}.nii.gz"
        drawn = read_volume(file, labels=True).array
        np.testing.assert_array_equal(mask.array == VALUES[name], drawn > 0)


def test_volumes_that_disagree_with_the_metadata_are_noted(made):
    study = list_abdomen_atlas(made).studies[0]
    stated = {"Liver lesion": 50.0, "Kidney lesion": 0.5}
    folder = study.mask.folder.folder
    notes = masks_of(folder, stated).read(study.image.read()).notes
    liver = [note for note in notes if note.startswith("Liver lesion")]
    assert len(liver) == 1
    assert "50.0 ml in the metadata" in liver[0]


def test_whole_organs_and_other_structures_are_not_read(atlas):
    study = list_abdomen_atlas(atlas).studies[0]
    folder = study.mask.folder.folder
    before = study.mask.read(study.image.read()).volume.array
    for name in ("liver", "pancreas", "pancreatic_duct"):
        shutil.copyfile(folder / "spleen.nii.gz", folder / f"{name}.nii.gz")
    np.testing.assert_array_equal(study.mask.read(study.image.read()).volume.array, before)


def test_kinds_of_lesions_join_their_class(atlas):
    study = list_abdomen_atlas(atlas).studies[0]
    folder = study.mask.folder.folder
    shutil.copyfile(folder / "spleen.nii.gz", folder / "liver_cyst.nii.gz")
    mask = study.mask.read(study.image.read())
    spleen = read_volume(folder / "spleen.nii.gz", labels=True).array > 0
    assert (mask.volume.array[spleen] == VALUES["liver_lesion"]).all()
    assert mask.labels["Liver lesion"] == 1.0


def lesion_file(study, name: str) -> Path:
    return study.mask.folder.folder / f"{name}.nii.gz"


def test_a_lesion_without_file_and_volume_is_unknown_not_absent(atlas):
    (atlas / METADATA).unlink()
    study = list_abdomen_atlas(atlas).studies[0]
    lesion_file(study, "liver_lesion").unlink()
    mask = study.mask.read(study.image.read())
    assert set(mask.labels) == {"Kidney lesion", "Pancreas lesion"}
    assert not [name for name in mask.columns if name.startswith("Liver lesion")]
    assert mask.notes == ("Liver lesion: no file of it, so it is unknown.",)


def test_a_lesion_without_file_that_the_metadata_state_is_refused(atlas):
    rows = {row["BDMAP ID"]: row for row in table(atlas / METADATA)}
    for study in list_abdomen_atlas(atlas).studies:
        stated = float(rows[study.series_id]["total liver lesion volume (cm^3)"])
        lesion_file(study, "liver_lesion").unlink()
        if stated:
            with pytest.raises(ImageError, match=r"no file liver_lesion.nii.gz, but the metadata"):
                study.mask.read(study.image.read())
        else:
            assert study.mask.read(study.image.read()).labels["Liver lesion"] == 0.0


def test_one_file_of_a_kind_of_lesion_is_a_file_of_it(atlas):
    for study in list_abdomen_atlas(atlas).studies:
        image = study.image.read()
        expected = study.mask.read(image)
        lesion_file(study, "liver_lesion").rename(lesion_file(study, "liver_tumor"))
        found = study.mask.read(image)
        assert (found.labels, found.columns) == (expected.labels, expected.columns)


def test_missing_organs_are_noted(atlas):
    study = list_abdomen_atlas(atlas).studies[0]
    for name in ("spleen", "aorta"):
        lesion_file(study, name).unlink()
    notes = study.mask.read(study.image.read()).notes
    assert notes == ("There is no file for spleen, aorta.",)


def test_synthetic_studies_say_what_they_are(atlas):
    assert list_abdomen_atlas(atlas).name == "synthetic abdominal studies"
    (atlas / "source.txt").unlink()
    assert list_abdomen_atlas(atlas).name == "AbdomenAtlas 3.0 Mini"


def test_without_masks_labels_come_from_the_volumes(made):
    listing = list_abdomen_atlas(made, masks=False)
    rows = {row["BDMAP ID"]: row for row in table(made / METADATA)}
    assert listing.scopes == ()
    for study in listing.studies:
        assert study.mask is None
        volume = float(rows[study.series_id]["total kidney lesion volume (cm^3)"])
        assert study.labels["Kidney lesion"] == float(volume > 0)
    assert not set(listing.extra_columns) - set(listing.studies[0].extra)


def test_unknown_volumes_are_unknown_labels(atlas):
    rows = table(atlas / METADATA)
    rows[0]["total liver lesion volume (cm^3)"] = ""
    rows[1]["total liver lesion volume (cm^3)"] = "nan"
    rewrite(atlas / METADATA, rows)
    studies = list_abdomen_atlas(atlas, masks=False).studies
    assert [study.labels["Liver lesion"] for study in studies[:2]] == [None, None]


def test_what_is_missing_is_rejected_and_the_rest_goes_on(atlas):
    (atlas / "image_only/BDMAP_00000001/ct.nii.gz").unlink()
    shutil.rmtree(atlas / "mask_only/BDMAP_00000002")
    rewrite(atlas / METADATA, [r for r in table(atlas / METADATA) if r["BDMAP ID"][-1] != "3"])
    listing = list_abdomen_atlas(atlas)
    assert [each.series_id[-1] for each in listing.rejected] == ["1", "2", "3"]
    said = [each.error for each in listing.rejected]
    assert "no ct.nii.gz" in said[0]
    assert "no such folder of masks" in said[1]
    assert "no row in the metadata" in said[2]
    assert len(listing.studies) == 3


def test_cases_in_neither_list_are_left_out(atlas):
    path = atlas / "TrainTestIDS/IID_train.csv"
    rewrite(path, [row for row in table(path) if row["BDMAP ID"] != "BDMAP_00000002"])
    listing = list_abdomen_atlas(atlas)
    assert [(each.series_id, each.reason) for each in listing.excluded] == [
        ("BDMAP_00000002", "in neither list of the IID split")
    ]


def test_a_case_in_both_lists_stops_everything(atlas):
    path = atlas / "TrainTestIDS/IID_test.csv"
    names = [row["BDMAP ID"] for row in table(atlas / "TrainTestIDS/IID_train.csv")]
    path.write_text(path.read_text() + names[0] + "\n")
    with pytest.raises(CatalogError, match=rf"{names[0]} is also in IID_train.csv"):
        list_abdomen_atlas(atlas)


def test_lists_without_a_header_are_read_too(atlas):
    names = [study.series_id for study in list_abdomen_atlas(atlas).studies]
    (atlas / "TrainTestIDS/IID_train.csv").write_text("\n".join(names[2:]))
    (atlas / "TrainTestIDS/IID_test.csv").write_text("\n".join(names[:2]) + "\n")
    splits = [study.split for study in list_abdomen_atlas(atlas).studies]
    assert splits == ["test"] * 2 + ["train"] * 4


def test_a_list_without_cases_names_the_column_it_needs(atlas):
    (atlas / "TrainTestIDS/IID_test.csv").write_text("case\nBDMAP_00000001\n")
    with pytest.raises(CatalogError, match="no column 'BDMAP ID'"):
        list_abdomen_atlas(atlas)


def test_without_lists_or_metadata_there_is_a_warning(atlas):
    shutil.rmtree(atlas / "TrainTestIDS")
    (atlas / METADATA).unlink()
    listing = list_abdomen_atlas(atlas)
    assert len(listing.studies) == 6
    assert {study.split for study in listing.studies} == {None}
    assert any("nothing is held out" in warning for warning in listing.warnings)
    assert any("no reports" in warning for warning in listing.warnings)


def test_parts_may_lie_elsewhere(atlas, tmp_path):
    expected = list_abdomen_atlas(atlas)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("image_only", "mask_only", METADATA, "TrainTestIDS"):
        (atlas / name).rename(moved / name)
    listing = list_abdomen_atlas(
        atlas,
        image_dir=moved / "image_only",
        mask_dir=moved / "mask_only",
        meta_csv=moved / METADATA,
        split_dir=moved / "TrainTestIDS",
    )
    assert [s.report for s in listing.studies] == [s.report for s in expected.studies]
    assert [s.split for s in listing.studies] == [s.split for s in expected.studies]


def test_a_folder_of_another_layout_is_refused(tmp_path, atlas):
    with pytest.raises(CatalogError, match="image_only"):
        list_abdomen_atlas(tmp_path)
    (tmp_path / "image_only").mkdir()
    (tmp_path / "mask_only").mkdir()
    with pytest.raises(CatalogError, match="no case in it"):
        list_abdomen_atlas(tmp_path)
    shutil.rmtree(atlas / "mask_only")
    with pytest.raises(CatalogError, match=r"mask_only: no such folder.*without masks"):
        list_abdomen_atlas(atlas)


@pytest.mark.parametrize("value", ["many", "-1", "inf"])
def test_a_volume_that_is_none_names_row_and_column(atlas, value):
    rows = table(atlas / METADATA)
    rows[1]["total liver lesion volume (cm^3)"] = value
    rewrite(atlas / METADATA, rows)
    with pytest.raises(CatalogError, match="row 3, column 'total liver lesion volume"):
        list_abdomen_atlas(atlas)


def test_a_case_named_twice_in_the_metadata_is_refused(atlas):
    rows = table(atlas / METADATA)
    rewrite(atlas / METADATA, [*rows, rows[0]])
    with pytest.raises(CatalogError, match="'BDMAP_00000001' twice"):
        list_abdomen_atlas(atlas)


def test_the_command_line_says_the_same(made):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([str(made), "--report", "narrative", "--scopes", "seg_basic"])
    assert list_studies(args) == list_abdomen_atlas(made, ("coarse",), "narrative")


def test_a_mask_turned_against_its_image_is_turned_back(atlas):
    study = list_abdomen_atlas(atlas).studies[0]
    image = study.image.read()
    expected = study.mask.read(image).volume.array
    folder = study.mask.folder.folder
    for path in folder.iterdir():
        volume = read_volume(path, labels=True)
        flip = np.diag([-1.0, 1, 1, 1])
        flip[0, 3] = volume.shape[2] - 1
        write_nifti(path, np.ascontiguousarray(volume.array[..., ::-1]), volume.affine @ flip)
    mask = study.mask.read(image)
    np.testing.assert_array_equal(mask.volume.array, expected)
    assert len(mask.notes) == 1
    assert "turned" in mask.notes[0]
    assert isinstance(study.mask.folder, StructureFolder)
