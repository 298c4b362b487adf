"""`uvlm train --list [FILTER]`: every recipe, its row in the paper, and what it takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uvlm.errors import ConfigError
from uvlm.registry import PAPER_ROWS, RECIPES
from uvlm.training.config import RunConfig
from uvlm.training.estimate import REFERENCE_TFLOPS, estimate
from uvlm.training.paper import earlier_recipe
from uvlm.training.recipes import recipe

__all__ = ["print_recipes"]

HEAD = ("recipe", "row", "parameters", "trained", "GPU GB", "hours", "with bank")

NOTE = f"""\
Parameters in millions. GPU memory is the predicted peak of one process at the recipe's batch size.
Hours are for all its steps at {REFERENCE_TFLOPS:.0f} TFLOP/s, about a fifth of an A100's peak; with
bank: after `uvlm features`, where the encoder is frozen. Qwen3-4B stands for a pretrained decoder.
`uvlm doctor RECIPE` predicts for this machine and for any setting."""


def print_recipes(argv: Sequence[str]) -> int:
    """Print the table.

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
    rows = [HEAD, *(_row(name) for name in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        cells = (
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print(f"\n{NOTE}", file=sys.stderr)
    return 0


def _row(name: str) -> tuple[str, ...]:
    config = recipe(name)
    found = estimate(config)
    what = "; ".join(PAPER_ROWS[name]) or "-" if name in PAPER_ROWS else RECIPES[name][1]
    numbers = (found.parameters / 1e6, found.trained / 1e6, found.memory_gb, found.hours())
    return (name, what, *(f"{number:,.1f}" for number in numbers), _with_bank(name, config))


def _with_bank(name: str, config: RunConfig) -> str:
    """Hours where the encoder never runs; none for one that learns or has learned nothing."""
    frozen = config.task == "report" and config.optim.encoder_lr == 0
    if not frozen or (name in PAPER_ROWS and earlier_recipe(name) is None):
        return "-"
    banked = replace(config, data=replace(config.data, bank=Path("BANK")))
    return f"{estimate(banked).hours():,.1f}"
