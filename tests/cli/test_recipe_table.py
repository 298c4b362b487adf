"""`uvlm train --list`: all recipes, or some, with sizes that the reference counts agree with."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from uvlm.cli.main import main
from uvlm.registry import PAPER_ROWS, RECIPES


def table(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """Recipe -> its line."""
    assert main(["train", "--list", *words]) == 0
    lines = filter(None, capsys.readouterr().out.splitlines())
    return {line.split()[0]: line for line in lines if not line.startswith("recipe ")}


def test_all_recipes_are_listed_with_their_rows(capsys):
    lines = table(capsys)
    assert list(lines) == list(RECIPES)
    for name, rows in PAPER_ROWS.items():
        assert all(f" {re.sub('Table | Seg.*', '', row)}" in lines[name] for row in rows)


def test_the_list_fits_a_terminal_of_100_columns_in_aligned_tables(capsys):
    assert main(["train", "--list"]) == 0
    told = capsys.readouterr()
    assert max(map(len, [*told.out.splitlines(), *told.err.splitlines()])) <= 100
    tables = told.out.split("\n\n")
    assert [table.count("\n") for table in tables[:-1]] == [19, 26]
    heads = [table.splitlines()[0] for table in tables]
    assert {head.index("params") for head in heads} == {heads[0].index("params")}
    assert len({len(line) for line in told.out.splitlines() if line}) == 1


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
