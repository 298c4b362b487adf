"""Arrays of labels and probabilities, checked once before anything is computed from them.

Shapes: N studies, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError

__all__ = [
    "check_protocols",
    "label_array",
    "listed",
    "names_where",
    "probabilities_from_logits",
    "probability_array",
]

Array = NDArray[np.float64]


def label_array(
    values: Any, names: Sequence[str], what: str = "labels", *, unknown: bool = True
) -> Array:
    """(N, C) of 0.0, 1.0 and, where `unknown`, nan.

    Raises:
        InputError: another shape, no study, a name twice, text, or another value; names the class.
    """
    labels = _numbers(values, names, what)
    allowed = (labels == 0) | (labels == 1) | (np.isnan(labels) & unknown)
    if not allowed.all():
        row, column = np.argwhere(~allowed)[0]
        empty = " or empty for unknown" if unknown else ""
        raise InputError(
            f"{what}: class {names[column]!r} has the value {labels[row, column]:g} in study "
            f"{row + 1}; a label is 0 or 1{empty}. Threshold probabilities first."
        )
    return labels


def probability_array(values: Any, names: Sequence[str], studies: int) -> Array:
    """(N, C) of numbers from 0 to 1.

    Logits that all happen to lie between 0 and 1 cannot be told from probabilities.

    Raises:
        InputError: not (studies, C), text, nan, or outside 0 to 1; names the class.
    """
    what = "probabilities"
    found = _numbers(values, names, what)
    if len(found) != studies:
        raise InputError(f"{what} of {len(found)} studies, but labels of {studies}. Join them.")
    missing = np.isnan(found)
    if missing.any():
        column = int(missing.any(axis=0).argmax())
        raise InputError(
            f"{what}: class {names[column]!r} is empty in {int(missing[:, column].sum())} studies. "
            "Every study needs a number from 0 to 1 there."
        )
    low, high = float(found.min()), float(found.max())
    if low < 0 or high > 1:
        column = int(((found < 0) | (found > 1)).any(axis=0).argmax())
        range_ = f"{found[:, column].min():g} to {found[:, column].max():g}"
        percent = low >= 0 and high <= 100 and high > 50
        remedy = (
            "Divide percentages by 100."
            if percent
            else "If they are logits, give --logits, or convert them: p = 1 / (1 + exp(-x))."
        )
        raise InputError(
            f"{what}: class {names[column]!r} holds values from {range_}; a probability lies "
            f"between 0 and 1. {remedy}"
        )
    return found


def probabilities_from_logits(values: Any) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    logits = np.asarray(values, dtype=np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def listed(names: Collection[str], most: int = 6) -> str:
    """ "A, B, C and 4 more" """
    shown = list(names)[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def names_where(names: Sequence[str], chosen: Any) -> tuple[str, ...]:
    """The names whose entry in (C,) `chosen` is true."""
    return tuple(name for name, yes in zip(names, np.asarray(chosen), strict=True) if yes)


def check_protocols(asked: Sequence[str], known: Collection[str]) -> None:
    """
    Raises:
        InputError: naming the first one that is not known.
    """
    for name in asked:
        if name not in known:
            raise InputError(f"no protocol {name!r} here. Choose from: {', '.join(known)}.")


def _numbers(values: Any, names: Sequence[str], what: str) -> Array:
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InputError(f"{what}: class {twice!r} is named twice. Rename one of them.")
    raw = np.asarray(values)
    if raw.ndim != 2 or raw.shape[1] != len(names) or not raw.size:
        raise InputError(
            f"{what} of shape {raw.shape}; give (studies, {len(names)}), one column per class and "
            "at least one study."
        )
    columns = []
    for column, name in enumerate(names):
        try:
            columns.append(raw[:, column].astype(np.float64))
        except (TypeError, ValueError):
            raise InputError(
                f"{what}: class {name!r} holds text. Give numbers, or name the right columns."
            ) from None
    return np.stack(columns, axis=1)
