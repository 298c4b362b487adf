"""`uvlm train --list [FILTER]`: every recipe, its row in the paper, and what it takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from uvlm.errors import ConfigError
from uvlm.registry import PAPER_ROWS, RECIPES
from uvlm.training.config import RunConfig
from uvlm.training.estimate import REFERENCE_TFLOPS, estimate
from uvlm.training.paper import earlier_recipe
from uvlm.training.recipes import recipe

__all__ = ["print_recipes"]

HEAD = ("params", "trained", "GPU GB", "hours", "banked")

NOTE = f"""\
Table: of the paper, with the row; - stands beside its tables.
params, trained: millions. GPU GB: predicted peak of one process at the recipe's batch size.
hours: all steps at {REFERENCE_TFLOPS:.0f} TFLOP/s, about a fifth of an A100's peak.
banked: the same after `uvlm features`, where the encoder is frozen.
q4b: Qwen3-4B. `uvlm doctor RECIPE` predicts for this machine and for any setting."""


def print_recipes(argv: Sequence[str]) -> int:
    """Print a table for each dataset, no line longer than 100 characters.

    Args:
        argv: at most one text that name or row of the recipes shown must hold

    Raises:
        ConfigError: more than one text, or one that no recipe holds.
    """
    if len(argv) > 1:
        raise ConfigError(
            f"--list takes one FILTER, got {' '.join(argv)!r}; quote what has spaces."
        )
    wanted = argv[0].lower() if argv else ""
    names = [name for name in RECIPES if wanted in f"{name}  {RECIPES[name][1]}".lower()]
    if not names:
        raise ConfigError(f"no recipe has {argv[0]!r} in its name or row; --list alone shows all.")
    lines: list[tuple[str, tuple[str, ...]]] = []
    for dataset, group in groupby(names, lambda name: name.rpartition("/")[0]):
        rows = [("recipe", "Table" if dataset else ""), *((name, _what(name)) for name in group)]
        width = max(len(name) for name, _ in rows)
        lines += [("", ()), *((f"{a:<{width}}  {b}", _numbers(a)) for a, b in rows)]
    left = max(len(text) for text, _ in lines)
    widths = [max(len(row[i]) for _, row in lines if row) for i in range(len(HEAD))]
    for text, row in lines[1:]:
        cells = (f"{cell:>{width}}" for cell, width in zip(row or HEAD, widths, strict=True))
        print("  ".join([f"{text:<{left}}", *cells]) if row else "")
    print(f"\n{NOTE}", file=sys.stderr)
    return 0


def _what(name: str) -> str:
    """The rows of the paper's tables, or the task."""
    if name not in PAPER_ROWS:
        return RECIPES[name][1]
    short = (row.removeprefix("Table ").split(" Seg")[0] for row in PAPER_ROWS[name])
    return ", ".join(short) or "-"


def _numbers(name: str) -> tuple[str, ...]:
    if name not in RECIPES:
        return HEAD
    config = recipe(name)
    found = estimate(config)
    sizes = (found.parameters / 1e6, found.trained / 1e6, found.memory_gb)
    return (*(f"{size:,.1f}" for size in sizes), _hours(config), _banked(name, config))


def _banked(name: str, config: RunConfig) -> str:
    """Hours where the encoder never runs; none for one that learns or has learned nothing."""
    frozen = config.task == "report" and config.optim.encoder_lr == 0
    if not frozen or (name in PAPER_ROWS and earlier_recipe(name) is None):
        return "-"
    return _hours(replace(config, data=replace(config.data, bank=Path("BANK"))))


def _hours(config: RunConfig) -> str:
    hours = estimate(config).hours()
    return f"{hours:.1f}" if hours >= 0.05 else "<0.1"
