"""Two label maps ready to be compared: one grid, one numbering, every value accounted for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.evaluation.masks.grid import COVERED, on_grid_of
from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.masks import values_in

__all__ = ["Others", "ReadPair", "check_values", "class_table", "read_pair", "stated_classes"]

NAMED = 5
"""Values or classes that a message names."""

Classes = Mapping[str, int]
Others = Literal["refuse", "background"]
"""What becomes of values that no class has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadPair:
    """A reference and its prediction."""

    reference: Volume

    predicted: NDArray[Any]
    """(z, y, x) on the reference's grid, with its values."""

    classes: Classes
    """Those that are scored: name -> value."""

    notes: tuple[str, ...] = ()


def read_pair(
    reference: Path,
    prediction: Path | None,
    classes: Classes | None = None,
    predicted_classes: Classes | None = None,
    *,
    predicted_names: Collection[str] | None = None,
    others: Others = "refuse",
    covered: float = COVERED,
) -> ReadPair:
    """Read both; without a prediction, an empty one.

    Without names, those that a `.b2nd` store carries count; failing these every value found is a
    class of its own, "label N". A prediction numbered otherwise is renumbered by name. Classes that
    only the reference or only the prediction has are not scored, and a note names them.

    Args:
        predicted_names: classes that the predictions of any study know: they are scored in this
            one too, as not found where its prediction is missing or does not know them

    Raises:
        ImageError: unreadable, not a mask, on another grid (`mask_grid`), values that no class has
            (unless `others` are taken as background), no class in both, or a store that carries
            other classes than those given for it.
    """
    truth = read_volume(reference, labels=True)
    named = stated_classes(reference, classes)
    notes = check_values(truth, named, others)
    if prediction is None:
        empty = np.zeros(truth.shape, np.uint8)
        said: tuple[str, ...] = ()
        every = _unnamed(values_in(truth.array))
        if named is not None:
            every, said = _in_both(named, {}, predicted_names or named)
        return ReadPair(reference=truth, predicted=empty, classes=every, notes=notes + said)
    mask = read_volume(prediction, labels=True)
    predicted_named = stated_classes(prediction, predicted_classes) or named
    notes += check_values(mask, predicted_named, others)
    mask, more = on_grid_of(mask, truth, covered)
    notes += more
    array = np.ascontiguousarray(mask.array)
    if named is None or predicted_named is None:
        found = {*values_in(truth.array), *values_in(array)}
        every = _unnamed(tuple(sorted(found)))
        return ReadPair(reference=truth, predicted=array, classes=every, notes=notes)
    _refuse_strangers(named, predicted_named, prediction)
    shared, said = _in_both(named, predicted_named, predicted_names or ())
    if any(predicted_named.get(name) != value for name, value in shared.items()) or said:
        known = {predicted_named[n]: v for n, v in shared.items() if n in predicted_named}
        array = _renumbered(array, known)
    return ReadPair(reference=truth, predicted=array, classes=shared, notes=notes + said)


def class_table(path: Path) -> dict[str, int] | None:
    """Name -> value, as a `.b2nd` store says; None of other files."""
    if path.suffix.lower() != ".b2nd":
        return None
    from uvlm.imaging.store import StoredArray

    meta = StoredArray(path).meta
    return dict(meta.classes) if meta is not None and meta.classes else None


def stated_classes(path: Path, given: Classes | None) -> Classes | None:
    """What the values of a mask mean: as given for it, else as it says itself; None: unknown.

    Raises:
        ImageError: the file says otherwise than what is given.
    """
    own = class_table(path)
    if given is None or own is None:
        return given or own
    names = {value: name for name, value in own.items()}
    for name, value in given.items():
        if own.get(name, value) != value or names.get(value, name) != name:
            there = f"{name} is {own[name]}" if name in own else f"{value} is {names[value]}"
            raise ImageError.about(
                path,
                f"carries its own classes, where {there}; given is {name}: {value}",
                "Leave out --classes or --predicted-classes where files carry their own.",
            )
    return given


def _unnamed(values: tuple[int, ...]) -> dict[str, int]:
    return {f"label {value}": value for value in values}


def check_values(mask: Volume, classes: Classes | None, others: Others) -> tuple[str, ...]:
    """A note on values that no class has.

    Raises:
        ImageError: there are some and they are not to be taken as background.
    """
    if classes is None:
        return ()
    known = set(classes.values())
    unknown = [value for value in values_in(mask.array) if value not in known]
    if not unknown:
        return ()
    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    text = f"values that no class has: {', '.join(map(str, unknown[:NAMED]))}{more}"
    if others == "refuse":
        raise ImageError.about(
            mask.provenance.path,
            f"holds {text}",
            "Name every value, or have the others count as background (--others background).",
        )
    return (f"{Path(mask.provenance.path).name} holds {text}; they count as background.",)


def _refuse_strangers(classes: Classes, predicted: Classes, path: Path) -> None:
    if not classes.keys() & predicted.keys():
        found = f"no class in common: {_some(predicted)} here, {_some(classes)} in the reference"
        raise ImageError.about(path, found, "Give both the same names.")


def _in_both(
    classes: Classes, predicted: Classes, elsewhere: Collection[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The classes of the reference that this prediction or one elsewhere has, with the reference's
    values, and a note on the others."""
    known = {*predicted, *elsewhere}
    shared = {name: value for name, value in classes.items() if name in known}
    alone = [
        f"Not scored, only in the {where}: {_some(dict.fromkeys(missing, 0))}."
        for where, missing in (
            ("reference", classes.keys() - shared.keys()),
            ("prediction", predicted.keys() - shared.keys()),
        )
        if missing
    ]
    return shared, tuple(alone)


def _some(classes: Classes) -> str:
    names = sorted(classes)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _renumbered(array: NDArray[Any], values: Mapping[int, int]) -> NDArray[Any]:
    """The array with every value replaced by its new one; values without one become 0."""
    table = np.zeros(int(np.iinfo(array.dtype).max) + 1, np.uint16)
    for old, new in values.items():
        if old < len(table):
            table[old] = new
    return np.asarray(table[array])
