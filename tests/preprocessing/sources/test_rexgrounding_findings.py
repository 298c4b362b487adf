"""The tables of ReXGroundingCT in every form they come in, and the forms that are refused."""

import json

import pytest

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.rexgrounding_findings import Finding, read_entries

SECRET = "A nodule that no log may quote."
ENTRY = {
    "name": "train_1_a_1.nii.gz",
    "findings": {"0": SECRET, "1": "Emphysema."},
    "categories": {"0": "2d", "1": "1c"},
    "pixels": {"0": 120, "1": 7},
}
BOTH = (Finding(0, SECRET, "2d", 120), Finding(1, "Emphysema.", "1c", 7))


def write(folder, file="dataset.json", **splits):
    (folder / file).write_text(json.dumps(splits))
    return folder


def changed(**values):
    return {key: value for key, value in {**ENTRY, **values}.items() if value is not None}


def test_an_entry_is_a_study_with_its_findings(tmp_path):
    (entry,) = read_entries(write(tmp_path, train=[ENTRY], val=[], test=[]))
    assert (entry.series_id, entry.split, entry.findings) == ("train_1_a_1", "train", BOTH)


@pytest.mark.parametrize(
    "values",
    [
        {"categories": None, "category": {"0": "2d", "1": "1c"}},
        {"categories": ["2d", "1c"]},
        {"findings": [SECRET, "Emphysema."]},
        {
            "categories": None,
            "findings": {
                "1": {"finding": "Emphysema.", "category": "1c"},
                "0": {"text": SECRET, "category": "2d"},
            },
        },
    ],
)
def test_categories_stand_in_several_places(tmp_path, values):
    (entry,) = read_entries(write(tmp_path, train=[changed(**values)]))
    assert entry.findings == BOTH


def test_a_csv_gives_the_categories_or_corrects_them(tmp_path):
    write(tmp_path, train=[changed(categories={"1": "1c"})])
    table = tmp_path / "categories.csv"
    table.write_text("name,finding,category\ntrain_1_a_1.nii.gz,0,Pulmonary nodules and masses\n")
    (entry,) = read_entries(tmp_path, table)
    assert [each.code for each in entry.findings] == ["2d", "1c"]


def test_a_study_in_two_tables_is_one_in_the_stricter_split(tmp_path):
    write(tmp_path, train=[ENTRY, changed(name="train_2_a_1.nii.gz")])
    write(tmp_path, "MICCAI_challenge_dataset.json", val=[changed(categories=None)])
    entries = {entry.series_id: entry for entry in read_entries(tmp_path)}
    assert len(entries) == 2
    assert entries["train_1_a_1"].split == "valid"
    assert entries["train_1_a_1"].findings == BOTH


def test_the_challenges_table_alone_will_do(tmp_path):
    write(tmp_path, "MICCAI_challenge_dataset.json", test=[ENTRY])
    assert [entry.split for entry in read_entries(tmp_path)] == ["test"]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": [changed(categories=None)]}, "--categories CSV"),
        ({"train": [changed(name=None)]}, r"train\[0\] has no name"),
        ({"train": [ENTRY, "x"]}, r"train\[1\] has no name"),
        ({"train": [changed(findings="text")]}, "neither table nor list"),
        ({"train": [changed(findings={"a": SECRET})]}, "not numbered"),
        ({"train": [changed(findings={"0": 5})]}, "not a text with a category"),
        ({"train": [changed(categories={"0": 5})]}, "not a text with a category"),
        ({"train": {}}, "'train' is no list"),
        ({"labels": {}}, "no lists `train`"),
    ],
)
def test_other_forms_are_refused_without_quoting_a_report(tmp_path, splits, said):
    with pytest.raises(CatalogError, match=said) as error:
        read_entries(write(tmp_path, **splits))
    assert "dataset.json" in str(error.value)
    assert SECRET not in str(error.value)


def test_missing_and_broken_tables_are_refused(tmp_path):
    with pytest.raises(CatalogError, match=r"neither dataset\.json nor"):
        read_entries(tmp_path)
    (tmp_path / "dataset.json").write_text('{"train": [')
    with pytest.raises(CatalogError, match="unreadable"):
        read_entries(tmp_path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("name,finding\na,0\n", "no column 'category'"),
        ("name,finding,category\na,first,2d\n", "row 2, column 'finding'"),
        ("name,finding,category\na,0,2d\na.nii.gz,0,1c\n", "row 3, column 'finding'.* twice"),
    ],
)
def test_a_faulty_csv_is_refused(tmp_path, rows, said):
    write(tmp_path, train=[ENTRY])
    (tmp_path / "c.csv").write_text(rows)
    with pytest.raises(CatalogError, match=said):
        read_entries(tmp_path, tmp_path / "c.csv")
