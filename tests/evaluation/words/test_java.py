"""Java is found or its absence is said; whatever happens, no process stays."""

import os
import stat

import pytest

from uvlm.evaluation.words import java
from uvlm.evaluation.words.java import find_jar, find_java, run_java
from uvlm.evaluation.words.skipped import SkippedError


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a shell script where `java` is looked for."""

    def put(script):
        file = tmp_path / "bin" / "java"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        return file

    return put


def test_java_home_comes_before_the_path(program):
    file = program("cat")
    assert find_java() == file


def test_no_java_is_a_reason(monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SkippedError, match=r"Java is not found\. Install"):
        find_java()


def test_no_jar_is_a_reason():
    with pytest.raises(SkippedError, match=r"other.jar of pycocoevalcap is not installed"):
        find_jar("meteor/other.jar")


def test_every_part_gets_its_own_lines_back(program):
    program("cat")
    parts = [["one", "two \u00e9\u2028"], ["", "three"]]
    assert run_java([], parts, 10.0) == parts


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("cat; exit 3", "Java ended with status 3"),
        ("head -n 1", "Java gave 1 lines for 2 reports"),
        ("echo java.lang.OutOfMemoryError: heap >&2; exit 1", "Java ran out of memory"),
    ],
)
def test_a_failure_is_a_reason(program, script, reason):
    program(script)
    with pytest.raises(SkippedError, match=reason):
        run_java([], [["a", "b"]], 10.0)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_hangs_is_stopped(program, tmp_path):
    program(f"echo $$ >> {tmp_path}/pids; exec sleep 3600")
    with pytest.raises(SkippedError, match="more than 1 seconds"):
        run_java([], [["a"], ["b"]], 1.0)
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert not any(map(alive, pids))


def test_a_program_that_cannot_start_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(java, "find_java", lambda: tmp_path / "nothing")
    with pytest.raises(SkippedError, match="Java could not be started"):
        run_java([], [["a"]], 1.0)
