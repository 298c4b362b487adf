"""Frozen dataclasses to plain dictionaries and back, strictly, and their hash.

A configuration is written into every bundle and checkpoint; reading it back refuses unknown
keys with the nearest known one, so that a misspelt setting never falls back to a default.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from uvlm.errors import ConfigError

__all__ = ["LATER", "config_hash", "from_dict", "to_dict"]

T = TypeVar("T")

LATER: Mapping[str, Any] = types.MappingProxyType({"later": True})
"""Metadata of a field that was added when files without it existed: while it has its default it is
not written, so that what is as before has the hash it had, and older versions read it.

    foreground: bool = field(default=False, metadata=LATER)
"""


def to_dict(config: Any) -> Any:
    """Dataclasses to dictionaries, tuples to lists, paths to strings: ready for JSON."""
    if dataclasses.is_dataclass(config):
        values = {f: getattr(config, f.name) for f in dataclasses.fields(config)}
        return {
            f.name: to_dict(value)
            for f, value in values.items()
            if not (f.metadata.get("later") and value == f.default)
        }
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def config_hash(config: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build dataclass `cls` from a dictionary as `to_dict` writes it.

    Raises:
        ConfigError: unknown or missing keys, or a value of another type.
    """
    where = where or cls.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a table of settings, got {type(values).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields)}."
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    hints = get_type_hints(cls)
    built = {key: _build(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def _build(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _build_union(hint, value, where)
    if origin is Literal:
        if value in get_args(hint):
            return value
        raise ConfigError(f"{where}: expected one of {get_args(hint)}, got {value!r}.")
    if origin is tuple:
        return _build_tuple(get_args(hint), value, where)
    if origin in (dict, Mapping) or origin is types.MappingProxyType:
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    return _build_scalar(hint, value, where)


def _build_union(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    errors: list[tuple[int, ConfigError]] = []
    for option in options:
        if option is not type(None):
            try:
                return _build(option, value, where)
            except ConfigError as error:
                errors.append((_keys_known(option, value), error))
    # The one that was meant, by its keys.
    most = max(known for known, _ in errors)
    raise next(error for known, error in reversed(errors) if known == most)


def _keys_known(option: Any, value: Any) -> int:
    if not dataclasses.is_dataclass(option) or not isinstance(value, Mapping):
        return 0
    return len({f.name for f in dataclasses.fields(option)} & value.keys())


def _build_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}: expected a list, got {value!r}.")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_build(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(args) != len(value):
        raise ConfigError(f"{where}: expected {len(args)} values, got {len(value)}.")
    pairs = enumerate(zip(args, value, strict=True))
    return tuple(_build(arg, v, f"{where}[{i}]") for i, (arg, v) in pairs)


def _build_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool) == (value in (True, False) and isinstance(value, bool))
    ):
        return value
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}.")
