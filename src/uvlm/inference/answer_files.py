"""Answers as files: one table, whole or not at all, and beside it what a run has done so far.

OUT              one row per question: series_id, type, anatomy, finding, question, prediction,
                 error; as `uvlm evaluate vqa` reads it
.OUT.partial/    until then: a line of JSON per study, and what the run is of
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uvlm.data.questions import QuestionRow
from uvlm.errors import InputError
from uvlm.inference.batch.items import Item
from uvlm.preprocessing.catalog import write_text
from uvlm.preprocessing.disk import DiskFullError, disk_full

__all__ = ["RECORDS", "Asked", "Record", "answers_text", "check_out", "read_records", "writing"]

COLUMNS = ("series_id", "type", "anatomy", "finding", "question", "prediction", "error")
SUFFIXES = (".jsonl", ".csv")
RECORDS = "answers.jsonl"
RUN = "run.json"

Asked = tuple[Item, tuple[QuestionRow, ...]]
"""A study and what is asked about it."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What came of one study."""

    id: str
    key: str
    """Hash of its questions and of names, sizes and times of its files."""

    answers: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = 0

    def line(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def check_out(out: Path) -> None:
    """Raise InputError if answers cannot be written to `out`; called before hours of work."""
    if out.suffix.lower() not in SUFFIXES:
        known = " or ".join(SUFFIXES)
        raise InputError.about(out, f"its name does not end in {known}", "Give such a name.")
    if out.exists():
        raise InputError.about(out, "exists already", "Outputs are never overwritten; rename it.")


def read_records(aside: Path, identity: Mapping[str, Any]) -> dict[str, Record]:
    """Records of a run that did not end; a torn or foreign line is passed over."""
    path, run = aside / RECORDS, aside / RUN
    try:
        earlier = json.loads(run.read_text("utf-8")) if run.is_file() else None
    except ValueError:
        earlier = {}
    if earlier is None:
        with writing(aside):
            path.unlink(missing_ok=True)
            write_text(run, json.dumps(dict(identity)) + "\n")
        return {}
    if earlier != identity:
        raise InputError.about(
            aside,
            "it holds answers of a run with another bundle or other options, which did not end",
            "Go on with that run, give another --out, or delete this folder.",
        )
    records = {}
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
        try:
            values = json.loads(line)
            record = Record(**values | {"answers": tuple(values["answers"])})
        except (ValueError, KeyError, TypeError):
            continue
        records[record.id] = record
    return records


def answers_text(out: Path, asked: Sequence[Asked], known: Mapping[str, Record]) -> str:
    """The whole file."""
    rows = []
    for item, questions in asked:
        record = known[item.id]
        answers = record.answers or [""] * len(questions)
        for row, answer in zip(questions, answers, strict=True):
            cells = (row.series_id, row.type, row.anatomy, row.finding, row.question)
            rows.append((*cells, answer, record.error))
    if out.suffix.lower() == ".jsonl":
        made = (dict(zip(COLUMNS, row, strict=True)) for row in rows)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    # A carriage return, which `csv` does not quote, would end the row.
    writer.writerows([cell.replace("\r", "\n") for cell in row] for row in rows)
    return text.getvalue()


@contextmanager
def writing(aside: Path) -> Iterator[None]:
    """Round what is written beside the output."""
    try:
        yield
    except OSError as error:
        if disk_full(error, aside, 0):
            raise DiskFullError.at(aside) from error
        raise InputError.about(
            aside.parent, f"cannot be written ({error.strerror})", "Check its permissions."
        ) from error
