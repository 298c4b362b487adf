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
from uvlm.phantom import ct_rate
from uvlm.phantom.plan import plan_chest
from uvlm.phantom.resolution import TooFine, size_ranges, too_fine

__all__ = ["Made", "make_chest"]

Shape = tuple[int, int, int]


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
        InputError: `out` is a file or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError.about(out, "it exists and is not an empty folder", "Choose a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        os.replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_request(studies: int, shape: Shape) -> None:
    """Refuse impossible numbers."""
    if studies < 1:
        raise ConfigError(f"studies must be at least 1, got {studies}.")
    if min(shape) < 8:
        raise ConfigError(f"each axis of the shape needs at least 8 voxels, got {shape}.")


def make_chest(
    out: Path, *, studies: int, seed: int, shape: Shape, min_prevalence: float = 0.0
) -> Made:
    """Write `studies` chest studies of `shape` (z, y, x) to `out` in CT-RATE's layout.

    Study i depends on (seed, i) only; with `min_prevalence` its labels also on the others.

    Raises:
        InputError: `out` is not empty.
        ConfigError: an impossible number.
    """
    check_request(studies, shape)
    if not 0 <= min_prevalence <= 1:
        raise ConfigError(f"min_prevalence must be between 0 and 1, got {min_prevalence}.")
    sizes = size_ranges(shape)
    plans = plan_chest(studies, seed, frozenset(sizes), min_prevalence)
    with aside(out) as folder:
        rows = [
            ct_rate.make_study(folder, seed, i, shape, plan, sizes)
            for i, plan in enumerate(tqdm(plans, desc="chest studies", unit="study", delay=2))
        ]
        ct_rate.write_tables(folder, rows)
    counts = {name: sum(name in plan.labels for plan in plans) for name in sizes}
    return Made(studies, counts, too_fine(shape))
