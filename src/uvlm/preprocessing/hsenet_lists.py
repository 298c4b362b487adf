"""HSENet's own files: lists of studies in JSON, volumes and slice features in `.npy`.

    {"train": [{"image": PATH, "text": REPORT}, ...], "validation": [...]}        stage 1
        + "biomedclip_features": PATH                                 stage 2, reports, BIMCV-R
    {"train": [{"image", "biomedclip_features", "anatomy", "abnormality"}, ...]}  questions

    volume      (1, Z, Y, X) float32 from 0 to 1; published (1, 32, 256, 256)
    features    (S, F) float32, slices along z; published (32, 768)

A volume's values are HU clipped to `WINDOW` and scaled to 0..1: `to_hu` takes that back to whole
HU, from which `from_hu` gives each value again to within half a HU, 0.0005. What the file cannot
give back, since nothing in it says so: voxel sizes, directions and the way to the CT.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import CatalogError, ImageError, InputError
from uvlm.preprocessing.catalog import write_text
from uvlm.preprocessing.table import quoted

__all__ = [
    "FEATURES",
    "WINDOW",
    "WORD_OF",
    "ListEntry",
    "from_hu",
    "read_features",
    "read_list",
    "read_volume_file",
    "to_hu",
    "write_array",
    "write_list",
]

WINDOW = (-1000.0, 200.0)
"""HU that are 0 and 1."""

FEATURES = "biomedclip_features"
"""Key of the file with slice features."""

SPLIT_OF = {"train": "train", "validation": "valid", "test": "test"}
WORD_OF = {split: word for word, split in SPLIT_OF.items()}
"""Split of a catalog -> key of a list."""

TEXTS = ("text", "abnormality", "anatomy")

ROUNDING = 1e-5
"""What interpolation in float32 may leave above 1 or below 0."""

HALF = 65504.0
"""Largest number of half precision, in which features are kept."""

AGAIN = "Copy or write the file again."


@dataclass(frozen=True, kw_only=True)
class ListEntry:
    """One entry of a list; an image is in several where each asks a question."""

    where: str
    """`train[0]`: key and number, counted from 0, as in the JSON text."""

    split: str
    """ "train", "valid" or "test"."""

    image: Path
    text: str | None = None
    """Report; None in a list of questions."""

    features: Path | None = None
    abnormality: str | None = None
    """What a question asks the place of; None in a list of reports."""

    anatomy: str = ""
    """The answer, a path; "" where there is none."""


def read_list(path: Path, moved: tuple[str, str] | None = None) -> tuple[ListEntry, ...]:
    """The entries of a list in its order; no file they name is opened.

    Args:
        moved: beginning of the paths in the list, and what to put in its place; relative paths
            start at the list's folder.

    Raises:
        CatalogError: the file is missing or broken, or an entry names no image, is neither report
            nor question, or repeats another's image without asking something about it.
    """
    entries = [
        _entry(path, f"{word}[{number}]", SPLIT_OF[word], values, moved)
        for word, group in _groups(path).items()
        for number, values in enumerate(group)
    ]
    if not entries:
        raise CatalogError.about(path, "no entry", "Give a list of studies.")
    _refuse_repeated(path, entries)
    return tuple(entries)


def _groups(path: Path) -> Mapping[str, Sequence[Any]]:
    try:
        found: Any = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise CatalogError.about(path, what, "Check the path.") from None
    except UnicodeError:
        raise CatalogError.about(path, "not UTF-8 text", "Give a JSON list.") from None
    except json.JSONDecodeError as error:
        where = f"no JSON ({error.msg} in line {error.lineno}, column {error.colno})"
        raise CatalogError.about(path, where, AGAIN) from None
    remedy = f"Give an object with {', '.join(SPLIT_OF)}, each a list of entries."
    if not isinstance(found, dict) or not found:
        raise CatalogError.about(path, "no object with splits", remedy)
    for word, group in found.items():
        if word not in SPLIT_OF or not isinstance(group, list):
            problem = "is no list" if word in SPLIT_OF else "is no split"
            raise CatalogError.about(path, f"{quoted(word)} {problem}", remedy)
    return found


def _entry(
    path: Path, where: str, split: str, values: Any, moved: tuple[str, str] | None
) -> ListEntry:
    def refuse(found: str, remedy: str) -> InputError:
        return CatalogError.about(path, f"{where}: {found}", remedy)

    if not isinstance(values, dict):
        raise refuse("no object", 'Give {"image": PATH, "text": REPORT}.')
    texts: dict[str, str | None] = {}
    for key in ("image", FEATURES, *TEXTS):
        value = values.get(key)
        # NaN is what pandas writes for an empty cell.
        missing = value is None or value != value
        if not missing and not isinstance(value, str):
            raise refuse(f"{key!r} is no text", "Correct the entry.")
        texts[key] = None if missing else str(value).strip()
    image, features = texts["image"], texts[FEATURES]
    if not image:
        raise refuse("no 'image'", "Name the volume's file.")
    if FEATURES in values and not features:
        raise refuse(f"{FEATURES!r} is empty", "Name the file, or leave the key out.")
    asks = bool(values.keys() & {"abnormality", "anatomy"})
    if not asks and "text" not in values:
        raise refuse("neither 'text' nor 'abnormality'", "Give a report, or a question.")
    if asks and not texts["abnormality"]:
        raise refuse("no 'abnormality'", "Name what the question asks the place of.")
    return ListEntry(
        where=where,
        split=split,
        image=_placed(path, image, moved),
        text=(texts["text"] or "") if "text" in values else None,
        features=_placed(path, features, moved) if features else None,
        abnormality=texts["abnormality"] if asks else None,
        anatomy=texts["anatomy"] or "",
    )


def _placed(path: Path, named: str, moved: tuple[str, str] | None) -> Path:
    if moved is not None and named.startswith(moved[0]):
        named = moved[1] + named[len(moved[0]) :]
    return Path(os.path.abspath(path.parent / named))


def _refuse_repeated(path: Path, entries: Iterable[ListEntry]) -> None:
    first: dict[Path, ListEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.image, entry)
        if other is entry:
            continue
        found = f"{entry.where}: the image of {other.where} again ({entry.image})"
        if entry.abnormality is None or other.abnormality is None:
            raise CatalogError.about(path, found, "Keep one of the two.")
        if entry.split != other.split:
            raise CatalogError.about(path, found, "Keep it in one split.")
        if entry.features != other.features:
            raise CatalogError.about(path, f"{found}, with other features", "Correct the paths.")


def write_list(path: Path, entries: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Write a list whole or not at all.

    Args:
        entries: key of the split to its entries; "train" and "validation" are always written
    """
    groups = {"train": [], "validation": [], **entries}
    write_text(path, json.dumps(groups, ensure_ascii=False, indent=1) + "\n")


def read_volume_file(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A volume (Z, Y, X), as the file has its axes, from 0 to 1.

    Args:
        shape: voxels it must have, without the leading 1

    Raises:
        ImageError: no such file, not an `.npy` array of floating point, another shape, NaN, or
            values outside 0..1.
    """
    array = _read_array(path)
    if array.shape != (1, *shape):
        raise ImageError.about(
            path, f"an array of {array.shape}, not {(1, *shape)}", "Check --shape and the file."
        )
    low, high = float(array.min()), float(array.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ImageError.about(
            path,
            f"values from {low:g} to {high:g}, not within 0..1",
            "Give volumes as HSENet's scripts write them, or the CT itself.",
        )
    return np.asarray(np.clip(array[0], 0, 1), np.float32)


def read_features(path: Path, shape: tuple[int | None, int | None]) -> NDArray[np.float32]:
    """Features of slices (S, F).

    Args:
        shape: slices and numbers of each that there must be; None takes any

    Raises:
        ImageError: no such file, not an `.npy` array of floating point, NaN, another shape, or
            values beyond 16 bits.
    """
    array = _read_array(path)
    wanted = [had if must is None else must for had, must in zip(array.shape, shape, strict=False)]
    if array.ndim != 2 or list(array.shape) != wanted:
        said = " x ".join("any" if must is None else str(must) for must in shape)
        raise ImageError.about(
            path,
            f"slice features of {array.shape}, not {said} (slices, numbers of each)",
            "Give the features of as many slices, made with one encoder.",
        )
    if np.abs(array).max() > HALF:
        raise ImageError.about(
            path, "values too large for half precision", "Check the encoder that made them."
        )
    return array.astype(np.float32, copy=False)


def _read_array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ImageError.about(path, "no such file", "Check the list, see --moved.") from None
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
        raise ImageError.about(path, found, AGAIN) from None
    except (ValueError, EOFError):
        raise ImageError.about(path, "no whole .npy array of numbers", AGAIN) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.size == 0:
        kind = getattr(array, "dtype", "an archive")
        raise ImageError.about(path, f"{kind}, not an array of floating point", AGAIN)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise ImageError.about(path, f"{count} values are NaN or infinite", "Make it again.")
    return array


def to_hu(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """0..1 to whole HU of `WINDOW`."""
    low, high = WINDOW
    return np.rint(values.astype(np.float64) * (high - low) + low).astype(np.int16)


def from_hu(hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """HU to 0..1, clipped to `WINDOW`."""
    low, high = WINDOW
    return ((np.clip(hu.astype(np.float32), low, high) - low) / (high - low)).astype(np.float32)


def write_array(path: Path, array: NDArray[np.float32]) -> None:
    """Write an `.npy` file whole or not at all; its folder is made."""
    data = io.BytesIO()
    np.save(data, np.ascontiguousarray(array, np.float32), allow_pickle=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data.getvalue())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
