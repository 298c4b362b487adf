"""The files of a feature bank: one index, and shards of records that are whole or absent.

BANK/index.json                    of what the features are, and which records there are
BANK/shard-00000.safetensors ...   `stage<i>` (n, K, C_i) float16 and `crc32` (n, stages) int64

A record is one view of one study. Records are numbered study by study in the order of the index
and go into shards by number, so that every process knows where each belongs and what is missing.

Shapes: n records of a shard, K visual tokens, C_i channels of stage i.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from isal import isal_zlib
from safetensors.torch import save
from torch import Tensor

from uvlm.config import LATER, from_dict, to_dict
from uvlm.data.config import AugmentConfig, Grid
from uvlm.errors import ConfigError, InputError

__all__ = [
    "BankIndex",
    "BankKey",
    "clear_leftovers",
    "read_index",
    "shard_path",
    "write_index",
    "write_shard",
]

FORMAT = 1
INDEX = "index.json"
SHARD_BYTES = 2 * 2**20
"""No shard of several records is larger: what a killed process loses at most."""


@dataclass(frozen=True, kw_only=True)
class BankKey:
    """What features depend on. Features of another key are other features."""

    encoder: str
    """16 hexadecimal digits of its weights and settings."""

    spec_hash: str
    """Of the preprocessing."""

    token_grid: Grid
    """Visual tokens along z, y, x."""

    padding: str
    """How stages deeper than the token grid are brought to its length."""

    stages: tuple[tuple[int, int], ...]
    """(stage, channels) of each stage kept, shallowest first."""

    augment: AugmentConfig | None = None
    """How views after the first were changed; None if there are none."""

    seed: int = 0
    """Of these changes."""

    slices: str = field(default="", metadata=LATER)
    """16 hexadecimal digits of how slices and their features were made, for an encoder that looks
    at them."""

    @property
    def tokens(self) -> int:
        """K."""
        z, y, x = self.token_grid
        return z * y * x

    def bytes_of(self, stage: int) -> int:
        """Bytes of one stage of one record."""
        return 2 * self.tokens * dict(self.stages)[stage]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return sum(self.bytes_of(stage) for stage, _ in self.stages)


@dataclass(frozen=True, kw_only=True)
class BankIndex:
    """index.json."""

    key: BankKey
    views: Mapping[str, int]
    """Series -> how many views of it; the first is the volume as it is."""

    image_bytes: Mapping[str, int]
    """Series -> size of the prepared file that was encoded: another size is another volume."""

    per_shard: int
    """Records of a shard."""

    def __post_init__(self) -> None:
        least = min((self.per_shard, *self.views.values()))
        if least < 1 or self.views.keys() != self.image_bytes.keys():
            raise ConfigError("views, image_bytes and per_shard contradict one another.")

    @property
    def records(self) -> list[tuple[str, int]]:
        """(series, view), in order."""
        return [(series, view) for series, count in self.views.items() for view in range(count)]

    @cached_property
    def total(self) -> int:
        """Number of records; kept, as it is asked for with every one of the many shards."""
        return sum(self.views.values())

    @property
    def shards(self) -> int:
        return -(-self.total // self.per_shard)

    def records_in(self, shard: int) -> int:
        """How many records shard number `shard` holds."""
        return min(self.per_shard, self.total - shard * self.per_shard)

    def shared_by(self, processes: int) -> BankIndex:
        """The same records, in at least as many shards as processes if there are so many."""
        return replace(self, per_shard=max(min(self.per_shard, self.total // processes), 1))


def records_per_shard(key: BankKey) -> int:
    return max(SHARD_BYTES // key.record_bytes, 1)


def shard_path(folder: Path, number: int) -> Path:
    """File of shard `number`."""
    return folder / f"shard-{number:05d}.safetensors"


def read_index(folder: Path) -> BankIndex:
    """The index of the bank in `folder`.

    Raises:
        InputError: there is none, it is damaged, or of a later format.
    """
    path = folder / INDEX
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found = values.pop("format")
        if found == FORMAT:
            return from_dict(BankIndex, values)
    except FileNotFoundError:
        raise InputError.about(
            folder, "there is no feature bank", "Make one with `uvlm features`."
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError.about(
            path, f"unreadable ({error})", "Delete the bank and make it again."
        ) from None
    raise InputError.about(
        path, f"its format is {found}, this version reads {FORMAT}", "Make the bank again."
    )


def write_index(folder: Path, index: BankIndex) -> BankIndex:
    """Begin a bank, or go on with one that was begun alike; any number of processes may.

    Returns:
        The bank's index: its shards stay as they were begun, whatever `index.per_shard`.

    Raises:
        InputError: the folder holds something else, or a bank of other features or studies.
    """
    if (folder / INDEX).exists():
        there = read_index(folder)
        index = replace(index, per_shard=there.per_shard)
        difference = _difference(to_dict(there), to_dict(index))
        if difference:
            raise InputError.about(
                folder,
                f"it holds a bank of other features or studies ({difference})",
                "Name a new folder, or delete this one.",
            )
        return there
    if folder.exists() and (not folder.is_dir() or any(_not_ours(folder))):
        raise InputError.about(folder, "it holds something else", "Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT} | to_dict(index), indent=1)
    beside = folder / f".{INDEX}.{os.getpid()}.tmp"
    beside.write_text(text, "utf-8")
    os.replace(beside, folder / INDEX)
    return index


def _not_ours(folder: Path) -> list[Path]:
    """What another process that begins the same bank would not have put there."""
    return [p for p in folder.iterdir() if p.name != INDEX and not p.name.startswith(f".{INDEX}.")]


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first setting that differs, with both values; "" if none does."""
    for name in here:
        if isinstance(here[name], dict) and isinstance(there[name], dict):
            if name in ("views", "image_bytes"):
                if there[name] != here[name]:
                    return f"{name} of {len(there[name])} studies there, {len(here[name])} here"
            elif found := _difference(there[name], here[name]):
                return f"{name}.{found}"
        elif there[name] != here[name]:
            return f"{name} is {there[name]} there, {here[name]} here"
    return ""


def write_shard(
    folder: Path, number: int, key: BankKey, records: Sequence[Mapping[int, Tensor]]
) -> Path:
    """Write the records (stage -> (K, C) float16, on the CPU) of a shard, whole or not at all."""
    tensors = {
        f"stage{stage}": torch.stack([record[stage] for record in records])
        for stage, _ in key.stages
    }
    sums = [[checksum(record[stage]) for stage, _ in key.stages] for record in records]
    tensors["crc32"] = torch.tensor(sums, dtype=torch.int64)
    final = shard_path(folder, number)
    beside = folder / f".{final.stem}.{os.getpid()}.tmp"
    try:
        with beside.open("wb") as file:
            file.write(save(tensors))
            file.flush()
            # The name must never be on disk before the content.
            os.fsync(file.fileno())
        os.replace(beside, final)
    finally:
        beside.unlink(missing_ok=True)
    return final


def clear_leftovers(folder: Path, numbers: Collection[int]) -> None:
    """Delete what killed processes left of these shards; nobody may be writing one of them."""
    names = {f".{shard_path(folder, number).stem}" for number in numbers}
    for left in folder.glob(".shard-*.tmp"):
        if left.name.removesuffix(".tmp").rpartition(".")[0] in names:
            left.unlink(missing_ok=True)


def checksum(tokens_KC: Tensor) -> int:
    """CRC-32 of the bytes of one stage of one record."""
    return isal_zlib.crc32(tokens_KC.contiguous().numpy())
