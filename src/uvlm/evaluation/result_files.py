"""A result as a folder: for machines, for readers, per study, and for later comparison.

| file | what |
| --- | --- |
| `result.json` | scores, intervals, floors, notes; written last, so that it says all is there |
| `result.md`, `result.html` | the same to read; the page has the plots |
| `studies.csv` | one row per study: id, patient, what was found, scores of the study alone |
| `draws.npz` | the score of every resample, for paired tests between systems |
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.rendering.markdown import markdown
from uvlm.evaluation.rendering.page import html
from uvlm.evaluation.results import FORMAT, Result, Score
from uvlm.evaluation.written import write_whole

__all__ = ["Stored", "file_mark", "file_names", "read_result", "write_result"]

SUFFIXES = ("studies.csv", "draws.npz", "result.md", "result.html", "result.json")


def file_names(prefix: str = "") -> tuple[str, ...]:
    """What `write_result` writes, in its order."""
    return tuple(prefix + name for name in SUFFIXES)


def file_mark(path: Path) -> str:
    """Name and first 12 digits of the SHA-256 of a file: which one it was, not where it lay."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{path.name} ({digest.hexdigest()[:12]})"


def write_result(result: Result, out: Path, prefix: str = "") -> list[Path]:
    """Write all five files or none, each name after `prefix`.

    Raises:
        InputError: one exists already, or the folder cannot be written to.
    """
    contents: tuple[str | bytes, ...] = (
        _studies_csv(result),
        _draws(result),
        markdown(result),
        html(result),
        json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    )
    return write_whole(out, dict(zip(file_names(prefix), contents, strict=True)))


def _studies_csv(result: Result) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "patient", *result.per_study])
    columns = list(result.per_study.values())
    for row in zip(result.ids, result.patients, *columns, strict=True):
        writer.writerow([_shown(cell) for cell in row])
    return text.getvalue()


def _shown(cell: Any) -> Any:
    if isinstance(cell, float):
        return "" if math.isnan(cell) else f"{cell:.6g}"
    return int(cell) if isinstance(cell, bool) else cell


def _draws(result: Result) -> bytes:
    stream = io.BytesIO()
    names = np.array([[score.protocol, score.name] for score in result.scores], dtype=np.str_)
    key = np.array(result.resample_key)
    np.savez_compressed(stream, draws=result.draws, names=names, key=key)
    return stream.getvalue()


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A result read back, as far as comparing needs it."""

    path: Path
    task: str
    about: Mapping[str, Any]
    scores: tuple[Score, ...]
    draws: NDArray[np.float64]
    """(R, S); no row where there are no intervals."""

    resample_key: str
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As of `Result`."""


def read_result(path: Path) -> Stored:
    """Read a folder that `write_result` filled, or one of several in it by its `result.json`.

    Raises:
        InputError: there is no result, it is damaged, or its files do not belong together.
    """
    file = _result_json(path)
    draws_file = file.with_name(file.name.removesuffix("result.json") + "draws.npz")
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise InputError.about(
                file, f"format {content['format']}, this version reads {FORMAT}", "Evaluate again."
            )
        scores = tuple(_score(item) for item in content["scores"])
        with np.load(draws_file, allow_pickle=False) as stored:
            draws, names, key = stored["draws"], stored["names"], str(stored["key"])
        task, about = str(content["task"]), dict(content["about"])
        own = str(content["resample_key"])
        notes = {str(of): tuple(map(str, told)) for of, told in content["notes"].items()}
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        found = f"cannot be read with its draws.npz ({type(error).__name__})"
        raise InputError.about(file, found, "Evaluate again.") from None
    if key != own or names.tolist() != [[score.protocol, score.name] for score in scores]:
        raise InputError.about(draws_file, "is of another result", "Evaluate again.")
    return Stored(
        path=path,
        task=task,
        about=about,
        scores=scores,
        draws=draws,
        resample_key=own,
        notes=notes,
    )


def _result_json(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*result.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError.about(
            path,
            f"one result.json expected, found: {names}",
            "Give a folder that `uvlm evaluate` wrote, or the file itself.",
        )
    return found[0]


def _score(item: Mapping[str, Any]) -> Score:
    value, low, high = (
        math.nan if item[key] is None else float(item[key]) for key in ("value", "low", "high")
    )
    return Score(
        protocol=str(item["protocol"]),
        name=str(item["name"]),
        value=value,
        low=low,
        high=high,
        higher_is_better=bool(item["higher_is_better"]),
    )
