"""`uvlm evaluate TASK` on files: exit codes, what is written, what is refused."""

import csv
import json

import numpy as np
import pytest

from uvlm.cli import evaluate as command
from uvlm.cli.evaluate_files import TASKS
from uvlm.cli.main import main
from uvlm.errors import InputError
from uvlm.evaluation import evaluate as published
from uvlm.evaluation import protocols
from uvlm.evaluation.result_files import file_names
from uvlm.evaluation.tasks.table import CALLS, options_of

NAMES = ("Nodule", "Effusion")


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    truth = (rng.random((12, 2)) < 0.5).astype(int)
    guess = np.clip(0.5 * truth + 0.5 * rng.random((12, 2)), 0, 1)
    paths = []
    for name, values in (("truth.csv", truth), ("guess.csv", guess)):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("series_id", *NAMES))
            writer.writerows([f"s{i}", *row] for i, row in enumerate(values))
        paths.append(str(tmp_path / name))
    return paths


def arguments(files, out, *more):
    return ["cls", "--references", files[0], "--predictions", files[1], "--out", str(out), *more]


def test_results_are_written_and_the_scores_printed(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(arguments(files, out, "--resamples", "50")) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(file_names())
    printed = capsys.readouterr().out
    assert "AUROC" in printed
    assert "Skipped f1@validation" in printed
    content = json.loads((out / "result.json").read_text())
    assert content["about"]["resamples"] == 50
    assert content["about"]["references"].startswith("truth.csv (")
    assert str(tmp_path) not in (out / "result.json").read_text()


def test_only_named_protocols_are_computed_and_a_named_one_that_cannot_be_gives_3(files, tmp_path):
    asked = ["--protocol", "auroc", "f1@validation", "--resamples", "20"]
    assert command.main(arguments(files, tmp_path / "out", *asked)) == 3
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {score["protocol"] for score in content["scores"]} == {"auroc"}
    assert list(content["skipped"]) == ["f1@validation"]


def test_an_existing_result_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "draws.npz").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        command.main(arguments(["gone.csv", "gone.csv"], tmp_path))


def test_wrong_input_ends_with_2_and_writes_nothing(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", *arguments(files, out, "--protocol", "bleu")]) == 2
    assert "no protocol 'bleu' for cls" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("missing", ["--references", "--predictions", "--out"])
def test_what_is_needed_is_named(files, tmp_path, missing):
    given = arguments(files, tmp_path / "out")
    place = given.index(missing)
    with pytest.raises(InputError, match=f"needs {missing}"):
        command.main(given[:place] + given[place + 2 :])


def test_nothing_to_score_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([])
    assert stop.value.code == 2
    assert "bundle, report, cls" in capsys.readouterr().err


def test_every_task_lists_its_protocols_with_their_sources(capsys):
    assert command.main(["--list"]) == 0
    everything = capsys.readouterr().out
    for task in TASKS:
        assert command.main([task, "--list"]) == 0
        listed = capsys.readouterr().out
        infos = protocols.all_protocols(task)
        assert infos
        for info in infos:
            assert f"{info.name}  ({task}" in listed
            assert f"{info.name}  ({task}" in everything
        assert listed.count("Source: ") == len(infos)


def test_commands_protocols_and_modules_agree_on_the_tasks():
    assert tuple(TASKS) == tuple(CALLS) == protocols.TASKS


@pytest.mark.parametrize("task", TASKS)
def test_every_option_reaches_the_task(task):
    """A flag without a field of its name would be dropped in silence."""
    import argparse
    from dataclasses import fields

    from uvlm.cli.evaluate_files import add_task

    parser = argparse.ArgumentParser()
    add_task(parser.add_subparsers(dest="what"), task)
    flags = set(vars(parser.parse_args([task]))) - {"what", "list", "out", "protocol"}
    known = {field.name for field in fields(options_of(task))}
    assert flags <= known
    # A study without embedding is always refused.
    silent = {"missing"} if task == "retrieval" else set()
    assert known - flags == {"protocols"} | silent


def test_protocol_names_are_unique_and_fully_described():
    infos = protocols.all_protocols()
    assert len({info.name for info in infos}) == len(infos)
    for info in infos:
        assert info.task in protocols.TASKS
        assert len(info.about.split()) >= 10
        assert info.source


def test_the_published_command_writes_both_tasks_into_one_folder(files, tmp_path, capsys):
    out = tmp_path / "results"
    given = ["--gt-csv", files[0], "--pred-csv", files[1], "--output-dir", str(out)]
    assert published.main(["--task", "cls", *given]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(file_names("cls_"))
    assert published.main(["--task", "cls", *given]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_published_command_takes_columns(files, tmp_path):
    given = ["--gt-csv", files[0], "--pred-csv", files[1], "--output-dir", str(tmp_path / "r")]
    assert published.main(["--task", "cls", *given, "--cls-columns", "Nodule"]) == 0
    content = json.loads((tmp_path / "r" / "cls_result.json").read_text())
    assert content["about"]["classes"] == 1
    given[-1] = str(tmp_path / "logits")
    assert published.main(["--task", "cls", *given, "--logits"]) == 0
    content = json.loads((tmp_path / "logits" / "cls_result.json").read_text())
    assert content["about"]["logits"] is True


def test_retrieval_offers_no_choice_about_missing_embeddings(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["retrieval", "--missing", "wrong"])
    assert "--missing" in capsys.readouterr().err


def test_a_message_names_the_command_once(files, tmp_path, capsys):
    assert main(["evaluate", "seg"]) == 2
    assert capsys.readouterr().err.count("evaluate") == 1


@pytest.mark.parametrize("given", ["many", "liver=", "liver=x"])
def test_a_limit_is_a_number_with_or_without_its_organ(tmp_path, capsys, given):
    with pytest.raises(SystemExit) as stop:
        command.main(["detect", "--minimum", given])
    assert stop.value.code == 2
    assert "is no NUMBER or ORGAN=NUMBER" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["-1"], ["nan"], ["spleen=3"], ["liver=-1"]])
def test_a_wrong_limit_ends_with_2_before_anything_is_read(tmp_path, capsys, given):
    files = ["gone.csv", "gone.csv"]
    asked = ["detect", *arguments(files, tmp_path / "out")[1:], "--minimum", *given]
    assert main(["evaluate", *asked]) == 2
    assert "--minimum" in capsys.readouterr().err
