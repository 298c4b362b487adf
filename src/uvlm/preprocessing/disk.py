"""The output folder: one run at a time, nothing left lying about, a full disk noticed."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from uvlm.errors import CatalogError, UvlmError

__all__ = [
    "LOCK",
    "DiskFullError",
    "disk_full",
    "fullest",
    "lock",
    "refuse_sources_in",
    "remove_leftovers",
    "signature_of",
]

LOCK = ".uvlm.lock"
log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)

_LEFTOVER = re.compile(r"\..+\.(\d+)\.tmp(?:\.[A-Za-z0-9]+)?")


class DiskFullError(UvlmError):
    """The disk of the output folder is full; what was done before is whole and recorded."""

    @classmethod
    def at(cls, folder: Path) -> DiskFullError:
        free = shutil.disk_usage(folder).free / 1e6
        return cls(
            f"{folder}: the disk is full, or a quota is used up ({free:.1f} MB free). What is done "
            "is kept and recorded. Make room and run the same command again; it goes on from there."
        )


def disk_full(error: BaseException, folder: Path, needed: int) -> bool:
    """Whether `error` came about because the disk of `folder` is full.

    Args:
        needed: bytes that were to be written. Blosc2 gives no reason when it cannot write, so
            that less room than this is taken for one.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        if isinstance(seen, RuntimeError) and shutil.disk_usage(folder).free < needed:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def fullest(folders: Iterable[Path]) -> Path:
    """The folder with the least room."""
    return min(folders, key=lambda folder: shutil.disk_usage(folder).free)


@contextmanager
def lock(folder: Path, wait: float = 0) -> Iterator[None]:
    """Hold `folder` for one run; the system lets go of it when the process ends, however it ends.

    Args:
        wait: seconds to wait for another run to let go

    Raises:
        CatalogError: another run holds it, or nothing can be written there.
    """
    held = FileLock(folder / LOCK)
    try:
        held.acquire(timeout=wait)
    except Timeout:
        raise CatalogError.about(
            folder,
            "another run is writing into this folder",
            "Wait until it has ended, or choose another --out.",
        ) from None
    except OSError as error:
        if error.errno in FULL:
            raise
        raise CatalogError.about(
            folder,
            f"cannot be written to ({error.strerror})",
            "Check its permissions, or choose another --out.",
        ) from None
    except NotImplementedError:
        # Such as Lustre, mounted without.
        log.warning("%s: this disk has no locks; let no second run write here meanwhile", folder)
    try:
        yield
    finally:
        held.release()


def refuse_sources_in(out: Path, folders: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuse an output that would put files among the raw data.

    Args:
        out: must not lie in a folder that is itself a study, for the study would change, nor be a
            folder of studies: the one that holds all sources, or one of those below it
        folders: hold what is written; no source may lie in one
        sources: files, or folders that are studies

    Raises:
        CatalogError: naming the source.
    """
    own = {Path(os.path.realpath(folder)) for folder in folders}
    real_out = Path(os.path.realpath(out))
    around_out = {real_out, *real_out.parents}
    real: dict[Path, Path] = {}
    sources = list(sources)
    folders_of = {os.path.realpath(source.parent) for source in sources}
    if folders_of and Path(os.path.commonpath(folders_of)) in around_out:
        # At or below the folder that holds them all, OUT may hold none.
        own.add(real_out)
    for source in sources:
        if source.parent not in real:
            real[source.parent] = Path(os.path.realpath(source.parent))
        place = real[source.parent] / source.name
        if place in around_out or not own.isdisjoint((place, *place.parents)):
            raise CatalogError.about(
                out,
                f"results would lie among raw data ({source})",
                "Choose another --out.",
            )


def remove_leftovers(folders: Iterable[Path]) -> int:
    """Delete what killed runs were writing: `.name.PID.tmp` and `.name.PID.tmp.suffix`.

    Only directly in `folders`, only files, and only those whose process has ended. Call it under
    the lock.

    Returns:
        how many there were
    """
    removed = 0
    for folder in folders:
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            found = [(entry, _LEFTOVER.fullmatch(entry.name)) for entry in entries]
        for entry, match in found:
            if match and entry.is_file(follow_symlinks=False) and not _alive(int(match[1])):
                os.unlink(entry.path)
                removed += 1
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def signature_of(files: Iterable[Path]) -> str:
    """16 hexadecimal digits of the names, sizes and times of `files`, folders with all below them.

    What is not there counts as such.
    """
    digest = hashlib.sha256()
    for file in files:
        for path in sorted(_below(file)):
            try:
                stat = os.stat(path)
                entry = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            except OSError:
                entry = f"{path}\0absent\n"
            digest.update(entry.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _below(path: Path) -> Iterator[str]:
    if not path.is_dir():
        yield str(path)
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.path.join(folder, name)
