"""The dispatcher: every command is found, every outcome has its exit code."""

from __future__ import annotations

import sys
import types

import pytest
from torch._utils import ExceptionWrapper

from uvlm import __version__
from uvlm.cli.main import main
from uvlm.errors import ImageError, TrainingDivergedError
from uvlm.registry import COMMANDS


def command(monkeypatch, outcome: int | BaseException) -> list[list[str]]:
    """Replace `uvlm inspect` by one that returns or raises `outcome`; collects its arguments."""
    calls: list[list[str]] = []

    def run(argv: list[str]) -> int:
        calls.append(argv)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = types.SimpleNamespace(main=run)
    monkeypatch.setitem(sys.modules, COMMANDS["inspect"][0], module)
    return calls


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"uvlm {__version__}\n"


def test_no_command_shows_the_usage_and_fails(capsys):
    assert main([]) == 2
    assert "usage: uvlm" in capsys.readouterr().out


def test_an_unknown_command_is_the_users_mistake(capsys):
    assert main(["inspekt"]) == 2
    assert "unknown command 'inspekt'" in capsys.readouterr().err


def test_arguments_reach_the_command(monkeypatch):
    calls = command(monkeypatch, 0)
    assert main(["inspect", "a", "--json"]) == 0
    assert calls == [["a", "--json"]]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (0, 0),
        (3, 3),
        (ImageError("a.nii: broken. Copy it."), 2),
        (TrainingDivergedError("step 3"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_outcome_has_its_exit_code(monkeypatch, outcome, code):
    command(monkeypatch, outcome)
    assert main(["inspect", "a"]) == code


def test_an_error_is_one_line_without_a_traceback(monkeypatch, capsys):
    command(monkeypatch, ImageError("a.nii: broken. Copy it."))
    main(["inspect", "a"])
    assert capsys.readouterr().err == "uvlm inspect: a.nii: broken. Copy it.\n"


def test_a_bug_is_not_hidden(monkeypatch):
    command(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "a"])


def test_an_error_of_a_loader_process_is_shown_without_its_traceback(monkeypatch, capsys):
    """PyTorch raises it again with the other process's traceback as its message."""
    try:
        raise ImageError("a.b2nd: cut short. Copy it again:\nit has 3 bytes.")
    except ImageError:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(ImageError) as caught:
        wrapper.reraise()
    command(monkeypatch, caught.value)
    assert main(["inspect", "x"]) == 2
    expected = "uvlm inspect: a.b2nd: cut short. Copy it again:\nit has 3 bytes.\n"
    assert capsys.readouterr().err == expected
