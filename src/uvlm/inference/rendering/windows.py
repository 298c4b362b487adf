"""At which window a finding is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from uvlm.imaging.picture import LUNG_WINDOW, SOFT_WINDOW

__all__ = ["SOFT", "Window", "window_of"]


@dataclass(frozen=True)
class Window:
    """HU shown from black to white."""

    name: str
    range: tuple[float, float]


LUNG = Window("lung window", LUNG_WINDOW)
SOFT = Window("soft tissue window", SOFT_WINDOW)
DENSE = Window("wide window", (-200.0, 900.0))

_WINDOWS: dict[str, Window] = {
    **dict.fromkeys(
        (
            "Emphysema",
            "Atelectasis",
            "Lung nodule",
            "Lung opacity",
            "Pulmonary fibrotic sequela",
            "Mosaic attenuation pattern",
            "Peribronchial thickening",
            "Consolidation",
            "Bronchiectasis",
            "Interlobular septal thickening",
        ),
        LUNG,
    ),
    **dict.fromkeys(
        (
            "Medical material",
            "Arterial wall calcification",
            "Coronary artery wall calcification",
        ),
        DENSE,
    ),
}


def window_of(label: str) -> Window:
    """The window for a label; soft tissue for all that is neither lung nor calcified or metal."""
    return _WINDOWS.get(label, SOFT)
