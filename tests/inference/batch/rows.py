"""Whether each row of a batch is of its own study."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.inference.bundle_factory import chest_array, write_ct
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.results import RESULTS, TABLE, read_results
from uvlm.inference.batch.setup import Setup
from uvlm.inference.batch.station import load, report

__all__ = ["check_rows", "unlike"]


def unlike(path: Path, number: int) -> Path:
    """A CT of voxels of its own, by `number` 0 to 7."""
    array = chest_array(seed=number)
    array[5 * number : 5 * number + 5, 16:48, 8:40] = 1500
    return write_ct(path, array)


def check_rows(items: Sequence[Item], out: Path, setup: Setup) -> None:
    """JSON, line and row of every item are what the study gives alone; no two give the same."""
    with (out / TABLE).open(newline="") as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    recorded = read_results(out / RESULTS)
    pipeline = load(setup, "cpu")
    seen = []
    for item in items:
        alone = report(pipeline, item.path, setup)
        assert alone.probabilities is not None
        written = json.loads((out / f"{item.id}.json").read_text())
        line, row = recorded[item.id], table[item.id]
        assert written["manifest"]["sha256"] == alone.manifest["sha256"]
        assert line.input == row["input"] == written["manifest"]["input"] == item.name
        assert written["generated"] == line.report == row["report"] == alone.generated
        # The table has six digits.
        close = pytest.approx(alone.probabilities, abs=2e-6)
        assert written["probabilities"] == line.probabilities == close
        assert {name: float(row[name]) for name in alone.probabilities} == close
        seen.append(list(alone.probabilities.values()))
    for one, other in itertools.combinations(seen, 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-4
