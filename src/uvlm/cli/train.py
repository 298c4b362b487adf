"""`uvlm train RECIPE`: settings from the recipe, changed by `--any.field value`."""

# No postponed annotations here: tyro reads those of a class inside a function.
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from uvlm.errors import ConfigError
from uvlm.models.config import ClassificationConfig, EncoderConfig, SegmentationConfig
from uvlm.registry import PAPER_ROWS, RECIPES
from uvlm.training.config import RunConfig

__all__ = ["main"]


def _usage() -> str:
    own = [name for name in RECIPES if name not in PAPER_ROWS]
    width = max(map(len, own))
    rows = "\n".join(f"  {name:<{width}}  {RECIPES[name][1]}" for name in own)
    return (
        "usage: uvlm train RECIPE --data.catalog CSV [CSV ...] --out DIR [--init BUNDLE]\n"
        "                  [--resume] [--smoke] [--any.field value ...]\n"
        "       uvlm train --list [FILTER]\n\n"
        f"recipes:\n{rows}\n\n"
        f"and the {len(PAPER_ROWS)} runs of the paper's tables, as ct_rate/seg_fl-cls-rep+sc:\n"
        "`uvlm train --list` shows all, or those with FILTER in their name or row, with their\n"
        "parameters and what memory and time they will take.\n\n"
        "`uvlm train RECIPE --help` lists every field with the recipe's value. --smoke tries a\n"
        "recipe for two steps on synthetic studies of its shape; it needs no catalog."
    )


def _parse(name: str, arguments: Sequence[str]) -> tuple[RunConfig, bool, bool]:
    """(configuration, resume, smoke)."""
    import tyro

    from uvlm.training.recipes import recipe

    default = recipe(name)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        run: Annotated[RunConfig, tyro.conf.arg(name="")]

        resume: bool = False
        """Continue the run in `out` from its last checkpoint."""

        smoke: bool = False
        """Try the recipe for two steps on synthetic studies."""

    parsed = tyro.cli(
        Arguments,
        prog=f"uvlm train {name}",
        description=f"{RECIPES[name][1]}.",
        args=list(arguments),
        default=Arguments(run=default),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )
    return parsed.run, parsed.resume, parsed.smoke


def _smoke(name: str, config: RunConfig) -> None:
    """Two steps, a validation, a checkpoint and a bundle, on studies made for the purpose.

    Raises:
        ConfigError: the recipe needs more than studies.
    """
    encoder = config.model.encoder
    gated = not isinstance(encoder, EncoderConfig) and encoder.gated
    if gated or config.data.questions:
        needed = "features of slices" if gated else "questions"
        raise ConfigError(
            f"--smoke makes studies alone, and {name} needs {needed} as well. "
            "`SIZE=tiny bash runs/hsenet.sh` tries its whole procedure small."
        )
    from uvlm.cli.phantom import main as phantom
    from uvlm.cli.prepare import main as prepare
    from uvlm.training.run import train

    abdomen = name.startswith("abdomen_atlas/")
    region, source = ("abdomen", "abdomen-atlas") if abdomen else ("chest", "ct-rate")
    shape = [str(n) for n in config.data.shape]
    with TemporaryDirectory(prefix="uvlm-smoke-") as folder:
        raw, prepared = f"{folder}/raw", f"{folder}/prepared"
        phantom(["make", raw, "--studies", "8", "--region", region, "--shape", *shape])
        prepare([source, raw, "--out", prepared, "--shape", *shape])
        data = replace(config.data, catalog=(Path(prepared) / "catalog.csv",), workers=0)
        loop = replace(config.loop, steps=2, validate_studies=2)
        model = config.model
        if isinstance(model, SegmentationConfig | ClassificationConfig):
            # Synthetic studies have classes of their own.
            model = replace(model, classes=())
        out = config.out or Path(folder) / "run"
        train(replace(config, model=model, data=data, loop=loop, out=out))


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--list":
        from uvlm.cli.recipe_table import print_recipes

        return print_recipes(argv[1:])
    name, *rest = argv
    try:
        config, resume, smoke = _parse(name, rest)
    except SystemExit as stop:  # tyro has printed help or what is wrong with the arguments
        return int(stop.code or 0)
    if name in PAPER_ROWS:
        from uvlm.training.paper import check_start

        check_start(name, config, smoke=smoke)
    if smoke:
        _smoke(name, config)
        print(f"smoke run of {name}: passed")
        return 0
    from uvlm.training.run import train

    bundle = train(config, resume=resume)
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks for all
        print(bundle)
    return 0
