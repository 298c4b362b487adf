"""The slice bank: what a 2D encoder says of each study's axial slices, computed once.

A study's features are whole or absent, so that a killed run goes on where it was, and a bank may
grow by further catalogs. Every read compares the checksum.

Shapes: S slices from the feet to the head, F numbers of each.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from uvlm.data.bank_files import checksum
from uvlm.data.slice_files import (
    INDEX,
    SUFFIX,
    SliceIndex,
    SliceKey,
    grow_index,
    read_slice_index,
    slice_file,
    slice_record,
    write_whole,
)
from uvlm.errors import InputError
from uvlm.preprocessing.catalog import Row

__all__ = ["SliceBank", "SliceKey"]

AGAIN = "Run `uvlm slices` again; it makes only what is missing."


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceBank:
    """An open bank: names and numbers only, so that it passes to loader processes."""

    path: Path
    index: SliceIndex

    @classmethod
    def open(cls, path: Path | str) -> SliceBank:
        """The bank in folder `path`; whether it has a run's studies is for `check` to say.

        Raises:
            InputError: there is none, or its index is damaged or of another kind.
        """
        return cls(path=Path(path), index=read_slice_index(Path(path)))

    @classmethod
    def begin(cls, path: Path | str, key: SliceKey, image_bytes: Mapping[str, int]) -> SliceBank:
        """Begin a bank, go on with one, or let it grow by studies; any number of processes may.

        Args:
            image_bytes: series -> size of its prepared file; features of one that has another
                size by now are deleted

        Raises:
            InputError: the folder holds something else or a bank of another key, a series cannot
                be the name of a file, or nothing can be written.
        """
        return cls(path=Path(path), index=grow_index(Path(path), key, image_bytes))

    @property
    def encoder(self) -> str:
        """16 hexadecimal digits of the 2D encoder."""
        return self.index.key.encoder

    @property
    def slices(self) -> int:
        """S"""
        return self.index.key.slices

    @property
    def width(self) -> int:
        """F"""
        return self.index.key.width

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the key and with any study."""
        return hashlib.sha256((self.path / INDEX).read_bytes()).hexdigest()[:16]

    def missing(self, series: Collection[str]) -> list[str]:
        """Those of `series` that the bank lacks or holds cut short, in their order."""
        with os.scandir(self.path) as entries:
            sizes = {e.name: e.stat().st_size for e in entries if e.name.endswith(SUFFIX)}
        return [
            name
            for name in series
            if name not in self.index.image_bytes
            or sizes.get(f"{name}{SUFFIX}") != self._file_bytes
        ]

    def read(self, series: str) -> Tensor:
        """(S, F) float16.

        Raises:
            InputError: the study is missing, or its file is not what was written.
        """
        path = slice_file(self.path, series)
        if series not in self.index.image_bytes or not path.exists():
            raise InputError.about(path, f"there are no features of {series}", AGAIN)
        try:
            tensors = load(path.read_bytes())
            features_SF, crc = tensors["features"], int(tensors["crc32"])
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            self._refuse_file(path, f"cannot be read ({error})")
        if features_SF.dtype != torch.float16 or tuple(features_SF.shape) != self._shape:
            found = f"{tuple(features_SF.shape)} {features_SF.dtype}"
            self._refuse_file(path, f"it holds {found}, the bank has {self._shape} in 16 bits")
        if checksum(features_SF) != crc:
            self._refuse_file(path, f"the features of {series} do not match their checksum")
        return features_SF

    def write(self, series: str, features_SF: Tensor) -> Path:
        """Keep a study's features in half precision, whole or not at all.

        Args:
            features_SF: (S, F) of any precision, on any device

        Raises:
            InputError: a study that the bank was not begun for, another count or width of slices,
                values that half precision cannot hold, or a disk that refuses.
        """
        path = slice_file(self.path, series)
        if series not in self.index.image_bytes:
            raise InputError.about(path, f"the bank was not begun for {series}", "Begin it anew.")
        if tuple(features_SF.shape) != self._shape:
            raise InputError.about(
                path,
                f"features of {tuple(features_SF.shape)} (slices, numbers), the bank has "
                f"{self._shape}",
                "Give features of one encoder and one number of slices.",
            )
        half_SF = features_SF.detach().to("cpu", torch.float16).contiguous()
        if not half_SF.isfinite().all():
            raise InputError.about(
                path,
                f"the features of {series} are not finite or too large for half precision",
                "Look at the volume with `uvlm inspect`, and at the 2D encoder's weights.",
            )
        write_whole(path, slice_record(half_SF))
        return path

    def clear_leftovers(self, series: Collection[str]) -> None:
        """Delete what killed processes left of these; nobody may be writing one of them."""
        names = {slice_file(self.path, name).name for name in series}
        for left in self.path.glob(".*.tmp"):
            if left.name[1:].removesuffix(".tmp").rpartition(".")[0] in names:
                left.unlink(missing_ok=True)

    def check(
        self,
        rows: Sequence[Row],
        *,
        slices: int | None = None,
        width: int | None = None,
        encoder: str | None = None,
        spec_hash: str | None = None,
    ) -> None:
        """Refuse a bank that does not serve a run.

        Args:
            rows: every study of the run
            slices: S that its model takes; None: any
            width: F that its model takes; None: any
            encoder: fingerprint of the 2D encoder that its model was trained with; None: any
            spec_hash: of the run's preprocessing. Where the bank has another, its slices were cut
                from another preparation of the same series, as from a finer grid, and the sizes of
                files say nothing; None: it must be the same.

        Raises:
            InputError: naming what differs, with both values.
        """
        if slices not in (None, self.slices):
            self._refuse(
                f"it holds {self.slices} slices of each study, this run takes {slices}",
                f"Make another bank with `uvlm slices --slices {slices}`.",
            )
        if width not in (None, self.width):
            self._refuse(
                f"its slices have {self.width} numbers each, the model takes {width}",
                "Make another bank with a 2D encoder of that width, or set the model's "
                f"slice_width to {self.width}.",
            )
        if encoder not in (None, self.encoder):
            self._refuse(
                f"it was made with the 2D encoder {self.encoder}, the model was trained with "
                f"{encoder}",
                "Make another bank with the very weights: `uvlm slices --encoder FOLDER`.",
            )
        self._check_studies(rows, same_files=spec_hash in (None, self.index.key.spec_hash))

    def _check_studies(self, rows: Sequence[Row], *, same_files: bool) -> None:
        missing = self.missing([row.series_id for row in rows])
        if missing:
            self._refuse(
                f"{len(missing)} of {len(rows)} studies are missing, the first is {missing[0]}",
                AGAIN,
            )
        for row in rows if same_files else ():
            there, here = self.index.image_bytes[row.series_id], row.image.stat().st_size
            if there != here:
                self._refuse(
                    f"the slices of {row.series_id} were cut from a file of {there} bytes, "
                    f"{row.image} now has {here}",
                    "Run `uvlm slices` again; it makes those of changed volumes anew.",
                )

    @property
    def _shape(self) -> tuple[int, int]:
        return self.slices, self.width

    @cached_property
    def _file_bytes(self) -> int:
        """All files are alike but for their numbers."""
        return len(slice_record(torch.zeros(self._shape, dtype=torch.float16)))

    def _refuse(self, found: str, remedy: str) -> NoReturn:
        raise InputError.about(self.path, found, remedy)

    def _refuse_file(self, path: Path, found: str) -> NoReturn:
        remedy = "Delete this file and run `uvlm slices` again; it makes only what is missing."
        raise InputError.about(path, found, remedy)
