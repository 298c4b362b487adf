"""An evaluation as files: all of them, or none; nothing that exists is overwritten."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.errors import InputError

if TYPE_CHECKING:
    from uvlm.evaluation.run import Prediction
    from uvlm.evaluation.scorecard import Scorecard

__all__ = ["check_free", "write_results", "write_whole"]

NAMES = ("scorecard.json", "scorecard.md", "predictions.csv")


def check_free(out: Path, names: Iterable[str] = NAMES) -> None:
    """Raise InputError if `out` cannot take the results; called before hours of work."""
    if out.exists() and not out.is_dir():
        raise InputError.about(out, "is a file", "Give a folder to write into.")
    above = next((path for path in out.parents if path.exists()), out)
    if above.exists() and not above.is_dir():
        raise InputError.about(
            out, f"cannot be made: {above} is a file", "Give a folder to write into."
        )
    for name in names:
        if (out / name).exists():
            raise InputError.about(
                out / name, "exists already", "Outputs are never overwritten; give another folder."
            )


def write_whole(out: Path, contents: Mapping[str, str | bytes]) -> list[Path]:
    """Write files of a folder, in this order; a failure half way leaves none of them.

    Raises:
        InputError: one exists already, or the folder cannot be written to.
    """
    check_free(out, contents)
    asides = {name: out / f".{name}.{os.getpid()}.tmp" for name in contents}
    placed: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            data = content.encode("utf-8") if isinstance(content, str) else content
            asides[name].write_bytes(data)
        for name, aside in asides.items():
            os.replace(aside, out / name)
            placed.append(out / name)
    except BaseException as error:
        for path in placed:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError.about(
                out, f"cannot be written ({error.strerror})", "Check the folder and the disk."
            ) from None
        raise
    finally:
        for aside in asides.values():
            # A folder that could not be made holds no file to clear away.
            with contextlib.suppress(OSError):
                aside.unlink()
    return placed


def write_results(out: Path, card: Scorecard, predictions: Sequence[Prediction]) -> list[Path]:
    """Write scorecard.json, scorecard.md and predictions.csv; ids as in the catalog, no path."""
    contents = (
        json.dumps(card.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        card.markdown(),
        _predictions_csv(predictions),
    )
    return write_whole(out, dict(zip(NAMES, contents, strict=True)))


def _predictions_csv(predictions: Sequence[Prediction]) -> str:
    labels = list(next((p.probabilities for p in predictions if p.probabilities), {}))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series_id", *labels, "generated_report"])
    for prediction in predictions:
        values = prediction.probabilities or {}
        row = [f"{values[label]:.6f}" for label in labels]
        writer.writerow([prediction.row.series_id, *row, prediction.text or ""])
    return text.getvalue()
