"""Many inputs: names, recorded failures, exit codes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from uvlm.cli.studies import run_studies, study_names
from uvlm.errors import ImageError, InputError, UvlmError

NAMES = {name: Path(f"{name}.nii.gz") for name in ("a", "b", "c")}


def failing(*bad: str, error: type[Exception] = ImageError):
    def work(path: Path) -> str:
        if path.name.split(".")[0] in bad:
            raise error(f"{path}: broken, badly.\nDo something.")
        return f"did {path}"

    return work


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "errors.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_names_are_file_names_without_format_suffixes():
    paths = ["x/a.nii.gz", "b.NII", "folder.1", "c.b2nd", "d.v2.mha", "e.zip"]
    names = study_names([Path(p) for p in paths])
    assert list(names) == ["a", "b", "folder.1", "c", "d.v2", "e"]


def test_two_inputs_of_one_name_are_refused():
    with pytest.raises(InputError, match="both would be written as 'a'"):
        study_names([Path("x/a.nii.gz"), Path("y/a.nii")])


def test_all_done_is_0_and_writes_no_errors(tmp_path):
    assert run_studies(NAMES, failing(), tmp_path).exit_code == 0
    assert not (tmp_path / "errors.csv").exists()


def test_one_failure_is_recorded_and_the_rest_goes_on(tmp_path):
    done: list[str] = []

    def work(path: Path) -> str:
        failing("b")(path)
        done.append(path.name)
        return path.name

    assert run_studies(NAMES, work, tmp_path / "out").exit_code == 3
    assert done == ["a.nii.gz", "c.nii.gz"]
    assert rows(tmp_path / "out") == [
        {"study": "b", "error": "b.nii.gz: broken, badly. Do something."}
    ]


def test_errors_of_an_earlier_run_stay(tmp_path):
    run_studies(NAMES, failing("a"), tmp_path)
    run_studies(NAMES, failing("b"), tmp_path)
    assert [row["study"] for row in rows(tmp_path)] == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["errors.csv"]


@pytest.mark.parametrize(("error", "code"), [(ImageError, 2), (UvlmError, 1), (MemoryError, 1)])
def test_nothing_done_is_2_when_the_inputs_are_at_fault(tmp_path, error, code):
    assert run_studies(NAMES, failing("a", "b", "c", error=error), tmp_path).exit_code == code


def test_an_error_nobody_foresaw_is_said_by_type_and_place(tmp_path, caplog):
    run_studies(NAMES, failing("b", error=ValueError), tmp_path)
    (row,) = rows(tmp_path)
    assert row["error"].startswith("b: ValueError at test_studies.py:")
    assert "broken" not in row["error"] + caplog.text


def test_the_only_study_raises_its_own_error(tmp_path):
    with pytest.raises(ImageError, match="broken"):
        run_studies({"a": NAMES["a"]}, failing("a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_and_errors_stand_on_lines_of_their_own_beside_the_bar(tmp_path, capsys):
    run_studies(NAMES, failing("b"), tmp_path)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["did a.nii.gz", "did c.nii.gz"]
    assert "study/s" in shown.err
    lines = shown.err.replace("\r", "\n").splitlines()
    assert "b.nii.gz: broken, badly." in lines
