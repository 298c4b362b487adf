"""Prepare many studies: in parallel, one failure apart from the others, again without redoing.

A dataset's module lists `Job`s; `run_jobs` prepares them in worker processes and says of each what
became of it. A file already made from the same source by the same specification is kept. A worker
that dies (out of memory, a crash in a decoder) costs the one study that killed it.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uvlm.errors import ImageError, UvlmError
from uvlm.imaging.audit import check
from uvlm.imaging.measure import require_same_grid
from uvlm.imaging.preprocess import PreprocessSpec, grid_of, prepare, prepare_labels
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import StoredArray, StoreMeta, meta_of, write_store
from uvlm.imaging.volume import Volume

__all__ = ["Job", "Outcome", "run_jobs"]

log = logging.getLogger(__name__)

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
IN_FLIGHT = 4
"""Jobs submitted per worker: enough to keep it busy, few to repeat when a worker dies."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One series to prepare."""

    series_id: str
    image: Path
    """One file, such as a `.nii.gz`."""

    mask: Path | None
    out_image: Path
    out_mask: Path | None
    spec: PreprocessSpec
    values: Mapping[int, int] | None = None
    """Value in the source's mask to value in the stored one; 0 stays 0."""

    classes: Mapping[str, int] | None = None
    """Class name to stored value."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job."""

    series_id: str
    source: Path
    error: str | None = None
    """Why the series cannot be used."""

    kept: bool = False
    """It had been prepared before."""


def run_jobs(jobs: Sequence[Job], workers: int = 1) -> list[Outcome]:
    """Prepare all jobs; the outcomes are in the order of `jobs`.

    With one worker everything runs in this process.
    """
    done: dict[str, Outcome] = {}
    outcomes = map(_run, jobs) if workers <= 1 else _run_pool(jobs, workers, _run)
    with tqdm(total=len(jobs), desc="prepare", unit="series", delay=2) as bar:
        for outcome in outcomes:
            done[outcome.series_id] = outcome
            bar.update()
    return [done[job.series_id] for job in jobs]


Task = Callable[[Job], Outcome]


def _run_pool(jobs: Sequence[Job], workers: int, task: Task) -> Iterator[Outcome]:
    queue = list(reversed(jobs))
    while queue:
        lost: list[Job] = []
        yield from _drain(task, queue, workers, IN_FLIGHT * workers, lost)
        if lost:
            log.warning("a worker died; trying its %d series one at a time", len(lost))
        # Alone in its pool, whoever kills it again is the cause.
        suspects = lost[::-1]
        while suspects:
            culprits: list[Job] = []
            yield from _drain(task, suspects, 1, 1, culprits)
            for job in culprits:
                reason = "the process preparing it died; it may need more memory than there is"
                yield Outcome(series_id=job.series_id, source=job.image, error=reason)


def _drain(
    task: Task, queue: list[Job], workers: int, limit: int, lost: list[Job]
) -> Iterator[Outcome]:
    """Run jobs from the end of `queue` until it is empty or the pool breaks; then fill `lost`."""
    running: dict[Future[Outcome], Job] = {}
    with (
        _two_threads_each(),
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool,
    ):
        while (queue or running) and not lost:
            while queue and len(running) < limit:
                try:
                    future = pool.submit(task, queue[-1])
                except BrokenProcessPool:
                    lost.append(queue.pop())
                    break
                running[future] = queue.pop()
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                job = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(job)
    lost.extend(running.values())


@contextmanager
def _two_threads_each() -> Iterator[None]:
    """Limit the linear algebra of processes started meanwhile; numpy reads this when imported."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "2"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(job: Job) -> Outcome:
    """Prepare one series; an error is its outcome, never an exception."""
    try:
        kept = _prepare(job)
    except UvlmError as error:
        return Outcome(series_id=job.series_id, source=job.image, error=str(error))
    except Exception as error:
        # One broken study must not stop the rest, whatever broke it.
        log.exception("%s: unexpected error", job.series_id)
        reason = f"{job.image}: {type(error).__name__}: {error}"
        return Outcome(series_id=job.series_id, source=job.image, error=reason)
    return Outcome(series_id=job.series_id, source=job.image, kept=kept)


def _prepare(job: Job) -> bool:
    """Whether both files were there already."""
    image_kept = _is_current(job.out_image, job.image, job.spec, None)
    mask_kept = job.out_mask is None or job.mask is None
    if job.out_mask is not None and job.mask is not None:
        mask_kept = _is_current(job.out_mask, job.mask, job.spec, job.classes)
    if image_kept and mask_kept:
        return True
    volume = read_volume(job.image)
    check(volume)
    if job.mask is not None and job.out_mask is not None and not mask_kept:
        mask = _mask_of(job, volume)
        grid = grid_of(mask, job.spec)
        meta = StoreMeta(kind="labels", spec_hash=job.spec.hash, grid=grid, classes=job.classes)
        write_store(job.out_mask, prepare_labels(mask, job.spec), meta)
    if not image_kept:
        prepared = prepare(volume, job.spec)
        write_store(job.out_image, prepared.array, meta_of(prepared))
    return False


def _is_current(
    stored: Path, source: Path, spec: PreprocessSpec, classes: Mapping[str, int] | None
) -> bool:
    """Whether `stored` was made from `source` by `spec`."""
    if not stored.exists():
        return False
    meta = StoredArray(stored).meta
    return (
        meta is not None
        and meta.spec_hash == spec.hash
        and meta.classes == classes
        and meta.grid.source_checksum == _sha256(source)
    )


def _sha256(path: Path) -> str:
    """Of the file's bytes, as readers write it into the provenance."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _mask_of(job: Job, volume: Volume) -> Volume:
    """The mask of `job`, checked against its image and with the stored values."""
    assert job.mask is not None
    mask = read_volume(job.mask, labels=True)
    require_same_grid(volume, mask)
    if job.values is None:
        return mask
    found = np.unique(mask.array)
    unknown = [int(value) for value in found if value and int(value) not in job.values]
    if unknown:
        raise ImageError.about(
            job.mask,
            f"holds the values {unknown[:5]} that have no name",
            "Add them to labels.json.",
        )
    table = np.zeros(int(found[-1]) + 1, np.uint8 if len(job.values) < 256 else np.uint16)
    for value in found[found > 0]:
        table[value] = job.values[int(value)]
    return Volume(array=table[mask.array], affine=mask.affine, provenance=mask.provenance)
