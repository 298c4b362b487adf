"""The questions of a catalog's studies: `vqa.csv` beside it, one row per question.

    series_id, type, anatomy, finding, answers, millimetres

`uvlm prepare radgenome` and `uvlm prepare hsenet` write it. `answers` is a JSON list of every right
answer; `millimetres` one of the sizes among them, in their order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.preprocessing.table import Table, quoted, read_table
from uvlm.text.questions import TYPES, QuestionType, ask

__all__ = ["VQA", "QuestionRow", "read_questions"]

VQA = "vqa.csv"
"""Name of the table beside a catalog."""

COLUMNS = ("series_id", "type", "anatomy", "finding", "answers")


@dataclass(frozen=True, kw_only=True)
class QuestionRow:
    """One question and all that is right to answer."""

    series_id: str

    type: QuestionType
    """"abnormality", "location", "presence" or "size"."""

    anatomy: str
    """Path such as lung/lung/right lung; "" for the whole scan, and where the place is asked."""

    finding: str
    """What is asked about; "" where the finding itself is asked."""

    answers: tuple[str, ...]
    """Every right answer, at least one, none empty, each once; of presence "yes" or "no"."""

    sizes_mm: tuple[tuple[float, ...] | None, ...] = ()
    """Of a question for a size, what each answer says in mm; None where it is no size."""

    @property
    def question(self) -> str:
        """In its plainest wording; others of the same meaning: `uvlm.text.questions.ask`."""
        return ask(self.type, self.anatomy, self.finding)


def read_questions(
    path: Path | str, series: Collection[str] | None = None
) -> tuple[QuestionRow, ...]:
    """The questions of a `vqa.csv`, in its order.

    Args:
        path: of the table, or of the catalog or folder it lies beside
        series: those to keep; None keeps all

    Raises:
        CatalogError: naming file, row and column: a missing file or column, an unknown type, no
            series, no answer, an answer that is empty, answers that are no JSON list of texts, a
            presence that is neither yes nor no, a question without its finding, sizes that do not
            match the answers.
    """
    path = Path(path)
    if path.is_dir():
        path = path / VQA
    elif path.name.startswith("catalog"):
        path = path.with_name(VQA)
    table = read_table(path)
    table.require(COLUMNS)
    rows = (_row(table, number, cells) for number, cells in table.rows)
    return tuple(row for row in rows if series is None or row.series_id in series)


def _row(table: Table, number: int, cells: dict[str, str]) -> QuestionRow:
    if not cells["series_id"]:
        raise table.error(number, "series_id", "empty", "Name the series, or remove the row.")
    kind = cells["type"]
    if kind not in TYPES:
        remedy = f"Known types: {', '.join(TYPES)}."
        raise table.error(number, "type", f"the unknown type {quoted(kind)}", remedy)
    finding = cells["finding"]
    if kind != "abnormality" and not finding:
        raise table.error(number, "finding", "empty", f"A question of type {kind} needs one.")
    answers = _answers(table, number, cells["answers"])
    if kind == "presence" and not {answer.lower() for answer in answers} < {"yes", "no"}:
        remedy = 'Give ["yes"] or ["no"]: one of them is right.'
        raise table.error(number, "answers", "not one of yes and no", remedy)
    return QuestionRow(
        series_id=cells["series_id"],
        type=kind,
        anatomy=cells["anatomy"],
        finding=finding,
        answers=answers,
        sizes_mm=_sizes(table, number, cells.get("millimetres", ""), len(answers)),
    )


def _answers(table: Table, number: int, cell: str) -> tuple[str, ...]:
    remedy = 'Give a JSON list of every right answer, such as ["right lung"].'
    try:
        found: Any = json.loads(cell or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise table.error(number, "answers", "not a JSON list of texts", remedy)
    if not found:
        remedy = "Name every right answer, or remove the row."
        raise table.error(number, "answers", "no answer", remedy)
    if not all(text.strip() for text in found):
        raise table.error(number, "answers", "an empty answer", "Fill it in, or take it out.")
    return tuple(dict.fromkeys(text.strip() for text in found))


def _sizes(
    table: Table, number: int, cell: str, answers: int
) -> tuple[tuple[float, ...] | None, ...]:
    if not cell:
        return ()
    try:
        found: Any = json.loads(cell)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(map(_is_size, found)) or len(found) != answers:
        remedy = "Give one list of numbers, or null, per answer; or leave it empty."
        raise table.error(number, "millimetres", f"not sizes of {answers} answers", remedy)
    return tuple(None if size is None else tuple(map(float, size)) for size in found)


def _is_size(size: Any) -> bool:
    if size is None:
        return True
    return isinstance(size, list) and all(
        isinstance(mm, int | float) and not isinstance(mm, bool) and math.isfinite(mm)
        for mm in size
    )
