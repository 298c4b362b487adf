"""Other layouts for the chest studies: each writer takes a folder in CT-RATE's v2 layout."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

__all__ = ["LAYOUTS", "writer_of"]

Writer = Callable[[Path, Path, int], None]
"""(folder that `make_chest` wrote, new folder, seed)"""

LAYOUTS: dict[str, str] = {
    "ct-rate-v1": "uvlm.phantom.ct_rate_v1",
    "rexgrounding": "uvlm.phantom.rexgrounding",
    "bimcv-r": "uvlm.phantom.bimcv_r",
    "radgenome": "uvlm.phantom.radgenome",
    "folder": "uvlm.phantom.folder",
    "nnunet-raw": "uvlm.phantom.nnunet_raw",
}
"""Layout -> module with `write(source, out, seed)`; CT-RATE v2 itself needs none."""


def writer_of(layout: str) -> Writer:
    write: Writer = import_module(LAYOUTS[layout]).write
    return write
