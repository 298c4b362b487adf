"""The folder of a run: whether it may be used, and what was noted in it."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from uvlm.config import to_dict
from uvlm.errors import ConfigError, InputError
from uvlm.preprocessing.disk import LOCK
from uvlm.training.config import RunConfig

__all__ = ["CONFIG", "check_folder", "note", "settings"]

log = logging.getLogger(__name__)

CONFIG = "config.json"

UNFINISHED = re.compile(rf"\.config\.json\.\d+\.tmp|{re.escape(LOCK)}")
"""All that a run leaves which was killed before it had described itself."""

MAY_CHANGE = {
    "data.workers",
    "loop.activation_checkpointing",
    "loop.channels_last",
    "loop.checkpoint_every",
    "loop.compile",
    "loop.device",
}
"""Settings that change memory and time of a step, not its method: a resumed run may have others.
So may batch size and accumulation if their product stays."""

PRODUCT = ("data.batch_size", "loop.accumulate")


def check_folder(config: RunConfig, resume: bool) -> Path:
    """OUT, if it is empty or holds this run.

    Raises:
        ConfigError: no folder was named.
        InputError: it holds something else, or a run with other settings.
    """
    if config.out is None:
        raise ConfigError("no output folder was given. Name one with --out.")
    out = config.out
    described = out / CONFIG
    if resume and described.exists():
        _compare(_read(described), settings(config), described)
    elif out.exists() and not out.is_dir():
        raise InputError.about(out, "it is a file", "Name a new folder.")
    elif out.exists() and any(not (resume and UNFINISHED.fullmatch(p.name)) for p in out.iterdir()):
        raise InputError.about(
            out, "the folder is not empty", "Name a new folder, or continue with --resume."
        )
    elif resume:
        log.warning("%s: there is no run to go on with; a new one begins", out)
    return out


def settings(config: RunConfig) -> Any:
    """What a resumed run must have in common with the one it continues; it may have moved."""
    return json.loads(json.dumps(to_dict(replace(config, out=None))))


def note(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(json.dumps(content, indent=2))
    os.replace(aside, path)


def _read(described: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(described.read_text())
        return dict(found)
    except (ValueError, TypeError, OSError) as error:
        raise InputError.about(
            described,
            f"it cannot be read ({error}), so the run's settings are unknown",
            "Start anew in another folder; give its bundle or an earlier one with --init.",
        ) from error


def _compare(before: dict[str, Any], now: dict[str, Any], described: Path) -> None:
    old, new = _flat(before), _flat(now)
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    if _product(old) == _product(new):
        changed -= set(PRODUCT)
    for key in sorted(changed - MAY_CHANGE):
        raise InputError.about(
            described,
            f"the run was started with {key} {old.get(key)}, now it is {new.get(key)}",
            "Resume with the settings it was started with, or start anew in another folder.",
        )
    for key in sorted(changed & MAY_CHANGE):
        log.warning("%s was %s, now it is %s", key, old.get(key), new.get(key))


def _product(flat: dict[str, Any]) -> Any:
    """Studies of a step and process."""
    size, rounds = (flat.get(key) for key in PRODUCT)
    return size * rounds if isinstance(size, int) and isinstance(rounds, int) else None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
