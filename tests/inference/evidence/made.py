"""Records of evidence with what a test does not care about filled in."""

from __future__ import annotations

from typing import Any

from uvlm.inference.evidence.types import Lesion

__all__ = ["lesion"]


def lesion(name: str = "lung_nodule", **fields: Any) -> Lesion:
    """Of 10 mm on the right, unless told otherwise."""
    known: dict[str, Any] = {
        "name": name,
        "number": 1,
        "volume_ml": 0.5,
        "diameter_mm": 10.0,
        "mean_hu": 30.0,
        "side": "right",
        "structure": "lung_lower_lobe_right",
        "centre": (1, 2, 3),
        "box": ((0, 2), (1, 4), (2, 5)),
    }
    return Lesion(**(known | fields))
