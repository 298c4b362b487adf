"""Planes of a CT as small pictures: window, overlays, letters of the sides, scale bar.

Radiological convention: axes are turned to LPS, so an axial or coronal picture has the patient's
right on its left. Rows and columns have one scale in millimetres, whatever the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from uvlm.imaging.volume import Volume
from uvlm.inference.rendering.colours import Colour, ink_on

__all__ = ["AXIAL", "CORONAL", "FAINT", "Layer", "Peak", "Plane", "body_box", "draw", "plane_of"]

AXIAL = 0
CORONAL = 1
"""Axis (z, y, x) across which a plane is cut."""

BODY_HU = -300
SPARSE = 0.02
"""Rows with a smaller share of body than this are air or table."""

QUALITY = 82
INSIDE = 0.4
"""Share of a pixel from which it counts as in the class, so that thin lesions do not vanish."""

FAINT = 0.15
"""Share of the greatest heat below which nothing is drawn."""

LETTERS: Colour = (255, 226, 120)
BARS_MM = (200, 100, 50, 20, 10, 5)

Window = tuple[float, float]
Ranges = tuple[slice, slice, slice]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A cut through a volume turned to LPS, and the part of it that is shown."""

    axis: int
    index: int
    rows: tuple[int, int]
    """[start, stop) of y in an axial plane, of z in a coronal one."""

    columns: tuple[int, int]
    """[start, stop) of x."""

    mm: tuple[float, float]
    """Per row and column."""

    @property
    def cut(self) -> tuple[Any, ...]:
        """Index of its voxels (rows, columns); a coronal plane has the head up."""
        rows, columns = slice(*self.rows), slice(*self.columns)
        if self.axis == AXIAL:
            return self.index, rows, columns
        top, bottom = self.rows[1] - 1, self.rows[0] - 1
        return slice(top, bottom if bottom >= 0 else None, -1), self.index, columns

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        width = (self.columns[1] - self.columns[0]) * self.mm[1]
        return width, (self.rows[1] - self.rows[0]) * self.mm[0]

    def place(self, voxel: Sequence[float], scale: float) -> tuple[float, float]:
        """Pixel (right, down) of a voxel's centre (z, y, x) at `scale` pixels per mm."""
        z, y, x = voxel
        right = (x + 0.5 - self.columns[0]) * self.mm[1]
        down = y + 0.5 - self.rows[0] if self.axis == AXIAL else self.rows[1] - z - 0.5
        return right * scale, down * self.mm[0] * scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Voxels of a plane to be coloured."""

    inside: NDArray[np.bool_]
    """(rows, columns)."""

    colour: Colour
    opacity: float = 0.0
    """Of the area, 0 to 1."""

    outlined: bool = True
    number: int | None = None
    """Written beside the area; None for no number."""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A cross with a ring around a place."""

    voxel: tuple[int, int, int]
    colour: Colour


def plane_of(
    volume: Volume,
    axis: int,
    index: int,
    box: Ranges,
    around: tuple[Sequence[float], float] | None = None,
) -> Plane:
    """The part of a plane within `box`, or a square of some mm around a voxel.

    Args:
        volume: turned to LPS.
        around: (voxel (z, y, x), mm of the square's side)
    """
    down = 1 if axis == AXIAL else 0
    ranges = []
    for at in (down, 2):
        start, stop, mm = box[at].start, box[at].stop, volume.spacing[at]
        if around is not None:
            voxel, side = around
            half = max(1, round(side / mm / 2))
            middle = round(voxel[at])
            start, stop = max(0, middle - half), min(volume.shape[at], middle + half + 1)
        ranges.append((start, stop))
    steps = volume.spacing[down], volume.spacing[2]
    return Plane(axis=axis, index=index, rows=ranges[0], columns=ranges[1], mm=steps)


def body_box(volume: Volume) -> Ranges:
    """Box around the body; all of the volume where none is seen."""
    step = tuple(max(1, n // 96) for n in volume.shape)
    body = volume.array[:: step[0], :: step[1], :: step[2]] > BODY_HU
    box = []
    for axis, n in enumerate(volume.shape):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(body.mean(axis=others) > (SPARSE if axis else 0))
        first, last = (int(hit[0]), int(hit[-1])) if hit.size else (0, body.shape[axis] - 1)
        # Along the body nothing is cut off: the first and last slice belong to the scan.
        box.append(
            slice(max(0, (first - 1) * step[axis]), min(n, (last + 2) * step[axis]))
            if axis
            else slice(0, n)
        )
    return box[0], box[1], box[2]


def draw(
    volume: Volume,
    plane: Plane,
    window: Window,
    width: int,
    *,
    layers: Sequence[Layer] = (),
    heat: NDArray[np.float32] | None = None,
    peak: Peak | None = None,
) -> bytes:
    """A JPEG at most `width` pixels wide and high.

    Args:
        volume: turned to LPS, HU.
        window: HU shown from black to white.
        layers: painted in order.
        heat: (rows, columns) of the plane, 0 to 1.
        peak: marked if given.
    """
    across, high = plane.size_mm
    scale = width / max(across, high)
    size = max(1, round(across * scale)), max(1, round(high * scale))
    picture = _grey(volume.array[plane.cut], window).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    if heat is not None:
        pixels = _warmed(pixels, heat)
    numbers: list[tuple[NDArray[np.bool_], Layer]] = []
    for layer in layers:
        if not layer.inside.any():  # most classes of most planes
            continue
        area = _resized(layer.inside, size)
        if area.any():
            pixels = _painted(pixels, area, layer)
            numbers += [(area, layer)] if layer.number is not None else []
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for area, layer in numbers:
        _badge(pen, area, layer)
    if peak is not None:
        _cross(pen, plane.place(peak.voxel, scale), peak.colour)
    _letters(pen, size, plane)
    _bar(pen, size, scale)
    return _jpeg(picture)


def _grey(values: NDArray[Any], window: Window) -> Image.Image:
    low, high = window
    shares = (values.astype(np.float32) - low) / (high - low)
    return Image.fromarray((shares.clip(0, 1) * 255).astype(np.uint8))


def _resized(inside: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    picture = Image.fromarray(inside.astype(np.uint8) * 255)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) > 255 * INSIDE


def _warmed(pixels: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """From red where it is faint to yellow where the heat is greatest; the faintest is left out."""
    rows, columns = pixels.shape[:2]
    shown = ((heat - FAINT) / (1 - FAINT)).clip(0, 1)
    picture = Image.fromarray((shown * 255).astype(np.uint8))
    share = np.asarray(picture.resize((columns, rows), Image.Resampling.BICUBIC), np.float32) / 255
    warm = np.stack([0.35 + 0.65 * share**0.5, share, 0.15 * share], axis=-1) * 255
    opacity = (0.75 * share**0.8)[..., None]
    return np.asarray(pixels * (1 - opacity) + warm * opacity, np.float32)


def _painted(
    pixels: NDArray[np.float32], area: NDArray[np.bool_], layer: Layer
) -> NDArray[np.float32]:
    colour = np.array(layer.colour, np.float32)
    pixels = pixels.copy()
    pixels[area] = pixels[area] * (1 - layer.opacity) + colour * layer.opacity
    if layer.outlined:
        # The rim lies outside, so that what is pointed at stays in sight.
        rim = _rim(area)
        if layer.opacity:
            rim |= _rim(rim | area)
        pixels[_rim(rim | area)] = 0
        pixels[rim] = colour
    return pixels


def _rim(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels beside an area."""
    grown = np.pad(area, 1)
    near = grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
    return np.asarray(near & ~area)


def _badge(pen: ImageDraw.ImageDraw, area: NDArray[np.bool_], layer: Layer) -> None:
    """The number in a filled circle, up and right of the largest piece."""
    pieces, _ = ndimage.label(area)
    largest = pieces == np.bincount(pieces[area]).argmax()
    rows, columns = np.flatnonzero(largest.any(axis=1)), np.flatnonzero(largest.any(axis=0))
    wide = area.shape[1]
    x = min(wide - 11, int(columns[-1]) + 11)
    y = max(11, int(rows[0]) - 9)
    pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=layer.colour, outline=(0, 0, 0))
    pen.text((x, y), str(layer.number), fill=ink_on(layer.colour), font=_font(12), anchor="mm")


def _cross(pen: ImageDraw.ImageDraw, at: tuple[float, float], colour: Colour) -> None:
    x, y = at
    for width, ink in ((5, (0, 0, 0)), (2, colour)):
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), outline=ink, width=width)
        pen.line((x - 14, y, x - 5, y), fill=ink, width=width)
        pen.line((x + 5, y, x + 14, y), fill=ink, width=width)
        pen.line((x, y - 14, x, y - 5), fill=ink, width=width)
        pen.line((x, y + 5, x, y + 14), fill=ink, width=width)


def _letters(pen: ImageDraw.ImageDraw, size: tuple[int, int], plane: Plane) -> None:
    width, height = size
    top, bottom = "AP" if plane.axis == AXIAL else "SI"
    font = _font(13)
    places = (
        ((9, height / 2), "R"),
        ((width - 9, height / 2), "L"),
        ((width / 2, 9), top),
        ((width / 2, height - 9), bottom),
    )
    for at, letter in places:
        pen.text(at, letter, LETTERS, font, anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))


def _bar(pen: ImageDraw.ImageDraw, size: tuple[int, int], scale: float) -> None:
    """A scale of round millimetres, at most 40 % of the width."""
    width, height = size
    mm = next((mm for mm in BARS_MM if mm * scale <= 0.4 * width), BARS_MM[-1])
    x, y = 8, height - 10
    pen.line((x - 1, y, x + mm * scale + 1, y), fill=(0, 0, 0), width=5)
    pen.line((x, y, x + mm * scale, y), fill=(255, 255, 255), width=2)
    font = _font(11)
    pen.text((x, y - 5), f"{mm} mm", (255, 255, 255), font, anchor="lb", stroke_width=2,
             stroke_fill=(0, 0, 0))  # fmt: skip


@lru_cache(maxsize=4)
def _font(size: int) -> Any:
    """Read once: it costs as much as a small picture."""
    return ImageFont.load_default(size)


def _jpeg(picture: Image.Image) -> bytes:
    stream = BytesIO()
    # Without subsampling thin coloured lines keep their colour.
    picture.save(stream, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()
