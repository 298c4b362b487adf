"""The feature bank, read: what a frozen encoder gives for each study, without running it.

Every read compares the record's checksum. A bank that was made with another encoder, preprocessing
or token grid, or that lacks a study, is refused before the first step; so is one of other
augmentation, but by a run without: it takes the first view, the volume as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from uvlm.data.bank_files import (
    INDEX,
    BankIndex,
    BankKey,
    checksum,
    read_index,
    shard_path,
)
from uvlm.errors import InputError
from uvlm.preprocessing.catalog import Row

__all__ = ["Bank", "missing_shards"]

AGAIN = "Delete this file and run `uvlm features` again; it makes only what is missing."
ANEW = "Make another bank with `uvlm features` and this run's settings, in a new folder."

Offsets = dict[str, int]
"""Tensor of a shard -> its first byte in the file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """An open bank: numbers and paths only, so that it passes to loader processes."""

    path: Path
    index: BankIndex
    stages: tuple[int, ...]
    """Those that `read` gives."""

    first: dict[str, int]
    """Series -> number of its first record."""

    offsets: tuple[Offsets, ...]
    """Of each shard; shards of the same size have the same."""

    @classmethod
    def open(cls, path: Path | str) -> Bank:
        """Check that every shard is there and whole; contents are checked as they are read.

        Raises:
            InputError: no bank, unfinished, or a shard of another size than it should have.
        """
        path = Path(path)
        index = read_index(path)
        offsets = _all_offsets(path, index)
        missing = [number for number, found in enumerate(offsets) if found is None]
        if missing:
            raise InputError.about(
                path,
                f"{len(missing)} of its {index.shards} shards are missing or cut short, the first "
                f"is {shard_path(path, missing[0]).name}",
                "Run the same `uvlm features` again; it makes only what is missing.",
            )
        starts = accumulate(index.views.values(), initial=0)
        return cls(
            path=path,
            index=index,
            stages=tuple(stage for stage, _ in index.key.stages),
            first=dict(zip(index.views, starts, strict=False)),
            offsets=tuple(found for found in offsets if found is not None),
        )

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the features' key and with any study."""
        return hashlib.sha256((self.path / INDEX).read_bytes()).hexdigest()[:16]

    def only(self, stages: Collection[int]) -> Bank:
        """The same bank, of which `read` gives these stages."""
        return replace(self, stages=tuple(stage for stage in self.stages if stage in stages))

    def views(self, series: str) -> int:
        """How many views of a study there are."""
        return self.index.views[series]

    def read(self, series: str, view: int = 0) -> dict[int, Tensor]:
        """Stage, counted from 1 -> (K, C) float16.

        Raises:
            InputError: the record is not what was written.
        """
        number, place = divmod(self.first[series] + view, self.index.per_shard)
        path, offsets, key = shard_path(self.path, number), self.offsets[number], self.index.key
        features: dict[int, Tensor] = {}
        try:
            with path.open("rb") as file:
                row = 8 * len(key.stages)
                file.seek(offsets["crc32"] + place * row)
                sums = torch.frombuffer(bytearray(file.read(row)), dtype=torch.int64).tolist()
                expected = dict(zip(dict(key.stages), sums, strict=True))
                for stage in self.stages:
                    size = key.bytes_of(stage)
                    file.seek(offsets[f"stage{stage}"] + place * size)
                    content = torch.frombuffer(bytearray(file.read(size)), dtype=torch.float16)
                    features[stage] = content.view(key.tokens, -1)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError.about(path, f"cannot be read ({error})", AGAIN) from None
        if any(checksum(tokens_KC) != expected[stage] for stage, tokens_KC in features.items()):
            raise InputError.about(
                path, f"the features of {series}, view {view}, do not match their checksum", AGAIN
            )
        return features

    def check(self, wanted: BankKey, train: Sequence[Row], val: Sequence[Row]) -> None:
        """Refuse a bank that is not of the run's encoder, preprocessing, grid and studies.

        Args:
            wanted: of the run; stages of the bank that it does not name are left alone, and a run
                that does not augment takes the first view of any bank

        Raises:
            InputError: naming what differs, with both values.
        """
        made = self.index.key
        compared = {
            "encoder": (made.encoder, wanted.encoder),
            "preprocessing": (made.spec_hash, wanted.spec_hash),
            "token grid": (made.token_grid, wanted.token_grid),
            "padding": (made.padding, wanted.padding),
            "features of slices": (made.slices, wanted.slices),
        }
        for what, (there, here) in compared.items():
            if there != here:
                self._refuse(f"it was made with {what} {there}, this run has {here}")
        if lacking := set(wanted.stages) - set(made.stages):
            self._refuse(f"it lacks the (stage, channels) {sorted(lacking)}")
        self._check_augmentation(wanted, train)
        self._check_studies([*train, *val])

    def _refuse(self, found: str, remedy: str = ANEW) -> NoReturn:
        raise InputError.about(self.path, found, remedy)

    def _check_augmentation(self, wanted: BankKey, train: Iterable[Row]) -> None:
        made = self.index.key.augment
        if wanted.augment is None:
            return
        if made not in (None, wanted.augment):
            self._refuse(f"its views were made with {made}, this run has {wanted.augment}")
        single = [row.series_id for row in train if self.index.views.get(row.series_id) == 1]
        if single:
            self._refuse(
                f"it has only the unchanged view of {len(single)} training studies, this run "
                "changes its training volumes",
                "Switch data.augment off, or make a bank with more --views.",
            )

    def _check_studies(self, rows: Sequence[Row]) -> None:
        missing = [row.series_id for row in rows if row.series_id not in self.index.views]
        if missing:
            self._refuse(
                f"{len(missing)} of {len(rows)} studies are missing, the first is {missing[0]}"
            )
        for row in rows:
            there, here = self.index.image_bytes[row.series_id], row.image.stat().st_size
            if there != here:
                self._refuse(
                    f"{row.series_id} was encoded from a file of {there} bytes, {row.image} now "
                    f"has {here}"
                )


def missing_shards(folder: Path, index: BankIndex) -> list[int]:
    """Numbers of the shards that are absent or not as long as they must be."""
    found = _all_offsets(folder, index)
    return [number for number, offsets in enumerate(found) if offsets is None]


def _all_offsets(folder: Path, index: BankIndex) -> list[Offsets | None]:
    """Of every shard; None where it is not there, or not whole.

    There may be a hundred thousand: one listing gives their sizes, and of those that hold as many
    records in as many bytes only the first is opened.
    """
    sizes = _sizes(folder)
    known: dict[tuple[int, int], Offsets] = {}
    found: list[Offsets | None] = []
    for number in range(index.shards):
        path = shard_path(folder, number)
        size, records = sizes.get(path.name, 0), index.records_in(number)
        if size and (size, records) not in known:
            offsets = _offsets(path, size, index.key, records)
            if offsets is not None:
                known[size, records] = offsets
        found.append(known.get((size, records)))
    return found


def _sizes(folder: Path) -> dict[str, int]:
    """Name of each shard that is there -> its size in bytes."""
    with os.scandir(folder) as entries:
        return {e.name: e.stat().st_size for e in entries if e.name.startswith("shard-")}


def _offsets(path: Path, size: int, key: BankKey, records: int) -> Offsets | None:
    expected = records * (key.record_bytes + 8 * len(key.stages))
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size != 8 + length + expected:
                return None
            header = json.loads(file.read(length))
        names = (*(f"stage{stage}" for stage, _ in key.stages), "crc32")
        return {name: 8 + length + int(header[name]["data_offsets"][0]) for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return None
