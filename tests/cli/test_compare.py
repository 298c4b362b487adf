"""`uvlm compare`: result folders side by side, in files that stand alone."""

import json

import numpy as np
import pytest

from uvlm.cli import compare as command
from uvlm.errors import InputError
from uvlm.evaluation.measure import mean_measure
from uvlm.evaluation.result_files import write_result
from uvlm.evaluation.results import build_result

IDS = [f"s{i:02d}" for i in range(30)]
VALUES = np.random.default_rng(0).random((30, 1))


def result(folder, shift=0.0, **changes):
    measures = [mean_measure("bleu@authors", ("BLEU-mean",), 0.5 * VALUES + shift)]
    options = {"task": "report", "ids": IDS, "patients": IDS, "measures": measures}
    write_result(build_result(**{**options, "resamples": 100, **changes}), folder)
    return str(folder)


@pytest.fixture
def two(tmp_path):
    return [result(tmp_path / "a"), result(tmp_path / "b", 0.1)]


def test_two_systems_are_tested_in_pairs_and_drawn(two, tmp_path, capsys):
    assert command.main([*two, "--out", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(command.FILES)
    assert "b minus a" in capsys.readouterr().out
    (test,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["differences"]
    assert (test["system"], test["against"]) == ("b", "a")
    assert test["difference"] == pytest.approx(0.1)
    assert test["p_value"] < 0.05
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["scores"][0]["value"] == pytest.approx(float(0.5 * VALUES.mean()))
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "<svg" in page
    assert "<script" not in page


def test_other_patients_are_compared_without_a_test(two, tmp_path):
    other = result(tmp_path / "c", patients=["p", "q"] * 15)
    command.main([two[0], other, "--out", str(tmp_path / "out")])
    (test,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["differences"]
    assert "no test" in test["reason"]


def test_published_rows_are_marked(two, tmp_path):
    command.main([two[0], "--published", "U-VLM", "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "U-VLM" in text
    assert "published, not re-run" in text


def test_without_dataset_the_region_decides_which_published_values_are_shown(tmp_path):
    for region, dataset in (("chest", "CT-RATE"), ("abdomen", "AbdomenAtlas 3.0")):
        own = result(tmp_path / region, about={"region": region})
        command.main([own, "--published", "all", "--out", str(tmp_path / dataset)])
        content = json.loads((tmp_path / dataset / "comparison.json").read_text())
        assert {row["dataset"] for row in content["published"]} == {dataset}
    command.main([own, "--published", "all", "--dataset", "ct-rate", "--out", str(tmp_path / "n")])
    content = json.loads((tmp_path / "n" / "comparison.json").read_text())
    assert {row["dataset"] for row in content["published"]} == {"CT-RATE"}


def test_what_was_published_is_listed(capsys):
    assert command.main(["--list"]) == 0
    assert "CT-RATE" in capsys.readouterr().out


def test_names_are_the_folders_and_longer_where_they_are_the_same(tmp_path, capsys):
    paths = [result(tmp_path / side / "scores", i / 10) for i, side in enumerate("xy")]
    command.main([*paths, "--out", str(tmp_path / "out")])
    assert "y/scores minus x/scores" in capsys.readouterr().out
    command.main([*paths, "--names", "old", "new", "--out", str(tmp_path / "named")])
    assert "new minus old" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused_and_nothing_written(two, tmp_path):
    out = tmp_path / "out"
    for given, message in (
        ([two[0]], "at least two"),
        ([], "at least two"),
        ([two[0], str(tmp_path)], r"result\.json expected"),
        ([*two, "--published", "Nobody"], "Nobody"),
    ):
        with pytest.raises(InputError, match=message):
            command.main([*given, "--out", str(out)])
    assert not out.exists()
    with pytest.raises(InputError, match="needs --out"):
        command.main(two)
