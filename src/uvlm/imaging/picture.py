"""One PNG with the axial, coronal and sagittal plane of a volume, for a person to look at.

Radiological convention: the patient's right is on the picture's left (letters R and L), the
sagittal plane has the front on the left (A and P), the head is up. All planes have one scale in
millimetres per pixel, so that shapes are true whatever the spacing. An oblique volume is shown
along its own axes, turned to the closest LPS order.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from uvlm.errors import InputError
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.volume import Volume

__all__ = ["LUNG_WINDOW", "SOFT_WINDOW", "png_path", "save_png", "three_planes"]

SOFT_WINDOW = (-160.0, 240.0)
"""HU shown from black to white for soft tissue."""

LUNG_WINDOW = (-1350.0, 150.0)
"""HU shown from black to white for lungs."""

PANEL = 420
"""Pixels along the longest side of the volume."""

MARGIN = 6
MASK_OPACITY = 0.45

Plane = tuple[NDArray[Any], NDArray[Any] | None, tuple[float, float], str]


def three_planes(
    volume: Volume,
    path: Path | str,
    mask: Volume | None = None,
    *,
    window: tuple[float, float] = SOFT_WINDOW,
) -> None:
    """Write the PNG `path` with three planes through the centre, or through the mask's centroid.

    `mask` lies on the grid of `volume` (z, y, x); each of its labels gets a colour. `window` is
    the range of HU shown from black to white. The file is written whole or not at all.

    Raises:
        InputError: the name does not end in .png, or the file cannot be written.
    """
    turned, turn = to_lps(volume)
    labels = None if mask is None else turn.apply(mask.array)
    panels = [_panel(plane, window, _scale(turned)) for plane in _planes(turned, labels)]
    width = sum(panel.width for panel in panels) + MARGIN * (len(panels) + 1)
    height = max(panel.height for panel in panels) + 2 * MARGIN
    sheet = Image.new("RGB", (width, height), (24, 24, 24))
    left = MARGIN
    for panel in panels:
        sheet.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + MARGIN
    save_png(sheet, Path(path))


def save_png(picture: Image.Image, path: Path) -> None:
    """Write `path` whole or not at all.

    Raises:
        InputError: the name is not one of a PNG, or the file cannot be written.
    """
    png_path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(partial, format="PNG")
        os.replace(partial, path)
    except OSError as error:
        found = f"cannot be written ({error.strerror})"
        raise InputError.about(path, found, "Give another place.") from None
    finally:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)


def png_path(path: Path) -> None:
    """Raise InputError unless a picture may have this name: so no CT is ever replaced by one."""
    if path.suffix.lower() != ".png":
        raise InputError.about(path, "no name for a picture", "Give a name that ends in .png.")


def _planes(volume: Volume, labels: NDArray[Any] | None) -> list[Plane]:
    """(values, labels, mm per row and column, the two letters) of each plane, head and front up."""
    image, (dz, dy, dx) = volume.array, volume.spacing
    z, y, x = _centre(image.shape, labels)
    cuts: list[tuple[Any, tuple[float, float], str]] = [
        ((z, slice(None), slice(None)), (dy, dx), "RL"),
        ((slice(None, None, -1), y, slice(None)), (dz, dx), "RL"),
        ((slice(None, None, -1), slice(None), x), (dz, dy), "AP"),
    ]
    return [
        (image[cut], None if labels is None else labels[cut], step, letters)
        for cut, step, letters in cuts
    ]


def _centre(shape: tuple[int, ...], labels: NDArray[Any] | None) -> tuple[int, int, int]:
    if labels is None or not labels.any():
        z, y, x = (n // 2 for n in shape)
        return z, y, x
    z, y, x = (round(float(found.mean())) for found in np.nonzero(labels))
    return z, y, x


def _scale(volume: Volume) -> float:
    """Pixels per millimetre, one for all planes."""
    extent = max(n * step for n, step in zip(volume.shape, volume.spacing, strict=True))
    return PANEL / extent


def _panel(plane: Plane, window: tuple[float, float], scale: float) -> Image.Image:
    values, labels, (row_mm, column_mm), letters = plane
    low, high = window
    # A window of no width (one value throughout) would divide by zero.
    grey = (values.astype(np.float32) - low) / max(high - low, 1e-6)
    picture = Image.fromarray((grey.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")
    rows, columns = values.shape
    size = max(1, round(columns * column_mm * scale)), max(1, round(rows * row_mm * scale))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    if labels is not None:
        picture = _overlay(picture, labels)
    draw = ImageDraw.Draw(picture)
    middle = size[1] // 2 - 6
    draw.text((3, middle), letters[0], fill=(255, 220, 90))
    draw.text((size[0] - 10, middle), letters[1], fill=(255, 220, 90))
    return picture


def _overlay(picture: Image.Image, labels: NDArray[Any]) -> Image.Image:
    colours = _colours(labels)
    opacity = ((labels > 0) * (255 * MASK_OPACITY)).astype(np.uint8)
    paint = Image.fromarray(colours).resize(picture.size, Image.Resampling.NEAREST)
    alpha = Image.fromarray(opacity).resize(picture.size, Image.Resampling.NEAREST)
    return Image.composite(paint, picture, alpha)


def _colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """(rows, columns, 3): neighbouring labels get distant hues (golden-angle steps)."""
    hue = np.radians(labels.astype(np.float32) * 137.508)
    waves = [np.cos(hue - shift) for shift in (0.0, 2 * np.pi / 3, 4 * np.pi / 3)]
    return np.stack([(127.5 + 127.5 * wave).astype(np.uint8) for wave in waves], axis=-1)
