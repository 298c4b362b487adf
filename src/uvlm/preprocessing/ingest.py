"""From a listing of studies to a dataset that training reads.

    OUT/catalog.csv, dataset.json      one row per series
    OUT/imagesTr/<series>.b2nd         images; labelsTr/<series>.b2nd, their masks
    OUT/errors.csv                     series that cannot be used, and why
    OUT/studies.jsonl                  what became of every series, added as the run goes on
    OUT/run.json                       what was done, with what, and with which result
    OUT/quality.html                   what a person should look at
    OUT/nnUNet_preprocessed/...        if asked for

With several scopes the catalogs and masks are in a folder per scope; the images are shared. A run
that was killed at any moment goes on where it stopped when it is started again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from uvlm.errors import CatalogError, UvlmError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.admission import Admitted, admit
from uvlm.preprocessing.catalog import Catalog, write_catalog
from uvlm.preprocessing.disk import (
    FULL,
    DiskFullError,
    lock,
    refuse_sources_in,
    remove_leftovers,
)
from uvlm.preprocessing.entries import grouped
from uvlm.preprocessing.manifest import (
    Identity,
    Outcome,
    compare_earlier,
    notes_of,
    now,
    prevalence,
    refuse_other,
    write_run,
)
from uvlm.preprocessing.nnunet_dataset import NnunetName, check_dataset, write_dataset
from uvlm.preprocessing.nnunet_plans import CASES
from uvlm.preprocessing.output import (
    catalogs_of,
    names_of,
    tables_of,
    write_errors,
    write_tables,
)
from uvlm.preprocessing.pipeline import Workers, run_jobs
from uvlm.preprocessing.records import RECORDS, Record, RecordLog, read_records
from uvlm.preprocessing.split import HELD_OUT
from uvlm.preprocessing.stop import stoppable
from uvlm.preprocessing.study import Listing, Rejection
from uvlm.preprocessing.work import Job, scope_folder

__all__ = ["Options", "Summary", "prepare_dataset"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a dataset is prepared, whatever its source."""

    spec: PreprocessSpec
    workers: int = 1
    """Studies prepared at a time. A single one is prepared in this process, unless `isolated`."""

    engine: Literal["process", "ray"] = "process"
    memory_gb: float | None = None
    """What one worker may use; None: an equal share of the memory that is available."""

    isolated: bool = False
    """A single worker, too, has a process of its own: a crash of it costs one study."""

    nnunet: NnunetName | None = None
    """Also write a dataset for stock nnU-Net, of this number and name."""

    nnunet_dir: Path | None = None
    """Where to; None: `nnUNet_preprocessed` in the output folder."""

    held_out: frozenset[str] = frozenset()
    """Series, cases or patients; these patients get the split "test"."""

    def __post_init__(self) -> None:
        self.pool()

    def pool(self) -> Workers:
        return Workers(
            count=self.workers,
            engine=self.engine,
            memory_gb=self.memory_gb,
            isolated=self.isolated,
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a preparation came to."""

    catalogs: tuple[Path, ...]
    """One per scope, in their order."""

    prepared: int
    """Series in the catalog."""

    kept: int
    """Of these, already there."""

    rejected: tuple[Rejection, ...]
    """As in errors.csv."""

    excluded: int
    """Series left out on purpose."""

    warnings: tuple[str, ...]


def prepare_dataset(listing: Listing, out: Path | str, options: Options) -> Summary:
    """Prepare every study of `listing` into `out`; run again, it keeps what is done.

    Args:
        out: a new folder, or one that an earlier run of the same dataset with the same
            preprocessing wrote.

    Raises:
        CatalogError: the listing contradicts itself, `out` holds something else or another run
            writes into it, or no study can be used.
        DiskFullError: the disk is full; what is done is kept.
        StoppedError: by Ctrl-C or SIGTERM; what is done is kept.
    """
    out = Path(out)
    identity = Identity.of(listing, options.spec)
    admitted = admit(listing, options.held_out)
    run = _Run(
        listing=listing,
        admitted=admitted,
        out=out,
        options=options,
        identity=identity,
        started=now(),
        nnunet=_nnunet_folders(listing, admitted, out, options),
    )
    run.refuse_other()
    with _disk_errors_said(out), run.folders():
        earlier = read_records(out / RECORDS)
        doubts = compare_earlier(out, listing, earlier)
        run.write_manifest(outcome="running")
        try:
            with stoppable(out):
                records = run.prepare(earlier)
                summary = run.finish(records, doubts)
        except BaseException as error:
            said = str(error) if isinstance(error, UvlmError) else type(error).__name__
            with suppress(OSError):
                run.write_manifest(outcome="failed", error=said)
            raise
    if not summary.prepared:
        raise CatalogError.about(
            listing.name,
            f"none of {len(summary.rejected)} series can be used",
            f"See {out / 'errors.csv'}.",
        )
    return summary


def _outline(record: Record | None) -> Record | None:
    """What a worker needs of an earlier record; its facts stay here."""
    return record and Record(
        series_id=record.series_id,
        key=record.key,
        signature=record.signature,
        source=record.source,
        error=record.error,
    )


def _nnunet_folders(
    listing: Listing, admitted: Admitted, out: Path, options: Options
) -> dict[str, Path]:
    """Scope name to the folder of its nnU-Net dataset, checked; {} if none is wanted."""
    if options.nnunet is None:
        return {}
    if not listing.scopes or all(study.mask is None for study in admitted.studies):
        raise CatalogError.about(
            listing.name,
            "no study has a mask, which an nnU-Net dataset is made of",
            "Give masks, or leave the nnU-Net dataset out.",
        )
    parent = options.nnunet_dir or out / "nnUNet_preprocessed"
    folders = {
        scope.name: scope_folder(parent, listing.scopes, scope) / options.nnunet.folder
        for scope in listing.scopes
    }
    for scope in listing.scopes:
        check_dataset(folders[scope.name], scope.classes, options.spec)
    return folders


@contextmanager
def _disk_errors_said(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError.at(out) from error
        raise CatalogError.about(
            error.filename or out,
            f"cannot be written ({error.strerror or error})",
            "Check the disk and the permissions, or choose another --out.",
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One preparation, from its checks to its summary."""

    listing: Listing
    admitted: Admitted
    out: Path
    options: Options
    identity: Identity
    started: datetime
    nnunet: Mapping[str, Path]

    def refuse_other(self) -> None:
        refuse_other(self.out, self.identity, names_of(self.listing))

    @contextmanager
    def folders(self) -> Iterator[None]:
        """The folders made, locked, and rid of what killed runs were writing."""
        scopes = self.listing.scopes
        own = [scope_folder(self.out, scopes, scope) for scope in scopes]
        stores = [self.out / "imagesTr", *(folder / "labelsTr" for folder in own)]
        refuse_sources_in(self.out, (*stores, *self.nnunet.values()), self._sources())
        for folder in (self.out, *stores, *self.nnunet.values()):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            elsewhere = self.nnunet.values() if self.options.nnunet_dir else ()
            for folder in (self.out, *elsewhere):
                stack.enter_context(lock(folder))
            # Another run may have begun the folder since it was looked at.
            self.refuse_other()
            cases = [folder / CASES for folder in self.nnunet.values()]
            remove_leftovers((self.out, *own, *stores, *self.nnunet.values(), *cases))
            yield

    def _sources(self) -> Iterator[Path]:
        for study in self.admitted.studies:
            yield from study.image.files
            yield from () if study.mask is None else study.mask.files

    def prepare(self, earlier: Mapping[str, Record]) -> list[Record]:
        """The record of every admitted study, in their order."""
        path = self.out / RECORDS
        # A worker on another machine stands in another folder.
        out = Path(os.path.abspath(self.out))
        nnunet = {name: Path(os.path.abspath(folder)) for name, folder in self.nnunet.items()}
        jobs = [
            Job(
                study=study,
                scopes=self.listing.scopes,
                spec=self.options.spec,
                out=out,
                # A case in the folder would be trained on by nnU-Net's fold "all".
                nnunet={} if study.split in HELD_OUT else nnunet,
                previous=_outline(earlier.get(study.series_id)),
            )
            for study in self.admitted.studies
        ]
        found: dict[str, Record] = {}
        errors = 0
        with (
            RecordLog(path) as records,
            closing(run_jobs(jobs, self.options.pool())) as results,
            tqdm(total=len(jobs), desc="prepare", unit="series", delay=2) as bar,
        ):
            for record in results:
                if record.kept:
                    record = replace(earlier[record.series_id], kept=True)
                else:
                    records.add(record)
                found[record.series_id] = record
                errors += record.error is not None
                bar.set_postfix(errors=errors, refresh=False)
                bar.update()
        return [found[job.study.series_id] for job in jobs]

    def finish(self, records: Sequence[Record], doubts: Sequence[str]) -> Summary:
        """Write everything that is about the dataset as a whole."""
        failed = tuple(
            Rejection(series_id=each.series_id, source=Path(each.source), error=each.error)
            for each in records
            if each.error is not None
        )
        rejected = (*self.listing.rejected, *self.admitted.rejected, *failed)
        write_errors(self.out, rejected)
        warnings = [*self.listing.warnings, *self.admitted.warnings, *doubts]
        usable = [record for record in records if record.error is None]
        catalogs = catalogs_of(
            self.listing, self.admitted.studies, usable, self.out, self.options.spec
        )
        if usable:
            for catalog in catalogs:
                write_catalog(catalog)
            write_tables(self.out, tables_of(self.listing, usable))
            warnings += self._write_nnunet(catalogs)
            self._write_quality(catalogs[0], records)
        summary = Summary(
            catalogs=tuple(catalog.path for catalog in catalogs),
            prepared=len(usable),
            kept=sum(record.kept for record in usable),
            rejected=rejected,
            excluded=len(self.listing.excluded),
            warnings=tuple(warnings),
        )
        outcome: Outcome = "partial" if rejected else "complete"
        facts = self._facts(summary, catalogs[0], records)
        self.write_manifest(outcome=outcome if usable else "failed", **facts)
        return summary

    def _write_nnunet(self, catalogs: Sequence[Catalog]) -> Iterator[str]:
        """Yields warnings."""
        # Without scopes there is one catalog all the same.
        for scope, catalog in zip(self.listing.scopes, catalogs, strict=False):
            folder = self.nnunet.get(scope.name)
            if folder is None:
                continue
            if any(row.mask is not None and row.split not in HELD_OUT for row in catalog.rows):
                which = f"{scope.name}: " if len(self.listing.scopes) > 1 else ""
                rows = catalog.rows
                for said in write_dataset(folder, scope.classes, self.options.spec, rows):
                    yield which + said
            else:
                yield f"{folder}: no nnU-Net dataset, for no study to train on has a mask."

    def _write_quality(self, catalog: Catalog, records: Sequence[Record]) -> None:
        # Draws pictures; the commands that never get here need not load that.
        from uvlm.preprocessing.quality import write_quality

        write_quality(self.out, catalog, records)

    def write_manifest(self, *, outcome: Outcome, **facts: Any) -> None:
        options = self.options
        write_run(
            self.out,
            self.identity,
            outcome=outcome,
            started=self.started,
            excluded=self.listing.excluded,
            options={
                "workers": options.workers,
                "engine": options.engine,
                "memory_gb": options.memory_gb,
                "nnunet": {name: str(folder) for name, folder in self.nnunet.items()},
                "held_out": sorted(options.held_out),
            },
            **facts,
        )

    def _facts(
        self, summary: Summary, catalog: Catalog, records: Sequence[Record]
    ) -> dict[str, Any]:
        """What `run.json` says when the run has ended."""
        listing = self.listing
        return {
            "counts": {
                "listed": len(listing.studies) + len(listing.rejected) + len(listing.excluded),
                "prepared": summary.prepared,
                "kept": summary.kept,
                "rejected": len(summary.rejected),
                "excluded": summary.excluded,
            },
            "label_prevalence": prevalence(catalog.labels, catalog.rows),
            "warnings": list(summary.warnings),
            "rejection_reasons": dict(
                grouped(each.error.removeprefix(f"{each.series_id}: ") for each in summary.rejected)
            ),
            "notes": notes_of(records),
            "peak_gb_per_worker": round(max((each.peak_gb for each in records), default=0.0), 3),
            "bytes_written": sum(each.bytes_written for each in records),
        }
