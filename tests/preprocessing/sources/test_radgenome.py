"""RadGenome-ChestCT: sentences by region, questions with every right answer, nothing replaced."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import pytest

from uvlm.errors import CatalogError
from uvlm.preprocessing.masks import StructureFolder
from uvlm.preprocessing.sources import radgenome
from uvlm.preprocessing.sources.radgenome import list_radgenome
from uvlm.preprocessing.sources.radgenome_tables import millimetres
from uvlm.preprocessing.study import Listing
from uvlm.registry import CT_RATE_LABELS

RIGHT = "lung/lung/right lung"
V = "train_1_a_1.nii.gz"
TABLES = {
    "region_report": f"""Volumename,Anatomy,Sentence
{V},,No pathology otherwise
{V},{RIGHT}/right lung upper lobe,"Nodule, 4 mm."
{V},heart,Normal heart.
{V},{RIGHT},"Nodule, 4 mm."
""",
    "case_disorders": f"Volumename,Disorders\n{V},nodule\n{V},'effusion; nodule'\n",
    "vqa_abnormality": f"""Volumename,Anatomy,Abnormality
{V},{RIGHT},nodule
{V},{RIGHT},Nodule.
{V},{RIGHT},effusion
{V},nan,nothing else
""",
    "vqa_location": f"""Volumename,Anatomy,Abnormality
{V},{RIGHT},nodule
{V},lung/lung/left lung,Nodule
{V},,effusion
train_9_a_1.nii.gz,heart,nodule
""",
    "vqa_presence": f"""Volumename,Anatomy,Finding,Presence
{V},heart,effusion,Yes.
{V},heart,nodule,No.
{V},heart,cyst,No.
{V},heart,Cyst,Yes.
{V},heart,mass,perhaps
""",
    "vqa_size": f"""Volumename,Anatomy,Abnormality,Size
{V},{RIGHT},nodule,6x4 mm
{V},{RIGHT},nodule,"1,2 cm"
{V},{RIGHT},effusion,small
{V},heart,cyst,
""",
}


def write(root: Path, split: str = "train", **changes: str) -> Path:
    folder = root / "dataset" / "radgenome_files"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, text in (TABLES | changes).items():
        (folder / f"{split}_{kind}.csv").write_text(text, encoding="utf-8")
    return folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write(tmp_path)
    touch(tmp_path / "dataset/train_preprocessed/train_1/train_1a" / V)
    return tmp_path


def rows(release: Path, table: str = "vqa.csv", kind: str = "") -> list[tuple[str, ...]]:
    listing = list_radgenome(release)
    lines = {**listing.tables, **listing.study_tables}[table][1:]
    return [tuple(line[2:]) for line in lines if line[1] == kind or not kind]


def rows_of(listing: Listing, table: str) -> list[tuple[str, ...]]:
    return [tuple(line) for line in {**listing.tables, **listing.study_tables}[table][1:]]


def test_a_report_is_its_sentences_once_each_the_whole_scan_last(release):
    (study,) = list_radgenome(release).studies
    assert study.report == "Nodule, 4 mm. Normal heart. No pathology otherwise."
    assert (study.series_id, study.case_id, study.patient_id) == (
        "train_1_a_1",
        "train_1_a",
        "train_1",
    )
    assert study.split == "train"
    assert json.loads(study.extra["disorders"]) == ["nodule", "effusion"]


def test_regions_keep_every_row_in_order(release):
    header, *lines = list_radgenome(release).study_tables["regions.csv"]
    assert header == ("series_id", "anatomy", "region", "sentence")
    assert [line[2] for line in lines] == [
        "whole scan",
        "right lung upper lobe",
        "heart",
        "right lung",
    ]
    assert lines[1] == (
        "train_1_a_1",
        f"{RIGHT}/right lung upper lobe",
        "right lung upper lobe",
        "Nodule, 4 mm.",
    )


def test_one_question_has_all_its_answers(release):
    assert list_radgenome(release).study_tables["vqa.csv"][0] == (
        "series_id", "type", "anatomy", "finding", "answers", "millimetres",
    )  # fmt: skip
    assert rows(release, kind="abnormality") == [
        (RIGHT, "", '["nodule", "effusion"]', ""),
        ("", "", '["nothing else"]', ""),
    ]
    assert rows(release, kind="location") == [
        ("", "nodule", f'["{RIGHT}", "lung/lung/left lung"]', ""),
        ("", "effusion", '["whole scan"]', ""),
    ]
    assert rows(release, kind="presence") == [
        ("heart", "effusion", '["yes"]', ""),
        ("heart", "nodule", '["no"]', ""),
    ]
    assert rows(release, kind="size") == [
        (RIGHT, "nodule", '["6x4 mm", "1,2 cm"]', "[[6.0, 4.0], [12.0]]"),
        (RIGHT, "effusion", '["small"]', "[null]"),
    ]


def test_questions_without_a_right_answer_are_set_apart(release):
    assert rows(release, "vqa_rejected.csv") == [
        ("heart", "cyst", '["no", "yes"]', "yes and no"),
        ("heart", "mass", '["perhaps"]', "neither yes nor no"),
        ("heart", "cyst", "[]", "no answer"),
    ]
    warnings = list_radgenome(release).warnings
    assert "3 questions have no right answer; see vqa_rejected.csv." in warnings
    assert any(text.startswith("1 rows of questions are of volumes") for text in warnings)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("6x4 mm", [6, 4]),
        ("6 mm x 4mm.", [6, 4]),
        ("1.5 x 2 × 0,3 cm", [15, 20, 3]),
        ("5 MM", [5]),
        ("6x4", None),
        ("3-4 mm", None),
        ("about 5 mm", None),
        ("", None),
    ],
)
def test_sizes_in_millimetres(size, expected):
    assert millimetres(size) == expected


@pytest.mark.parametrize("split", ["validation", "valid"])
def test_both_words_for_validation_are_understood(tmp_path, split):
    name = "valid_3_b_2.nii.gz"
    write(tmp_path, split, region_report=f"Volumename,Anatomy,Sentence\n{name},heart,Ok.\n")
    touch(tmp_path / "dataset/valid_preprocessed/valid_3/valid_3b" / name)
    (study,) = list_radgenome(tmp_path).studies
    assert (study.series_id, study.split) == ("valid_3_b_2", "valid")


def test_a_missing_volume_is_rejected_and_one_without_rows_excluded(release):
    text = TABLES["region_report"] + "train_2_a_1.nii.gz,heart,Ok.\n"
    write(release, region_report=text)
    touch(release / "dataset/train_preprocessed/train_7/train_7a/train_7_a_1.nii.gz")
    listing = list_radgenome(release)
    assert [study.series_id for study in listing.studies] == ["train_1_a_1"]
    assert [each.series_id for each in listing.rejected] == ["train_2_a_1"]
    assert "no volume train_2_a_1.nii.gz" in listing.rejected[0].error
    assert [each.series_id for each in listing.excluded] == ["train_7_a_1"]


def test_the_subset_in_a_deeper_folder_is_not_taken_for_the_tables(release):
    subset = release / "dataset/radgenome_files/subset_2000/train_region_report.csv"
    touch(subset).write_text("Volumename,Anatomy,Sentence\n")
    listing = list_radgenome(release)
    assert len(listing.studies) == 1
    assert any("in deeper folders not" in text for text in listing.warnings)
    other = release / "dataset/other/train_region_report.csv"
    touch(other).write_text("Volumename,Anatomy,Sentence\n")
    with pytest.raises(CatalogError, match="the same table as"):
        list_radgenome(release)


def test_volumes_may_come_from_ct_rate(tmp_path):
    folder = write(tmp_path / "release")
    touch(tmp_path / "ct/dataset/train_fixed/train_1/train_1_a" / V)
    with pytest.raises(CatalogError, match="--images"):
        list_radgenome(tmp_path / "release")
    found = list_radgenome(tmp_path / "release", images=tmp_path / "ct")
    assert [study.image.files[0].name for study in found.studies] == [V]
    touch(tmp_path / "flat" / V)
    flat = list_radgenome(folder, tables=folder, images=tmp_path / "flat")
    assert [study.image.files[0] for study in flat.studies] == [tmp_path / "flat" / V]


def test_what_ct_rate_leaves_out_is_left_out_and_not_called_missing(tmp_path):
    write(tmp_path / "release")
    names = (V, "train_2_a_1.nii.gz")
    for name in names:
        number = name.split("_")[1]
        touch(tmp_path / f"ct/dataset/train_fixed/train_{number}/train_{number}_a" / name)
    listed = touch(tmp_path / "ct/dataset/metadata/no_chest_train.txt")
    listed.write_text("train_1_a_1.nii.gz\n")
    found = list_radgenome(tmp_path / "release", images=tmp_path / "ct")
    assert (found.studies, found.rejected) == ((), ())
    assert "no_chest_train.txt" in found.excluded[0].reason
    assert rows_of(found, "vqa.csv") == rows_of(found, "regions.csv") == []


def test_labels_only_where_their_table_is_given(release, tmp_path):
    assert list_radgenome(release).labels == ()
    labels = tmp_path / "labels.csv"
    labels.write_text(f"VolumeName,{','.join(CT_RATE_LABELS)}\n{V}{',1' + ',0' * 17}\n")
    listing = list_radgenome(release, labels=(labels,))
    assert listing.labels == CT_RATE_LABELS
    assert listing.studies[0].labels["Medical material"] == 1.0
    labels.write_text(f"VolumeName,{','.join(CT_RATE_LABELS)}\n")
    listing = list_radgenome(release, labels=(labels,))
    assert listing.studies[0].labels == {}
    assert any("1 studies have no row in the labels table" in text for text in listing.warnings)


def test_masks_are_one_scope_with_finer_regions_on_top(release):
    folder = release / "dataset/train_region_mask/seg_train_1_a_1"
    for name in ("lung", "right lung", "right lung upper lobe", "mediastinum", "heart"):
        touch(folder / f"{name}.nii.gz")
    touch(folder.with_name("seg_train_8_a_1") / "breast.nii.gz")
    listing = list_radgenome(release)
    assert list(listing.scopes[0].classes) == [
        "breast", "heart", "lung", "mediastinum", "right lung", "right lung upper lobe",
    ]  # fmt: skip
    mask = listing.studies[0].mask
    assert isinstance(mask, StructureFolder)
    ranks = {each.name: each.rank for each in mask.structures}
    assert ranks["mediastinum"] < ranks["heart"]
    assert ranks["lung"] < ranks["right lung"] < ranks["right lung upper lobe"]
    assert list_radgenome(release, masks=()).scopes == ()
    twice = release / "other" / "seg_train_1_a_1"
    touch(twice / "lung.nii.gz")
    with pytest.raises(CatalogError, match="masks of train_1_a_1 are in"):
        list_radgenome(release, masks=(folder.parent, release / "other"))


def test_without_region_reports_there_is_nothing(tmp_path):
    with pytest.raises(CatalogError, match=r"region_report\.csv"):
        list_radgenome(tmp_path)


def test_a_damaged_table_is_refused(release):
    write(release, vqa_size="Volumename,Anatomy,Abnormality\n")
    with pytest.raises(CatalogError, match=r"train_vqa_size\.csv: row 1: no column 'Size'"):
        list_radgenome(release)


def test_the_command_line_gives_the_same_listing(release):
    parser = argparse.ArgumentParser()
    radgenome.add_arguments(parser)
    listing = radgenome.list_studies(parser.parse_args([str(release), "--no-masks"]))
    assert listing == list_radgenome(release, masks=())
    assert pickle.loads(pickle.dumps(listing.studies)) == listing.studies
