"""What one worker does with one study: read, audit, prepare, write, and say what came of it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError, UvlmError
from uvlm.imaging.audit import check
from uvlm.imaging.measure import require_same_grid
from uvlm.imaging.preprocess import Prepared, PreprocessSpec, grid_of, prepare, prepare_labels
from uvlm.imaging.route import Box
from uvlm.imaging.store import StoredArray, StoreMeta, meta_of, write_store
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.disk import DiskFullError, disk_full, fullest, signature_of
from uvlm.preprocessing.facts import image_facts, mask_facts
from uvlm.preprocessing.limits import peak_gb
from uvlm.preprocessing.nnunet_case import CaseFiles, write_case
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.study import Mask, Scope, Study

__all__ = ["Job", "image_path", "lost_record", "mask_path", "prepare_study", "scope_folder"]

log = logging.getLogger(__name__)

VERSION = 1
"""Of what a record holds; with another one every study is looked at again."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One study to prepare."""

    study: Study
    scopes: tuple[Scope, ...]
    spec: PreprocessSpec
    out: Path
    """The output folder; the folders of stores in it exist."""

    nnunet: Mapping[str, Path] = field(default_factory=dict)
    """Scope name to the folder of its nnU-Net dataset; {} if none is wanted."""

    previous: Record | None = None
    """What an earlier run recorded."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is read."""
        mask = self.study.mask
        return (*self.study.image.files, *(() if mask is None else mask.files))

    @property
    def source(self) -> Path:
        """The file or folder by which errors name the study."""
        return next(iter(self.study.image.files), Path(self.study.series_id))

    @property
    def masked(self) -> tuple[Scope, ...]:
        """The scopes there will be a mask for."""
        return () if self.study.mask is None else self.scopes

    @property
    def key(self) -> str:
        """Hash of everything that decides the result, except the source's files themselves."""
        scopes = [(s.name, sorted(s.classes.items()), sorted(s.table.items())) for s in self.scopes]
        parts = (VERSION, self.study.image, self.study.mask, self.spec.hash, scopes)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def stores(self) -> Iterator[Path]:
        """The `.b2nd` files of the study."""
        yield image_path(self.out, self.study.series_id)
        for scope in self.masked:
            yield mask_path(self.out, self.scopes, scope, self.study.series_id)

    def nnunet_files(self) -> Iterator[Path]:
        """The files of the study in nnU-Net datasets."""
        for scope in self.masked:
            if scope.name in self.nnunet:
                files = CaseFiles.of(self.nnunet[scope.name], self.study.series_id)
                yield from vars(files).values()


def scope_folder(out: Path, scopes: tuple[Scope, ...], scope: Scope | None) -> Path:
    """Where the catalog of a scope goes: `out`, or a folder of its own if there are several."""
    return out / scope.name if scope is not None and len(scopes) > 1 else out


def image_path(out: Path, series_id: str) -> Path:
    """Where the image of a series is stored; all scopes share it."""
    return out / "imagesTr" / f"{series_id}.b2nd"


def mask_path(out: Path, scopes: tuple[Scope, ...], scope: Scope, series_id: str) -> Path:
    """Where the mask of a series with the classes of `scope` is stored."""
    return scope_folder(out, scopes, scope) / "labelsTr" / f"{series_id}.b2nd"


def prepare_study(job: Job) -> Record:
    """Prepare one study, unless an earlier run did.

    Whatever is wrong with the study is said in the record.

    Raises:
        DiskFullError: the output's disk is full, which no other study can change.
    """
    start = time.perf_counter()
    record = Record(
        series_id=job.study.series_id, key=job.key, signature="", source=str(job.source)
    )
    try:
        record = replace(record, signature=signature_of(job.files))
        if _is_done(job, record):
            assert job.previous is not None
            return replace(job.previous, kept=True)
        record = _prepare(job, record)
    except Exception as error:
        # One broken study must not stop the rest, whatever broke it.
        folder = fullest((job.out, *job.nnunet.values()))
        if disk_full(error, folder, 4 * prod(job.spec.shape)):
            raise DiskFullError.at(folder) from error
        record = replace(record, error=_reason(job, error))
    return replace(record, seconds=round(time.perf_counter() - start, 3), peak_gb=peak_gb())


def lost_record(job: Job) -> Record:
    """Of a study whose worker died each time it was tried."""
    return Record(
        series_id=job.study.series_id,
        key=job.key,
        signature=signature_of(job.files),
        source=str(job.source),
        error=f"{job.source}: the process preparing it died, each time; the file makes its reader "
        "crash, or needs more memory than there is. Check that file, or give a worker more memory.",
    )


def _reason(job: Job, error: Exception) -> str:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError):
            return (
                f"{job.source}: preparing it needs more memory than a worker may use. Use fewer "
                "workers, or give each more (--memory-gb)."
            )
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, UvlmError):
        return str(error)
    log.exception("%s: unexpected error", job.study.series_id)
    return f"{job.source}: {type(error).__name__}: {error}"


def _is_done(job: Job, now: Record) -> bool:
    """Whether an earlier run prepared the same files in the same way, and all it wrote is there.

    Raises:
        ImageError: a store is there but damaged, whoever wrote it.
    """
    metas = [StoredArray(path).meta if path.exists() else None for path in job.stores()]
    before = job.previous
    return (
        before is not None
        and before.error is None
        and (before.key, before.signature) == (now.key, now.signature)
        and all(meta is not None and meta.spec_hash == job.spec.hash for meta in metas)
        and all(path.is_file() for path in job.nnunet_files())
    )


def _prepare(job: Job, record: Record) -> Record:
    """Everything is computed before anything is written, so that a broken study leaves nothing."""
    volume = job.study.image.read()
    found = check(volume)
    mask = None if job.study.mask is None else job.study.mask.read(volume)
    masks: dict[str, tuple[NDArray[Any], StoreMeta]] = {}
    if mask is not None:
        require_same_grid(volume, mask.volume)
        crop = grid_of(volume, job.spec).crop
        masks = {scope.name: _labels(mask.volume, scope, job.spec, crop) for scope in job.masked}
        mask = replace(mask, volume=volume)  # lets go of the voxels
    prepared = prepare(volume, job.spec)
    image = image_facts(volume, found, prepared)
    del volume
    facts = {
        scope.name: mask_facts(masks[scope.name][0], prepared, scope.classes)
        for scope in job.masked
    }
    written = _write(job, prepared, masks)
    record = replace(record, image=image, masks=facts, bytes_written=written)
    return record if mask is None else _with_mask(record, mask)


def _with_mask(record: Record, mask: Mask) -> Record:
    return replace(
        record,
        labels=dict(mask.labels),
        columns=dict(mask.columns),
        statements=mask.statements,
        notes=mask.notes,
    )


def _labels(
    mask: Volume, scope: Scope, spec: PreprocessSpec, crop: Box | None
) -> tuple[NDArray[Any], StoreMeta]:
    """The prepared mask (z, y, x) with the values of `scope`, cropped as its image is."""
    renumbered = replace(mask, array=_renumber(mask, scope))
    meta = StoreMeta(
        kind="labels",
        spec_hash=spec.hash,
        grid=grid_of(mask, spec, crop),
        classes=dict(scope.classes),
    )
    return prepare_labels(renumbered, spec, crop), meta


def _renumber(mask: Volume, scope: Scope) -> NDArray[Any]:
    """Values of the source to values of the scope, by a table with an entry for every value."""
    array = mask.array
    known = {0: 0, **scope.table}
    none = max(known.values()) + 1
    dtype = np.uint8 if none < 256 else np.uint16
    table = np.full(np.iinfo(array.dtype).max + 1, none, dtype)
    for value, stored in known.items():
        if value < len(table):
            table[value] = stored
    result: NDArray[Any] = table[array]
    if result.max() == none:
        unknown = np.unique(array[result == none]).tolist()
        raise ImageError.about(
            mask.provenance.path,
            f"holds the values {unknown[:5]} that have no name",
            "Name them in the source's list of classes, or correct the mask.",
        )
    return result


def _write(
    job: Job, prepared: Prepared, masks: Mapping[str, tuple[NDArray[Any], StoreMeta]]
) -> int:
    """Bytes written."""
    series_id = job.study.series_id
    written = 0
    for scope in job.masked:
        array, meta = masks[scope.name]
        written += _store(mask_path(job.out, job.scopes, scope, series_id), array, meta)
        if scope.name in job.nnunet:
            folder = job.nnunet[scope.name]
            written += write_case(folder, series_id, prepared, array)
    # Last: where it stands, everything does.
    written += _store(image_path(job.out, series_id), prepared.array, meta_of(prepared))
    return written


def _store(path: Path, array: NDArray[Any], meta: StoreMeta) -> int:
    write_store(path, array, meta)
    return path.stat().st_size
