"""`uvlm ask`: questions on the command line, or those of a catalog."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inference.bundle_factory import tiny_bundle, write_ct
from uvlm.cli.ask import main
from uvlm.errors import BundleError, ConfigError, InputError

QUESTIONS = ("Is there a nodule?", "Where is it?")
QUICK = ("--device", "cpu", "--max-new-tokens", "3")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "report", ("report",))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_ct(tmp_path / "chest.nii.gz")


@pytest.mark.parametrize("flag", ["--bundle", "--model"])
def test_questions_stand_above_their_answers(bundle, ct, capsys, flag):
    assert main([str(ct), *QUESTIONS, flag, str(bundle), *QUICK]) == 0
    shown = capsys.readouterr().out
    assert shown.index(QUESTIONS[0]) < shown.index(QUESTIONS[1])
    assert main([str(ct), *QUESTIONS, flag, str(bundle), "--json", *QUICK]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["study"] == "chest.nii.gz"
    assert [each["question"] for each in said["answers"]] == list(QUESTIONS)
    for each in said["answers"]:
        assert each["answer"] in shown


def test_the_questions_of_a_catalog_become_a_file(bundle, ct, capsys):
    folder = ct.parent
    (folder / "catalog.csv").write_text("series_id,blosc2_path\nchest,chest.nii.gz\n")
    (folder / "mine.csv").write_text(
        'series_id,type,anatomy,finding,answers\nchest,location,,nodule,"[""lung""]"\n'
    )
    out = folder / "answers.jsonl"
    given = [str(folder / "catalog.csv"), "--bundle", str(bundle), *QUICK, "--out", str(out)]
    with pytest.raises(InputError, match=r"vqa\.csv"):
        main(given)
    assert main([*given, "--questions", str(folder / "mine.csv")]) == 0
    assert "1 questions about 1 studies" in capsys.readouterr().out
    assert json.loads(out.read_text())["type"] == "location"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no question was given"),
        (("Where?", "--questions", "vqa.csv"), "are for a catalog"),
        (("Where?", "--out", "x.csv"), "leave others"),
        (("--json", "--out", "x.csv"), "leave others"),
    ],
)
def test_contradictory_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["chest.nii.gz", *arguments, "--bundle", "b"])


def test_bad_input_is_an_error(bundle, ct, tmp_path):
    with pytest.raises(InputError, match="the question is empty"):
        main([str(ct), " ", "--bundle", str(bundle), *QUICK])
    with pytest.raises(InputError, match="absent"):
        main([str(tmp_path / "absent.nii.gz"), "Where?", "--bundle", str(bundle), *QUICK])
    other = tiny_bundle(tmp_path / "cls", ("classification",))
    with pytest.raises(BundleError, match="no report part"):
        main([str(ct), "Where?", "--bundle", str(other), *QUICK])
