"""A user's folder and table: what is matched, what is not, and why. No volume is opened."""

from __future__ import annotations

import argparse
from pathlib import Path

import openpyxl
import pytest

from tests.imaging.dicom_factory import SeriesSpec, anatomy, write_series
from uvlm.errors import CatalogError
from uvlm.preprocessing.disk import LOCK
from uvlm.preprocessing.sources import folder
from uvlm.preprocessing.sources.folder import Columns, describe, list_folder
from uvlm.preprocessing.study import VolumeFile
from uvlm.registry import CT_RATE_LABELS

NO_PATIENT = "Patients are unknown"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return touch(tmp_path / "in", "a.nii.gz", "deep/er/b.nrrd", "c.d.mha", "notes.txt", ".x.nii")


def by_id(listing: folder.FolderListing) -> dict[str, Path]:
    return {study.series_id: study.image.files[0] for study in listing.studies}


def test_without_a_table_every_ct_is_a_study(images):
    listing = list_folder(images)
    assert by_id(listing) == {
        "a": images / "a.nii.gz",
        "b": images / "deep/er/b.nrrd",
        "c.d": images / "c.d.mha",
    }
    assert NO_PATIENT in listing.warnings[0]
    assert (listing.labels, listing.scopes, listing.region) == ((), (), "unknown")


def test_repeated_names_become_paths_without_a_table(tmp_path):
    root = touch(tmp_path / "in", "p1/ct.nii.gz", "p2/ct.nii.gz", "p2/x.nii.gz")
    assert set(by_id(list_folder(root))) == {"p1_ct", "p2_ct", "x"}


def test_rows_meet_files_by_name_with_or_without_suffix(tmp_path, images):
    table = csv(tmp_path / "t.csv", "VolumeName,patient\na.nii.gz,1\nb,1\nC.D,2\n")
    listing = list_folder(images, table)
    assert set(by_id(listing)) == {"a", "b", "C.D"}
    assert [study.patient_id for study in listing.studies] == ["1", "1", "2"]
    assert listing.warnings == ()


def test_a_row_meets_the_only_ct_in_a_folder_of_its_name(tmp_path):
    root = touch(tmp_path / "in", "s1/ct.nii.gz", "s2/ct/ct.nii.gz", "s3/x.nii.gz", "s3/y.nii.gz")
    listing = list_folder(root, csv(tmp_path / "t.csv", "id\ns1\ns2\ns3\n"))
    assert by_id(listing) == {"s1": root / "s1/ct.nii.gz", "s2": root / "s2/ct/ct.nii.gz"}
    (rejected,) = listing.rejected
    assert rejected.series_id == "s3"
    assert "row 4: 2 CTs may be 's3': s3/x.nii.gz, s3/y.nii.gz" in rejected.error


def test_ids_that_differ_by_a_suffix_stay_apart(tmp_path):
    root = touch(tmp_path / "in", "scan_1.nii.gz", "scan_10.nii.gz", "scan_1_a.nii.gz")
    table = csv(tmp_path / "t.csv", "id\nscan_10\nscan_1\nscan_1_a\nscan\n")
    listing = list_folder(root, table)
    assert {name: path.name for name, path in by_id(listing).items()} == {
        name: f"{name}.nii.gz" for name in ("scan_1", "scan_10", "scan_1_a")
    }
    assert [each.series_id for each in listing.rejected] == ["scan"]


def test_case_matters_while_it_can(tmp_path):
    root = touch(tmp_path / "in", "A.nii.gz", "a.nii.gz", "B.nii.gz")
    listing = list_folder(root, csv(tmp_path / "t.csv", "id\na\nb\n"))
    assert {path.name for path in by_id(listing).values()} == {"a.nii.gz", "B.nii.gz"}


def test_two_files_of_one_name_are_not_chosen_between(tmp_path):
    root = touch(tmp_path / "in", "x/a.nii.gz", "y/a.nii.gz", "b.nii.gz")
    listing = list_folder(root, csv(tmp_path / "t.csv", "id\na\nb\n"))
    assert "2 CTs may be 'a'" in listing.rejected[0].error
    assert len(listing.excluded) == 2


def test_rows_without_files_and_files_without_rows_are_recorded(tmp_path, images):
    listing = list_folder(images, csv(tmp_path / "t.csv", "id,x\na,1\nmissing,0\n"))
    (rejected,) = listing.rejected
    assert "row 3: no file or folder named 'missing'" in rejected.error
    assert {(e.series_id, e.reason) for e in listing.excluded} == {
        ("deep/er/b.nrrd", "no row in the table"),
        ("c.d.mha", "no row in the table"),
    }


def test_two_rows_cannot_share_a_file(tmp_path, images):
    table = csv(tmp_path / "t.csv", "id,path\none,a.nii.gz\ntwo,a.nii.gz\n")
    listing = list_folder(images, table, columns=Columns(id="id", path="path"))
    assert set(by_id(listing)) == {"one"}
    assert "names the same CT as row 2" in listing.rejected[0].error


@pytest.mark.parametrize("path", ["../secret.nii.gz", "/etc/hostname", "none.nii.gz", ""])
def test_a_path_must_lie_below_the_folder(tmp_path, images, path):
    touch(tmp_path, "secret.nii.gz")
    table = csv(tmp_path / "t.csv", f"id,path\nbad,{path}\ngood,deep/er/b.nrrd\n")
    listing = list_folder(images, table, columns=Columns(id="id", path="path"))
    assert set(by_id(listing)) == {"good"}
    assert [each.series_id for each in listing.rejected] == ["bad"]


def test_a_path_may_lead_through_a_link_as_the_search_does(tmp_path, images):
    (images / "disk").symlink_to(touch(tmp_path / "elsewhere", "e.nii.gz"))
    table = csv(tmp_path / "t.csv", "id,path\none,disk/e.nii.gz\n")
    listing = list_folder(images, table, columns=Columns(id="id", path="path"))
    assert by_id(listing) == {"one": images / "disk/e.nii.gz"}


def test_duplicate_ids_are_refused_with_both_rows(tmp_path, images):
    table = csv(tmp_path / "t.csv", "id,n\na,1\nb,1\nA,0\n")
    with pytest.raises(CatalogError, match=r"row 4, column 'id': 'A' twice \(first in row 2\)"):
        list_folder(images, table, columns=Columns(id="id"))


def test_excel_numbers_name_files(tmp_path):
    root = touch(tmp_path / "in", "12.nii.gz", "00013.nii.gz")
    book = openpyxl.Workbook()
    for row in (["Study ID", "Emphysema"], [12, 1], [13, 0]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    listing = list_folder(root, tmp_path / "t.xlsx")
    assert by_id(listing) == {"12": root / "12.nii.gz", "13": root / "00013.nii.gz"}
    assert "1 numbers of column 'Study ID' (first in row 3) lack leading zeros" in str(
        listing.warnings
    )
    assert listing.labels == ("Emphysema",)


def test_numbers_without_their_zeros_are_met_only_in_a_column_that_was_named(tmp_path):
    root = touch(tmp_path / "in", "001.nii.gz", "002.nii.gz", "02/a.nii.gz", "03/b.nii.gz")
    table = csv(tmp_path / "t.csv", "No,Datum\n1,x\n2,x\n3,x\n")
    message = "Row 2 of column 'No' lacks leading zeros.*give --id-column No"
    with pytest.raises(CatalogError, match=message):
        list_folder(root, table)
    listing = list_folder(root, table, columns=Columns(id="No"))
    assert by_id(listing) == {"1": root / "001.nii.gz", "3": root / "03/b.nii.gz"}
    # 2 may be 002 or 02.
    assert [each.series_id for each in listing.rejected] == ["2"]


def test_a_report_is_no_identifier_and_is_not_repeated(tmp_path, images):
    table = csv(tmp_path / "t.csv", f"id,text\na,{'Smith coughs. ' * 20}\n")
    with pytest.raises(CatalogError, match=r"row 2, column 'text': a text of \d+ char") as caught:
        list_folder(images, table, columns=Columns(id="text"))
    assert "Smith" not in str(caught.value)


def test_the_id_column_is_found_by_values_then_names(tmp_path, images):
    text = "name,Report ID,case\na,a,1\nb,b,2\nc.d,c.d,3\n"
    listing = list_folder(images, csv(tmp_path / "t.csv", text))
    assert listing.understood.roles.single["id"] == "name"
    with pytest.raises(CatalogError, match="no column names the CTs"):
        list_folder(images, csv(tmp_path / "t.csv", "id,n\nq,1\nr,0\n"))
    with pytest.raises(CatalogError, match="columns left, right name the CTs equally well"):
        list_folder(images, csv(tmp_path / "t.csv", "left,right\na,b\nb,a\n"))


def test_a_missing_column_is_named_with_its_likeness(tmp_path, images):
    table = csv(tmp_path / "t.csv", "id,Report\na,x\n")
    with pytest.raises(CatalogError, match="no column 'Reprot'; did you mean 'Report'"):
        list_folder(images, table, columns=Columns(report=("Reprot",)))


def test_reports_are_joined_under_their_names(tmp_path, images):
    text = "id,Findings,Impression\na,Clear lungs.,Normal.\nb,Nodule.,Not given.\n"
    listing = list_folder(images, csv(tmp_path / "t.csv", text))
    assert [study.report for study in listing.studies] == [
        "Findings: Clear lungs. Impression: Normal.",
        "Findings: Nodule.",
    ]
    told = Columns(report=("Impression", "Findings"), id="id")
    again = list_folder(images, tmp_path / "t.csv", columns=told)
    assert [study.report for study in again.studies] == [s.report for s in listing.studies]


def test_other_report_columns_are_joined_by_a_space(tmp_path, images):
    table = csv(tmp_path / "t.csv", "id,part 1,part 2\na,One.,Two.\n")
    listing = list_folder(images, table, columns=Columns(report=("part 1", "part 2")))
    assert listing.studies[0].report == "One. Two."


def test_a_row_without_report_text_is_rejected_unless_reports_are_not_wanted(tmp_path, images):
    table = csv(tmp_path / "t.csv", "id,report\na,Not given.\nb,Clear.\n")
    listing = list_folder(images, table)
    assert "row 2: no report text" in listing.rejected[0].error
    without = list_folder(images, table, columns=Columns(report=("-",)))
    assert [study.report for study in without.studies] == ["", ""]


def test_labels_are_the_registrys_where_all_are_there(tmp_path, images):
    header = ",".join(["id", "other", *CT_RATE_LABELS])
    table = csv(tmp_path / "t.csv", f"{header}\na,1,{','.join(['1', ''] + ['0'] * 16)}\n")
    listing = list_folder(images, table)
    assert (listing.labels, listing.region) == (CT_RATE_LABELS, "chest")
    assert list(listing.studies[0].labels.values())[:3] == [1.0, None, 0.0]
    table = csv(tmp_path / "t.csv", f"{header}\na,1,TODO_DATA_PATH/0{',0' * 17}\n")
    message = r"t\.csv: row 2, column 'Medical material': the label 'TODO_DATA_PATH/0'"
    with pytest.raises(CatalogError, match=message):
        list_folder(images, table)


def test_label_columns_are_found_by_their_cells(tmp_path, images):
    rows = ["id,mass,sex,size,empty,nearly", "a,yes,M,1,,1", "b,no,F,2,,0", "c.d,,F,3,,1"]
    listing = list_folder(images, csv(tmp_path / "t.csv", "\n".join(rows) + "\n"))
    assert listing.labels == ("mass", "nearly")
    assert [s.labels["mass"] for s in listing.studies] == [1.0, 0.0, None]


def test_a_column_that_is_nearly_a_label_is_warned_about(tmp_path):
    names = [f"s{k}" for k in range(6)]
    root = touch(tmp_path / "in", *(f"{name}.nii" for name in names))
    cells = ["0", "1", "0", "?", "1", "0"]
    text = "id,mass\n" + "".join(f"{n},{c}\n" for n, c in zip(names, cells, strict=True))
    listing = list_folder(root, csv(tmp_path / "t.csv", text))
    assert listing.labels == ()
    assert (
        "Column 'mass' looks like a label, but 1 of its cells (first in row 5)"
        in listing.warnings[0]
    )


def test_splits_are_mapped_and_a_patient_has_one(tmp_path, images):
    text = "id,patient,split\na,p,Training\nb,q,val\nc.d,,\n"
    listing = list_folder(images, csv(tmp_path / "t.csv", text))
    assert [study.split for study in listing.studies] == ["train", "valid", None]
    assert listing.studies[2].patient_id == "c.d"
    assert "1 cells of column 'patient' are empty, first in row 4" in listing.warnings[0]
    table = csv(tmp_path / "t.csv", "id,patient,split\na,p,train\nb,p,test\n")
    with pytest.raises(CatalogError, match="row 3, column 'split': the patient of row 2"):
        list_folder(images, table)
    assert list_folder(images, table, columns=Columns(split="-")).studies[0].split is None


def test_dicom_with_two_series_is_one_study_or_the_series_asked_for(tmp_path):
    root = tmp_path / "in"
    write_series(root / "s1" / "one", anatomy(), SeriesSpec(number=1))
    second = write_series(root / "s1" / "two", anatomy(seed=1), SeriesSpec(number=2))
    (root / "s1" / "one" / "README").write_text("not an image")
    assert set(by_id(list_folder(root))) == {"one", "two"}
    listing = list_folder(root, csv(tmp_path / "t.csv", f"id,uid\ns1,{second.uid}\n"))
    assert listing.studies[0].image == VolumeFile(root / "s1")
    assert listing.excluded == ()
    chosen = Columns(series="uid")
    (study,) = list_folder(root, tmp_path / "t.csv", columns=chosen).studies
    assert study.image == VolumeFile(root / "s1", second.uid)
    assert study.image.read().provenance.details["series_number"] == 2


def test_dicom_without_a_suffix_is_found(tmp_path):
    write_series(tmp_path / "in" / "s1", anatomy(slices=2))
    for path in (tmp_path / "in" / "s1").iterdir():
        path.rename(path.with_suffix(""))
    assert set(by_id(list_folder(tmp_path / "in"))) == {"s1"}


def test_nothing_to_prepare_is_an_error(tmp_path, images):
    with pytest.raises(CatalogError, match="no such folder"):
        list_folder(tmp_path / "none")
    with pytest.raises(CatalogError, match="no CT below it"):
        list_folder(touch(tmp_path / "empty", "notes.txt"))
    with pytest.raises(CatalogError, match="--table"):
        list_folder(images, columns=Columns(id="id"))
    with pytest.raises(CatalogError, match="a header and no rows"):
        list_folder(images, csv(tmp_path / "t.csv", "id,report\n"))


def test_what_was_understood_is_said_without_report_text(tmp_path, images):
    text = "id,patient,report,mass\na,p1,Smith has a mass.,yes\nb,p1,Clear.,no\ngone,p2,Clear.,\n"
    listing = list_folder(images, csv(tmp_path / "t.csv", text))
    said = describe(listing)
    for part in (
        "2 studies",
        "id       id  (2 of its values name files)",
        "report 17 characters",
        "mass                                 1 of 2 (50.0%)",
        "'no' = 0, 'yes' = 1",
        "cannot be used: 1",
        "left out: 1",
    ):
        assert part in said
    assert "Smith" not in said


def test_what_an_earlier_run_wrote_is_no_raw_data(tmp_path, images):
    """Wherever its output lies: the masks of an nnU-Net dataset have the names of the CTs."""
    before = list_folder(images)
    out = images / "prepared"
    cases = out / "nnUNet_preprocessed/Dataset600_A/gt_segmentations"
    cases.mkdir(parents=True)
    (out / LOCK).touch()
    for path in before.understood.files.volumes:
        (cases / f"{path.name.split('.')[0]}.nii.gz").touch()
    assert list_folder(images).studies == before.studies


def test_what_no_column_holds_is_said(tmp_path, images):
    said = describe(list_folder(images, csv(tmp_path / "t.csv", "id,Bulgular\na,x\n")))
    for line in ("patient  none  (--patient-column)", "report   none  (--report-column)"):
        assert line in said
    assert "labels   none  (--label-columns)" in said


def test_the_command_line_gives_the_same_listing(tmp_path, images):
    table = csv(tmp_path / "t.csv", "id,text a,text b,mass\na,One.,Two.,1\nb,x,y,0\n")
    parser = argparse.ArgumentParser()
    folder.add_arguments(parser)
    words = f"{images} --table {table} --id-column id --label-columns mass --name Mine"
    args = parser.parse_args([*words.split(), "--report-column", "text a", "text b", "--dry-run"])
    columns = Columns(id="id", report=("text a", "text b"), labels=("mass",))
    assert folder.list_studies(args) == list_folder(images, table, columns=columns, name="Mine")
    assert args.dry_run
