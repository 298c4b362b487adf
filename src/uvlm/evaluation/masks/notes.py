"""Notes about single masks, told together: those that differ only in their numbers are one."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["told_together"]

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def told_together(notes: Iterable[str]) -> list[str]:
    """`2 studies: Resampled from 1.00 to 3.00 mm.`, most frequent first.

    Args:
        notes: of all studies, each as often as it was made
    """
    kinds: dict[str, list[list[str]]] = {}
    for note in notes:
        plain = note.replace("{", "{{").replace("}", "}}")
        kinds.setdefault(_NUMBER.sub("{}", plain), []).append(_NUMBER.findall(note))
    return [
        f"{'1 study' if len(found) == 1 else f'{len(found)} studies'}: "
        + kind.format(*(_range(place) for place in zip(*found, strict=True)))
        for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]


def _range(numbers: Iterable[str]) -> str:
    """`2.00` of equals, else `2.00 to 5.00`."""
    found = list(numbers)
    low, high = min(found, key=float), max(found, key=float)
    return low if low == high else f"{low} to {high}"
