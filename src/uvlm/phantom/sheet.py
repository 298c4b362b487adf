"""Contact sheet: one picture by which a person judges a set of studies.

Each class gets a block: an axial slice where it is largest, the same with its outline, and a
coronal slice with its outline, in the window a radiologist would choose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from uvlm.errors import InputError
from uvlm.imaging.geometry import to_lps
from uvlm.imaging.nifti import read_nifti
from uvlm.imaging.picture import png_path, save_png
from uvlm.phantom.abdomen import ABDOMEN_CLASSES
from uvlm.phantom.classes import CHEST_CLASSES, LOBES

__all__ = ["draw_sheet"]

TILE = 240
COLUMNS = 2
MOST_STUDIES = 60
LUNG_WINDOW, SOFT_WINDOW = (-1150.0, 350.0), (-180.0, 320.0)
OUTLINE = (255, 80, 60)
IN_AIR = frozenset(
    (
        "emphysema",
        "atelectasis",
        "lung_nodule",
        "lung_opacity",
        "pulmonary_fibrotic_sequela",
        "consolidation",
        "mosaic_attenuation_pattern",
        "peribronchial_thickening",
        "bronchiectasis",
        "trachea",
        "ribs",
        "spine",
        "interlobular_septal_thickening",
        "lung_left",
        "lung_right",
    )
)
"""Classes shown in the lung window; the rest in the soft tissue window."""


class Study(NamedTuple):
    """One study in the picture's axes: down, from front to back, from the patient's right."""

    name: str
    image: NDArray[Any]
    mask: NDArray[Any]
    spacing: tuple[float, float, float]


def draw_sheet(out: Path, picture: Path) -> None:
    """Draw the sheet of the studies in `out`, chest or abdomen, to the PNG `picture`.

    Raises:
        InputError: `out` holds no phantom studies, or the picture cannot be written.
    """
    png_path(picture)
    if (out / "dataset" / "ts_seg" / "labels.json").is_file():
        names = {value: name for name, value in CHEST_CLASSES.items() if name not in LOBES}
        studies = _chest_studies(out / "dataset")
    elif (out / "mask_only").is_dir():
        names = {value: name for name, value in ABDOMEN_CLASSES.items()}
        studies = _abdomen_studies(out)
    else:
        raise InputError.about(out, "it holds no phantom studies", "Run `uvlm phantom make`.")
    found: dict[int, Study] = {}
    for study in itertools.islice(studies, MOST_STUDIES):
        for value in np.unique(study.mask).tolist():
            if value in names:
                found.setdefault(value, study)
        if len(found) == len(names):
            break
    if not found:
        raise InputError.about(out, "its masks are empty", "Make the studies again.")
    blocks = [_block(names[v], v, found[v]) for v in sorted(found, reverse=True)]
    starts = range(0, len(blocks), COLUMNS)
    rows = [np.concatenate(_padded(blocks[i : i + COLUMNS]), axis=1) for i in starts]
    save_png(Image.fromarray(np.concatenate(rows)), picture)


def _chest_studies(folder: Path) -> Iterator[Study]:
    for mask_path in sorted((folder / "ts_seg").glob("*_fixed/*/*/*.nii.gz")):
        image, spacing = _picture_axes(folder / mask_path.relative_to(folder / "ts_seg"), False)
        yield Study(mask_path.name[: -len(".nii.gz")], image, _picture_axes(mask_path)[0], spacing)


def _abdomen_studies(folder: Path) -> Iterator[Study]:
    for case in sorted((folder / "mask_only").iterdir()):
        image, spacing = _picture_axes(folder / "image_only" / case.name / "ct.nii.gz", False)
        mask = np.zeros(image.shape, dtype=np.uint8)
        for name, value in ABDOMEN_CLASSES.items():
            mask[_picture_axes(case / "segmentations" / f"{name}.nii.gz")[0] > 0] = value
        yield Study(case.name, image, mask, spacing)


def _picture_axes(
    path: Path, labels: bool = True
) -> tuple[NDArray[Any], tuple[float, float, float]]:
    volume, _ = to_lps(read_nifti(path, labels=labels))
    return volume.array[::-1], volume.spacing


def _padded(blocks: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    missing = COLUMNS - len(blocks)
    return blocks + [np.zeros_like(blocks[0]) for _ in range(missing)]


def _block(name: str, value: int, study: Study) -> NDArray[np.uint8]:
    stem, image, mask, (dz, dy, dx) = study
    low, high = LUNG_WINDOW if name in IN_AIR else SOFT_WINDOW
    grey = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    inside = mask == value
    k = int(inside.sum(axis=(1, 2)).argmax())
    j = int(inside.sum(axis=(0, 2)).argmax())
    tiles = [
        _tile(grey[k], None, dy, dx),
        _tile(grey[k], inside[k], dy, dx),
        _tile(grey[:, j], None, dz, dx),
        _tile(grey[:, j], inside[:, j], dz, dx),
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
