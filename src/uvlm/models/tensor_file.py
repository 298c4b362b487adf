"""Write tensors to a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from stat import S_IMODE

from safetensors.torch import save_file
from torch import Tensor

__all__ = ["save_tensors"]


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write `tensors`, contiguous and sharing no memory, with the rights of any new file.

    The library gives its files to the writer alone (mode 0600); others could not load the model.
    """
    path.touch()
    rights = S_IMODE(path.stat().st_mode)
    save_file(dict(tensors), path, metadata=metadata)
    path.chmod(rights)
