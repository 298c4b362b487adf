"""What preparing a dataset will take: time, disk and memory, measured on a few of its studies.

Studies are drawn by the size of their files, one from the middle of each of equally many, so that
their mean is the dataset's; the largest is measured too, for memory. They are prepared as in a real
run, into a folder that is deleted afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from tqdm import tqdm

from uvlm.errors import CatalogError
from uvlm.preprocessing.admission import admit
from uvlm.preprocessing.ingest import Options
from uvlm.preprocessing.limits import GB, available_gb
from uvlm.preprocessing.pipeline import Workers, run_jobs
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.split import HELD_OUT
from uvlm.preprocessing.stop import sigterm_interrupts
from uvlm.preprocessing.study import Listing, Study
from uvlm.preprocessing.work import Job, scope_folder

__all__ = ["Estimate", "describe", "estimate"]

LOOKED_AT = 2000
"""Studies whose file sizes are asked for: on a network disk all would take longer than the rest."""

FURTHER_WORKER = 0.85
"""Of what the first does, for workers share memory and disk."""

SHOWN = 3
"""Errors shown in full."""

WARM_UP = ".warm-up"
"""Identifier of a study that is prepared first and not counted; no study's can start so."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take. GB are 2^30 bytes."""

    studies: int
    """To prepare."""

    measured: int
    """Of these, prepared for the estimate."""

    workers: int
    speedup: float
    """What the workers do together, in multiples of one."""

    seconds_per_study: float
    """One worker, once it has started."""

    seconds: float
    """The whole run."""

    disk_gb: float
    free_disk_gb: float
    memory_gb: float
    """One worker at its peak."""

    free_memory_gb: float | None
    """None where the system does not say."""

    errors: tuple[str, ...]
    """Why some of the studies measured cannot be used."""

    warnings: tuple[str, ...] = ()
    """What will not fit."""

    @property
    def total_memory_gb(self) -> float:
        """All workers together."""
        return self.memory_gb * self.workers


def estimate(
    listing: Listing, options: Options, sample: int = 10, *, out: Path | str | None = None
) -> Estimate:
    """Prepare `sample` studies aside and say what all of `listing` will take.

    Args:
        options: of the run to come
        out: where it will write; only the free space there is looked at. None: in this folder

    Raises:
        CatalogError: the listing contradicts itself or has no study.
        DiskFullError: not even the sample fits into the folder for temporary files.
        ValueError: `sample` is not positive.
    """
    if sample < 1:
        raise ValueError(f"sample must be at least 1, got {sample}")
    studies = admit(listing, options.held_out).studies
    if not studies:
        raise CatalogError.about(listing.name, "no study to prepare", "Check the folder given.")
    drawn, usual = _draw(studies, sample)
    records = _measure(listing, options, drawn)

    def total(of: Callable[[Record], float]) -> float:
        """Over all studies: the usual ones stand for the rest, the largest only for itself."""
        values = [of(record) for record in records]
        rest = values[usual:]
        return fmean(values[:usual]) * (len(studies) - len(rest)) + sum(rest)

    seconds, speedup = total(lambda record: record.seconds), _speedup(options, len(studies))
    result = Estimate(
        studies=len(studies),
        measured=len(records),
        workers=options.workers,
        speedup=speedup,
        seconds_per_study=seconds / len(studies),
        seconds=seconds / speedup,
        disk_gb=total(lambda record: record.bytes_written + len(record.line())) / GB,
        free_disk_gb=shutil.disk_usage(_existing(out)).free / GB,
        memory_gb=max(record.peak_gb for record in records),
        free_memory_gb=available_gb(),
        errors=tuple(record.error for record in records if record.error is not None),
    )
    return replace(result, warnings=tuple(_warnings(result)))


def _draw(studies: Sequence[Study], sample: int) -> tuple[list[Study], int]:
    """Studies to measure, and how many of them, from the first on, stand for all others."""
    looked_at = list(studies)
    if len(studies) > LOOKED_AT:
        looked_at = random.Random(0).sample(looked_at, LOOKED_AT)
    *by_size, largest = sorted(looked_at, key=lambda study: sum(map(_size, study.image.files)))
    if len(by_size) < sample:
        return [*by_size, largest], len(by_size) + 1
    groups = max(1, sample - 1)
    middles = [(2 * i + 1) * len(by_size) // (2 * groups) for i in range(groups)]
    drawn = [by_size[place] for place in middles]
    return ([*drawn, largest] if sample > 1 else drawn), groups


def _size(path: Path) -> int:
    """Bytes of a file; of a folder about so many, taking its files to be of one size."""
    with suppress(OSError):
        if not path.is_dir():
            return path.stat().st_size
        files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
        return len(files) * os.stat(files[0]).st_size if files else 0
    return 0


def _measure(listing: Listing, options: Options, studies: Sequence[Study]) -> list[Record]:
    """The records of `studies`, in order, prepared by one process that prepares nothing else."""
    warm_up = replace(studies[0], series_id=WARM_UP)
    pool = Workers(count=1, isolated=True, memory_gb=options.memory_gb)
    found: dict[str, Record] = {}
    with sigterm_interrupts(), TemporaryDirectory(prefix="uvlm-plan-") as folder:
        jobs = list(_jobs(listing, options, [warm_up, *studies], Path(folder)))
        with (
            closing(run_jobs(jobs, pool)) as records,
            tqdm(total=len(jobs), desc="plan", unit="series", delay=2) as bar,
        ):
            for record in records:
                found[record.series_id] = record
                bar.update()
    return [found[study.series_id] for study in studies]


def _jobs(listing: Listing, options: Options, studies: Sequence[Study], out: Path) -> Iterator[Job]:
    own = {scope.name: scope_folder(out, listing.scopes, scope) for scope in listing.scopes}
    nnunet = {}
    if options.nnunet is not None:
        nnunet = {name: folder / options.nnunet.folder for name, folder in own.items()}
    stores = [out / "imagesTr", *(folder / "labelsTr" for folder in own.values())]
    for folder in (*stores, *nnunet.values()):
        folder.mkdir(parents=True, exist_ok=True)
    for study in studies:
        yield Job(
            study=study,
            scopes=listing.scopes,
            spec=options.spec,
            out=out,
            nnunet={} if study.split in HELD_OUT else nnunet,
        )


def _speedup(options: Options, studies: int) -> float:
    """Of the workers together; more of them than processors or studies add nothing."""
    count = min(options.workers, studies)
    if options.engine == "process":
        count = min(count, os.cpu_count() or count)
    return 1 + FURTHER_WORKER * (count - 1)


def _existing(out: Path | str | None) -> Path:
    """`out`, or the nearest folder above it that exists."""
    path = Path.cwd() if out is None else Path(out).absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _warnings(result: Estimate) -> Iterator[str]:
    if result.disk_gb > result.free_disk_gb:
        yield (
            f"{_gb(result.disk_gb)} are needed and {_gb(result.free_disk_gb)} are free: "
            "make room, or choose another disk."
        )
    free = result.free_memory_gb
    if free is not None and result.total_memory_gb > free:
        fit = int(free / result.memory_gb)
        yield (
            f"{result.workers} workers need {_gb(result.total_memory_gb)} of memory and "
            f"{_gb(free)} are free: use {fit} of them at most."
            if fit
            else f"One worker needs {_gb(result.memory_gb)} of memory and {_gb(free)} are free."
        )
    if len(result.errors) == result.measured:
        yield "None of the studies measured can be used, so these numbers say little."


def describe(result: Estimate) -> str:
    """The estimate as a short table, then what is wrong, line by line."""
    together = f"{result.seconds_per_study:.1f} s per study"
    if result.workers > 1:
        together += f"; {result.workers} workers counted as {result.speedup:.2f}"
    memory = f"{_gb(result.memory_gb)} per worker"
    if result.free_memory_gb is not None:
        memory += f"; {_gb(result.free_memory_gb)} free"
    rows = [
        ("studies", f"{result.studies:,}", f"measured on {result.measured} of them"),
        ("time", _time(result.seconds), together),
        ("disk", _gb(result.disk_gb), f"{_gb(result.free_disk_gb)} free"),
        ("memory", _gb(result.total_memory_gb), memory),
    ]
    if result.errors:
        expected = round(len(result.errors) / result.measured * result.studies)
        rows.append(("unusable", f"about {expected:,}", f"{len(result.errors)} of those measured"))
    width = max(len(value) for _, value, _ in rows)
    lines = [f"{name:<8}  {value:>{width}}  ({remark})" for name, value, remark in rows]
    lines += [f"  {error}" for error in result.errors[:SHOWN]]
    if len(result.errors) > SHOWN:
        lines.append(f"  and {len(result.errors) - SHOWN} more")
    return "\n".join([*lines, *(f"Warning: {text}" for text in result.warnings)])


def _gb(size: float) -> str:
    return f"{size:,.0f} GB" if size >= 100 else f"{size:.1f} GB" if size >= 1 else _mb(size)


def _mb(size: float) -> str:
    return f"{max(1, round(size * 1024))} MB"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
