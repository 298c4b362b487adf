"""Everything that can go wrong, in one tree.

Every message says what was looked at, what was found and what to do; none quotes patient text.
`exit_code` is what the command line returns: 2 for the user's input, 1 for everything else.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BundleError",
    "CatalogError",
    "ConfigError",
    "ImageError",
    "InputError",
    "MemoryExhaustedError",
    "MissingExtraError",
    "TrainingDivergedError",
    "UvlmError",
]


class UvlmError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class InputError(UvlmError, ValueError):
    """What the user gave cannot be used."""

    exit_code = 2

    @classmethod
    def about(cls, path: Path | str, found: str, remedy: str) -> InputError:
        """`path: found. remedy`, the one form of every message about a file."""
        return cls(f"{path}: {found.rstrip('.')}. {remedy}")


class ImageError(InputError):
    """A CT volume or mask cannot be read, or is not what it should be."""


class CatalogError(InputError):
    """A catalog, or a file it names, cannot be used."""


class BundleError(InputError):
    """A bundle is incomplete, altered, or of another kind than asked for."""


class ConfigError(InputError):
    """A setting is impossible or unknown."""


class MissingExtraError(UvlmError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed. Install it: pip install 'uvlm[{extra}]'")


class TrainingDivergedError(UvlmError):
    """The loss or a gradient is no longer finite."""


class MemoryExhaustedError(UvlmError):
    """A step of training needs more memory than there is."""
