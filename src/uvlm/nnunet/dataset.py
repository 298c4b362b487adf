"""The folder of a dataset in nnUNet_preprocessed, and the tables in it. No torch import."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uvlm.errors import ConfigError, InputError
from uvlm.preprocessing.catalog import write_text

__all__ = ["dataset_folder", "read_json", "write_new"]

PREPROCESSED = "nnUNet_preprocessed"


def dataset_folder(dataset: str) -> Path:
    """Of a dataset, given as name or number, in nnUNet_preprocessed.

    Raises:
        ConfigError: nnUNet_preprocessed is unset, or the name is none nnU-Net knows.
        InputError: no dataset, or several, have that number.
    """
    root = os.environ.get(PREPROCESSED)
    if not root:
        raise ConfigError(f"{PREPROCESSED} is not set; export the folder nnU-Net trains from.")
    if re.fullmatch(r"Dataset\d{3}_[A-Za-z0-9_.+-]+", dataset):
        return Path(root) / dataset
    if not dataset.isdecimal():
        raise ConfigError(f"{dataset!r} is no dataset; give its number, or Dataset123_Name.")
    found = sorted(Path(root).glob(f"Dataset{int(dataset):03d}_*"))
    if not found:
        raise InputError.about(root, f"there is no dataset {dataset}", "Prepare it first.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError.about(
            root, f"several datasets have the number {dataset}: {names}", "Give the whole name."
        )
    return found[0]


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """A table of nnU-Net.

    Raises:
        InputError: the file is missing or no table.
    """
    if not path.is_file():
        raise InputError.about(path, "there is no such file", remedy)
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError.about(path, f"it is not JSON ({error})", remedy) from None
    if not isinstance(found, dict):
        raise InputError.about(path, "it is not a table of settings", remedy)
    return found


def write_new(path: Path, content: Mapping[str, Any]) -> None:
    """Write a table; one that is there stays.

    Raises:
        InputError: it is there with other content.
    """
    text = json.dumps(content, indent=4, allow_nan=False) + "\n"
    if path.exists():
        if path.read_text("utf-8") == text:
            return
        raise InputError.about(
            path, "it exists with other content", "Give another --name, or move it away."
        )
    write_text(path, text)
