"""What every benchmark shares: alternating rounds, medians, peak memory, a table and JSON.

A benchmark measures one claim: ours and its baseline in one run, in turn, so that a machine that
slows down slows both. `ratio` above 1 always means ours is better.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Row", "arguments", "machine", "medians", "peak_rss_gib", "publish"]

ROUNDS = 5
LONG = 60.0
"""Seconds of one round above which a case runs once."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured claim."""

    case: str
    value: float
    baseline: float
    unit: str
    ratio: float
    """Above 1 when ours is better, whether more or less of the unit is."""


def arguments(description: str) -> argparse.Namespace:
    """The options every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    return parser.parse_args()


def medians(actions: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each action; one action after another, `rounds` times, or once if a round
    takes over a minute."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        started = time.perf_counter()
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - start)
        if time.perf_counter() - started > LONG:
            break
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_rss_gib() -> float:
    """Largest resident size of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (2**30 if sys.platform == "darwin" else 2**20))


def machine() -> dict[str, Any]:
    """What the numbers depend on; `load` is the one-minute load average before the run."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def publish(rows: Sequence[Row], file: Path | None, described: Mapping[str, Any]) -> None:
    """Print the rows as a table; write them, each with the machine, to `file`."""
    width = max(len(row.case) for row in rows)
    print(f"{'case':<{width}}  {'ours':>10}  {'baseline':>10}  {'unit':<10}  {'ratio':>7}")
    for row in rows:
        numbers = f"{row.value:>10.3f}  {row.baseline:>10.3f}  {row.unit:<10}  {row.ratio:>7.2f}"
        print(f"{row.case:<{width}}  {numbers}")
    print("  ".join(f"{key}: {value}" for key, value in described.items()))
    if file is not None:
        content = [asdict(row) | {"machine": dict(described)} for row in rows]
        partial = file.with_name(f".{file.name}.tmp")
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, file)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
