"""`uvlm train RECIPE`: settings from the recipe, changed by `--any.field value`."""

# No postponed annotations here: tyro reads those of a class inside a function.
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from uvlm.errors import ConfigError
from uvlm.registry import RECIPES
from uvlm.training.config import RunConfig

__all__ = ["main"]


def _usage() -> str:
    width = max(map(len, RECIPES))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in RECIPES.items())
    return (
        "usage: uvlm train RECIPE --data.catalog CSV [CSV ...] --out DIR [--init BUNDLE]\n"
        "                  [--resume] [--smoke] [--any.field value ...]\n\n"
        f"recipes:\n{rows}\n\n"
        "`uvlm train RECIPE --help` lists every field with the recipe's value. --smoke tries a\n"
        "recipe for two steps on synthetic studies of its shape; it needs no catalog."
    )


def _parse(name: str, arguments: Sequence[str]) -> tuple[RunConfig, bool, bool]:
    """(configuration, resume, smoke)."""
    import tyro

    from uvlm.training.recipes import recipe

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
        default=Arguments(run=recipe(name)),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )
    return parsed.run, parsed.resume, parsed.smoke


def _smoke(config: RunConfig) -> None:
    """Two steps, a validation, a checkpoint and a bundle, on studies made for the purpose."""
    from uvlm.cli.phantom import main as phantom
    from uvlm.cli.prepare import main as prepare
    from uvlm.training.run import train

    shape = [str(n) for n in config.data.shape]
    with TemporaryDirectory(prefix="uvlm-smoke-") as folder:
        raw, prepared = f"{folder}/raw", f"{folder}/prepared"
        phantom(["make", raw, "--studies", "8", "--shape", *shape])
        prepare(["ct-rate", raw, "--out", prepared, "--shape", *shape])
        data = replace(config.data, catalog=(Path(prepared) / "catalog.csv",), workers=0)
        loop = replace(config.loop, steps=2, validate_studies=2)
        train(replace(config, data=data, loop=loop, out=config.out or Path(folder) / "run"))


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    name, *rest = argv
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}.\n\n{_usage()}")
    try:
        config, resume, smoke = _parse(name, rest)
    except SystemExit as stop:  # tyro has printed help or what is wrong with the arguments
        return int(stop.code or 0)
    if smoke:
        _smoke(config)
        print(f"smoke run of {name}: passed")
        return 0
    from uvlm.training.run import train

    bundle = train(config, resume=resume)
    print(bundle)
    return 0
