"""An evaluation as files: all three, or none; nothing that exists is overwritten."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from uvlm.errors import InputError
from uvlm.evaluation.run import Prediction
from uvlm.evaluation.scorecard import Scorecard

__all__ = ["check_free", "write_results"]

NAMES = ("scorecard.json", "scorecard.md", "predictions.csv")


def check_free(out: Path) -> None:
    """Raise InputError if `out` cannot take the results; called before hours of work."""
    if out.exists() and not out.is_dir():
        raise InputError.about(out, "is a file", "Give a folder to write into.")
    for name in NAMES:
        if (out / name).exists():
            raise InputError.about(
                out / name, "exists already", "Outputs are never overwritten; give another --out."
            )


def write_results(out: Path, card: Scorecard, predictions: Sequence[Prediction]) -> list[Path]:
    """Write scorecard.json, scorecard.md and predictions.csv; ids as in the catalog, no path."""
    check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    contents = (
        json.dumps(card.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        card.markdown(),
        _predictions_csv(predictions),
    )
    asides = [out / f".{name}.{os.getpid()}.tmp" for name in NAMES]
    try:
        for aside, content in zip(asides, contents, strict=True):
            aside.write_text(content, encoding="utf-8", newline="")
        for aside, name in zip(asides, NAMES, strict=True):
            os.replace(aside, out / name)
    finally:
        for aside in asides:
            aside.unlink(missing_ok=True)
    return [out / name for name in NAMES]


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
