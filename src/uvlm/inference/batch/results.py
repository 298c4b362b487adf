"""What came of each study: one line of JSON each, added whole as studies finish, then one CSV.

    OUT/results.jsonl   a line per study done or failed; of several about one study the last counts
    OUT/results.csv     the same as a table, written when a run ends
    OUT/errors.csv      `study,error`, of the studies that gave nothing; absent without any

A cell of the tables that spreadsheets would take for a formula has an apostrophe before it.
A killed run leaves whole lines, and at most one torn one at the end, which the next cuts off.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uvlm.config import from_dict
from uvlm.errors import ConfigError
from uvlm.inference.writer import Outputs
from uvlm.preprocessing.catalog import write_text
from uvlm.preprocessing.table import defused

__all__ = [
    "ASIDE",
    "ERRORS",
    "RESULTS",
    "RUN",
    "TABLE",
    "Result",
    "outputs",
    "read_results",
    "remove_outputs",
    "write_tables",
]

log = logging.getLogger(__name__)

RESULTS = "results.jsonl"
TABLE = "results.csv"
ERRORS = "errors.csv"
RUN = ".run.json"
ASIDE = ".uvlm-batch-"
"""Begins the folders in which a batch makes a study's files before they are renamed."""

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one study."""

    id: str
    input: str
    """Name of its file or folder."""

    signature: str
    """Hash of names, sizes and times of the input's files; "" where a table's row names none that
    can be done."""

    report: str | None = None
    """The words of the model, nothing added; flags stand in `flags`."""

    probabilities: Values | None = None
    """Of each label; None without a classification part."""

    flags: tuple[str, ...] = ()
    """Why it must not be trusted at all."""

    review: tuple[str, ...] = ()
    """Why a person must look at the study before anything else."""

    warnings: tuple[str, ...] = ()
    """One sentence each."""

    error: str | None = None
    """Why there is no report, in one line."""

    exit_code: int = 0
    """Of the error: 2 for the input's fault, 1 for any other."""

    seconds: float = 0.0
    """From the start of reading to the end of writing, waiting in between left out."""

    timings: Values = field(default_factory=dict)
    """Seconds per step."""

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")) + "\n"


def read_results(path: Path) -> dict[str, Result]:
    """The last result of each study, in the order of their first; torn lines are passed over."""
    found: dict[str, Result] = {}
    unreadable = 0
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                result = _parse(line) if line.endswith(b"\n") else None
                if result is None:
                    unreadable += 1
                else:
                    found[result.id] = result
    if unreadable:
        log.info("%s: %d lines are no results and are passed over", path, unreadable)
    return found


def _parse(line: bytes) -> Result | None:
    try:
        values: Any = json.loads(line)
        return from_dict(Result, values, RESULTS)
    except (ValueError, ConfigError):
        return None


def outputs(out: Path, study: str) -> list[Path]:
    """The files that a study may have in `out`."""
    return Outputs.of(out, study, mask=True, html=True).all()


def remove_outputs(out: Path, study: str) -> None:
    """Delete what a worker that died left of a study."""
    for path in outputs(out, study):
        path.unlink(missing_ok=True)


def write_tables(results: Iterable[Result], out: Path) -> None:
    """Write `results.csv` and `errors.csv`, each whole or not at all."""
    results = list(results)
    labels = list(dict.fromkeys(name for r in results for name in r.probabilities or ()))
    head = ["id", "input", "report", *labels, "flags", "review", "warnings", "error", "seconds"]
    _write_csv(out / TABLE, head, (_cells(result, labels) for result in results))
    failed = [(result.id, result.error) for result in results if result.error is not None]
    if failed:
        _write_csv(out / ERRORS, ("study", "error"), failed)
    else:
        (out / ERRORS).unlink(missing_ok=True)


def _cells(result: Result, labels: Sequence[str]) -> list[str]:
    values = result.probabilities or {}
    return [
        result.id,
        result.input,
        result.report or "",
        *(f"{values[name]:.6f}" if name in values else "" for name in labels),
        " ".join(result.flags),
        " ".join(result.review),
        " ".join(result.warnings),
        result.error or "",
        f"{result.seconds:.3f}",
    ]


def _write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    # A carriage return, which `csv` does not quote, would end the row.
    writer.writerows([defused(cell.replace("\r", "\n")) for cell in row] for row in rows)
    if not path.is_file() or path.read_bytes() != text.getvalue().encode():
        write_text(path, text.getvalue())
