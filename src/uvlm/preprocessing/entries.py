"""A prepared series with everything known about it, and the numbers taken from many of them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.preprocessing.catalog import Catalog, Row
from uvlm.preprocessing.records import Record

__all__ = ["Entry", "entries_of", "grouped", "values"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the catalog and its record."""

    row: Row
    record: Record

    @property
    def image(self) -> Mapping[str, Any]:
        """`facts.image_facts`; {} if they are not known."""
        return self.record.image

    @property
    def masks(self) -> dict[str, Mapping[str, Any]]:
        """`facts.mask_facts` of all scopes together."""
        return {
            name: facts for scope in self.record.masks.values() for name, facts in scope.items()
        }


def entries_of(catalog: Catalog, records: Iterable[Record]) -> list[Entry]:
    """Every row of the catalog, in order; rows without a record have an empty one."""
    known = {record.series_id: record for record in records if record.error is None}
    return [
        Entry(
            row=row,
            record=known.get(row.series_id)
            or Record(series_id=row.series_id, key="", signature="", source=""),
        )
        for row in catalog.rows
    ]


def values(entries: Sequence[Entry], of: Callable[[Mapping[str, Any]], Any]) -> NDArray[np.float64]:
    """A number of each entry's image facts; NaN where it is not known."""
    found = []
    for entry in entries:
        try:
            number = of(entry.image)
        except (KeyError, IndexError):
            number = None
        found.append(np.nan if number is None else float(number))
    return np.array(found, np.float64)


FEW = 3
"""Different messages of one kind that are shown apart."""

_PATH = re.compile(r"\S*[/\\]\S*")
_QUOTED = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"")
_NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d[\d.,]*\d|(?<![A-Za-z])[-+]?\d")
_WHERE = re.compile(r"^[^:]*[/\\.][^:]*: ")


def grouped(sentences: Iterable[str]) -> list[tuple[str, int]]:
    """Messages of one kind together, with counts, commonest first.

    Files and quoted words are left out, for they may name a patient. Messages that differ only in
    numbers are one kind, unless there are few of them ("version 1", "version 2").
    """
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        words = _QUOTED.sub("...", _PATH.sub("...", _WHERE.sub("", sentence)))
        kinds[_NUMBER.sub("#", words)][words] += 1
    counts: Counter[str] = Counter()
    for kind, variants in kinds.items():
        counts.update(variants if len(variants) <= FEW else {kind: variants.total()})
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
