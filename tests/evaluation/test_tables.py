"""Tables of any origin are read whole; a cell that cannot be used is named by row and column."""

import json

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tables import (
    ID_COLUMNS,
    PREDICTED_TEXT,
    REFERENCE_TEXT,
    find_column,
    find_labels,
    find_text,
    label_rows,
    probability_rows,
    read_table,
    report_of,
)
from uvlm.registry import CT_RATE_LABELS


@pytest.fixture
def table(tmp_path):
    def write(text, name="t.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_table(path)

    return write


def test_a_byte_order_mark_and_quoted_line_breaks_are_no_trouble(table):
    read = table('\ufeffid,report\na,"Two lines,\nof ""text""."\n')
    assert read.columns == ("id", "report")
    assert read.rows[0][1]["report"] == 'Two lines,\nof "text".'


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_are_found_by_the_header(table, mark):
    read = table(f"id{mark}report\na{mark}No nodule, no effusion.\n")
    assert read.rows[0][1] == {"id": "a", "report": "No nodule, no effusion."}


def test_json_lines_give_the_same_table_as_csv(table):
    lines = [{"id": "a", "report": "One\u2028line."}, {"id": "b", "Nodule": 1, "ok": True}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    for name, content in (("t.jsonl", text + "\n\n"), ("t.json", json.dumps(lines))):
        read = table(content, name)
        assert read.columns == ("id", "report", "Nodule", "ok")
        assert [cells for _, cells in read.rows] == [
            {"id": "a", "report": "One\u2028line.", "Nodule": "", "ok": ""},
            {"id": "b", "report": "", "Nodule": "1", "ok": "1"},
        ]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_json_lines_may_end_in_any_way(tmp_path, end):
    path = tmp_path / "t.jsonl"
    path.write_bytes(f'{{"id": "a"}}{end}{{"id": "b"}}{end}'.encode())
    assert [(number, cells["id"]) for number, cells in read_table(path).rows] == [
        (1, "a"),
        (2, "b"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"}\n{"id": "SECRET WORDS\n', "row 2 is no JSON"),
        ("[1, 2]", "row 1 is no object"),
        ("", "empty"),
    ],
)
def test_json_that_cannot_be_read_is_named_without_its_text(table, text, message):
    with pytest.raises(InputError, match=message) as error:
        table(text, "t.jsonl")
    assert "SECRET" not in str(error.value)


def test_probabilities_kept_together_are_a_column_each(table):
    lines = [
        {"id": "a", "probabilities": {"Nodule": 0.25, "Mass": 1.0}},
        {"id": "b", "probabilities": None, "error": "cut off"},
    ]
    read = table("\n".join(map(json.dumps, lines)), "t.jsonl")
    rows = [cells for _, cells in read.rows]
    assert probability_rows(read, read.rows[:1], ("Nodule", "Mass")).tolist() == [[0.25, 1.0]]
    assert (rows[1]["Nodule"], rows[1]["error"]) == ("", "cut off")


def test_a_name_both_beside_and_in_the_probabilities_is_refused(table):
    line = json.dumps({"id": "a", "Nodule": 0.5, "probabilities": {"Nodule": 0.25}})
    with pytest.raises(InputError, match="row 1: 'Nodule' both beside and in 'probabilities'"):
        table(line, "t.jsonl")


def test_a_missing_file_is_named(tmp_path):
    for name in ("gone.csv", "gone.jsonl"):
        with pytest.raises(InputError, match=f"{name}: cannot be read"):
            read_table(tmp_path / name)


def test_the_generated_report_is_taken_where_the_reference_stands_beside_it(table):
    read = table("series_id,report,generated_report\na,truth,said\n")
    assert find_text(read, (), PREDICTED_TEXT, "--x") == ("generated_report",)
    assert find_text(read, (), REFERENCE_TEXT, "--x") == ("report",)


def test_findings_and_impression_become_one_report_and_not_given_is_none(table):
    read = table("VolumeName,Findings_EN,Impressions_EN\na,Clear.,Normal.\nb,Not given.,\n")
    columns = find_text(read, (), REFERENCE_TEXT, "--x")
    reports = [report_of(cells, columns) for _, cells in read.rows]
    assert reports == ["Findings: Clear. Impression: Normal.", ""]
    assert report_of({"report": " Not given. "}, ("report",)) == ""


def test_columns_that_are_not_there_are_said_with_what_is(table):
    read = table("key,words\na,b\n")
    with pytest.raises(InputError, match="--text-column") as error:
        find_text(read, (), REFERENCE_TEXT, "--text-column")
    assert "key, words" in str(error.value)
    with pytest.raises(InputError, match="no column for the id"):
        find_column(read, None, ID_COLUMNS, "the id")
    with pytest.raises(InputError, match="did you mean 'words'"):
        find_column(read, "word", ID_COLUMNS, "the id")


def test_known_label_sets_are_whole_and_in_their_order(table):
    shuffled = ",".join(reversed(CT_RATE_LABELS))
    cells = ",".join("0" for _ in CT_RATE_LABELS)
    whole = table(f"id,{shuffled}\na,{cells}\n")
    assert find_labels(whole, whole, ()) == CT_RATE_LABELS
    part = table("id,Emphysema\na,0.5\n", "p.csv")
    with pytest.raises(InputError, match="no column 'Medical material'"):
        find_labels(whole, part, ())


def test_shared_columns_of_zeros_and_ones_are_labels_and_text_among_them_an_error(table):
    truth = table("id,Nodule,Mass,age\na,1,0,40\nb,0,TODO,50\nc,,1,60\n")
    predicted = table("id,Mass,Nodule,age\na,0.5,0.5,40\n", "p.csv")
    names = find_labels(truth, predicted, ())
    assert names == ("Nodule", "Mass")
    with pytest.raises(InputError, match="row 3, column 'Mass': the label 'TODO'"):
        label_rows(truth, truth.rows, names)
    unknown = label_rows(truth, truth.rows, ["Nodule"])
    np.testing.assert_array_equal(unknown, [[1.0], [0.0], [np.nan]])


def test_no_label_column_is_said(table):
    read = table("id,report\na,words\n")
    with pytest.raises(InputError, match="--label-columns"):
        find_labels(read, read, ())


def test_logits_are_refused_as_probabilities_and_taken_when_said_to_be_logits(table):
    read = table("id,Nodule\na,-2.5\nb,0\nc,800\n")
    with pytest.raises(InputError, match=r"row 2, column 'Nodule': -2\.5 .*--logits"):
        probability_rows(read, read.rows, ["Nodule"])
    values = probability_rows(read, read.rows, ["Nodule"], logits=True)
    assert values[:, 0] == pytest.approx([1 / (1 + np.exp(2.5)), 0.5, 1.0])


@pytest.mark.parametrize(("cell", "found"), [("", "empty"), ("high", "no number"), ("nan", "no")])
def test_a_probability_that_is_none_is_named(table, cell, found):
    read = table(f"id,Nodule\na,0.5\nb,{cell}\n")
    with pytest.raises(InputError, match=f"row 3, column 'Nodule': .*{found}"):
        probability_rows(read, read.rows, ["Nodule"])


def test_the_published_sample_files_are_read_and_their_defects_named(real_data):
    folder = real_data / "uvlm_examples"
    chest = read_table(next(folder.glob("Dataset201*/train_merged.csv")))
    assert find_column(chest, None, ID_COLUMNS, "id") == "series_id"
    names = find_labels(chest, chest, ())
    with pytest.raises(InputError, match="column 'Lymphadenopathy': the label"):
        label_rows(chest, chest.rows, names)
    with pytest.raises(InputError, match="quoted field is not properly closed"):
        read_table(next(folder.glob("Dataset202*/train_merged.csv")))


@pytest.mark.parametrize(
    ("cell", "logits", "remedy"),
    [
        ("0,5", False, "0.5 and not 0,5"),
        ("-1,25", True, "0.5 and not 0,5"),
        ("-inf", True, "a logit, a finite number"),
        ("-inf", False, "a probability from 0 to 1"),
    ],
)
def test_a_cell_that_is_no_number_has_the_remedy_that_fits(table, cell, logits, remedy):
    read = table(f'id;Nodule\na;"{cell}"\n')
    with pytest.raises(InputError, match=remedy):
        probability_rows(read, read.rows, ["Nodule"], logits=logits)
