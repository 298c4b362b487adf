"""From the positions of slices to one grid, or a refusal.

Slices are ordered by their position along the normal of the image plane, never by instance number.
Positions and directions are LPS millimetres (DICOM PS3.3 C.7.6.2). A tilted gantry moves the slices
along the table while their planes are tilted: the grid is then sheared, and the affine says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import ImageError
from uvlm.imaging.dicom_files import Header
from uvlm.imaging.dicom_series import Series, functional_group
from uvlm.imaging.geometry import is_sheared, shear_of

__all__ = ["Frame", "Stack", "frames_of", "stack"]

SAME_PLACE_MM = 0.01
GAP = 1.5
"""A distance of this many usual ones means a missing slice."""
JITTER = 0.02
JITTER_MM = 0.06
"""Positions this far (a part of the spacing, or mm: scanners round to 0.1) from even are even."""


@dataclass(frozen=True)
class Frame:
    """One slice: where its pixels are and where they lie."""

    header: Header
    index: int
    """Frame within the file, from 0."""
    rows: int
    columns: int
    position: tuple[float, ...]
    """Centre of the first voxel, LPS mm."""
    orientation: tuple[float, ...]
    """Direction of increasing column, then of increasing row."""
    spacing: tuple[float, ...]
    """Between rows, between columns, mm."""
    slope: float
    intercept: float


@dataclass(frozen=True)
class Stack:
    """Slices in order, those of one place together, on one grid."""

    places: tuple[tuple[Frame, ...], ...]
    """One entry per distinct position; more than one frame where slices repeat."""
    depths: NDArray[np.float64]
    """Position of each place along the normal, mm."""
    affine: NDArray[np.float64]
    """(4, 4), of the evenly spaced grid with `slices` slices."""
    slices: int
    """Slices of the grid; differs from the number of places where spacing was uneven."""
    uneven: bool
    """Whether the places must be interpolated onto the grid."""
    notes: tuple[str, ...]


def frames_of(path: Path, series: Series) -> list[Frame]:
    """Every frame of the series, of classic and of enhanced (multi-frame) images.

    Raises:
        ImageError: images without position, orientation or spacing.
    """
    frames = []
    for header in series.headers:
        for index in range(int(header.data.get("NumberOfFrames") or 1)):
            try:
                frames.append(_frame(path, header, index))
            except ImageError:
                raise
            except (ValueError, TypeError) as error:
                raise ImageError.about(
                    path,
                    f"a geometry or scale that is no number in {header.source.name}",
                    "Export the series again.",
                ) from error
    return frames


def _frame(path: Path, header: Header, index: int) -> Frame:
    data = header.data

    def numbers(sequence: str, name: str, count: int) -> tuple[float, ...]:
        value = functional_group(data, index, sequence, name)
        found = () if value is None or isinstance(value, str) else tuple(float(v) for v in value)
        if len(found) != count or not np.isfinite(found).all():
            raise ImageError.about(
                path,
                f"no valid {name} in {header.source.name}",
                "Export the series again with its geometry.",
            )
        return found

    def number(name: str, default: float) -> float:
        value = functional_group(data, index, "PixelValueTransformationSequence", name)
        return default if value in (None, "") else float(value)

    spacing = numbers("PixelMeasuresSequence", "PixelSpacing", 2)
    orientation = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    _refuse_plane(path, header, spacing, orientation)
    return Frame(
        header=header,
        index=index,
        rows=int(data.Rows),
        columns=int(data.Columns),
        position=numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        orientation=orientation,
        spacing=spacing,
        slope=number("RescaleSlope", 1.0),
        intercept=number("RescaleIntercept", 0.0),
    )


def _refuse_plane(
    path: Path, header: Header, spacing: Sequence[float], orientation: Sequence[float]
) -> None:
    row, column = np.array(orientation).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(spacing) <= 0 or abs(row @ column) > 1e-2 or not np.allclose(lengths, 1.0, atol=1e-2):
        raise ImageError.about(
            path,
            f"an impossible pixel spacing or orientation in {header.source.name}",
            "Export the series again with its geometry.",
        )


def stack(path: Path, frames: Sequence[Frame]) -> Stack:
    """Order the frames and find their grid.

    Raises:
        ImageError: planes that are not parallel or not of one size, fewer than two places, places
            off one line, or missing slices (says between which positions and how many).
    """
    notes: list[str] = []
    kept = _one_plane(path, frames, notes)
    normal = _normal(kept[0])
    places: list[list[Frame]] = []
    for frame in sorted(kept, key=lambda f: float(np.dot(f.position, normal))):
        if places and np.dot(np.subtract(frame.position, places[-1][0].position), normal) < (
            SAME_PLACE_MM
        ):
            places[-1].append(frame)
        else:
            places.append([frame])
    if len(places) < 2:
        raise ImageError.about(
            path,
            f"{len(kept)} slices at one position (2D)",
            "Give a CT series of at least two positions.",
        )
    positions = np.array([place[0].position for place in places])
    depths = np.asarray(positions @ normal, np.float64)
    _refuse_gaps(path, places, depths)
    uneven, slices = _evenness(depths, notes)
    affine = _affine(path, kept[0], positions, depths, slices, notes)
    return Stack(tuple(map(tuple, places)), depths, affine, slices, uneven, tuple(notes))


def _normal(frame: Frame) -> NDArray[np.float64]:
    row, column = np.array(frame.orientation).reshape(2, 3)
    cross = np.cross(row, column)
    return np.asarray(cross / np.linalg.norm(cross), np.float64)


def _one_plane(path: Path, frames: Sequence[Frame], notes: list[str]) -> list[Frame]:
    """The frames that share size, spacing and orientation; one or two strays are left out."""
    groups: dict[tuple[Any, ...], list[Frame]] = {}
    for frame in frames:
        key = (
            frame.rows,
            frame.columns,
            *(round(v, 3) for v in frame.spacing),
            # Half a degree; + 0.0 makes -0.0 and 0.0 one key.
            *(round(v, 2) + 0.0 for v in frame.orientation),
        )
        groups.setdefault(key, []).append(frame)
    kept = max(groups.values(), key=len)
    strays = len(frames) - len(kept)
    if strays > 2 or strays >= len(kept):
        raise ImageError.about(
            path,
            f"a series that mixes {len(groups)} image sizes, spacings or orientations "
            f"({', '.join(str(len(g)) for g in groups.values())} slices)",
            "Give a folder with the slices of one kind.",
        )
    if strays:
        notes.append(
            f"{strays} image(s) of another size, spacing or orientation than the other "
            f"{len(kept)} were left out."
        )
    return kept


def _refuse_gaps(
    path: Path, places: Sequence[Sequence[Frame]], depths: NDArray[np.float64]
) -> None:
    distances = np.diff(depths)
    usual = float(np.median(distances))
    wide = np.flatnonzero(distances >= GAP * usual)
    gaps = [i for i in wide if not _thicker_stack(places, distances, int(i))]
    if not gaps:
        return
    missing = sum(max(1, round(float(distances[i]) / usual) - 1) for i in gaps)
    where = ", ".join(f"{depths[i]:.1f} and {depths[i + 1]:.1f} mm" for i in gaps[:5])
    more = f" and {len(gaps) - 5} more gaps" if len(gaps) > 5 else ""
    raise ImageError.about(
        path,
        f"about {missing} missing slice(s): gaps between {where}{more} (usual distance "
        f"{usual:.2f} mm)",
        "Export the series again with every slice.",
    )


def _thicker_stack(
    places: Sequence[Sequence[Frame]], distances: NDArray[np.float64], gap: int
) -> bool:
    """Whether a gap belongs to a run of thicker slices, as a sequential head scan has above 5 mm.

    At least three equal distances in a row, each filled by the thickness of its slice.
    """
    alike = np.abs(distances - distances[gap]) <= 0.1 * distances[gap]
    run = np.split(np.arange(len(alike)), np.flatnonzero(np.diff(alike)) + 1)
    length = next(len(part) for part in run if gap in part)
    thick = [_thickness(places[place][0]) for place in (gap, gap + 1)]
    return length >= 3 and max(thick) >= 0.9 * float(distances[gap])


def _thickness(frame: Frame) -> float:
    """mm; 0 where the header does not say."""
    value = functional_group(
        frame.header.data, frame.index, "PixelMeasuresSequence", "SliceThickness"
    )
    return float(value or 0.0)


def _evenness(depths: NDArray[np.float64], notes: list[str]) -> tuple[bool, int]:
    """Whether slices must be interpolated, and how many slices the even grid has."""
    distances = np.diff(depths)
    even = np.linspace(depths[0], depths[-1], len(depths))
    step = float(even[1] - even[0])
    if np.abs(depths - even).max() <= max(JITTER * step, JITTER_MM):
        return False, len(depths)
    slices = round(float(depths[-1] - depths[0]) / float(np.median(distances))) + 1
    notes.append(
        f"Slice distances are uneven ({distances.min():.2f} to {distances.max():.2f} mm); the "
        f"{len(depths)} slices were interpolated linearly onto {slices} even ones."
    )
    return True, slices


def _affine(
    path: Path,
    frame: Frame,
    positions: NDArray[np.float64],
    depths: NDArray[np.float64],
    slices: int,
    notes: list[str],
) -> NDArray[np.float64]:
    row, column = np.array(frame.orientation).reshape(2, 3)
    slope = (positions[-1] - positions[0]) / (depths[-1] - depths[0])
    off_line = np.abs(positions - positions[0] - np.outer(depths - depths[0], slope)).max()
    if off_line > max(0.5, 0.5 * max(frame.spacing)):
        raise ImageError.about(
            path,
            f"slices shifted sideways by up to {off_line:.1f} mm against a straight line",
            "Split the series into its stacks, one folder each.",
        )
    affine = np.eye(4)
    affine[:3, 0] = row * frame.spacing[1]
    affine[:3, 1] = column * frame.spacing[0]
    affine[:3, 2] = slope * (depths[-1] - depths[0]) / (slices - 1)
    affine[:3, 3] = positions[0]
    if is_sheared(affine):
        notes.append(
            f"The gantry is tilted by {shear_of(affine):.1f} degrees; the affine is sheared."
        )
    return affine
