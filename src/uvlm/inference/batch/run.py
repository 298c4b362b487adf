"""Reports of many studies into one folder, resumable at any moment.

    OUT/<id>.json, .md, ...   of each study, as `uvlm report` of one study writes them
    OUT/results.jsonl         one line per study, added as it finishes; results.csv, errors.csv
    OUT/.run.json             the bundle and options of the folder, and what the last run began

A study is done once: the same command again does what is missing, and nothing if nothing is.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.errors import InputError
from uvlm.inference.batch.items import Item
from uvlm.inference.batch.plan import Plan, plan_of
from uvlm.inference.batch.progress import Progress
from uvlm.inference.batch.results import (
    ASIDE,
    ERRORS,
    RESULTS,
    RUN,
    TABLE,
    Result,
    read_results,
    remove_outputs,
    write_tables,
)
from uvlm.inference.batch.schedule import run_items
from uvlm.inference.batch.setup import Crew, Setup
from uvlm.inference.writer import check_free
from uvlm.preprocessing.catalog import write_text
from uvlm.preprocessing.disk import DiskFullError, disk_full, lock
from uvlm.preprocessing.records import RecordLog
from uvlm.preprocessing.stop import stoppable

__all__ = ["Summary", "report_studies"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a batch has come to."""

    out: Path
    total: int
    """Studies asked for."""

    failed: int
    """Of these, without a report; by this run or, with the same input, by an earlier one."""

    for_review: int
    """Of these, with a report and a reason why a person must look at the study first."""

    now: int
    """Of these, looked at by this run."""

    at_fault: int
    """Of the failed, those whose input was wrong."""

    seconds: float
    """Of this run."""

    @property
    def done(self) -> int:
        """Studies with a report."""
        return self.total - self.failed

    @property
    def exit_code(self) -> int:
        """0 all done, 3 some done, 2 none done by the inputs' fault, 1 none done otherwise."""
        if not self.failed:
            return 0
        if self.done:
            return 3
        return 2 if self.at_fault == self.failed else 1

    def __str__(self) -> str:
        table = self.out / TABLE
        counts = f"{self.done} of {self.total} studies have a report, {self.failed} failed"
        review = f"{self.for_review} for review"
        if not self.now:
            return f"{counts}; 0 were to do; {review}: {table}"
        rate = 60 * self.now / max(self.seconds, 1e-3)
        return f"{counts}; {self.now} done now, {rate:.1f} a minute; {review}: {table}"


def report_studies(
    items: Sequence[Item], out: Path, setup: Setup, crew: Crew, *, retry: bool = False
) -> Summary:
    """Write a report of every item that has none yet.

    Args:
        items: with identifiers that occur once
        retry: try studies again that failed and have not changed

    Raises:
        BundleError: the bundle cannot be used.
        InputError: `out` holds results of another bundle or of other options, or cannot be written
            to. Files in the way of one study, or a report of another file, are that study's error.
        CatalogError: another run is writing into `out`.
        DiskFullError: the disk is full.
        StoppedError: Ctrl-C or SIGTERM; what is written is recorded.
        WorkerError: no worker can be started, load the model, or go on, as with a full disk.
    """
    start = time.perf_counter()
    identity = setup.identity()
    _check_folder(out, identity)
    with ExitStack() as held:
        with _writing(out):
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock(out))
            held.enter_context(stoppable(out))
            found = _found(out, items)
            # Checked again under the lock: another run may have ended meanwhile.
            _remove_leftovers(out, _check_folder(out, identity), found)
        signed = [item.signed() for item in items]
        plan = plan_of(signed, found, out, series=setup.series, retry=retry)
        _work(plan, out, identity, lambda emit: _do(plan.todo, out, setup, crew, emit), found)
    results = [found[item.id] for item in items]
    failed = [result for result in results if result.error is not None]
    return Summary(
        out=out,
        total=len(items),
        failed=len(failed),
        for_review=sum(bool(r.flags or r.review) for r in results if r.error is None),
        now=len(plan.todo),
        at_fault=sum(result.exit_code == 2 for result in failed),
        seconds=time.perf_counter() - start,
    )


def _work(
    plan: Plan,
    out: Path,
    identity: Mapping[str, Any],
    do: Callable[[Callable[[Result], None]], None],
    found: dict[str, Result],
) -> None:
    """Have `do` give the results of what is planned; they are recorded one by one, and in `found`,
    whatever ends it."""
    for result in plan.refused:
        log.error("%s: %s", result.id, result.error)
    try:
        if plan.todo or not (out / RUN).is_file():
            _write_run(out, identity, [item.id for item in plan.todo])
        with _records(out) as record:
            for result in plan.known:
                record(result)
                found[result.id] = result
                if result.error is not None:
                    log.error("%s: %s", result.id, result.error)
            if plan.todo:
                with Progress(len(plan.todo)) as progress:

                    def emit(result: Result) -> None:
                        record(result)
                        found[result.id] = result
                        progress.add(result)

                    do(emit)
                _write_run(out, identity, [])
    finally:
        found.update((result.id, result) for result in plan.refused)
        with _writing(out):
            _remove_aside(out)
            write_tables(found.values(), out)


def _found(out: Path, items: Sequence[Item]) -> dict[str, Result]:
    """What earlier runs recorded, without rows of a table at fault that are none any more."""
    now = {item.id for item in items}
    found = read_results(out / RESULTS)
    return {name: each for name, each in found.items() if each.signature or name in now}


@contextmanager
def _records(out: Path) -> Iterator[Callable[[Result], None]]:
    """What adds a line to the results."""
    with _writing(out):
        records = RecordLog(out / RESULTS)

    def record(result: Result) -> None:
        with _writing(out):
            records.add(result)

    try:
        yield record
    finally:
        with _writing(out):
            records.__exit__(None, None, None)


def _do(todo: Sequence[Item], out: Path, setup: Setup, crew: Crew, emit: Any) -> None:
    if crew.engine == "ray":
        from uvlm.inference.batch.cluster import ray_pool

        with ray_pool(setup, crew, out) as actors:
            run_items(actors, todo, emit, workers=crew.workers, depth=crew.depth)
        return
    # Also a single worker: a study that makes its process crash must not end the run.
    import torch

    from uvlm.inference.batch.processes import ProcessPool

    threads = max(1, torch.get_num_threads() // crew.workers)
    pool = ProcessPool(setup, crew, out, threads)
    run_items(pool, todo, emit, workers=crew.workers, depth=crew.depth)


def _check_folder(out: Path, identity: Mapping[str, Any]) -> list[str]:
    """Identifiers that an earlier run began, if `out` is of the same identity, or new.

    Raises:
        InputError: it is not.
    """
    if not (out / RUN).is_file():
        check_free(out, [out / RESULTS, out / TABLE, out / ERRORS])
        return []
    try:
        before = json.loads((out / RUN).read_text("utf-8"))
        earlier, begun = dict(before["identity"]), list(before["begun"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError.about(
            out / RUN, f"unreadable ({type(error).__name__})", "Give another --out."
        ) from None
    other = [key for key in {**earlier, **identity} if earlier.get(key) != identity.get(key)]
    if other:
        was = ", ".join(f"{key} {earlier.get(key)}, now {identity.get(key)}" for key in other)
        raise InputError.about(
            out,
            f"its reports were made with another bundle or other options: {was}",
            "Give another --out, or the same ones.",
        )
    return begun


def _write_run(out: Path, identity: Mapping[str, Any], begun: Sequence[str]) -> None:
    text = json.dumps({"identity": dict(identity), "begun": list(begun)}, ensure_ascii=False)
    with _writing(out):
        write_text(out / RUN, text + "\n")


def _remove_leftovers(out: Path, begun: Sequence[str], found: Mapping[str, Result]) -> None:
    """Of a run that was killed: what it was writing, and what it wrote but did not record."""
    _remove_aside(out)
    for study in begun:
        if study not in found or found[study].error is not None:
            remove_outputs(out, study)


def _remove_aside(out: Path) -> None:
    for folder in out.glob(f"{ASIDE}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Round what is done to `out` itself, and nothing else."""
    try:
        yield
    except OSError as error:
        if disk_full(error, out, 0):
            raise DiskFullError.at(out) from error
        raise InputError.about(
            out, f"cannot be written ({error.strerror})", "Check its permissions."
        ) from error
