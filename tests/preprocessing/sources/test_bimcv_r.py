"""BIMCV-R: columns found by values and names, every choice said, nothing missing replaced."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import pytest

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources import bimcv_r
from uvlm.preprocessing.sources.bimcv_r import list_bimcv_r

NAMES = [f"sub-S{k}_ses-E{k % 2}_run-1_bp-chest_ct" for k in (1, 1, 2)]
NAMES[1] = "sub-S1_ses-E7_run-1_bp-chest_ct"
HEADER = "PatientID,ReportID,Report,Labels,labelCUIS,Report_en,ct_path\n"


def row(
    name: str, *, labels: str = "['nodule', ' mass', '', 'nodule']", english: str = "Ok."
) -> str:
    subject, session = name.split("_")[:2]
    path = f"/raid/x/{subject}/{session}/mod-rx/{name}.nii.gz"
    return f'{subject},{session},texto,"{labels}",[C0205307],{english},{path}\n'


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / "in" / f"CT{number}" / "ct" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        path.touch()
    write(tmp_path / "in", "".join(map(row, NAMES)))
    return tmp_path / "in"


def write(folder: Path, rows: str, header: str = HEADER, name: str = "table.csv") -> Path:
    (folder / name).write_text(header + rows, encoding="utf-8")
    return folder / name


def test_rows_meet_volumes_by_file_name_wherever_they_lie(release):
    listing = list_bimcv_r(release)
    assert [study.series_id for study in listing.studies] == NAMES
    assert [study.patient_id for study in listing.studies] == ["sub-S1", "sub-S1", "sub-S2"]
    assert listing.studies[1].case_id == "sub-S1_ses-E7"
    assert {study.report for study in listing.studies} == {"Ok."}
    assert (listing.name, listing.region, listing.labels) == ("BIMCV-R", "chest", ())
    assert "by column 'ct_path', reports from 'Report_en'" in listing.warnings[0]


def test_lists_of_words_become_extra_columns(release):
    listing = list_bimcv_r(release)
    assert listing.extra_columns == ("labels",)
    assert listing.studies[0].extra == {"labels": '["nodule", "mass"]'}


@pytest.mark.parametrize("cell", ["__import__('os').system('true')", "nodule", "[", "{'a': 1}"])
def test_what_is_no_list_is_left_empty_and_counted(release, cell):
    write(release, row(NAMES[0], labels=cell) + row(NAMES[1]) + row(NAMES[2]))
    listing = list_bimcv_r(release)
    assert listing.studies[0].extra == {"labels": "[]"}
    assert any("1 cells of list columns are no lists" in text for text in listing.warnings)


def test_missing_volumes_and_reports_are_rejected_and_other_volumes_excluded(release):
    write(release, row("sub-S9_ses-E9_ct") + row(NAMES[0], english="") + row(NAMES[1]))
    listing = list_bimcv_r(release)
    assert [study.series_id for study in listing.studies] == [NAMES[1]]
    assert "row 2: no volume sub-S9_ses-E9_ct.nii.gz" in listing.rejected[0].error
    assert "row 3: no report text" in listing.rejected[1].error
    assert [each.series_id for each in listing.excluded] == [NAMES[2]]


def test_a_volume_twice_is_refused(release):
    path = write(release, row(NAMES[0]) * 2)
    with pytest.raises(CatalogError, match=r"row 3, column 'ct_path': .*first in row 2"):
        list_bimcv_r(release)
    path.unlink()
    write(release, row(NAMES[0]))
    (release / f"{NAMES[0]}.nii.gz").touch()
    with pytest.raises(CatalogError, match="the same volume as"):
        list_bimcv_r(release)


def test_the_english_report_is_never_guessed_from_the_spanish_one(release):
    write(release, row(NAMES[0]), header=HEADER.replace("Report_en", "Other"))
    with pytest.raises(CatalogError, match="--report-column"):
        list_bimcv_r(release)
    assert list_bimcv_r(release, report_column="Other").studies[0].report == "Ok."
    with pytest.raises(CatalogError, match="no column 'Nothing'"):
        list_bimcv_r(release, report_column="Nothing")


def test_of_two_tables_one_must_be_given(release):
    other = write(release, row(NAMES[0]), name="train.csv")
    with pytest.raises(CatalogError, match="2 tables that name its volumes"):
        list_bimcv_r(release)
    assert len(list_bimcv_r(release, other).studies) == 1


def test_a_table_of_something_else_is_not_taken(release):
    (release / "licence.csv").write_text("file,licence\nx,CC\n")
    assert len(list_bimcv_r(release).studies) == 3
    (release / "table.csv").unlink()
    with pytest.raises(CatalogError, match="no table that names its volumes"):
        list_bimcv_r(release)


def test_a_damaged_table_of_something_else_is_named_and_passed_over(release):
    (release / "cut.csv").write_text('id,x\na,"cut')
    listing = list_bimcv_r(release)
    assert len(listing.studies) == 3
    assert "Not looked into: " in listing.warnings[0]
    assert "cut.csv" in listing.warnings[0]
    (release / "table.csv").unlink()
    with pytest.raises(CatalogError, match=r"cut\.csv.*--table"):
        list_bimcv_r(release)


def test_rows_that_name_no_volume_are_rejected(release):
    empty = 'sub-S5,ses-E5,texto,"[]",[],Ok.,\n'
    write(release, empty + empty + "".join(map(row, NAMES)))
    listing = list_bimcv_r(release)
    assert len(listing.studies) == 3
    assert [each.error.split(": ")[1] for each in listing.rejected] == ["row 2", "row 3"]


def test_other_names_need_a_patient_column_or_warn(tmp_path):
    (tmp_path / "x1.nii.gz").touch()
    (tmp_path / "t.csv").write_text("name,english,who\nx1,Ok.,p7\n")
    listing = list_bimcv_r(tmp_path)
    assert listing.studies[0].patient_id == "x1"
    assert "patient of 1 volumes is unknown" in listing.warnings[1]
    assert list_bimcv_r(tmp_path, patient_column="who").studies[0].patient_id == "p7"


def test_the_command_line_gives_the_same_listing(release):
    parser = argparse.ArgumentParser()
    bimcv_r.add_arguments(parser)
    listing = bimcv_r.list_studies(parser.parse_args([str(release)]))
    assert listing == list_bimcv_r(release)
    assert pickle.loads(pickle.dumps(listing.studies)) == listing.studies
