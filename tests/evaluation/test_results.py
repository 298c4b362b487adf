"""A result holds every score with its interval and its floors, and survives being written."""

import json
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from uvlm.errors import InputError
from uvlm.evaluation.measure import mean_measure
from uvlm.evaluation.rendering.markdown import markdown
from uvlm.evaluation.rendering.page import html
from uvlm.evaluation.rendering.words import described, grids, summary
from uvlm.evaluation.result_files import file_mark, file_names, read_result, write_result
from uvlm.evaluation.results import Chart, build_result, split_name

IDS = [f"s{i:02d}" for i in range(20)]
VALUES = np.linspace(0, 1, 20)[:, None]


def measure(values=VALUES, names=("accuracy",), **options):
    return mean_measure("mean@test", names, np.asarray(values), **options)


def result(**changes):
    options = {
        "task": "report",
        "ids": IDS,
        "patients": IDS,
        "measures": [measure(notes=("A note.",))],
        "resamples": 100,
    }
    return build_result(**{**options, **changes})


def test_a_score_has_its_value_and_an_interval_around_it():
    (score,) = result().scores
    assert score.value == pytest.approx(0.5)
    assert 0.3 < score.low < 0.5 < score.high < 0.7


def test_a_floor_stands_beside_the_score_of_the_same_name_with_a_paired_gain():
    floors = {"constant": [measure(VALUES - 0.25)], "other": [measure(names=("another",))]}
    (score,) = result(floors=floors).scores
    (floor,) = score.floors
    assert floor.name == "constant"
    assert floor.value == pytest.approx(0.25)
    assert (floor.gain.low, floor.gain.high) == (pytest.approx(0.25), pytest.approx(0.25))


def test_a_floor_of_some_studies_is_compared_over_these_alone():
    members = np.arange(20) < 5
    floor = np.where(members[:, None], VALUES - 0.25, np.nan)
    part = replace(measure(floor), members=members)
    (score,) = result(floors={"constant": [part]}).scores
    (found,) = score.floors
    assert score.value == pytest.approx(0.5)
    assert found.value == pytest.approx(VALUES[:5].mean() - 0.25)
    assert [found.gain.difference, found.gain.low, found.gain.high] == pytest.approx([0.25] * 3)


def test_the_order_of_measures_and_studies_changes_no_score():
    back = result(ids=IDS[::-1], patients=IDS[::-1], measures=[measure(VALUES[::-1])])
    assert back.resample_key == result().resample_key
    np.testing.assert_allclose(back.draws, result().draws)


def test_one_patient_gives_a_value_without_interval_and_says_so():
    found = result(patients=["p"] * 20)
    assert math.isnan(found.scores[0].low)
    assert found.draws.shape == (0, 1)
    assert "One patient only: there are no intervals." in found.notes[""]


def test_nothing_computed_is_an_error_with_the_reasons():
    with pytest.raises(InputError, match="bleu@ptb: no Java"):
        result(measures=[], skipped={"bleu@ptb": "no Java"})


def test_a_score_that_does_not_exist_is_null_in_json_and_a_dash_for_readers(tmp_path):
    values = np.column_stack([VALUES[:, 0], np.full(20, np.nan)])
    found = result(measures=[measure(values, ("F1", "F1: Lung nodule"))])
    write_result(found, tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert [score["value"] for score in written["scores"]] == [pytest.approx(0.5), None]
    assert "| Lung nodule | - | - |" in (tmp_path / "result.md").read_text()


def test_names_tell_kind_and_class():
    assert split_name("F1: Lung nodule") == ("F1", "Lung nodule")
    assert split_name("BLEU-mean") == ("BLEU-mean", "")


@pytest.fixture
def folder(tmp_path):
    chart = Chart(title="Curve", x_label="x", y_label="y", lines={"all": ([0, 1], [0.1, 0.9])})
    per_class = ("F1", "F1: Lung <nodule>", "F1: Pleural | effusion")
    found = result(
        measures=[measure(notes=("A note.",)), measure(np.repeat(VALUES, 3, 1), per_class)],
        floors={"constant": [measure(VALUES / 2)]},
        skipped={"bleu@ptb": "no Java"},
        columns={"missing": [i == 3 for i in range(20)]},
        charts=[chart],
        about={"references": "t.csv (0123)", "unit": "series"},
    )
    write_result(found, tmp_path / "out")
    return tmp_path / "out"


def test_all_files_are_written_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(file_names())


def test_the_page_is_whole_needs_no_other_file_and_escapes_names(folder):
    page = (folder / "result.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "Lung &lt;nodule&gt;" in page
    assert "Lung <nodule>" not in page
    assert "no Java" in page
    for outside in ("<script", "<link", "<image", "src=", "@import", "<?xml"):
        assert outside not in page


def test_tables_keep_their_columns_whatever_a_class_is_called(folder):
    lines = (folder / "result.md").read_text().splitlines()
    assert "| Pleural \\| effusion | 0.500 | " in next(x for x in lines if "Pleural" in x)
    assert "A note." in lines


def test_studies_are_listed_with_their_own_scores(folder):
    rows = (folder / "studies.csv").read_text().splitlines()
    assert len(rows) == 21
    assert rows[0].startswith("study,patient,missing,mean@test accuracy")
    assert rows[4].startswith("s03,s03,1,0.157895")


def test_what_was_written_is_read_back(folder):
    stored = read_result(folder)
    assert stored.task == "report"
    assert stored.draws.shape == (100, 4)
    assert stored.scores[0].name == "accuracy"
    assert stored.about["unit"] == "series"
    assert read_result(folder / "result.json").resample_key == stored.resample_key


def test_the_same_input_gives_the_same_files(folder, tmp_path):
    again = tmp_path / "again"
    first = result(about={"unit": "series"})
    write_result(first, again)
    write_result(result(about={"unit": "series"}), tmp_path / "third")
    for name in ("result.json", "result.md", "result.html", "studies.csv"):
        assert (again / name).read_bytes() == (tmp_path / "third" / name).read_bytes()


@pytest.mark.parametrize("name", file_names())
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_result(result(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_results_of_two_tasks_lie_in_one_folder_under_their_prefixes(tmp_path):
    write_result(result(), tmp_path, "cls_")
    write_result(result(), tmp_path, "report_")
    with pytest.raises(InputError, match=r"cls_result\.json, report_result\.json"):
        read_result(tmp_path)
    assert read_result(tmp_path / "cls_result.json").draws.shape == (100, 1)


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    import os

    original, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(InputError, match="No space left"):
        write_result(result(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_results_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"one result\.json expected, found: none"):
        read_result(tmp_path)
    write_result(result(seed=1), tmp_path / "other")
    (folder / "draws.npz").write_bytes((tmp_path / "other" / "draws.npz").read_bytes())
    with pytest.raises(InputError, match="is of another result"):
        read_result(folder)
    (folder / "draws.npz").write_bytes(b"PK broken")
    with pytest.raises(InputError, match="cannot be read"):
        read_result(folder)


def test_a_file_is_known_by_its_name_and_content_not_its_place(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    assert file_mark(tmp_path / "a.csv") == "a.csv (2d711642b726)"


def test_a_note_of_all_protocols_is_written_once(tmp_path):
    notes = ("Two studies have no prediction.",)
    two = [mean_measure(name, ("a",), VALUES, notes=notes) for name in ("one@test", "two@test")]
    found = result(measures=two)
    for text in (markdown(found), html(found), summary(found)):
        assert text.count(notes[0]) == 1
    assert notes[0] in markdown(result(measures=two[:1]))


def test_every_protocol_says_what_it_computes_and_its_source():
    about = described("vqa@exact", "vqa")
    assert about.startswith("Share of questions answered exactly. Source: ")
    assert described("surface_dice@3mm", "seg") == described("surface_dice@2mm", "seg") != ""
    assert described("mean@test", "report") == ""
    found = result(task="vqa", measures=[mean_measure("vqa@exact", ("accuracy",), VALUES)])
    assert about in markdown(found).splitlines()
    assert html(found).count(about) == 1


def test_units_stand_in_tables_and_plots():
    names = ("HD95", "HD95: liver")
    found = result(
        task="seg", measures=[mean_measure("hd95@diagonal", names, np.repeat(VALUES, 2, 1))]
    )
    assert "| HD95 (mm) |" in markdown(found)
    assert "| class | HD95 (mm) |" in markdown(found)
    assert html(found).count("<text") > 0
    assert html(found).count(">mm</text>") == 2


def test_a_class_says_in_how_many_studies_it_has_a_score():
    values = np.repeat(VALUES, 3, axis=1)
    values[:15, 2] = np.nan
    names = ("Dice", "Dice: liver", "Dice: cyst")
    *_, grid = grids(result(measures=[measure(values, names)]))
    assert grid.header[:2] == ("class", "studies")
    assert [row[:2] for row in grid.rows] == [("liver", "20"), ("cyst", "5")]
    *_, grid = grids(result(measures=[measure(np.repeat(VALUES, 3, axis=1), names)]))
    assert "studies" not in grid.header


def test_types_of_questions_are_no_classes_and_have_their_floor():
    names = ("accuracy", "accuracy: size")
    measures, floor = ([measure(np.repeat(v, 2, 1), names)] for v in (VALUES, VALUES / 2))
    found = result(task="vqa", measures=measures, floors={"majority answer": floor})
    *_, grid = grids(found)
    assert grid.title == "mean@test, by type"
    assert grid.header == ("type", "accuracy", "95 %", "majority answer")
    assert grid.rows[0][-1] == "0.250"
    assert "by class" not in html(found) + markdown(found)
    assert "'minus majority answer' is the score less that" in summary(found)


def test_many_studies_of_few_patients_need_little_memory():
    """All weights of 20,000 studies at once would be 160 MB."""
    many, values = [f"s{i}" for i in range(20_000)], np.resize(VALUES, (20_000, 1))
    tracemalloc.start()
    result(
        ids=many,
        patients=[f"p{i % 30}" for i in range(20_000)],
        measures=[measure(values)],
        resamples=1000,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
