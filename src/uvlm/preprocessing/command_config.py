"""What the command modules (`python -m uvlm.preprocessing.preprocess_...`) share.

Each module has a frozen dataclass; its default values ship as a JSON file in `configs/`. A file of
the user's may leave settings out, which then keep their defaults; a setting that is unknown is
refused with the nearest known one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from uvlm.config import from_dict
from uvlm.errors import ConfigError

__all__ = ["load_config", "tell"]

SHOWN = 10
"""Problems printed; the files say the rest."""

T = TypeVar("T")


def load_config(cls: type[T], path: Path | None, default: str) -> T:
    """The configuration in `path`, or the shipped one.

    Args:
        cls: a frozen dataclass.
        path: a JSON file, or None.
        default: name of a file in `configs/`, used without `path`.

    Raises:
        ConfigError: naming the file: it cannot be read, is not JSON, gives a setting twice or in
            a wrong type, or has one that is unknown or impossible.
    """
    where = str(path) if path else default
    try:
        if path is None:
            file = resources.files("uvlm.preprocessing") / "configs" / default
            text = file.read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text, object_pairs_hook=_unique)
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
        raise ConfigError.about(where, found, "Check the path given to --config-path.") from None
    except ValueError as error:
        raise ConfigError.about(where, f"not usable as JSON ({error})", "Correct it.") from None
    try:
        return from_dict(cls, values, where)
    except ConfigError as error:
        # Checks of the dataclass itself know no file.
        message = str(error)
        raise (error if message.startswith(where) else ConfigError(f"{where}: {message}")) from None


def tell(problems: Sequence[str]) -> int:
    """Print the first of what went wrong to standard error; the exit code that it means."""
    sys.stderr.writelines(f"{problem}\n" for problem in problems[:SHOWN])
    if len(problems) > SHOWN:
        sys.stderr.write(f"... and {len(problems) - SHOWN} more\n")
    return 3 if problems else 0


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is set twice")
    return values
