"""Systems are tested against each other on the same draws only; what is published stays apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.compare import NO_TEST, comparison
from uvlm.evaluation.intervals import draws_of, paired_difference, patient_weights
from uvlm.evaluation.measure import mean_measure
from uvlm.evaluation.published import MARK, published_rows
from uvlm.evaluation.result_files import read_result, write_result
from uvlm.evaluation.results import build_result

IDS = [f"s{i}" for i in range(40)]
PATIENTS = [f"p{i // 2}" for i in range(40)]
VALUES = np.random.default_rng(0).random((40, 3))
NAMES = ("F1", "BLEU-mean", "F1: Lung nodule")


def measures(values):
    return [
        mean_measure("ce_f1@vlm3d-macro18", ("F1", "F1: Lung nodule"), values[:, [0, 2]]),
        mean_measure("bleu@vlm3d", ("BLEU-mean",), values[:, [1]]),
    ]


@pytest.fixture
def stored(tmp_path):
    def write(name, values=VALUES, ids=IDS, patients=PATIENTS, task="report", **options):
        result = build_result(
            task=task, ids=ids, patients=patients, measures=measures(values), **options
        )
        write_result(result, tmp_path / name)
        return read_result(tmp_path / name)

    return write


def test_differences_are_those_of_the_same_resamples(stored):
    other = np.clip(VALUES + 0.1, 0, 1)
    found = comparison([stored("a"), stored("b", other)], ["A", "B"])
    pair = next(p for p in found.paired if p.name == "BLEU-mean")
    weights = patient_weights(PATIENTS)
    draws = [draws_of(m[1], weights)[:, 0] for m in (measures(other), measures(VALUES))]
    means = other[:, 1].mean(), VALUES[:, 1].mean()
    assert pair.difference == paired_difference(means, (draws[0], draws[1]))
    assert (pair.system, pair.against) == ("B", "A")
    assert pair.difference.low > 0
    assert pair.difference.p_value < 0.01


def test_a_system_against_itself_has_no_difference(stored):
    found = comparison([stored("a"), stored("b")], ["A", "B"])
    for pair in found.paired:
        assert (pair.difference.difference, pair.difference.low) == (0, 0)
        assert pair.difference.p_value == 1


def test_each_is_compared_with_the_first(stored):
    found = comparison([stored("a"), stored("b"), stored("c", VALUES / 2)], ["A", "B", "C"])
    assert [(p.name, p.system) for p in found.paired] == [
        ("F1", "B"),
        ("F1", "C"),
        ("BLEU-mean", "B"),
        ("BLEU-mean", "C"),
    ]
    assert found.table.header == (
        "protocol", "score", "A", "B", "C", "B minus A", "p", "C minus A", "p",
    )  # fmt: skip
    assert {len(row) for row in found.table.rows} == {9}


def test_the_order_of_studies_does_not_prevent_a_test(stored):
    turned = stored("b", VALUES[::-1], IDS[::-1], PATIENTS[::-1])
    found = comparison([stored("a"), turned], ["A", "B"])
    assert all(pair.reason == "" for pair in found.paired)
    assert found.paired[0].difference.difference == pytest.approx(0)
    assert found.paired[0].difference.low == pytest.approx(0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": [f"t{i}" for i in range(40)]}, NO_TEST),
        ({"patients": IDS}, NO_TEST),
        ({"seed": 1}, "other seed"),
        ({"resamples": 500}, "other seed or number of resamples"),
    ],
)
def test_other_studies_patients_or_draws_are_not_tested_and_it_is_said(stored, change, reason):
    found = comparison([stored("a"), stored("b", **change)], ["A", "B"])
    assert all(pair.difference is None for pair in found.paired)
    assert all(pair.reason.startswith(reason) for pair in found.paired)
    assert reason in found.text()
    assert f"B and A: {reason}" in found.markdown()
    assert "p-values" not in found.text()


def test_one_patient_has_no_resamples_and_no_test(stored):
    alone = {"patients": ["p"] * 40}
    found = comparison([stored("a", **alone), stored("b", **alone)], ["A", "B"])
    assert {pair.reason for pair in found.paired} == {"no resamples, no test"}


def test_single_classes_are_shown_if_asked_for(stored):
    results = [stored("a"), stored("b")]
    assert "Lung nodule" not in comparison(results, ["A", "B"]).text()
    assert "F1: Lung nodule" in comparison(results, ["A", "B"], by_class=True).text()


def test_scores_that_one_lacks_are_left_out(stored, tmp_path):
    result = build_result(task="report", ids=IDS, patients=PATIENTS, measures=measures(VALUES)[1:])
    write_result(result, tmp_path / "c")
    found = comparison([stored("a"), read_result(tmp_path / "c")], ["A", "C"])
    assert [row[:2] for row in found.table.rows] == [("bleu@vlm3d", "BLEU-mean")]


def test_published_values_stand_beside_and_are_marked(stored):
    rows = published_rows("report", "CT-RATE")
    found = comparison([stored("a")], ["mine"], rows)
    assert found.paired == ()
    table = {row[0]: row for row in found.published.rows}
    assert found.published.header == (
        "system", "F1 (ce_f1@vlm3d-macro18)", "BLEU-mean (bleu@vlm3d)", "where",
    )  # fmt: skip
    assert table["mine"][-1] == "own result"
    assert table["CT2Rep"][1:3] == ("0.160", "0.280 ?")
    assert table["EXACT-CHAT"][1:3] == ("0.310 [0.274, 0.347]", "-")
    assert all(MARK in row[-1] for name, row in table.items() if name != "mine")
    # U-VLM's BLEU is of another protocol than the one here: it must not stand in its column.
    assert table["U-VLM"][1:3] == ("0.414", "-")
    assert "?: the protocol is not stated" in found.text()


def test_a_row_without_protocol_goes_to_the_first_score_of_its_name_only(stored, tmp_path):
    both = [*measures(VALUES), mean_measure("ce_f1@micro", ("F1",), VALUES[:, :1])]
    result = build_result(task="report", ids=IDS, patients=PATIENTS, measures=both)
    write_result(result, tmp_path / "m")
    rows = published_rows("report", "AbdomenAtlas 3.0")
    found = comparison([read_result(tmp_path / "m")], ["mine"], rows)
    assert found.published.header[1:] == ("F1 (ce_f1@vlm3d-macro18)", "where")


def test_a_value_of_no_stated_direction_stands_under_both(tmp_path):
    names = ("i2t R@100", "t2i R@100", "i2t R@10")
    own = [mean_measure("retrieval@paired", names, VALUES)]
    result = build_result(task="retrieval", ids=IDS, patients=PATIENTS, measures=own)
    write_result(result, tmp_path / "r")
    found = comparison([read_result(tmp_path / "r")], ["mine"], published_rows("retrieval"))
    assert found.published.rows[1][:3] == ("HSENet", "0.399", "0.399")
    assert "direction are not stated" in found.text()


def test_published_values_of_other_scores_leave_a_note(stored):
    found = comparison([stored("a")], ["mine"], published_rows("retrieval"))
    assert len(found.published.rows) == 1
    assert "No published value" in found.published.notes[0]


def test_the_figure_holds_every_system_and_the_best_published(stored):
    found = comparison([stored("a"), stored("b")], ["A", "B"], published_rows("report", "CT-RATE"))
    assert found.figure.startswith("<svg")
    for text in (">A<", ">B<", ">EXACT-CHAT, refined b... (published)<"):
        assert text in found.figure
    assert "CT2Rep" not in found.figure


def test_names_of_any_length_leave_room_for_the_figure(stored):
    names = ["a very long name of a folder " * 5 + end for end in "xy"]
    figure = comparison([stored("a"), stored("b")], names).figure
    assert ">a very long name of a...<" in figure
    assert ">a very long name of a... 2<" in figure


def test_other_reference_files_are_said(stored):
    results = [stored(n, about={"references": f"{n}.csv (123)"}) for n in "ab"]
    found = comparison(results, ["A", "B"])
    assert "different files of references: b.csv (123) and a.csv (123)" in found.text()
    assert found.paired[0].difference is not None


def test_it_is_written_as_json_and_as_a_page(stored):
    rows = published_rows("report", "CT-RATE")
    other = VALUES.copy()
    other[:, 1] = np.nan
    found = comparison([stored("a"), stored("b", other)], ["A", "<B>"], rows)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [(s["system"], s["name"]) for s in content["scores"]] == [
        ("A", "F1"),
        ("A", "BLEU-mean"),
        ("<B>", "F1"),
        ("<B>", "BLEU-mean"),
    ]
    assert content["scores"][3]["value"] is None
    assert content["differences"][0]["difference"] == 0
    assert content["differences"][1]["difference"] is None
    assert {row["mark"] for row in content["published"]} == {MARK}
    html = found.html()
    assert "<svg" in html
    assert "&lt;B&gt; minus A" in html
    assert "<B>" not in html


def test_a_figure_without_shares_is_empty(stored):
    assert comparison([stored("a", VALUES + 5), stored("b")], ["A", "B"]).figure == ""


def test_what_cannot_be_compared_is_refused(stored, tmp_path):
    one = stored("a")
    with pytest.raises(InputError, match="1 results to compare; give at least two"):
        comparison([one], ["A"])
    with pytest.raises(InputError, match="0 results"):
        comparison([], [], published_rows())
    with pytest.raises(InputError, match="2 results need as many different names, got: A, A"):
        comparison([one, one], ["A", "A"])
    other = stored("b", task="cls")
    with pytest.raises(InputError, match="is of task cls") as error:
        comparison([one, other], ["A", "B"])
    assert str(Path("b")) in str(error.value)
    result = build_result(
        task="report",
        ids=IDS,
        patients=PATIENTS,
        measures=[mean_measure("x@y", ("X",), VALUES[:, :1])],
    )
    write_result(result, tmp_path / "x")
    with pytest.raises(InputError, match="no score in common"):
        comparison([one, read_result(tmp_path / "x")], ["A", "X"])
