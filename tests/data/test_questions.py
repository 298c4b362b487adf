"""`vqa.csv` becomes questions with every right answer; what cannot be answered is refused."""

import csv

import pytest

from uvlm.data.questions import QuestionRow, read_questions
from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.radgenome_tables import VQA_HEADER, Question, questions_of

RIGHT = "lung/lung/right lung"


def write(folder, *rows, header=VQA_HEADER):
    path = folder / "vqa.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def row(**changes):
    cells = dict(zip(VQA_HEADER, ("s1", "location", "", "nodule", f'["{RIGHT}"]', ""), strict=True))
    return tuple((cells | changes).values())


def test_what_radgenome_writes_is_read_back(tmp_path):
    asked = [
        Question("s1", "abnormality", RIGHT, "", {"nodule": "Nodule", "mass": "mass"}),
        Question("s1", "location", "", "nodule", {RIGHT: RIGHT}),
        Question("s2", "presence", "heart", "effusion", {"no": "no"}),
        Question("s2", "size", RIGHT, "nodule", {"6x4 mm": "6x4 mm", "small": "small"}),
    ]
    path = write(tmp_path, *questions_of(asked)[0][1:])
    found = read_questions(path)
    assert [(q.series_id, q.type, q.anatomy, q.finding) for q in found] == [
        (q.series_id, q.type, q.anatomy, q.finding) for q in asked
    ]
    assert [q.answers for q in found] == [tuple(q.answers.values()) for q in asked]
    assert [q.sizes_mm for q in found] == [(), (), (), ((6.0, 4.0), None)]


@pytest.mark.parametrize("named", ["", "vqa.csv", "catalog.csv"])
def test_it_is_found_beside_the_catalog(tmp_path, named):
    write(tmp_path, row())
    (question,) = read_questions(tmp_path / named)
    assert question == QuestionRow(
        series_id="s1", type="location", anatomy="", finding="nodule", answers=(RIGHT,)
    )
    assert question.question == "Which part of the anatomy shows nodule?"


def test_only_the_series_asked_for_are_kept(tmp_path):
    write(tmp_path, row(), row(series_id="s2"))
    assert [q.series_id for q in read_questions(tmp_path, {"s2", "s3"})] == ["s2"]


def test_an_answer_given_twice_counts_once(tmp_path):
    write(tmp_path, row(answers='["a", "b", "a "]'))
    assert read_questions(tmp_path)[0].answers == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "colour"}, "row 2, column 'type': the unknown type 'colour'. Known types: abn"),
        ({"series_id": ""}, "column 'series_id': empty"),
        ({"finding": ""}, "column 'finding': empty. A question of type location needs one"),
        ({"answers": "[]"}, "column 'answers': no answer"),
        ({"answers": ""}, "column 'answers': no answer"),
        ({"answers": '["a", " "]'}, "an empty answer"),
        ({"answers": "right lung"}, "not a JSON list of texts"),
        ({"answers": '[["a"]]'}, "not a JSON list of texts"),
        ({"type": "presence", "answers": '["perhaps"]'}, "not one of yes and no"),
        ({"type": "presence", "answers": '["yes", "no"]'}, "not one of yes and no"),
        ({"type": "size", "millimetres": "[[6.0], null]"}, "not sizes of 1 answers"),
        ({"type": "size", "millimetres": "[[Infinity]]"}, "not sizes of 1 answers"),
        ({"type": "size", "millimetres": "6"}, "not sizes of 1 answers"),
    ],
)
def test_bad_rows_are_refused_by_row_and_column(tmp_path, changes, message):
    write(tmp_path, row(**changes))
    with pytest.raises(CatalogError, match=r"vqa\.csv: row 2") as caught:
        read_questions(tmp_path)
    assert message in str(caught.value)


def test_missing_tables_and_columns_are_named(tmp_path):
    with pytest.raises(CatalogError, match=r"vqa\.csv: cannot be read"):
        read_questions(tmp_path)
    write(tmp_path, ("s1", "location"), header=("series_id", "type"))
    with pytest.raises(CatalogError, match="no column 'anatomy'"):
        read_questions(tmp_path)
