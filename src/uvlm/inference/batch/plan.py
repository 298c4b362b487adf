"""What a run has to do of a batch, in view of what earlier runs have left."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from uvlm.errors import InputError
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import Result, outputs
from uvlm.inference.faults import describe, exit_code_of
from uvlm.inference.writer import check_free

__all__ = ["Plan", "plan_of"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Of every item, at most one of these; items in none of them are done."""

    todo: tuple[Item, ...]

    known: tuple[Result, ...]
    """Results that need no work: faults of a table's rows, and earlier results whose files have
    another name or time, but the same content."""

    refused: tuple[Result, ...]
    """Studies that cannot be done in this folder, with the reason. Not recorded: what is in the
    way may be gone at the next run, and the report of the earlier file still stands."""


def plan_of(
    items: Sequence[Item],
    found: Mapping[str, Result],
    out: Path,
    *,
    series: str | None = None,
    retry: bool = False,
) -> Plan:
    """What to do of `items`.

    Args:
        items: with their signatures
        found: what earlier runs recorded
        series: as reports were made with
        retry: also those that failed and have not changed
    """
    todo, faults, again, refused = [], [], [], []
    for item in items:
        earlier = found.get(item.id)
        if item.fault:
            result = _refusal(item, InputError(item.fault))
            if earlier is not None and earlier.error is None:
                refused.append(result)
            elif earlier != result:
                faults.append(result)
            continue
        same = earlier is not None and earlier.signature == item.signature
        if earlier is not None and earlier.error is None and outputs(out, item.id)[0].exists():
            if same:
                continue
            again.append((item, earlier))
            continue
        if same and earlier is not None and earlier.error is not None and not retry:
            continue
        try:
            check_free(out, outputs(out, item.id))
        except InputError as error:
            refused.append(_refusal(item, error))
        else:
            todo.append(item)
    moved, others = _compared(again, out, series)
    return Plan(todo=tuple(todo), known=(*faults, *moved), refused=(*refused, *others))


def _compared(
    again: Sequence[tuple[Item, Result]], out: Path, series: str | None
) -> tuple[list[Result], list[Result]]:
    """(moved, refused) of studies whose files have another time or place than when they were
    done."""
    moved, refused = [], []
    if again:
        log.warning("%d done studies have files of another time or place: comparing", len(again))
    for item, earlier in tqdm(again, desc="comparing", unit="study", delay=2):
        try:
            if _checksum(item, series) != _written_checksum(outputs(out, item.id)[0]):
                raise _another(item, out)
        except Exception as error:  # one study must not stop the others
            refused.append(_refusal(item, error))
        else:
            moved.append(replace(earlier, signature=item.signature, input=item.name))
    if moved:
        log.warning("%d of them have the same content; their reports stand", len(moved))
    return moved, refused


def _checksum(item: Item, series: str | None) -> str:
    from uvlm.imaging.readers import read_volume

    return read_volume(item.path, series=series).provenance.checksum


def _written_checksum(written: Path) -> str | None:
    """That in the JSON of a study; None where it cannot be read any more."""
    try:
        content: Any = json.loads(written.read_text("utf-8"))
        return str(content["manifest"]["sha256"])
    except (ValueError, KeyError, TypeError):
        return None


def _another(item: Item, out: Path) -> InputError:
    return InputError.about(
        item.path,
        f"it is another file than the one {out / item.id}.json was made from",
        "Move that study's results away to have it done anew, or give another --out.",
    )


def _refusal(item: Item, error: Exception) -> Result:
    return Result(
        id=item.id,
        input=item.name,
        signature=item.signature,
        error=describe(error),
        exit_code=exit_code_of(error),
    )
