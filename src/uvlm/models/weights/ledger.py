"""Account for every tensor of a checkpoint: used, equal to another, or left out for a reason.

Nothing is skipped in silence. A name that the network does not know, a shape that does not fit, or
two copies that differ make the import fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from uvlm.errors import BundleError

__all__ = ["Ledger", "Record", "first_name"]

WRAPPERS = re.compile(r"(^|\.)(_orig_mod\.)+")
SHOWN = 4
REMEDY = "Give the plans.json it was trained with, or another checkpoint."


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of a checkpoint's tensors."""

    used: int
    """Tensors taken over."""

    values: int
    """Numbers in them."""

    repeated: int
    """Tensors equal to one that was used."""

    left_out: Mapping[str, tuple[str, ...]]
    """Reason -> names."""


class Ledger:
    """The tensors of one file, each under one plain name.

    Args:
        remedy: what to do about a file whose tensors do not fit
    """

    def __init__(self, path: Path, weights: Mapping[str, Tensor], remedy: str = REMEDY) -> None:
        self.path = path
        self._remedy = remedy
        self.tensors: dict[str, Tensor] = {}
        self._repeated = 0
        self._used: set[str] = set()
        self._left_out: dict[str, list[str]] = {}
        for name, tensor in weights.items():
            self._add(_plain(name), tensor)
        for name in [name for name in self.tensors if first_name(name) != name]:
            self._add(first_name(name), self.tensors.pop(name))

    def _add(self, name: str, tensor: Tensor) -> None:
        held = self.tensors.get(name)
        if held is None:
            self.tensors[name] = tensor
            return
        both = (held, tensor)
        if any(not torch.isfinite(copy).all() for copy in both):
            self._refuse_values(name)
        if held.dtype != tensor.dtype or not torch.equal(held, tensor):
            raise BundleError.about(
                self.path,
                f"it holds two copies of {name} that differ",
                "They must be equal; copy the checkpoint again, or train it again.",
            )
        self._repeated += 1

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.tensors if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor that must be there."""
        if name not in self.tensors:
            self._refuse(f"it lacks {name}")
        return tuple(self.tensors[name].shape)

    def take(self, name: str, shape: Iterable[int]) -> Tensor:
        """The tensor in single precision.

        Raises:
            BundleError: it is missing, of another shape, or not of finite numbers.
        """
        wanted, found = tuple(shape), self.shape(name)
        if found != wanted:
            self._refuse(f"{name} has the shape {found}, its network needs {wanted}")
        tensor = self.tensors[name]
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            self._refuse_values(name)
        self._used.add(name)
        return tensor.detach().float().contiguous()

    def leave(self, names: Iterable[str], reason: str) -> None:
        """Name tensors that are not taken over, and why."""
        found = [name for name in names if name not in self._used]
        if found:
            self._left_out.setdefault(reason, []).extend(found)

    def close(self) -> Record:
        """What became of everything.

        Raises:
            BundleError: a tensor was neither used nor left out for a reason.
        """
        named = {name for names in self._left_out.values() for name in names}
        surplus = sorted(set(self.tensors) - self._used - named)
        if surplus:
            more = f" and {len(surplus) - SHOWN} more" if len(surplus) > SHOWN else ""
            self._refuse(
                f"{len(surplus)} of its tensors belong nowhere: {', '.join(surplus[:SHOWN])}{more}"
            )
        return Record(
            used=len(self._used),
            values=sum(self.tensors[name].numel() for name in self._used),
            repeated=self._repeated,
            left_out={reason: tuple(names) for reason, names in self._left_out.items()},
        )

    def _refuse_values(self, name: str) -> NoReturn:
        self._refuse(f"{name} holds values that are no finite real numbers")

    def _refuse(self, found: str) -> NoReturn:
        raise BundleError.about(self.path, found, self._remedy)


def _plain(name: str) -> str:
    """Without what compiling and data-parallel training put around modules."""
    name = WRAPPERS.sub(r"\1", name)
    while name.startswith("module."):
        name = WRAPPERS.sub(r"\1", name.removeprefix("module."))
    return name


def first_name(name: str) -> str:
    """The name of the tensor that one is a second entry of, or its own.

    The U-Net's decoder keeps its encoder, each convolution block its layers a second time, and the
    published decoder its embedding as the output matrix.
    """
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    name = re.sub(r"\.all_modules\.0\.(weight|bias)$", r".conv.\1", name)
    name = re.sub(r"\.all_modules\.1\.(weight|bias)$", r".norm.\1", name)
    if name == "llm_report_gen.llm_model.lm_head.weight":
        return "llm_report_gen.llm_model.token_embedding.weight"
    return name
