"""What the two AbdomenAtlas commands do with every case: write its merged mask, or measure it.

Cases run in the pool of `pipeline`, each recorded when it is done in a `.jsonl` file of the output
folder, so that a second run does only what is missing.

    merge        RAW/DatasetNNN_NAME/imagesTr/CASE_0000.nii.gz   link to the user's file, a copy
                                                                 where links are impossible
                 RAW/DatasetNNN_NAME/labelsTr/CASE.nii.gz        the 41 classes, on its grid
                 RAW/DatasetNNN_NAME/dataset.json                nnU-Net's
    measure      labels and lesion measures from the masks, in the records
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from isal import igzip
from tqdm import tqdm

from uvlm.errors import CatalogError, ImageError, UvlmError
from uvlm.imaging.gzip import is_gzip
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.volume import Volume
from uvlm.preprocessing.catalog import write_text
from uvlm.preprocessing.disk import DiskFullError, disk_full, lock, remove_leftovers, signature_of
from uvlm.preprocessing.pipeline import Workers, run_jobs
from uvlm.preprocessing.records import Record, RecordLog, read_records
from uvlm.preprocessing.sources.abdomen_classes import CLASSES, SCOPES
from uvlm.preprocessing.study import Listing, Study
from uvlm.preprocessing.work import Job

__all__ = ["make_folder", "measure_cases", "merge_cases", "merged_name"]

log = logging.getLogger(__name__)

MERGED, MEASURED = "merge.jsonl", "classification.jsonl"
ROOM = 1 << 26
"""Bytes that a case may need to be written, for telling a full disk."""


def merge_cases(listing: Listing, folder: Path, workers: int = 1) -> list[Record]:
    """Write an nnU-Net raw dataset of merged masks into `folder`.

    Returns:
        one record per case; those with an error are not in the dataset, or no longer

    Raises:
        CatalogError: `folder` holds what another program wrote, or no case could be merged.
        DiskFullError: no room; a second run goes on.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MERGED).is_file():
        raise CatalogError.about(
            folder, "holds files that this command did not write", "Choose another output."
        )
    for name in ("imagesTr", "labelsTr"):
        make_folder(folder / name)
    records = _run(listing.studies, folder, MERGED, workers, merge_case)
    labels = {"background": 0, **{name: value for value, name in enumerate(CLASSES, 1)}}
    described = {
        "name": listing.name,
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": _count(folder),
        "file_ending": ".nii.gz",
    }
    write_text(folder / "dataset.json", json.dumps(described, indent=2) + "\n")
    return records


def _count(folder: Path) -> int:
    """Images that have a mask; nnU-Net and `resize` go by images."""
    names = (path.name for path in (folder / "imagesTr").glob("[!.]*_0000.nii.gz"))
    return sum(
        (folder / "labelsTr" / name.replace("_0000.nii", ".nii")).is_file() for name in names
    )


def merged_name(folder: Path) -> str:
    """What the studies of a merged dataset are, by its dataset.json; else the folder's name."""
    try:
        described = json.loads((folder / "dataset.json").read_text("utf-8"))
        return str(described.get("name") or folder.name)
    except (OSError, ValueError, AttributeError):
        return folder.name


def measure_cases(studies: Sequence[Study], folder: Path, workers: int = 1) -> list[Record]:
    """Labels and lesion measures of every case, recorded in `folder`.

    Raises:
        CatalogError: the folder cannot be written to, or no case could be measured.
    """
    make_folder(folder)
    return _run(studies, folder, MEASURED, workers, measure_case)


def make_folder(folder: Path) -> None:
    """Make an output folder and those above it.

    Raises:
        CatalogError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"cannot be a folder to write into ({error.strerror})"
        raise CatalogError.about(folder, found, "Choose another output.") from None


def _run(
    studies: Sequence[Study],
    folder: Path,
    name: str,
    workers: int,
    task: Callable[[Job], Record],
) -> list[Record]:
    """The records of all studies, in their order."""
    with lock(folder):
        remove_leftovers((folder, folder / "imagesTr", folder / "labelsTr"))
        before = read_records(folder / name)
        jobs = [
            Job(
                study=study,
                scopes=(SCOPES["fine+lesions"],),
                spec=PreprocessSpec(),
                out=folder,
                previous=before.get(study.series_id),
            )
            for study in studies
        ]
        done: dict[str, Record] = {}
        with (
            RecordLog(folder / name) as written,
            tqdm(total=len(jobs), desc=name.split(".")[0], unit="case", delay=2) as bar,
        ):
            for record in run_jobs(jobs, Workers(count=workers), task):
                if not record.kept:
                    written.add(record)
                done[record.series_id] = record
                bar.update()
    found = [done[study.series_id] for study in studies]
    if found and all(record.error for record in found):
        raise CatalogError.about(
            folder, f"none of {len(found)} cases can be used", f"First: {found[0].error}"
        )
    return found


def merge_case(job: Job) -> Record:
    """Link the image and write the mask of one case; without its image, a broken one is out."""
    image, label = _case_files(job)
    record = _record(job, _write, image.exists() and label.is_file())
    if record.error is not None and _is_ours(image, job.previous):
        image.unlink()
    if record.error is not None or record.kept:
        return record
    return replace(record, bytes_written=_copied(image))


def _copied(image: Path) -> int:
    """Size of an image that is no link."""
    return image.stat().st_size if image.exists() and not image.is_symlink() else 0


def _is_ours(image: Path, previous: Record | None) -> bool:
    """Whether an image is a link, or the copy that an earlier run recorded."""
    copied = previous is not None and previous.bytes_written == _copied(image) > 0
    return image.is_symlink() or copied


def measure_case(job: Job) -> Record:
    """Labels and measures of one case."""
    return _record(job, None, True)


def _case_files(job: Job) -> tuple[Path, Path]:
    name = job.study.series_id
    return (
        job.out / "imagesTr" / f"{name}_0000.nii.gz",
        job.out / "labelsTr" / f"{name}.nii.gz",
    )


def _record(job: Job, write: Callable[[Job, Volume], None] | None, there: bool) -> Record:
    """Read a case and `write` it, unless an earlier run did and its files are `there`.

    Raises:
        DiskFullError: no room, which no other case can change.
    """
    study = job.study
    record = Record(
        series_id=study.series_id,
        key=job.key,
        signature=signature_of(job.files),
        source=str(job.source),
    )
    before = job.previous
    if there and before is not None and before.error is None and _equal(before, record):
        return replace(before, kept=True)
    try:
        assert study.mask is not None
        mask = study.mask.read(study.image.read())
        if write is not None:
            write(job, mask.volume)
    except Exception as error:
        # One broken case must not stop the rest, whatever broke it.
        if disk_full(error, job.out, ROOM):
            raise DiskFullError.at(job.out) from error
        if isinstance(error, UvlmError):
            return replace(record, error=str(error))
        log.exception("%s: unexpected error", study.series_id)
        return replace(record, error=f"{record.source}: {type(error).__name__}: {error}")
    return replace(record, labels=dict(mask.labels), columns=dict(mask.columns), notes=mask.notes)


def _equal(before: Record, now: Record) -> bool:
    """Whether the same files would be read in the same way."""
    return (before.key, before.signature) == (now.key, now.signature)


def _write(job: Job, mask: Volume) -> None:
    image, label = _case_files(job)
    _link(job.source, image, replaces=_is_ours(image, job.previous))
    write_nifti(label, mask.array, mask.affine)


def _link(source: Path, path: Path, *, replaces: bool) -> None:
    """Make `path` a link to `source`, or a copy where links are impossible, whole or not at all.

    Args:
        replaces: whatever stands there may go; otherwise only what a killed run left.

    Raises:
        ImageError: there is another file.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as file:
            packed = is_gzip(file.read(2))
        if not packed:
            # nnU-Net goes by the name, and that says .nii.gz.
            aside.write_bytes(igzip.compress(source.read_bytes(), mtime=0))
        else:
            _link_or_copy(source, aside)
        if path.exists() and not (replaces or _same_size(path, aside)):
            raise ImageError.about(path, f"is not {source}", "Remove it, or choose another output.")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _same_size(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size


def _link_or_copy(source: Path, path: Path) -> None:
    try:
        target = os.path.relpath(source.resolve(), path.parent.resolve())
        path.symlink_to(target)
    except (OSError, ValueError):  # no links on this file system; another drive
        shutil.copyfile(source, path)
