"""Settings of the way from catalog to batch. No torch import: command-line help reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uvlm.errors import ConfigError

__all__ = ["AugmentConfig", "DataConfig"]

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """nnU-Net's list of transforms, with its probabilities and ranges.

    Left and right are never exchanged: reports, labels and organ names depend on them.
    """

    spatial: bool = True
    """Rotation by up to 30 degrees per axis (p 0.2) and scaling by 0.7 to 1.4 (p 0.2)."""

    intensity: bool = True
    """Noise, blur, brightness, contrast, low resolution and gamma."""

    mirror: tuple[int, ...] = ()
    """Axes mirrored with p 0.5 each: 0 is z, 1 is y; 2 (x) is refused. Where z is mirrored, the
    features of slices change their order with it; all other transforms leave them alone."""

    def __post_init__(self) -> None:
        if not set(self.mirror) <= {0, 1}:
            raise ConfigError(
                f"mirror axes must be 0 (z) or 1 (y), got {self.mirror}; "
                "mirroring x would exchange left and right."
            )

    @property
    def active(self) -> bool:
        """Whether any transform is on."""
        return self.spatial or self.intensity or bool(self.mirror)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which studies, which part of each, and how batches are made of them."""

    catalog: tuple[Path, ...] = ()
    """Catalogs written by `uvlm prepare`; all need the same preprocessing and, unless `partial`,
    the same labels."""

    shape: Grid = (192, 256, 256)
    """Voxels along z, y, x of the prepared volumes; a catalog of another shape is refused."""

    patch: Grid | None = None
    """Voxels along z, y, x of a training patch; None takes the whole volume."""

    foreground: float = 0.33
    """Share of patches centred on a voxel of a randomly chosen foreground class."""

    batch_size: int = 2
    """Studies per step, process and accumulation round (paper: 2)."""

    val_fraction: float = 0.2
    """Share of the training patients kept for validation; the same patients in every task that has
    the same share, and at 0.2 those of nnU-Net's fold 0. A bundle is handed on with its share only:
    with another, one task would train on patients that another validates on."""

    augment: AugmentConfig = AugmentConfig()
    """Changes made to training samples; validation samples are left alone."""

    bank: Path | None = None
    """Feature bank written by `uvlm features`; report training then never runs the encoder."""

    slices: Path | None = None
    """Slice bank written by `uvlm slices`, for encoders that look at features of axial slices."""

    questions: bool = False
    """Learn to answer the questions beside each catalog (`vqa.csv`), not to write its reports."""

    partial: bool = False
    """Mix catalogs whose labels or classes differ: what a study's catalog does not know is left out
    of its loss."""

    balance: bool = False
    """Draw training studies label by label: each label, and having none, for equally many draws, so
    that rare findings are not drowned. No study comes more than ten times per epoch."""

    bucket: bool = False
    """Put reports of similar length into one batch, so that less of it is padding."""

    findings_hidden: float = 0.1
    """With `model.findings`, how often a training report is learned without the list of its
    findings, so that the decoder does not forget to look."""

    findings_flipped: float = 0.05
    """With `model.findings`, how often a label of that list is wrong in training, as those that a
    class head finds will be."""

    workers: int = 0
    """Loader processes; 0 loads in the training process, best when volumes are small."""

    def __post_init__(self) -> None:
        if not 0 <= self.foreground <= 1:
            raise ConfigError(f"foreground must lie in 0..1, got {self.foreground}.")
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction must lie between 0 and 1, got {self.val_fraction}.")
        if not (0 <= self.findings_hidden <= 1 and 0 <= self.findings_flipped <= 1):
            raise ConfigError("findings_hidden and findings_flipped must lie in 0..1.")
        if self.batch_size < 1 or self.workers < 0:
            raise ConfigError("batch_size must be at least 1 and workers at least 0.")
        if self.patch and any(p > n for p, n in zip(self.patch, self.shape, strict=True)):
            raise ConfigError(f"patch {self.patch} is larger than the volume {self.shape}.")
