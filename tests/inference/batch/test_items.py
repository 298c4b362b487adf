"""What becomes a study of a batch, and under which name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.imaging.dicom_factory import write_series
from tests.inference.bundle_factory import chest_array
from uvlm.errors import CatalogError, InputError
from uvlm.inference.batch.items import find_items, is_single


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(*inputs: Path, **options) -> dict[str, Path]:
    return {item.id: item.path for item in find_items(inputs, **options)}


def table(folder: Path, text: str) -> Path:
    path = folder / "studies.csv"
    path.write_text(text)
    return path


def test_files_stay_as_given_and_one_file_is_a_single_study():
    inputs = [Path("x/a.nii.gz"), Path("b.zip")]
    assert found(*inputs) == {"a": inputs[0], "b": inputs[1]}
    assert not is_single(find_items(inputs), inputs)
    assert is_single(find_items(inputs[:1]), inputs[:1])


def test_a_folder_holds_a_study_per_image_file_at_any_depth(tmp_path):
    names = ("a.nii.gz", "sub/b.mha", "sub/deep/c.b2nd", "d.nrrd")
    touch(*(tmp_path / name for name in names))
    touch(tmp_path / "notes.txt", tmp_path / ".hidden.nii.gz", tmp_path / "d.raw")
    assert list(found(tmp_path)) == ["a", "d", "b", "c"]
    assert not is_single(find_items([tmp_path]), [tmp_path])


def test_results_that_lie_in_the_folder_are_no_studies(tmp_path):
    touch(tmp_path / "a.nii.gz", tmp_path / "out/a_mask.nii.gz")
    assert list(found(tmp_path, out=tmp_path / "out")) == ["a"]


@pytest.mark.parametrize("mark", [".run.json", "results.jsonl"])
def test_results_of_an_earlier_run_in_the_folder_are_no_studies(tmp_path, mark):
    touch(tmp_path / "a.nii.gz", tmp_path / "out1/a_mask.nii.gz", tmp_path / "out1" / mark)
    touch(tmp_path / "one/b_mask.nii.gz", tmp_path / "one/b.json", tmp_path / "c_mask.nii.gz")
    assert list(found(tmp_path, out=tmp_path / "out2")) == ["a", "c_mask"]


def test_files_of_one_name_in_a_folder_have_those_above_before_it(tmp_path):
    touch(*(tmp_path / name for name in ("P1/ct.nii.gz", "P2/deep/ct.nii.gz", "P2/other.nii.gz")))
    assert found(tmp_path) == {
        "P1_ct": tmp_path / "P1/ct.nii.gz",
        "other": tmp_path / "P2/other.nii.gz",
        "P2_deep_ct": tmp_path / "P2/deep/ct.nii.gz",
    }
    touch(tmp_path / "P3/CT.nii.gz")
    assert list(found(tmp_path)) == ["P1_ct", "other", "P2_deep_ct", "P3_CT"]
    touch(tmp_path / "P1_ct.mha")
    with pytest.raises(InputError, match=r"P1_ct\.mha and .*ct\.nii\.gz: both .* 'P1_ct'"):
        found(tmp_path)


def test_links_that_lead_back_are_not_followed(tmp_path):
    touch(tmp_path / "in/sub/a.nii.gz")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    assert list(found(tmp_path / "in")) == ["a"]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="cannot be read"):
        find_items([tmp_path])


def test_a_folder_of_dicom_files_is_one_study(tmp_path):
    write_series(tmp_path / "case", chest_array((6, 8, 8)))
    assert is_single(find_items([tmp_path / "case"]), [tmp_path / "case"])


def test_series_of_one_examination_are_one_study_and_others_apart(tmp_path):
    def examination(uid: str):
        def change(data, z: int) -> None:
            data.StudyInstanceUID = uid

        return change

    for folder, uid in (("p1/s1", "1.2"), ("p1/s2", "1.2"), ("p2/s1", "1.3")):
        write_series(tmp_path / folder, chest_array((4, 8, 8)), change=examination(uid))
    touch(tmp_path / "p3.nii.gz")
    assert found(tmp_path) == {name: tmp_path / name for name in ("p1", "p2")} | {
        "p3": tmp_path / "p3.nii.gz"
    }
    assert is_single(find_items([tmp_path / "p1"]), [tmp_path / "p1"])


def test_folders_of_slices_that_cannot_be_read_are_a_study_each(tmp_path):
    touch(tmp_path / "a/1.dcm", tmp_path / "b/1.dcm")
    assert list(found(tmp_path)) == ["a", "b"]


def test_an_empty_folder_is_left_to_the_reader(tmp_path):
    assert found(tmp_path) == {tmp_path.name: tmp_path}


def test_a_table_names_paths_and_identifiers(tmp_path):
    path = table(tmp_path, "series_id,blosc2_path,split\ns1,img/x.b2nd,train\ns2,y.b2nd,\n")
    assert found(path) == {"s1": tmp_path / "img/x.b2nd", "s2": tmp_path / "y.b2nd"}


def test_any_table_with_a_column_of_paths_will_do(tmp_path):
    path = table(tmp_path, f"path;note\n{tmp_path}/a.nii.gz;x\nb.nii.gz;y\n")
    assert found(path) == {"a": tmp_path / "a.nii.gz", "b": tmp_path / "b.nii.gz"}


def test_identifiers_that_are_file_names_lose_the_suffix(tmp_path):
    path = table(tmp_path, "VolumeName,path\nv1.nii.gz,a.nii.gz\n")
    assert list(found(path, id_column="VolumeName")) == ["v1"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ".hidden", "a\\b", "x:y"])
def test_an_identifier_leads_to_no_other_folder(tmp_path, name):
    path = table(tmp_path, f"id,path\nok,a.nii.gz\n{name},b.nii.gz\n")
    good, bad = find_items([path])
    assert (good.id, good.fault, bad.id, bad.path) == ("ok", "", "row3", tmp_path / "b.nii.gz")
    assert re.search(
        r"studies\.csv: row 3, column 'id': .*could not be a file name\. Use", bad.fault
    )
    assert name not in bad.fault.removeprefix(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,file_name\n1,a\n", "no column of paths; found: id, file_name"),
        ("id,path\n", "no rows"),
        ("id,path\na\n", "row 2 has 1 fields"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path, text, message):
    with pytest.raises(CatalogError, match=message):
        find_items([table(tmp_path, text)])


@pytest.mark.parametrize(
    ("text", "name", "column", "fault"),
    [
        ("id,path\nx,\n", "x", "path", "no path. Fill it in"),
        ("path,note\n,x\n", "row2", "path", "no path. Fill it in"),
        ("path,note\na\0b,x\n", "row2", "path", "no path. Fill it in"),
        ("id,path\n,a.nii.gz\n", "row2", "id", "the identifier is empty. Use"),
        ("path,note\na:b,x\n", "row2", "path", "the identifier could not be a file name. Use"),
    ],
)
def test_a_row_that_cannot_be_used_is_an_item_with_a_fault(tmp_path, text, name, column, fault):
    path = table(tmp_path, text)
    (item,) = find_items([path])
    assert item.id == name
    assert item.fault.startswith(f"{path}: row 2, column {column!r}: {fault}")
    assert item.signed() == item
    assert not is_single([item], [path])


def test_the_first_row_of_an_identifier_has_it_and_case_is_no_difference(tmp_path):
    rows = ("s,a", "S,b", "t,c", "s,d", "t,e")
    path = table(tmp_path, "id,path\n" + "".join(f"{row}.nii.gz\n" for row in rows))
    items = find_items([path])
    assert [item.id for item in items] == ["s", "S_row3", "t", "s_row5", "t_row6"]
    assert [bool(item.fault) for item in items] == [False, True, False, True, True]
    assert "row 3, column 'id': 'S' is the identifier of" in items[1].fault
    assert "studies.csv, row 2 already. Give each study its own" in items[1].fault


def test_identifiers_of_rows_at_fault_are_no_one_else_s(tmp_path):
    """Those that a table has itself are never taken away, and a long one is still a file name."""
    long = "x" * 200
    names = ("", "s", "s", "row2", "s_ROW4", "ROW2_2", long, long)
    rows = "".join(f"{name},{i}.nii.gz\n" for i, name in enumerate(names))
    items = find_items([table(tmp_path, f"id,path\n{rows}")])
    assert [item.id for item in items] == [
        *("row2_3", "s", "s_row4_2", "row2", "s_ROW4", "ROW2_2", long, "row9")
    ]
    assert len({item.id.casefold() for item in items}) == len(items)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_row_gives_way_to_a_file_whatever_the_order(tmp_path, turn):
    path, file = table(tmp_path, "id,path\nct,a.nii.gz\n"), Path("ct.nii.gz")
    items = find_items([path, file][::turn])
    assert [(item.id, bool(item.fault)) for item in items][::turn] == [
        ("ct_row2", True),
        ("ct", False),
    ]


def test_two_files_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"ct\.nii\.gz and .*CT\.mha: both .* 'CT'"):
        find_items([Path("a/ct.nii.gz"), Path("b/CT.mha")])


def test_the_signature_changes_with_the_file_and_not_with_how_it_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    (whole,), (relative,) = find_items([path]), find_items([Path("a.nii.gz")])
    before = whole.signed().signature
    assert relative.signed().signature == before
    path.write_bytes(b"22")
    os.utime(path, (1, 1))
    assert whole.signed().signature != before
