"""Questions meet answers by id or by what is asked; missing answers are wrong."""

import json
from dataclasses import replace

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.tasks.vqa import AnswerInputs, evaluate_answers

ASKED = ("series_id", "type", "anatomy", "finding", "answers")
ROWS = [
    ("valid_1_a_1", "location", "", "nodule", '["lung/left lung", "lung/right lung"]'),
    ("valid_1_a_1", "presence", "lung", "nodule", '["yes"]'),
    ("valid_1_a_2", "presence", "lung", "nodule", '["yes"]'),
    ("valid_2_a_1", "presence", "lung", "mass", '["no"]'),
    ("valid_2_a_1", "size", "lung", "cyst", '["6x4 mm"]'),
]
SAID = ("series_id", "type", "anatomy", "finding", "prediction")


@pytest.fixture
def evaluate(write):
    def run(answers, rows=ROWS, **options):
        said = [(f"{r[0]}.nii.gz", *r[1:4], a) for r, a in zip(rows, answers, strict=True) if a]
        return evaluate_answers(
            AnswerInputs(
                references=write("q.csv", ASKED, rows),
                predictions=write("a.csv", SAID, said),
                resamples=20,
                **options,
            )
        )

    return run


RIGHT = ["lung/right lung", "Yes.", "yes", "no", "4 x 6 mm"]


def test_right_answers_of_one_reconstruction_per_scan_score_one(evaluate, scores):
    result = evaluate(RIGHT)
    assert len(result.ids) == 4
    assert scores(result)["vqa@exact", "accuracy"] == 1
    assert set(result.patients) == {"valid_1", "valid_2"}
    assert "1 question is left out" in result.notes[""][0]


def test_by_series_every_question_counts(evaluate):
    assert len(evaluate(RIGHT, unit="series").ids) == 5


def test_a_missing_answer_is_wrong_or_refused(evaluate, scores):
    answers = [*RIGHT[:4], ""]
    result = evaluate(answers)
    assert "1 question is without prediction." in result.notes[""]
    found = scores(result)
    assert found["vqa@exact", "accuracy"] == 0.75
    assert found["vqa@exact", "accuracy: size"] == 0
    with pytest.raises(InputError, match="1 question without prediction"):
        evaluate(answers, missing="refuse")


def test_the_majority_answer_stands_beside_every_score(evaluate, write):
    (floor,) = evaluate(RIGHT).scores[0].floors
    assert floor.name == "majority answer (test set)"
    training = write("train.csv", ASKED, ROWS[:2])
    (floor,) = evaluate(RIGHT, training=training).scores[0].floors
    assert floor.name == "majority answer (training)"


def test_questions_with_an_id_meet_by_it(write, scores):
    references = write(
        "q.csv",
        ("question_id", "study_id", "type", "answer"),
        [("1", "s", "presence", "yes"), ("2", "t", "presence", "no")],
    )
    said = references.with_name("a.jsonl")
    lines = [{"question_id": 2, "answer": "no"}, {"question_id": 1, "answer": "no"}]
    said.write_text("\n".join(json.dumps(line) for line in lines))
    result = evaluate_answers(AnswerInputs(references=references, predictions=said, resamples=9))
    assert scores(result)["vqa@exact", "accuracy"] == 0.5
    assert result.per_study["study_id"] == ["s", "t"]


@pytest.mark.parametrize("own", [(), ("question_id",)])
def test_an_answer_that_names_an_error_is_none(write, scores, own):
    rows = [("s", "presence", "yes", "1"), ("t", "presence", "no", "2")]
    head = ("study_id", "type", "answer", *own)
    references = write("q.csv", head, [row[: len(head)] for row in rows])
    said = [[*row[: len(head)], error] for row, error in zip(rows, ("", "cut off"), strict=True)]
    answers = write("a.csv", (*head, "error"), said)
    result = evaluate_answers(AnswerInputs(references=references, predictions=answers, resamples=9))
    assert "1 question is without prediction." in result.notes[""]
    assert scores(result)["vqa@exact", "accuracy"] == 0.5


def test_a_question_twice_is_refused(evaluate):
    with pytest.raises(InputError, match="more than once") as error:
        evaluate([*RIGHT, "no"], rows=[*ROWS, ROWS[3]])
    assert "one row per question" in str(error.value)


def test_questions_whose_words_are_divided_otherwise_are_two(evaluate, scores):
    rows = [
        ("s", "presence", "left lung", "nodule", "yes"),
        ("s", "presence", "left", "lung nodule", "no"),
        ("s", "presence", "left | lung", "nodule", "no"),
        ("s", "presence", "left", "lung | nodule", "yes"),
        ("s", "presence", "left\\", "| nodule", "yes"),
    ]
    result = evaluate(["yes", "no", "no", "yes", "yes"], rows=rows)
    assert len(result.ids) == 5
    assert scores(result)["vqa@exact", "accuracy"] == 1


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (("s", "presence", "", "cyst", "[yes"), r"q\.csv: row 3, column 'answers': .*\[.* no JSON"),
        (("s", "presence", "", "cyst", "[]"), r"q\.csv: row 3, column 'answers': no valid answer"),
        (("s", "presence", "", "cyst", "."), r"q\.csv: row 3, column 'answers': no valid answer"),
        (("s", "", "", "cyst", "yes"), r"q\.csv: row 3, column 'type': a question without a type"),
    ],
)
def test_what_is_wrong_in_a_question_is_said_with_its_row_and_column(evaluate, row, found):
    with pytest.raises(InputError, match=found):
        evaluate(["yes", "no"], rows=[("s", "presence", "", "mass", "yes"), row])


def test_columns_that_are_not_found_name_their_option(write):
    files = [("q.csv", ("question_id", "study_id", "type"), [("1", "s", "presence")])]
    files.append(("a.csv", ("question_id", "said"), [("1", "yes")]))
    references, predictions = (write(*file) for file in files)
    inputs = AnswerInputs(references=references, predictions=predictions)
    with pytest.raises(InputError, match=r"a\.csv: .*--prediction-column"):
        evaluate_answers(inputs)
    with pytest.raises(InputError, match=r"q\.csv: .*--answer-column"):
        evaluate_answers(replace(inputs, prediction_column="said"))


def test_questions_with_nothing_in_common_name_the_questions_column(write):
    columns = ("question_id", "study_id", "type", "answer")
    references = write("q.csv", columns, [("1", "s", "presence", "yes")])
    predictions = write("a.csv", ("question_id", "answer"), [("2", "yes")])
    with pytest.raises(InputError, match=r"none of its 1 id .*--question-column") as error:
        evaluate_answers(AnswerInputs(references=references, predictions=predictions))
    assert "--id-column" not in str(error.value)


def test_the_split_of_a_question_is_that_of_its_study_in_the_catalog(tmp_path):
    (tmp_path / "catalog.csv").write_text("series_id,split\na,train\nb,valid\nc,valid\n")
    questions = "".join(
        f'{name},presence,lung,nodule,"[""{answer}""]"\n'
        for name, answer in (("a", "yes"), ("b", "yes"), ("c", "no"), ("d", "no"))
    )
    table = tmp_path / "vqa.csv"
    table.write_text("series_id,type,anatomy,finding,answers\n" + questions)
    given = tmp_path / "answers.csv"
    given.write_text(
        "series_id,type,anatomy,finding,prediction\nb,presence,lung,nodule,yes\n"
        "c,presence,lung,nodule,yes\n"
    )
    inputs = AnswerInputs(
        references=table, predictions=given, split="valid", training=table, resamples=10
    )
    result = evaluate_answers(inputs)
    assert len(result.ids) == 2
    (tmp_path / "catalog.csv").unlink()
    with pytest.raises(InputError, match="split"):
        evaluate_answers(inputs)
