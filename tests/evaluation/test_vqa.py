"""Types count equally, floors answer without looking, an empty answer is wrong."""

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.vqa import PROTOCOLS, Question, majority_answers, vqa_floors, vqa_measures

UPPER = "lung/lung/right lung/right lung upper lobe"
RIGHT = "lung/lung/right lung"


def asked(number, kind, answers, prediction):
    return Question(
        id=f"q{number}",
        study_id=f"s{number}",
        type=kind,
        answers=tuple(answers),
        prediction=prediction,
    )


QUESTIONS = [
    asked(1, "presence", ["yes"], "Yes."),
    asked(2, "presence", ["no"], "yes"),
    asked(3, "presence", ["yes"], "YES"),
    asked(4, "location", [RIGHT, "pleura"], UPPER),
    asked(5, "location", ["mediastinum"], ""),
    asked(6, "size", ["6x4 mm"], "0.4 x 0.6 cm"),
]


def values(measure, questions=QUESTIONS):
    found = measure.values(len(questions)).tolist()
    return dict(zip(measure.names, found, strict=True))


def test_accuracy_per_type_macro_and_over_all():
    (exact, paths), skipped = vqa_measures(QUESTIONS)
    assert values(exact) == pytest.approx(
        {
            "macro accuracy": (2 / 3 + 0 + 1) / 3,
            "accuracy": 3 / 6,
            "accuracy: location": 0,
            "accuracy: presence": 2 / 3,
            "accuracy: size": 1,
        }
    )
    assert values(paths)["credit: location"] == pytest.approx((3 / 4 + 0) / 2)
    assert skipped == {}


def test_empty_answers_are_counted_in_a_note():
    (exact, _), _ = vqa_measures(QUESTIONS)
    assert exact.notes == ("Empty answers, counted as wrong: 1.",)


def test_perfect_is_one_and_no_answer_is_zero():
    right = [asked(i, q.type, q.answers, q.answers[-1]) for i, q in enumerate(QUESTIONS)]
    none = [asked(i, q.type, q.answers, "") for i, q in enumerate(QUESTIONS)]
    protocols = [info.name for info in PROTOCOLS]
    for measure in vqa_measures(right, protocols)[0]:
        assert set(values(measure)) == set(measure.names)
        if measure.protocol != "vqa@hsenet-major":
            assert set(values(measure).values()) == {1.0}
    for measure in vqa_measures(none, protocols)[0]:
        assert set(values(measure).values()) == {0.0}


def test_order_changes_nothing():
    (before, _), _ = vqa_measures(QUESTIONS)
    (after, _), _ = vqa_measures(QUESTIONS[::-1])
    assert values(after) == pytest.approx(values(before))


def test_a_resample_is_scored_as_if_it_were_the_data():
    rng = np.random.default_rng(0)
    protocols = [info.name for info in PROTOCOLS]
    weights = rng.integers(0, 3, (20, len(QUESTIONS)))
    measures, _ = vqa_measures(QUESTIONS, protocols)
    for row in weights[(weights[:, :5].sum(axis=1) > 0)]:
        drawn = [
            asked(f"{i}-{k}", q.type, q.answers, q.prediction)
            for i, (q, times) in enumerate(zip(QUESTIONS, row, strict=True))
            for k in range(times)
        ]
        for measure in measures:
            whole = dict(
                zip(measure.names, measure.score(row[None].astype(float))[0].tolist(), strict=True)
            )
            again = {m.protocol: m for m in vqa_measures(drawn, protocols)[0]}
            if measure.protocol in again:
                found = values(again[measure.protocol], drawn)
                assert {name: whole[name] for name in found} == pytest.approx(found, nan_ok=True)


def test_scores_of_each_question_stand_under_its_type():
    (exact, _), _ = vqa_measures(QUESTIONS)
    table = dict(zip(exact.names, exact.per_study.T.tolist(), strict=True))
    assert table["accuracy"] == [1, 0, 1, 0, 0, 1]
    np.testing.assert_array_equal(table["accuracy: size"], [np.nan] * 5 + [1])


def test_only_the_types_asked_for_are_scored():
    (exact, _), skipped = vqa_measures(
        QUESTIONS, ["vqa@exact", "vqa@hierarchical", "vqa@hsenet-major"], types=["presence"]
    )
    assert exact.names == ("macro accuracy", "accuracy", "accuracy: presence")
    assert values(exact)["accuracy"] == pytest.approx(2 / 3)
    assert skipped == {"vqa@hsenet-major": "no question is of type location"}


def test_the_baseline_is_the_answer_valid_for_most_questions():
    questions = [
        asked(1, "location", ["a", "b"], ""),
        asked(2, "location", ["b", "c"], ""),
        asked(3, "location", ["C", "c."], ""),
        asked(4, "presence", ["no"], ""),
        asked(5, "presence", ["yes"], ""),
    ]
    assert majority_answers(questions) == {"location": "b", "presence": "no"}


def test_the_baseline_of_the_test_set_is_named_as_such():
    floors = vqa_floors(QUESTIONS)
    (exact, paths) = floors["majority answer (test set)"]
    assert values(exact)["accuracy: presence"] == pytest.approx(2 / 3)
    assert [m.protocol for m in (exact, paths)] == ["vqa@exact", "vqa@hierarchical"]
    measures, _ = vqa_measures(QUESTIONS)
    assert [m.names for m in measures] == [exact.names, paths.names]


def test_a_type_that_training_lacks_gets_no_answer():
    training = [asked(i, "presence", ["no"], "") for i in range(3)]
    (exact, _) = vqa_floors(QUESTIONS, training=training)["majority answer (training)"]
    assert values(exact)["accuracy: presence"] == pytest.approx(1 / 3)
    assert values(exact)["accuracy: size"] == 0


def test_hsenets_measure_takes_substrings_but_no_empty_prediction():
    questions = [
        asked(1, "location", ["lung/lung/left lung"], "Lung/lung/right lung"),
        asked(2, "location", ["pleura"], "l"),
        asked(3, "location", ["heart", "mediastinum"], "heart"),
        asked(4, "location", ["bone"], ""),
        asked(5, "location", ["bone"], "/bone"),
        asked(6, "presence", ["yes"], "yes"),
    ]
    (measure,), _ = vqa_measures(questions, ["vqa@hsenet-major"])
    found = values(measure, questions)
    # Rows: lung 1, pleura 1 ("l" is in it), heart 1, mediastinum 0, bone 0 and 0.
    assert found["major class accuracy"] == pytest.approx(3 / 6)
    assert found["macro over anatomies"] == pytest.approx((1 + 1 + 1 + 0 + 0) / 5)
    np.testing.assert_array_equal(measure.per_study[:, 0], [1, 1, 0.5, 0, 0, np.nan])
    assert measure.notes[0].endswith("wrong here: 2.")


def test_hsenets_floor_is_the_majority_answer_too():
    (floor,) = vqa_floors(QUESTIONS, ["vqa@hsenet-major"])["majority answer (test set)"]
    # "lung/lung/right lung", "mediastinum", "pleura": equals, so the first in the alphabet.
    assert values(floor)["major class accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": ()}, "question 'q9' has no valid answer"),
        ({"answers": ("", " . ")}, "question 'q9' has no valid answer"),
        ({"type": " "}, "question 'q9' has no type"),
        ({"id": "q1"}, "question 'q1' occurs 2 times"),
    ],
)
def test_questions_that_cannot_be_scored_are_refused_by_id(change, message):
    fields = {"id": "q9", "study_id": "s9", "type": "size", "answers": ("1 mm",)} | change
    with pytest.raises(InputError, match=message):
        vqa_measures([*QUESTIONS, Question(**fields)])


def test_an_unknown_type_is_refused_with_those_found():
    with pytest.raises(
        InputError, match=r"of type 'colour'\. Types found: location, presence, size"
    ):
        vqa_measures(QUESTIONS, types=["colour"])


def test_no_question_is_refused():
    with pytest.raises(InputError, match="no question"):
        vqa_measures([])
    with pytest.raises(InputError, match="no question"):
        vqa_floors([])


def test_only_hsenets_protocol_is_not_default():
    assert [info.name for info in PROTOCOLS if not info.default] == ["vqa@hsenet-major"]
    assert {info.task for info in PROTOCOLS} == {"vqa"}
