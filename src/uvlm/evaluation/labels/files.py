"""Reports of a table in, a table of labels out: same ids, same order, nothing overwritten."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from uvlm.errors import InputError
from uvlm.evaluation.joining import keyed
from uvlm.evaluation.tables import PREDICTED_TEXT, REFERENCE_TEXT, find_text, read_table, report_of
from uvlm.text.labelling.protocol import Evidence, Labels

__all__ = ["Reports", "check_free", "read_reports", "write_labels"]

_CLEANED = frozenset('"“”•·')
"""What cleaning may take away or put in."""


@dataclass(frozen=True, kw_only=True)
class Reports:
    """The reports of a file, in its order."""

    id_column: str
    ids: tuple[str, ...]
    """As the file writes them."""

    texts: tuple[str, ...]
    """ "" where there is no report."""


def read_reports(
    path: Path | str, id_column: str | None = None, columns: Sequence[str] = ()
) -> Reports:
    """Read a CSV file or JSON lines; names of columns are searched as for evaluation.

    Args:
        id_column: None: the first known one that is there
        columns: of the report, or of findings and impression; none: the first known one

    Raises:
        InputError: the file cannot be read, has no such columns, no row or an id twice, or holds
            both true and generated reports and `columns` does not say which.
    """
    table = read_table(path)
    ids = keyed(table, id_column)
    generated = PREDICTED_TEXT[: len(PREDICTED_TEXT) - len(REFERENCE_TEXT)]
    text = find_text(table, columns, PREDICTED_TEXT, "--report-column")
    if not columns and text in generated:
        true = [known for known in REFERENCE_TEXT if set(known) <= set(table.columns)]
        if true:
            raise InputError.about(
                table.path,
                f"both {text[0]!r} and {' + '.join(true[0])!r} may be the report",
                "Say which with --report-column.",
            )
    return Reports(
        id_column=ids.id_column,
        ids=tuple(cells[ids.id_column] for _, cells in table.rows),
        texts=tuple(report_of(cells, text) for _, cells in table.rows),
    )


def check_free(*paths: Path | None) -> None:
    """
    Raises:
        InputError: a file exists already, or two are the same.
    """
    given = [path for path in paths if path is not None]
    for path in given:
        if path.exists():
            raise InputError.about(
                path, "exists already", "Outputs are never overwritten; give another name."
            )
        if [other.resolve() for other in given].count(path.resolve()) > 1:
            raise InputError.about(path, "named for two outputs", "Give each a name of its own.")


def write_labels(
    reports: Reports,
    labels: Sequence[Labels],
    classes: Sequence[str],
    out: Path,
    evidence: Path | None = None,
    labeller: str = "",
) -> None:
    """Write one column of 0 and 1 per class; on request the words behind each decision.

    `evidence` gets one JSON object per report, with sentences of the report in it.

    Raises:
        InputError: a file exists already or cannot be written; then none is left behind.
    """
    check_free(out, evidence)
    contents = {out: _csv(reports, labels, classes)}
    if evidence is not None:
        contents[evidence] = _evidence(reports, labels, labeller)
    _write_all(contents)


def _csv(reports: Reports, labels: Sequence[Labels], classes: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([reports.id_column, *classes])
    for name, one in zip(reports.ids, labels, strict=True):
        writer.writerow([name, *(one.values[c] for c in classes)])
    return text.getvalue()


def _evidence(reports: Reports, labels: Sequence[Labels], labeller: str) -> str:
    lines = []
    for name, text, one in zip(reports.ids, reports.texts, labels, strict=True):
        found = [
            {**asdict(item), "sides": sorted(item.sides), "report_start": start, "report_end": end}
            for item, (start, end) in zip(one.evidence, _places(text, one.evidence), strict=True)
        ]
        record = {reports.id_column: name, "labeller": labeller, "labels": dict(one.values)}
        lines.append(json.dumps({**record, "evidence": found}, ensure_ascii=False) + "\n")
    return "".join(lines)


def _places(report: str, evidence: Sequence[Evidence]) -> list[tuple[int, int] | tuple[None, None]]:
    """Where the words of each decision stand in the report itself; None where cleaning changed
    the sentence.

    Cleaning changes white space, quotation marks and bullets, so they are not compared. A sentence
    is looked for behind the one before it, then anywhere.
    """
    kept = [i for i, character in enumerate(report) if _compared(character)]
    whole = "".join(report[i] for i in kept)
    places: list[tuple[int, int] | tuple[None, None]] = []
    at, end, last = -1, 0, ""
    for item in evidence:
        key = "".join(filter(_compared, item.sentence)).rstrip(".")
        if item.sentence != last:
            at = whole.find(key, end)
            at = at if at >= 0 else whole.find(key)
            end, last = max(end, at + len(key)), item.sentence
        first = at + sum(map(_compared, item.sentence[: item.start]))
        after = first + sum(map(_compared, item.words))
        found = key and at >= 0 and first < after <= len(kept)
        places.append((kept[first], kept[after - 1] + 1) if found else (None, None))
    return places


def _compared(character: str) -> bool:
    return not character.isspace() and character not in _CLEANED


def _write_all(contents: Mapping[Path, str]) -> None:
    asides = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in contents}
    done: list[Path] = []
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            asides[path].write_text(text, "utf-8", "backslashreplace", newline="")
        for path, aside in asides.items():
            os.replace(aside, path)
            done.append(path)
    except OSError as error:
        for path in done:
            path.unlink(missing_ok=True)
        found = f"cannot be written ({error.strerror})"
        raise InputError.about(error.filename or "output", found, "Check the path.") from None
    finally:
        for aside in asides.values():
            with contextlib.suppress(OSError):
                aside.unlink()
