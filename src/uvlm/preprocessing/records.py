"""What became of every study: one line of JSON each in `studies.jsonl`, added as studies finish.

A run that is killed leaves whole lines, and at most one torn one at the end, which the next run
cuts off. Of several lines about one series the last counts, but a failure never hides that an
earlier run had prepared the same files: they may have been out of reach for a while.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from uvlm.config import from_dict, to_dict
from uvlm.errors import ConfigError
from uvlm.preprocessing.study import Statement

__all__ = ["RECORDS", "Record", "RecordLog", "read_records"]

log = logging.getLogger(__name__)

RECORDS = "studies.jsonl"
SYNC_SECONDS = 5.0
"""A power failure costs the records of so many seconds; a killed process costs none."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one study, and the facts about it that later steps need."""

    series_id: str
    key: str
    """Hash of everything that decides how the study is prepared."""

    signature: str
    """Hash of the names, sizes and times of the source's files."""

    source: str
    """First file of the image."""

    error: str | None = None
    """Why the study cannot be used."""

    seconds: float = 0.0
    peak_gb: float = 0.0
    """Highest resident memory of the process so far, GB."""

    bytes_written: int = 0
    image: Mapping[str, Any] = field(default_factory=dict)
    """`facts.image_facts`."""

    masks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Scope name to `facts.mask_facts`."""

    labels: Mapping[str, float] = field(default_factory=dict)
    """Labels that come from the mask."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the catalog that come from the mask."""

    statements: tuple[Statement, ...] = ()
    notes: tuple[str, ...] = ()
    """What had to be decided about the mask."""

    kept: bool = False
    """An earlier run had prepared it. Not stored."""

    def line(self) -> str:
        """The record as one line of JSON, without what is as by default."""
        values = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name != "kept" and getattr(self, each.name) not in (None, (), {})
        }
        return json.dumps(to_dict(values), separators=(",", ":")) + "\n"


def _parse(line: bytes) -> Record | None:
    try:
        return from_dict(Record, json.loads(line))
    except (ValueError, RecursionError, ConfigError):
        return None


def read_records(path: Path) -> dict[str, Record]:
    """The last record of every series, in order of first appearance; {} without the file.

    Of a series that was prepared once and failed later, it is the one that says how it was
    prepared. Whether that still holds is asked of its key, its signature and its files.

    Lines that are no records (torn by a kill, or of another version) are passed over, so that
    their studies are prepared again.
    """
    found: dict[str, Record] = {}
    unreadable = 0
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                record = _parse(line) if line.endswith(b"\n") else None
                if record is None:
                    unreadable += 1
                elif record.error is None or _failed(found.get(record.series_id)):
                    found[record.series_id] = record
    if unreadable:
        log.info("%s: %d lines are no records and are passed over", path, unreadable)
    return found


def _failed(record: Record | None) -> bool:
    return record is None or record.error is not None


class Line(Protocol):
    """What a log holds."""

    def line(self) -> str:
        """One line, with its line break."""


class RecordLog:
    """`studies.jsonl`, or a file like it, open for adding records; a torn last line is cut off
    first."""

    def __init__(self, path: Path) -> None:
        # Unbuffered: what the disk refuses must not be tried again when the file is closed.
        self._file = path.open("ab+", buffering=0)
        self._synced = time.monotonic()
        _cut_torn_line(self._file.fileno())

    def add(self, record: Line) -> None:
        """Hand one whole line to the system.

        Raises:
            OSError: the disk refuses; the lines before are whole.
        """
        line = record.line().encode()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            _cut_torn_line(self._file.fileno())
            raise
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._sync()
        finally:
            self._file.close()


def _cut_torn_line(descriptor: int) -> None:
    """Shorten the file to its last line break."""
    end = os.fstat(descriptor).st_size
    block = 1 << 16
    start = end
    while start > 0:
        start = max(0, start - block)
        place = os.pread(descriptor, block, start).rfind(b"\n")
        if place >= 0:
            start += place + 1
            break
    if start < end:
        os.ftruncate(descriptor, start)
