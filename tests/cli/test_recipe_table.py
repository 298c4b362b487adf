"""`uvlm train --list`: all recipes, or some, with sizes that the reference counts agree with."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uvlm.cli.main import main
from uvlm.registry import PAPER_ROWS, RECIPES


def table(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """Recipe -> its line."""
    assert main(["train", "--list", *words]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line for line in lines}


def test_all_recipes_are_listed_with_their_rows(capsys):
    lines = table(capsys)
    assert list(lines) == list(RECIPES)
    for name, rows in PAPER_ROWS.items():
        assert all(row in lines[name] for row in rows)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Table 2", {"ct_rate/seg_fl-cls-rep+sc"}),
        (
            "table 3 nnu-net",
            {"abdomen_atlas/seg_cl", "abdomen_atlas/seg_fl"},
        ),
        ("tiny_", {name for name in RECIPES if name.startswith("tiny_")}),
    ],
)
def test_a_filter_looks_at_names_and_rows(capsys, text, names):
    assert set(table(capsys, text)) == names


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("ct_rate/seg_fl-cls-rep+sc", "197.5"),  # the paper read literally: 197,481,408
        ("ct_rate/seg_c-cls-rep+sc+authors", "196.3"),  # four stages into two layers each
        ("ct_rate/cls", "90.8"),  # 90,817,554
    ],
)
def test_parameters_are_those_counted_from_the_published_code(capsys, name, millions):
    assert f"  {millions}  " in table(capsys, name)[name]


def test_a_bank_is_told_of_only_where_it_serves(capsys):
    lines = table(capsys, "ct_rate/")
    without = {name for name, line in lines.items() if line.endswith(" -")}
    reports = {name for name in lines if "rep" in name}
    assert reports & without == {
        "ct_rate/rep",
        "ct_rate/seg_cl-cls-rep+unfrozen",
        "ct_rate/seg_fl-cls-rep+unfrozen",
    }
    assert set(lines) - reports <= without


@pytest.mark.parametrize("words", [["nowhere"], ["Table", "4"]])
def test_a_filter_that_finds_nothing_is_refused(capsys, words):
    assert main(["train", "--list", *words]) == 2
    assert "--list" in capsys.readouterr().err


def test_the_list_needs_no_torch():
    code = (
        "import sys; from uvlm.cli.main import main; main(['train', '--list']);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
