"""The tables of RadGenome-ChestCT: region sentences, disorders, and questions with all answers.

Rows that ask the same question of one series are one question with every distinct answer: an
abnormality may lie in several places, and each is right. A question whose rows contradict each
other has no right answer; it is set apart with the reason.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uvlm.errors import CatalogError
from uvlm.preprocessing.sources.ct_rate_files import series_of
from uvlm.preprocessing.table import Table, read_table
from uvlm.text.cleaning import clean_report

__all__ = [
    "KINDS",
    "REGIONS_HEADER",
    "REJECTED_HEADER",
    "VQA_HEADER",
    "Question",
    "find_tables",
    "millimetres",
    "questions_of",
    "read_disorders",
    "read_questions",
    "read_regions",
    "region_of",
    "report_of",
]

WHOLE = "whole scan"
"""Region of a sentence or question without an anatomy."""

REGIONS_HEADER = ("series_id", "anatomy", "region", "sentence")
VQA_HEADER = ("series_id", "type", "anatomy", "finding", "answers", "millimetres")
REJECTED_HEADER = ("series_id", "type", "anatomy", "finding", "answers", "reason")

KINDS = ("region_report", "case_disorders")
ASKS: dict[str, tuple[tuple[str, ...], str]] = {
    "abnormality": (("Anatomy",), "Abnormality"),
    "location": (("Abnormality",), "Anatomy"),
    "presence": (("Anatomy", "Finding"), "Presence"),
    "size": (("Anatomy", "Abnormality"), "Size"),
}
"""Type of question -> (columns that make the question, column of the answer)."""

_TABLE = re.compile(
    rf"(train|valid|validation)_({'|'.join((*KINDS, *(f'vqa_{kind}' for kind in ASKS)))})\.csv"
)
_NUMBER = r"\d+(?:[.,]\d+)?"
_SIZE = re.compile(
    rf"\s*({_NUMBER}(?:\s*(?:mm|cm)?\s*[x×*]\s*{_NUMBER}){{0,2}})\s*(mm|cm)\.?\s*", re.IGNORECASE
)


def find_tables(root: Path) -> tuple[dict[str, tuple[Path, ...]], tuple[str, ...]]:
    """Kind of table ("region_report", "vqa_size", ...) to its files, and warnings.

    Of two tables of one name the one in the folder closer to `root` counts: the release repeats
    parts of its tables in `subset_2000`.

    Raises:
        CatalogError: two of one name equally deep.
    """
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(root.rglob("*.csv"), key=lambda path: (len(path.parts), path)):
        named = _TABLE.fullmatch(path.name)
        if named is not None:
            split = "train" if named[1] == "train" else "validation"
            found.setdefault((named[2], split), []).append(path)
    tables: dict[str, tuple[Path, ...]] = {}
    warnings = []
    for (kind, _), (first, *others) in found.items():
        if others and len(others[0].parts) == len(first.parts):
            raise CatalogError.about(
                others[0], f"the same table as {first}", "Name the folder to use with --tables."
            )
        tables[kind] = (*tables.get(kind, ()), first)
        if others:
            warnings.append(f"{first} is used; {len(others)} of that name in deeper folders not.")
    return tables, tuple(warnings)


def _cells(
    paths: Iterable[Path], columns: Collection[str]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """(series, cells) of every row; "nan" counts as empty."""
    for path in paths:
        table: Table = read_table(path)
        volume = next((c for c in table.columns if c.lower() == "volumename"), "Volumename")
        table.require((volume, *columns))
        for number, cells in table.rows:
            series = series_of(cells[volume])
            if not series:
                raise table.error(number, volume, "empty", "Name the volume, or remove the row.")
            # Few texts, many rows: one copy of each keeps the release's million rows in memory.
            given = {c: "" if cells[c].lower() == "nan" else sys.intern(cells[c]) for c in columns}
            yield series, given


def read_regions(paths: Iterable[Path]) -> dict[str, list[tuple[str, str]]]:
    """Series to (anatomy, sentence) in the release's order; anatomy "" is the whole scan.

    Raises:
        CatalogError: a table is damaged or lacks a column.
    """
    regions: dict[str, list[tuple[str, str]]] = {}
    for series, cells in _cells(paths, ("Anatomy", "Sentence")):
        sentence = clean_report(cells["Sentence"])
        if sentence:
            where = _path(cells["Anatomy"])
            regions.setdefault(series, []).append((where, sys.intern(sentence)))
    return regions


def _path(anatomy: str) -> str:
    return sys.intern("/".join(part.strip() for part in anatomy.split("/") if part.strip()))


def region_of(anatomy: str) -> str:
    """The last element of an anatomy's path; "whole scan" without one."""
    return anatomy.rsplit("/", 1)[-1] or WHOLE


def report_of(regions: Iterable[tuple[str, str]]) -> str:
    """The sentences in their order, those of the whole scan last, each once."""
    regions = list(regions)
    ordered = [s for anatomy, s in regions if anatomy] + [
        s for anatomy, s in regions if not anatomy
    ]
    ended = (text if text[-1] in ".!?" else f"{text}." for text in dict.fromkeys(ordered))
    return clean_report(" ".join(ended))


def read_disorders(paths: Iterable[Path]) -> dict[str, tuple[str, ...]]:
    """Series to its disorders, each once.

    Raises:
        CatalogError: a table is damaged or lacks a column.
    """
    disorders: dict[str, dict[str, None]] = {}
    for series, cells in _cells(paths, ("Disorders",)):
        words = (word.strip(" '\"[]") for word in re.split(r"[,;]", cells["Disorders"]))
        disorders.setdefault(series, {}).update(dict.fromkeys(word for word in words if word))
    return {series: tuple(words) for series, words in disorders.items()}


@dataclass(slots=True)
class Question:
    """One question and all that its rows answer."""

    series_id: str
    type: str
    anatomy: str
    """Path; "" where the question names none (location), or asks of the whole scan."""

    finding: str
    answers: dict[str, str] = field(default_factory=dict)
    """In lower case, to compare, and as first written."""

    @property
    def problem(self) -> str | None:
        """Why it has no right answer, or None."""
        if not self.answers:
            return "no answer"
        if self.type != "presence":
            return None
        if set(self.answers) - {"yes", "no"}:
            return "neither yes nor no"
        return "yes and no" if len(self.answers) > 1 else None

    def row(self) -> tuple[str, ...]:
        """A row of vqa.csv."""
        sizes = [millimetres(text) for text in self.answers.values()] if self.type == "size" else []
        shown = json.dumps(sizes) if sizes else ""
        return (*self._start(), shown)

    def rejected_row(self) -> tuple[str, ...]:
        """A row of vqa_rejected.csv."""
        return (*self._start(), self.problem or "")

    def _start(self) -> tuple[str, ...]:
        answers = sys.intern(json.dumps(list(self.answers.values()), ensure_ascii=False))
        return self.series_id, self.type, self.anatomy, self.finding, answers


def millimetres(size: str) -> list[float] | None:
    """[6.0, 4.0] of "6x4 mm" or "0.6 x 0.4 cm"; None where it is no size with a unit."""
    found = _SIZE.fullmatch(size)
    if found is None:
        return None
    factor = 10.0 if found[2].lower() == "cm" else 1.0
    numbers = re.findall(_NUMBER, found[1])
    return [round(float(number.replace(",", ".")) * factor, 3) for number in numbers]


def read_questions(
    tables: Mapping[str, tuple[Path, ...]], series: Collection[str]
) -> tuple[list[Question], int]:
    """The questions of all four types on `series`, in their order; and how many others there are.

    Raises:
        CatalogError: a table is damaged or lacks a column.
    """
    asked: dict[tuple[str, ...], Question] = {}
    others = 0
    for kind, (columns, answer) in ASKS.items():
        for name, cells in _cells(tables.get(f"vqa_{kind}", ()), (*columns, answer)):
            if name not in series:
                others += 1
                continue
            anatomy = _path(cells["Anatomy"]) if "Anatomy" in columns else ""
            finding = next((cells[c] for c in columns if c != "Anatomy"), "")
            key = (name, kind, sys.intern(anatomy.casefold()), sys.intern(finding.casefold()))
            question = asked.setdefault(key, Question(name, kind, anatomy, finding))
            text = _answer(kind, cells[answer])
            if text:
                question.answers.setdefault(text.casefold(), text)
    order = {name: number for number, name in enumerate(series)}
    return sorted(asked.values(), key=lambda question: order[question.series_id]), others


def _answer(kind: str, text: str) -> str:
    if kind == "location":
        # As in the release's own reading of these rows, no place is the whole scan.
        return _path(text) or WHOLE
    bare = text.strip().rstrip(".").strip()
    return bare.lower() if kind == "presence" else bare


def questions_of(
    questions: Iterable[Question],
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """(rows of vqa.csv, rows of vqa_rejected.csv), headers first."""
    good: list[tuple[str, ...]] = [VQA_HEADER]
    bad: list[tuple[str, ...]] = [REJECTED_HEADER]
    for question in questions:
        if question.problem is None:
            good.append(question.row())
        else:
            bad.append(question.rejected_row())
    return good, bad
