"""Datasets that know different labels or classes, brought to one list of each.

The lists are unions, the first catalog's order first. A label that a study's catalog does not have
is unknown; of the classes, a study's row remembers which its mask was drawn for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import CatalogError
from uvlm.preprocessing.catalog import Catalog, Row

__all__ = ["PartialRow", "agree_on_classes", "agree_on_labels"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PartialRow(Row):
    """A study whose mask was drawn for some of the run's classes."""

    values: tuple[int, ...]
    """Value in its mask, 0 for background first -> value in the run."""

    classes: int
    """Of the run, background included."""

    @property
    def known(self) -> tuple[bool, ...]:
        """For each value of the run, whether the mask was drawn for it."""
        return tuple(value in self.values for value in range(self.classes))

    def in_run(self, mask: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
        """Values of the mask -> values of the run, any shape.

        Raises:
            CatalogError: the mask holds a value that its catalog does not name.
        """
        highest = int(mask.max(initial=0))
        if highest >= len(self.values):
            raise CatalogError.about(
                self.mask or self.series_id,
                f"the mask holds the value {highest}, its catalog names classes up to "
                f"{len(self.values) - 1}",
                "Correct dataset.json, or prepare the dataset again.",
            )
        changed: NDArray[np.int16] = np.array(self.values, dtype=np.int16)[mask]
        return changed


def agree_on_labels(
    catalogs: Sequence[Catalog], *, partial: bool
) -> tuple[tuple[str, ...], list[Catalog]]:
    """(labels, catalogs whose rows follow them).

    Raises:
        CatalogError: they differ and `partial` does not allow it, or in spelling only.
    """
    names = [catalog.labels for catalog in catalogs]
    union = _union(catalogs, names, "label", partial)
    if all(own == union for own in names):
        return union, list(catalogs)
    result = []
    for catalog in catalogs:
        place = {name: i for i, name in enumerate(catalog.labels)}
        chosen = [place.get(name) for name in union]
        rows = tuple(
            replace(row, labels=tuple(None if i is None else row.labels[i] for i in chosen))
            for row in catalog.rows
        )
        result.append(replace(catalog, labels=union, rows=rows))
    return union, result


def agree_on_classes(
    catalogs: Sequence[Catalog], *, partial: bool
) -> tuple[tuple[str, ...], list[Catalog]]:
    """(classes, catalogs whose rows say what their masks mean where the classes differ).

    Raises:
        CatalogError: as `agree_on_labels`, or a catalog's values are not 1, 2, 3, ...
    """
    names = [_classes(catalog) for catalog in catalogs]
    union = _union(catalogs, names, "segmentation class", partial)
    if all(own == union for own in names):
        return union, list(catalogs)
    result = []
    for catalog, own in zip(catalogs, names, strict=True):
        values = (0, *(1 + union.index(name) for name in own))
        rows = tuple(_partial(row, values, 1 + len(union)) for row in catalog.rows)
        result.append(replace(catalog, rows=rows))
    return union, result


def _partial(row: Row, values: tuple[int, ...], classes: int) -> PartialRow:
    kept = {field.name: getattr(row, field.name) for field in fields(row)}
    return PartialRow(**kept, values=values, classes=classes)


def _union(
    catalogs: Sequence[Catalog], names: Sequence[tuple[str, ...]], what: str, partial: bool
) -> tuple[str, ...]:
    union = tuple(dict.fromkeys(name for own in names for name in own))
    for catalog, own in zip(catalogs, names, strict=True):
        if own != names[0] and not partial:
            raise CatalogError.about(
                catalog.path,
                f"its {_plural(what)} differ from those of {catalogs[0].path} "
                f"({_difference(own, names[0])})",
                f"Set --data.partial to train each study on the {_plural(what)} its own catalog "
                "has, or prepare the datasets alike.",
            )
    if partial:
        _check_spelling(catalogs, names, what)
        for catalog, own in zip(catalogs, names, strict=True):
            missing = [name for name in union if name not in own]
            if missing:
                log.info("%s: unknown to its studies: %s", catalog.path, ", ".join(missing))
    return union


def _difference(here: tuple[str, ...], there: tuple[str, ...]) -> str:
    only_here = [name for name in here if name not in there]
    only_there = [name for name in there if name not in here]
    parts = [
        f"only {where}: {', '.join(names)}"
        for where, names in (("here", only_here), ("there", only_there))
        if names
    ]
    return "; ".join(parts) or "the same in another order"


def _check_spelling(
    catalogs: Sequence[Catalog], names: Sequence[tuple[str, ...]], what: str
) -> None:
    """Two spellings of one thing would be learned as two, each unknown to half of the studies."""
    seen: dict[str, tuple[str, Path]] = {}
    for catalog, own in zip(catalogs, names, strict=True):
        for name in own:
            key = re.sub(r"[\W_]+", "", name).casefold()
            other, path = seen.setdefault(key, (name, catalog.path))
            if other != name:
                raise CatalogError.about(
                    catalog.path,
                    f"its {what} {name!r} is spelled {other!r} in {path}",
                    "Give both one name, in dataset.json and in the columns.",
                )


def _plural(what: str) -> str:
    return what + ("es" if what.endswith("s") else "s")


def _classes(catalog: Catalog) -> tuple[str, ...]:
    table = catalog.segmentation or {}
    names = sorted(table, key=table.__getitem__)
    values = [table[name] for name in names]
    if not names or values != list(range(1, len(names) + 1)):
        raise CatalogError.about(
            catalog.path,
            f"the segmentation classes have the values {values}",
            "Masks to train on need the values 1, 2, 3, ... in dataset.json, 0 for background.",
        )
    return tuple(names)
