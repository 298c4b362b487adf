"""What a source says about a dataset before any voxel is read: studies, classes, what to leave out.

A source module (`sources/`) turns folders and tables into a `Listing`; `ingest` prepares it. The
image and mask of a study are small picklable objects that know their files and how to read them,
so that reading happens in a worker process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from uvlm.imaging.readers import read_volume
from uvlm.imaging.volume import Volume

__all__ = [
    "Exclusion",
    "ImageSource",
    "Listing",
    "Mask",
    "MaskSource",
    "Rejection",
    "Scope",
    "Statement",
    "Study",
    "VolumeFile",
]


class ImageSource(Protocol):
    """Where the CT of a study is. Its `repr` says everything that decides what is read."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read; a folder stands for all files below it."""
        ...

    def read(self) -> Volume:
        """The CT in HU, with its true geometry.

        Raises:
            ImageError: it cannot be read as such.
        """
        ...


class MaskSource(Protocol):
    """Where the mask of a study is. Its `repr` says everything that decides what is read."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read; a folder stands for all files below it."""
        ...

    def read(self, image: Volume) -> Mask:
        """The mask on the grid of `image`, as read.

        Raises:
            ImageError: it cannot be read, has no structure, or lies on another grid.
        """
        ...


@dataclass(frozen=True)
class Statement:
    """What a text says of one finding, and where the mask of that finding lies."""

    text: str
    left_share: float
    """Of the finding's voxels, the share on the patient's left, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A mask as read, and what follows from it."""

    volume: Volume
    """Values as in `Scope.table`, on the grid of the image."""

    labels: Mapping[str, float] = field(default_factory=dict)
    """Labels of the study that come from the mask, 0.0 or 1.0."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the catalog that come from the mask."""

    statements: tuple[Statement, ...] = ()
    """Texts that belong to single findings of this mask."""

    notes: tuple[str, ...] = ()
    """What had to be decided, one sentence each: overlaps, axes turned."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One way to number the structures of the masks."""

    name: str
    """ "coarse", "coarse+lesions", "fine+lesions", or "all" where there is one only."""

    classes: Mapping[str, int]
    """Class name to stored value, 1, 2, 3, ..."""

    table: Mapping[int, int]
    """Value in `Mask.volume` to stored value, for every value that may occur; 0 stays 0."""


@dataclass(frozen=True)
class VolumeFile:
    """A CT in any format `read_volume` knows, already in HU."""

    path: Path
    series: str | None = None
    """Of a DICOM folder, which series."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self) -> Volume:
        return read_volume(self.path, series=self.series)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One series, with everything the tables say about it."""

    series_id: str
    case_id: str
    patient_id: str
    image: ImageSource
    split: str | None = None
    """ "train", "valid", "test" or None."""

    mask: MaskSource | None = None
    labels: Mapping[str, float | None] = field(default_factory=dict)
    """0.0, 1.0 or None for unknown; a label missing here is taken from the mask, else unknown."""

    report: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further columns of the catalog."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A series that should have been usable and is not; goes to errors.csv."""

    series_id: str
    source: Path
    error: str


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A series left out on purpose; goes to run.json."""

    series_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A dataset as its source understands it."""

    name: str
    """For model cards: "CT-RATE", "AbdomenAtlas 3.0 Mini"."""

    region: str
    """ "chest", "abdomen" or "unknown"."""

    labels: tuple[str, ...]
    """Label columns of the catalog, in order."""

    studies: tuple[Study, ...]
    scopes: tuple[Scope, ...] = ()
    """How masks are numbered; the first is the default. Empty: no masks."""

    extra_columns: tuple[str, ...] = ()
    """Further columns of the catalog, in order; of `Study.extra` and `Mask.columns`."""

    rejected: tuple[Rejection, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    tables: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    """CSV files to write beside the catalog: name to rows, the header first."""

    study_tables: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    """The same, but only the rows of prepared series are written: each begins with a series_id."""

    warnings: tuple[str, ...] = ()
    """What the user must know before preparing."""
