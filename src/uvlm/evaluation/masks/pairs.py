"""The masks of a folder, by study; and what their values mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from uvlm.errors import InputError

__all__ = ["SUFFIXES", "MaskPair", "folder_mark", "mask_stem", "masks_in", "read_classes"]

MaskPair = tuple[str, Path, Path | None]
"""Study id, reference, prediction; None: there is no prediction."""

SUFFIXES = (".nii.gz", ".nii", ".b2nd", ".nrrd", ".mha", ".mhd")


def masks_in(folder: Path) -> dict[str, Path]:
    """Study id (the name without suffix) -> mask, in the order of ids. Hidden files do not count.

    Raises:
        InputError: the folder cannot be read, has no mask, or two of one study.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError.about(
            folder, f"cannot be read as a folder of masks ({error.strerror})", "Check the path."
        ) from None
    found: dict[str, Path] = {}
    for path in paths:
        name = mask_stem(path)
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


def mask_stem(path: Path) -> str | None:
    """The name without the suffix of a mask; None of other files."""
    suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), None)
    return path.name[: -len(suffix)] if suffix else None


def folder_mark(folder: Path) -> str:
    """Name, number of masks and first 12 digits of the SHA-256 of their names and contents."""
    digest = hashlib.sha256()
    masks = masks_in(folder)
    for path in masks.values():
        digest.update(f"{path.name} ".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{folder.name} (folder of {len(masks)}, {digest.hexdigest()[:12]})"


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
