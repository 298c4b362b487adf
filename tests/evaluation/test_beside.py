"""Published values stand under the scores they fit, in the table and in the figure."""

import math

import pytest

from tests.evaluation.systems import IDS, PATIENTS, VALUES, measures
from uvlm.evaluation.beside import figure
from uvlm.evaluation.compare import comparison
from uvlm.evaluation.measure import mean_measure
from uvlm.evaluation.published import MARK, PublishedRow, published_rows
from uvlm.evaluation.result_files import read_result, write_result
from uvlm.evaluation.results import Score, build_result
from uvlm.registry import CT_RATE_LABELS

LABELLED = {
    "region": "chest",
    "labeller": "rules@chest18",
    "class_names": ", ".join(CT_RATE_LABELS),
    "truth_from": "reports",
    "predictions_from": "reports",
}


def test_published_values_are_not_put_beside_a_score_over_other_classes(stored):
    rows = published_rows("report", "CT-RATE")
    two = stored("b", about=LABELLED | {"class_names": "Emphysema, Atelectasis"})
    found = comparison([two], ["B"], rows)
    assert found.published.header[1:-1] == ("BLEU-mean (bleu@vlm3d)",)
    assert "over other classes than those here left out: ce_f1@vlm3d-macro18" in found.text()
    whole = comparison([stored("a", about=LABELLED)], ["A"], rows).published
    assert whole.header[1] == "F1 (ce_f1@vlm3d-macro18)"
    both = comparison([stored("c", about=LABELLED), two], ["C", "B"], rows).published
    assert both.header == found.published.header


def test_a_macro_average_does_not_stand_under_pooled_or_weighted_scores(tmp_path):
    protocols = ("ce_f1@micro", "ce_f1@ctclip-weighted")
    own = [mean_measure(protocol, ("F1",), VALUES[:, :1]) for protocol in protocols]
    write_result(build_result(task="report", ids=IDS, patients=IDS, measures=own), tmp_path / "m")
    rows = published_rows("report", "CT-RATE", ["EXACT-CHAT"])
    assert not comparison([read_result(tmp_path / "m")], ["mine"], rows).beside


def row(system, metric, value, dataset="CT-RATE", protocol="bleu@vlm3d"):
    return PublishedRow(
        system=system, task="report", dataset=dataset, metric=metric, protocol=protocol,
        value=value, interval=None, source="paper", year=2026, paper="", note=f"of {dataset}",
    )  # fmt: skip


def test_the_figure_draws_systems_that_have_only_another_score(stored):
    rows = [row("Clinical", "F1", 0.3, protocol="ce_f1@vlm3d-macro18")]
    rows += [row(f"Words {i}", "BLEU-mean", i / 10) for i in range(9)]
    figure = comparison([stored("a")], ["A"], rows).figure
    assert [name for name in ("Clinical", "Words 8", "Words 5", "Words 4") if name in figure] == [
        "Clinical",
        "Words 8",
        "Words 5",
    ]


def test_the_figure_keeps_datasets_apart_and_marks_unknown_protocols():
    key, other = ("bleu@vlm3d", "BLEU-mean"), ("ce_f1@vlm3d-macro18", "F1")
    fitting = {
        key: [row("X", "BLEU-mean", 0.2), row("X", "BLEU-mean", 0.4, "Other")],
        other: [row("X", "F1", 0.6, "Other", "ce_f1")],
    }
    drawn = {}

    def plot(title, labels, systems):
        drawn.update({name: [score.value for score in of] for name, of in systems.items()})
        return "<svg/>"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvlm.evaluation.beside.systems_plot", plot)
        scores = [{k: Score(protocol=k[0], name=k[1], value=0.5, low=0, high=1) for k in fitting}]
        figure([key, other], scores, ["mine"], fitting)
    nan = pytest.approx(math.nan, nan_ok=True)
    assert drawn == {
        "mine": [0.5, 0.5],
        "X (published [2])": [0.4, nan],
        "X ? (published [2])": [nan, 0.6],
        "X (published [1])": [0.2, nan],
    }


def test_in_a_terminal_rows_are_short_and_sources_stand_once(stored):
    rows = published_rows("report", "CT-RATE")
    found = comparison([stored("a")], ["mine"], rows)
    text = found.text()
    assert "Beside published values: bleu@vlm3d" in text
    source = "[1] CT-RATE; arXiv:2603.00479, Table 2. "
    assert text.count(source) == 1
    table = [line for line in text.splitlines() if "published, not re-run [" in line]
    assert table
    assert all(len(line) < 140 for line in table)
    assert all(" 0." in line for line in table)


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
    assert table["EXACT-CHAT"][1:3] == ("0.310 [0.274, 0.347] ?", "-")
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
    for text in (">A<", ">B<", ">EXACT-CHAT, ref... ? (published ["):
        assert text in found.figure


def test_names_of_any_length_leave_room_for_the_figure(stored):
    names = ["a very long name of a folder " * 5 + end for end in "xy"]
    figure = comparison([stored("a"), stored("b")], names).figure
    assert ">a very long name of a...<" in figure
    assert ">a very long name of a... 2<" in figure


def test_a_figure_without_shares_is_empty(stored):
    assert comparison([stored("a", VALUES + 5), stored("b")], ["A", "B"]).figure == ""
