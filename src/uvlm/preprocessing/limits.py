"""Memory and threads of the processes that prepare studies.

A study that needs more than its worker may use fails with `MemoryError` and is recorded, instead
of the system ending whichever process it likes.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from pathlib import Path

from uvlm.errors import ConfigError

__all__ = [
    "SMALLEST_GB",
    "available_gb",
    "end_with_parent",
    "limit_memory",
    "memory_limit",
    "one_thread_each",
    "peak_gb",
    "worker_memory",
]

GB = 1 << 30
SMALLEST_GB = 0.25
SHARED = 0.9
"""Of the available memory; the rest is for this process and the system's cache of files."""
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def available_gb() -> float | None:
    """Memory that new processes can have, GB; None where the system does not say."""
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024 / GB
        left = _container_gb()
        return free if left is None else min(free, left)
    return None


def _container_gb() -> float | None:
    """What the control group leaves, if it sets a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        root = Path("/sys/fs/cgroup")
        with suppress(OSError, ValueError):
            return (int((root / limit).read_text()) - int((root / used).read_text())) / GB
    return None


def worker_memory(memory_gb: float | None, workers: int) -> float | None:
    """Memory one worker may use, GB: as asked, or an equal share of what is available.

    Raises:
        ConfigError: less than any study needs.
    """
    if memory_gb is not None:
        if not memory_gb >= SMALLEST_GB:
            raise ConfigError(
                f"memory_gb is {memory_gb:g}; a worker needs at least {SMALLEST_GB} GB, and for "
                "studies of 512x512x300 voxels about 0.5."
            )
        return memory_gb
    free = available_gb()
    return None if free is None else max(SMALLEST_GB, SHARED * free / max(1, workers))


def limit_memory(gb: float | None) -> tuple[int, int] | None:
    """Let this process have `gb` more than it holds now.

    Returns:
        the limits as they were; None where nothing was changed, since the system cannot
    """
    held = _data_bytes()
    if gb is None or held is None:
        return None
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = held + int(gb * GB)
    ceilings = [most, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (min(ceilings), before[1]))
    except (OSError, ValueError):
        return None
    return before


@contextmanager
def memory_limit(gb: float | None) -> Iterator[None]:
    """`limit_memory` for a while."""
    before = limit_memory(gb)
    try:
        yield
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def peak_gb() -> float:
    """Highest resident memory of this process so far, GB."""
    peak = _status("VmHWM")
    if peak is None:
        # In a new process this may still be its parent's; where there is /proc we know better.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
    return peak / GB


def _data_bytes() -> int | None:
    return _status("VmData")


def _status(name: str) -> int | None:
    """A size from Linux's account of this process, bytes."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return None


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, even by a kill."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """One thread of linear algebra in processes started meanwhile; numpy asks when imported."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
