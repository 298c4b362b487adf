"""Values that others have printed, to stand beside one's own: published, not re-run.

The values lie in `published.json`, table by table as they were printed, so that they can be checked
against the paper. A protocol is named only where the paper or its code tells which it is; a family
without "@", such as "bleu", or nothing at all means that it is not known, and a difference may then
be one of counting. No test against such a row is possible: its reports are not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from uvlm.errors import InputError
from uvlm.registry import ABDOMEN_LABELS, CT_RATE_LABELS

__all__ = ["MARK", "PublishedRow", "classes_of", "datasets", "home_of", "near", "published_rows"]

MARK = "published, not re-run"

HOMES = {"CT-RATE": frozenset(CT_RATE_LABELS), "AbdomenAtlas 3.0": frozenset(ABDOMEN_LABELS)}
"""Dataset -> classes over which its scores are counted."""

REGIONS = {"chest": "CT-RATE", "abdomen": "AbdomenAtlas 3.0"}


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One printed number."""

    system: str
    task: str
    """report, cls, detect, retrieval or vqa."""

    dataset: str
    """"" where the source does not say."""

    metric: str
    """As in the names of a `Measure` of the protocol."""

    protocol: str
    """Such as "bleu@authors"; "bleu" or "" where the exact one is not known."""

    value: float
    """0 to 1, percentages divided by 100."""

    interval: tuple[float, float] | None
    """95 %, if one was published."""

    source: str
    """Where it is printed, with its identifier and table."""

    year: int | None
    """Of the source."""

    paper: str
    """Of the system, if that is another one; "" otherwise or where it is not known."""

    note: str
    mark: str = MARK

    @property
    def protocol_known(self) -> bool:
        return "@" in self.protocol


@cache
def _all() -> tuple[PublishedRow, ...]:
    file = files("uvlm.evaluation").joinpath("published.json")
    content = json.loads(file.read_text("utf-8"))
    return tuple(
        row
        for table in content["tables"]
        for row in _rows(table, content["sources"][table["source"]], content["papers"])
    )


def _rows(
    table: Mapping[str, Any], source: Mapping[str, Any], papers: Mapping[str, str]
) -> list[PublishedRow]:
    printed = ", ".join(part for part in (source["id"] or source["title"], table["table"]) if part)
    intervals = table.get("intervals") or [[None] * len(table["columns"])] * len(table["rows"])
    return [
        PublishedRow(
            system=system,
            task=table["task"],
            dataset=table["dataset"],
            metric=column["metric"],
            protocol=column["protocol"],
            value=float(value),
            interval=(float(limits[0]), float(limits[1])) if limits else None,
            source=printed,
            year=source["year"],
            paper=papers.get(system, ""),
            note=table["note"],
        )
        for (system, *values), row_limits in zip(table["rows"], intervals, strict=True)
        for column, value, limits in zip(table["columns"], values, row_limits, strict=True)
    ]


def datasets(task: str | None = None) -> tuple[str, ...]:
    """Those of which there are published values, in the order of the file."""
    found = (row.dataset for row in _all() if task in (None, row.task))
    return tuple(dict.fromkeys(name for name in found if name))


def classes_of(dataset: str) -> frozenset[str] | None:
    """Over which published scores are counted; None where that is not known."""
    # The hidden test set of a challenge, "CT-RATE (...)", has the classes of the open one.
    return HOMES.get(dataset.split(" (")[0])


def home_of(region: str | None, classes: frozenset[str] | None) -> str:
    """The dataset to which a result of a region, or over some classes, is nearest; "" if none."""
    if region in REGIONS:
        return REGIONS[region]
    return next((name for name, own in HOMES.items() if classes and classes <= own), "")


def near(
    rows: Sequence[PublishedRow], home: str, systems: Sequence[str] = ()
) -> list[PublishedRow]:
    """Rows of a dataset and those that state none; all if `home` is "".

    Args:
        systems: those named, each of which keeps its other rows if it has none of `home`
    """
    of_home = {row.system for row in rows if row.dataset == home}
    kept = {name for name in systems if name not in of_home}
    return [row for row in rows if not home or row.dataset in (home, "") or row.system in kept]


def published_rows(
    task: str | None = None, dataset: str | None = None, systems: Sequence[str] = ()
) -> list[PublishedRow]:
    """The rows of a task, a dataset and of the systems named; nothing named: all.

    Args:
        dataset: as in `datasets`; capitals do not matter

    Raises:
        InputError: nothing was published for the dataset, or a system is not among the rows.
    """
    rows = [row for row in _all() if task in (None, row.task)]
    if dataset is not None:
        known = datasets(task)
        if dataset.casefold() not in {name.casefold() for name in known}:
            raise InputError(
                f"no published values for dataset {dataset!r}. There are: "
                f"{', '.join(known) or 'none for this task'}."
            )
        rows = [row for row in rows if row.dataset.casefold() == dataset.casefold()]
    if systems:
        present = list(dict.fromkeys(row.system for row in rows))
        for name in systems:
            if name not in present:
                raise InputError(
                    f"no published values of system {name!r}. There are: {'; '.join(present)}."
                )
        rows = [row for row in rows if row.system in systems]
    return rows
