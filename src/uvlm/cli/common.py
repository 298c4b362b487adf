"""Small things several commands need."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from uvlm.errors import InputError

__all__ = ["write_json"]


def write_json(path: Path, data: Any) -> None:
    """Write `data` to `path` whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise InputError.about(path, f"cannot be written ({error.strerror})", "Check it.") from None
