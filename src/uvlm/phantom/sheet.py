"""Contact sheet: one picture by which a person judges a set of studies.

Each class gets a block: an axial slice where it is largest, the same with its outline, and a
coronal slice with its outline, in the window a radiologist would choose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from uvlm.errors import InputError
from uvlm.phantom.classes import CHEST_CLASSES, LOBES

__all__ = ["draw_sheet"]

TILE = 240
COLUMNS = 2
LUNG_WINDOW, SOFT_WINDOW = (-1150.0, 350.0), (-180.0, 320.0)
OUTLINE = (255, 80, 60)
SOFT = frozenset(
    "heart aorta esophagus liver medical_material arterial_wall_calcification pericardial_effusion "
    "coronary_artery_wall_calcification hiatal_hernia lymphadenopathy pleural_effusion".split()
)

Volume = tuple[NDArray[Any], NDArray[Any], tuple[float, float, float]]


def draw_sheet(out: Path, picture: Path) -> None:
    """Draw the sheet of the chest studies in `out` to the PNG `picture`.

    Raises:
        InputError: `out` holds no phantom studies.
    """
    names = out / "dataset" / "ts_seg" / "labels.json"
    if not names.is_file():
        raise InputError.about(out, "it holds no chest phantoms with masks", "Run `uvlm phantom make`.")
    wanted = {value: name for name, value in CHEST_CLASSES.items() if name not in LOBES}
    found: dict[int, tuple[str, Volume]] = {}
    for stem, volume in _studies(out / "dataset"):
        for value in np.unique(volume[1]).tolist():
            if value in wanted and value not in found:
                found[value] = (stem, volume)
        if len(found) == len(wanted):
            break
    blocks = [_block(wanted[v], v, *found[v]) for v in sorted(found, reverse=True)]
    if not blocks:
        raise InputError.about(out, "its masks are empty", "Make the studies again.")
    rows = [np.concatenate(_padded(blocks[i : i + COLUMNS]), axis=1) for i in range(0, len(blocks), COLUMNS)]
    aside = picture.with_name(f".{picture.name}.part")
    Image.fromarray(np.concatenate(rows)).save(aside, format="PNG")
    os.replace(aside, picture)


def _studies(folder: Path) -> Iterator[tuple[str, Volume]]:
    for mask_path in sorted((folder / "ts_seg").glob("*_fixed/*/*/*.nii.gz")):
        image_path = folder / mask_path.relative_to(folder / "ts_seg")
        image, mask = (nib.as_closest_canonical(nib.load(p)) for p in (image_path, mask_path))
        x, y, z = (float(s) for s in image.header.get_zooms())
        # Canonical is RAS; the picture runs from the patient's right to left and front to back.
        arrays = [np.asarray(v.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1] for v in (image, mask)]
        yield mask_path.name.removesuffix(".nii.gz"), (arrays[0], arrays[1], (z, y, x))


def _padded(blocks: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    missing = COLUMNS - len(blocks)
    return blocks + [np.zeros_like(blocks[0]) for _ in range(missing)]


def _block(name: str, value: int, stem: str, volume: Volume) -> NDArray[np.uint8]:
    image, mask, (dz, dy, dx) = volume
    low, high = SOFT_WINDOW if name in SOFT else LUNG_WINDOW
    grey = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    inside = mask == value
    k = int(inside.sum(axis=(1, 2)).argmax())
    j = int(inside.sum(axis=(0, 2)).argmax())
    tiles = [
        _tile(grey[k], None, dy, dx),
        _tile(grey[k], inside[k], dy, dx),
        _tile(grey[::-1, j], None, dz, dx),
        _tile(grey[::-1, j], inside[::-1, j], dz, dx),
    ]
    canvas = Image.new("RGB", (len(tiles) * (TILE + 4), TILE + 22))
    for i, tile in enumerate(tiles):
        canvas.paste(tile, (i * (TILE + 4), 20))
    text = f"{name.replace('_', ' ')}   {stem}   {int(inside.sum())} voxels"
    ImageDraw.Draw(canvas).text((4, 3), text, fill=(255, 255, 255), font=ImageFont.load_default(13))
    return np.asarray(canvas)


def _tile(
    grey: NDArray[np.uint8], inside: NDArray[np.bool_] | None, down: float, across: float
) -> Image.Image:
    """A slice at true proportions inside a square tile, with an outline where given."""
    rows, columns = grey.shape
    scale = TILE / max(rows * down, columns * across)
    size = (max(1, round(columns * across * scale)), max(1, round(rows * down * scale)))
    picture = np.array(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
    if inside is not None:
        big = np.array(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST))
        edge = np.zeros_like(big)
        edge[:-1] |= big[:-1] != big[1:]
        edge[:, :-1] |= big[:, :-1] != big[:, 1:]
        picture[edge] = OUTLINE
    tile = Image.new("RGB", (TILE, TILE))
    tile.paste(Image.fromarray(picture), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
