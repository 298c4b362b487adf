"""Every command shown in the README and the guides is one that exists, with arguments it takes."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uvlm.cli.main import main
from uvlm.registry import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(first: str) -> list[Any]:
    """Command lines of all pages that begin with the word `first`."""
    found = []
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == first:
                    found.append(pytest.param(words, id=f"{page.name}: {line.strip()[:60]}"))
    return found


class ParsedError(Exception):
    """Raised in place of the work, once the arguments were understood."""


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    original = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        raise ParsedError

    def work(*args: object, **kwargs: object) -> None:
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    # tyro parses by its own way; the commands that use it then import one of these.
    monkeypatch.setitem(sys.modules, "uvlm.training.run", SimpleNamespace(train=work))
    monkeypatch.setitem(sys.modules, "uvlm.training.features", SimpleNamespace(fill_bank=work))
    monkeypatch.setitem(sys.modules, "uvlm.training.probe", SimpleNamespace(measured_tflops=work))
    monkeypatch.setitem(sys.modules, "uvlm.training.smoke", SimpleNamespace(smoke_run=work))


@pytest.mark.parametrize("words", commands("uvlm"))
def test_each_uvlm_command_is_understood(words, parse_only):
    if words[1:] in (["--help"], ["--version"]) or words[1:3] == ["train", "--list"]:
        assert main(words[1:]) == 0
        return
    assert words[1] in COMMANDS
    filled = ["INPUT" if word == "INPUT..." else word for word in words[1:]]
    if "--gpu-gb" in words or words[1:] == ["doctor"]:  # nothing is measured, all is said
        assert main(filled) in (0, 1)
        return
    with pytest.raises(ParsedError):
        main(filled)


@pytest.mark.parametrize("words", commands("make"))
def test_each_make_target_exists(words):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in words[1:] if "=" not in word and word not in targets] == []


def test_the_pages_show_commands():
    assert len(commands("uvlm")) > 5


def test_python_examples_are_valid():
    for page in PAGES:
        for block in PYTHON.findall(page.read_text(encoding="utf-8")):
            compile(block, f"{page.name}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_names_every_extra():
    section = re.search(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[",
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert section is not None
    extras = re.findall(r"^(\w+) = ", section[1], re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert extras
    assert [extra for extra in extras if f"`{extra}`" not in readme] == []
