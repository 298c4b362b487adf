"""Which predicted mask belongs to which reference, by file name; and what the values mean."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from uvlm.errors import InputError

__all__ = ["MaskPair", "pair_masks", "read_classes"]

log = logging.getLogger(__name__)

MaskPair = tuple[str, Path, Path | None]
"""Study id, reference, prediction; None: there is no prediction."""

SUFFIXES = (".nii.gz", ".nii", ".b2nd", ".nrrd", ".mha", ".mhd")


def pair_masks(references: Path, predictions: Path) -> list[MaskPair]:
    """Pair the masks of two folders by name, without the suffix; or two files with one another.

    Every reference gives one pair, in the order of its name, with or without a prediction.
    Predictions without a reference are left out, and a warning says how many.

    Raises:
        InputError: a folder or file is missing, has no mask or two of one name, names differ in
            case alone, or no name is in both.
    """
    if references.is_file() and predictions.is_file():
        return [(_stem(references) or references.name, references, predictions)]
    wanted, given = _masks(references), _masks(predictions)
    folded = {name.casefold(): name for name in given}
    for name in wanted:
        other = folded.get(name.casefold())
        if other is not None and other != name and name not in given:
            raise InputError.about(
                given[other], f"named {other!r} where the reference is {name!r}", "Rename one."
            )
    if not wanted.keys() & given.keys():
        example = f"{next(iter(wanted))!r} there, {next(iter(given))!r} here"
        raise InputError.about(
            predictions,
            f"no mask has the name of one in {references} ({example})",
            "Name every prediction as its reference; the suffix may differ.",
        )
    if extra := len(given.keys() - wanted.keys()):
        log.warning("%s: %d predictions have no reference and are left out.", predictions, extra)
    return [(name, path, given.get(name)) for name, path in wanted.items()]


def _masks(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, in the order of names."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError.about(
            folder, f"cannot be read as a folder of masks ({error.strerror})", "Check the path."
        ) from None
    found: dict[str, Path] = {}
    for path in paths:
        name = _stem(path)
        if name is None or path.name.startswith("."):
            continue
        if name in found:
            raise InputError.about(path, f"the same study as {found[name].name}", "Keep one.")
        found[name] = path
    if not found:
        raise InputError.about(
            folder, "no mask in it", f"Give files that end in {', '.join(SUFFIXES)}."
        )
    return dict(sorted(found.items()))


def _stem(path: Path) -> str | None:
    suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), None)
    return path.name[: -len(suffix)] if suffix else None


def read_classes(path: Path) -> dict[str, int]:
    """Class name -> value, from JSON: such a table itself, or a `dataset.json` of nnU-Net's
    (`labels`) or of a catalog (`segmentation`). The background is left out.

    Raises:
        InputError: unreadable, no such table, a value that is no whole number above 0, or one
            value for two names.
    """
    try:
        table: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError.about(path, f"cannot be read as JSON ({error})", "Check it.") from None
    remedy = 'Give JSON such as {"liver": 1, "liver_lesion": 2}.'
    for key in ("labels", "segmentation"):
        if isinstance(table, dict) and key in table:
            table = table[key]
    if not isinstance(table, dict) or not table:
        raise InputError.about(path, "no table of classes in it", remedy)
    classes = {name: value for name, value in table.items() if value not in (0, "0")}
    for name, value in classes.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
            raise InputError.about(path, f"class {name!r} has the value {value!r}", remedy)
    if len(set(classes.values())) < len(classes):
        raise InputError.about(path, "two classes have one value", remedy)
    return classes
