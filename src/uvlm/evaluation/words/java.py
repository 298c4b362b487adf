"""Java programs that pycocoevalcap brings, run over lines of text and never left behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from uvlm.evaluation.words.skipped import SkippedError

__all__ = ["find_jar", "find_java", "run_java"]


def find_java() -> Path:
    """The `java` of JAVA_HOME or of PATH.

    Raises:
        SkippedError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    for folder in (str(Path(home) / "bin") if home else None, None):
        found = shutil.which("java", path=folder)
        if found:
            return Path(found)
    raise SkippedError(
        "Java is not found. Install a Java runtime (version 8 or later) and put `java` on the PATH."
    )


def find_jar(name: str) -> Path:
    """A jar inside the installed pycocoevalcap, such as "meteor/meteor-1.5.jar".

    Raises:
        SkippedError: it is not there.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    folders = () if spec is None else tuple(spec.submodule_search_locations or ())
    for folder in folders:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise SkippedError(
        f"{Path(name).name} of pycocoevalcap is not installed. Install it: "
        "pip install 'uvlm[metrics]'"
    )


def run_java(
    arguments: Sequence[str], parts: Sequence[Sequence[str]], seconds: float
) -> list[list[str]]:
    """Give each part's lines to its own Java process; all run at once. Returns their lines.

    Every process has ended when this returns or raises. One line comes back for each line given.

    Args:
        arguments: of `java`
        parts: lines without line breaks
        seconds: after so many, all are stopped

    Raises:
        SkippedError: Java is not found, fails, takes too long or gives another number of lines.
    """
    java = find_java()
    with tempfile.TemporaryDirectory(prefix="uvlm-java-") as folder:
        return _run([str(java), *arguments], parts, seconds, Path(folder))


def _run(
    command: list[str], parts: Sequence[Sequence[str]], seconds: float, folder: Path
) -> list[list[str]]:
    """Files, not pipes: two pipes that both wait for a reader would stop each other."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, lines in enumerate(parts):
            given, got = folder / f"{number}.in", folder / f"{number}.out"
            given.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            with (
                given.open("rb") as source,
                got.open("wb") as target,
                (folder / f"{number}.err").open("wb") as complaints,
            ):
                started.append(
                    subprocess.Popen(command, stdin=source, stdout=target, stderr=complaints)
                )
        for number, process in enumerate(started):
            if process.wait(timeout=seconds):
                raise SkippedError(_failure(process.returncode, folder / f"{number}.err"))
    except subprocess.TimeoutExpired:
        raise SkippedError(f"Java took more than {seconds:.0f} seconds.") from None
    except OSError as error:
        raise SkippedError(f"Java could not be started: {error.strerror or error}.") from error
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [_lines(folder / f"{number}.out", len(lines)) for number, lines in enumerate(parts)]


def _failure(status: int, complaints: Path) -> str:
    """What happened. Java's own words may quote a report, so they are not passed on."""
    if "OutOfMemoryError" in complaints.read_text(encoding="utf-8", errors="replace"):
        return "Java ran out of memory. A report of thousands of words may be the cause."
    return f"Java ended with status {status}."


def _lines(path: Path, number: int) -> list[str]:
    # "\n" alone ends a line: str.splitlines would also cut at rarer separators.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    if len(lines) != number:
        raise SkippedError(f"Java gave {len(lines)} lines for {number} reports.")
    return lines
