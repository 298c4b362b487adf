"""`uvlm features RECIPE`: compute once what a frozen encoder gives for each study of a run."""

# No postponed annotations here: tyro reads those of a class inside a function.
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from uvlm.errors import ConfigError
from uvlm.registry import DATASETS, PAPER_ROWS, RECIPES
from uvlm.training.config import RunConfig

__all__ = ["main"]

USAGE = """\
usage: uvlm features RECIPE --data.catalog CSV [CSV ...] --init BUNDLE --out BANK
                     [--views N] [--any.field value ...]

Computes what the frozen encoder of BUNDLE gives for every study of a report run, once, and keeps
it in half precision. `uvlm train RECIPE ... --init BUNDLE --data.bank BANK` then never runs the
encoder. Give the recipe and settings of that run. Where it augments, each training study gets
several views, four unless --views says otherwise.

A killed run goes on where it was when started again. Several processes fill one bank together,
under torchrun or `accelerate launch`, or each given --rank and --processes.

`uvlm features RECIPE --help` lists every field with the recipe's value."""


def _parse(name: str, arguments: Sequence[str]) -> tuple[RunConfig, int | None, int, int]:
    """(configuration, views, rank, processes)."""
    import tyro

    from uvlm.training.recipes import recipe

    default = recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        run: Annotated[RunConfig, tyro.conf.arg(name="")]

        views: int | None = None
        """Views of each training study, the volume as it is included."""

        rank: int = int(os.environ.get("RANK", "0"))
        """Number of this process, from 0."""

        processes: int = int(os.environ.get("WORLD_SIZE", "1"))
        """How many fill the bank together."""

    parsed = tyro.cli(
        Arguments,
        prog=f"uvlm features {name}",
        description=f"The feature bank of: {RECIPES[name][1]}.",
        args=list(arguments),
        default=Arguments(run=default),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )
    return parsed.run, parsed.views, parsed.rank, parsed.processes


def _check(name: str, config: RunConfig) -> None:
    """Refuse to fill a bank from an encoder that has learned nothing, or something else.

    Raises:
        ConfigError, BundleError, CatalogError: as `uvlm train`, or no bundle was given.
    """
    if config.task != "report" or config.optim.encoder_lr != 0:
        return  # no bank serves such a run, as `fill_bank` says
    if name in PAPER_ROWS:
        from uvlm.training.paper import check_start

        check_start(name, config, vocabulary=False)
    elif config.init is None:
        rows = " or ".join(f"{dataset}/rep" for dataset in DATASETS)
        raise ConfigError(
            "the bank would hold what an untrained encoder gives. Give the bundle of a trained "
            f"one with --init; without any, as in row 1 of Table 5, the recipe is {rows}."
        )


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    name, *rest = argv
    try:
        config, views, rank, processes = _parse(name, rest)
    except SystemExit as stop:  # tyro has printed help or what is wrong with the arguments
        return int(stop.code or 0)
    _check(name, config)
    from uvlm.training.features import fill_bank

    print(fill_bank(config, views=views, rank=rank, processes=processes))
    return 0
