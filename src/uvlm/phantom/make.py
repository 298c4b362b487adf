"""Make a whole set of phantom studies in a folder, all or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from uvlm.errors import ConfigError, InputError
from uvlm.phantom import abdomen_atlas, ct_rate
from uvlm.phantom.layouts import LAYOUTS, writer_of
from uvlm.phantom.plan import plan_abdomen, plan_chest
from uvlm.phantom.resolution import TooFine, size_ranges, too_fine

__all__ = ["Made", "make_abdomen", "make_chest"]

Shape = tuple[int, int, int]
Sizes = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Made:
    """What was made."""

    studies: int
    counts: dict[str, int]
    """Studies with each drawable label."""

    left_out: tuple[TooFine, ...]
    """Labels that the shape cannot show; their columns are empty."""


@contextmanager
def aside(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when the block ends well, and vanishes otherwise.

    Raises:
        InputError: `out` is a file or a folder that is not empty, or cannot be made.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError.about(out, "it exists and is not an empty folder", "Choose a new folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        found = f"cannot be made ({error.strerror})"
        raise InputError.about(out, found, "Choose another folder.") from None
    try:
        yield folder
        folder.chmod(0o755)
        os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_chest(
    out: Path,
    *,
    studies: int,
    seed: int,
    shape: Shape,
    min_prevalence: float = 0.0,
    layout: str = "ct-rate",
) -> Made:
    """Write `studies` chest studies of `shape` (z, y, x) to `out`.

    Study i depends on (seed, i) only; with `min_prevalence` its labels also on the others.

    Args:
        layout: "ct-rate" for CT-RATE v2, or a name in `layouts.LAYOUTS`.

    Raises:
        InputError: `out` is not empty.
        ConfigError: an impossible number, or an unknown layout.
    """
    _check(studies, seed, shape, min_prevalence)
    if layout not in ("ct-rate", *LAYOUTS):
        raise ConfigError(f"unknown layout {layout!r}; known: ct-rate, {', '.join(LAYOUTS)}.")
    sizes = size_ranges(shape, "chest")
    plans = plan_chest(studies, seed, frozenset(sizes), min_prevalence)
    with aside(out) as folder:
        rows = [
            ct_rate.make_study(folder, seed, i, shape, plan, sizes)
            for i, plan in enumerate(tqdm(plans, desc="chest studies", unit="study", delay=2))
        ]
        ct_rate.write_tables(folder, rows)
        if layout != "ct-rate":
            _change_layout(folder, layout, seed)
    return _made([plan.labels for plan in plans], sizes, too_fine(shape, "chest"))


def _change_layout(folder: Path, layout: str, seed: int) -> None:
    """Put the studies in `folder`, of CT-RATE v2, into another layout."""
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as other:
        source = Path(other) / "ct-rate"
        os.replace(folder, source)
        folder.mkdir()
        writer_of(layout)(source, folder, seed)


def make_abdomen(
    out: Path, *, studies: int, seed: int, shape: Shape, min_prevalence: float = 0.0
) -> Made:
    """Write abdominal studies to `out` in the layout of AbdomenAtlas 3.0; see `make_chest`."""
    _check(studies, seed, shape, min_prevalence)
    sizes = size_ranges(shape, "abdomen")
    plans = plan_abdomen(studies, seed, frozenset(sizes), min_prevalence)
    with aside(out) as folder:
        rows = [
            abdomen_atlas.make_study(folder, seed, i, shape, labels, sizes)
            for i, labels in enumerate(tqdm(plans, desc="abdominal studies", unit="study", delay=2))
        ]
        abdomen_atlas.write_tables(folder, rows)
    return _made(plans, sizes, too_fine(shape, "abdomen"))


def _made(labels: list[frozenset[str]], sizes: Sizes, left_out: tuple[TooFine, ...]) -> Made:
    counts = {name: sum(name in found for found in labels) for name in sizes}
    return Made(len(labels), counts, left_out)


def _check(studies: int, seed: int, shape: Shape, min_prevalence: float) -> None:
    if studies < 1 or seed < 0:
        raise ConfigError(f"studies must be at least 1 and seed 0, got {studies} and {seed}.")
    if min(shape) < 8:
        raise ConfigError(f"each axis of the shape needs at least 8 voxels, got {shape}.")
    if not 0 <= min_prevalence <= 1:
        raise ConfigError(f"min_prevalence must be between 0 and 1, got {min_prevalence}.")
