"""The files of a slice bank: one index, and a file per study that is whole or absent.

BANK/index.json            of what the features are, and of which studies
BANK/SERIES.safetensors    `features` (S, F) float16 and `crc32` (1,) int64 of one study

Shapes: S slices, F numbers of each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from uvlm.config import from_dict, to_dict
from uvlm.data.bank_files import checksum
from uvlm.errors import ConfigError, InputError
from uvlm.preprocessing.catalog import check_id
from uvlm.preprocessing.disk import lock

__all__ = [
    "SliceIndex",
    "SliceKey",
    "grow_index",
    "read_slice_index",
    "slice_file",
    "slice_record",
    "write_whole",
]

KIND, FORMAT = "slices", 1
INDEX, SUFFIX = "index.json", ".safetensors"
WAIT = 60
"""Seconds that a process waits for another to write the index."""


@dataclass(frozen=True, kw_only=True)
class SliceKey:
    """What features of slices depend on. Features of another key are other features."""

    encoder: str
    """16 hexadecimal digits of the 2D encoder's weights and settings."""

    spec_hash: str
    """Of the preprocessing of the volumes that were cut."""

    slices: int
    """S"""

    width: int
    """F"""

    window: tuple[float, float]
    """HU of black and white."""

    def __post_init__(self) -> None:
        if min(self.slices, self.width) < 1:
            raise ConfigError("slices and width of a slice bank must be at least 1.")
        if not self.window[0] < self.window[1]:
            raise ConfigError(f"the window must be (black, white), got {self.window}.")


@dataclass(frozen=True, kw_only=True)
class SliceIndex:
    """index.json."""

    key: SliceKey
    image_bytes: Mapping[str, int]
    """Series -> size of the prepared file that was cut: another size is another volume."""


def slice_file(folder: Path, series: str) -> Path:
    """Of one study, whether it is there or not."""
    return folder / f"{series}{SUFFIX}"


def read_slice_index(folder: Path) -> SliceIndex:
    """The index of the bank in `folder`.

    Raises:
        InputError: there is none, or it is damaged or of another kind.
    """
    path = folder / INDEX
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found = (values.pop("kind", None), values.pop("format", None))
        if found == (KIND, FORMAT):
            return from_dict(SliceIndex, values)
    except FileNotFoundError:
        raise InputError.about(
            folder, "there is no slice bank", "Make one with `uvlm slices`."
        ) from None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError.about(
            path, f"unreadable ({error})", "Delete the bank and make it again."
        ) from None
    raise InputError.about(
        path,
        f"its kind and format are {found}, this version reads {(KIND, FORMAT)}",
        "Give a bank made by `uvlm slices`; one of `uvlm features` goes to --data.bank.",
    )


def grow_index(folder: Path, key: SliceKey, image_bytes: Mapping[str, int]) -> SliceIndex:
    """Begin a bank, or add studies to one; any number of processes may.

    The file of a study whose prepared volume has another size by now is deleted.

    Raises:
        InputError: the folder holds something else or a bank of another key, a series cannot be
            the name of a file, or nothing can be written.
    """
    for series in image_bytes:
        if wrong := check_id(series):
            raise InputError.about(folder, f"the series {series!r} {wrong}", "Rename it.")
    if folder.exists() and not (folder / INDEX).exists() and not _is_new(folder):
        raise InputError.about(folder, "it holds something else", "Name a new folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder, wait=WAIT):
            return _merge(folder, key, image_bytes)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _merge(folder: Path, key: SliceKey, image_bytes: Mapping[str, int]) -> SliceIndex:
    known: dict[str, int] = {}
    if (folder / INDEX).exists():
        there = read_slice_index(folder)
        _refuse_other(folder, there.key, key)
        known = dict(there.image_bytes)
    index = SliceIndex(key=key, image_bytes=dict(sorted({**known, **image_bytes}.items())))
    for series, size in image_bytes.items():
        if known.get(series) != size:
            slice_file(folder, series).unlink(missing_ok=True)
    if index.image_bytes != known:
        content = {"kind": KIND, "format": FORMAT} | to_dict(index)
        write_whole(folder / INDEX, json.dumps(content, indent=1).encode())
    return index


def _is_new(folder: Path) -> bool:
    """Whether there is at most what another process that begins the bank has put there."""
    return folder.is_dir() and all(entry.name.startswith(".") for entry in folder.iterdir())


def _refuse_other(folder: Path, there: SliceKey, key: SliceKey) -> None:
    made, wanted = to_dict(there), to_dict(key)
    for name, value in wanted.items():
        if made[name] != value:
            raise InputError.about(
                folder,
                f"it holds a bank of other features ({name} is {made[name]} there, {value} here)",
                "Name a new folder, or delete this one.",
            )


def slice_record(features_SF: Tensor) -> bytes:
    """The content of a study's file; `features_SF` is float16, on the CPU."""
    crc32 = torch.tensor([checksum(features_SF)], dtype=torch.int64)
    content: bytes = save({"features": features_SF, "crc32": crc32})
    return content


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` whole or not at all.

    Raises:
        InputError: the disk refuses.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            # The name must never be on disk before the content.
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError.about(
        path,
        f"could not be written ({error.strerror})",
        "Check the free space and permissions; what was finished is kept.",
    )
