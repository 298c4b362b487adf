"""The texts of an nnU-Net dataset: plans, `dataset.json`, fingerprint and folds, without its files.

nnU-Net plans a network from the data; here the network is the paper's, and only the number of its
stages and the patch follow the volumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from uvlm.config import to_dict
from uvlm.errors import CatalogError, ConfigError
from uvlm.preprocessing.split import FOLDS, fold_of, held_out_patients

if TYPE_CHECKING:
    from uvlm.imaging.preprocess import PreprocessSpec
    from uvlm.preprocessing.catalog import Row

__all__ = [
    "BLOCKS",
    "CASES",
    "CONFIGURATION",
    "FEATURES",
    "FILE_ENDING",
    "PATCH",
    "PLANS",
    "Case",
    "dataset_of",
    "fingerprint_of",
    "inherited",
    "network_for",
    "plans_of",
    "residual_unet",
    "splits_of",
]

Triple = tuple[int, int, int]

PLANS = "nnUNetPlans"
"""nnU-Net's default name of plans: no option is needed to train with them."""

CONFIGURATION = "3d_fullres"
CASES = f"{PLANS}_{CONFIGURATION}"
"""Folder of the cases."""

FILE_ENDING = ".nii.gz"
"""Of the true and the predicted masks of nnU-Net's final validation."""

PATCH: Triple = (96, 128, 128)
FEATURES = (32, 64, 128, 256, 320, 320)
BLOCKS = (1, 3, 4, 6, 6, 6)
"""The paper's network; every stage but the first halves all axes."""

NETWORK = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"

DEEPEST = 3
"""Fewest voxels along an axis of the deepest stage: the paper's, 96 / 2^5."""

BATCH = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the plans need to know of one case."""

    series_id: str
    shape: Triple
    """Voxels (z, y, x)."""

    spacing: tuple[float, float, float]
    """mm (z, y, x)."""

    foreground: tuple[int, ...]
    """HU of voxels drawn from the foreground, from every case equally many; () without any."""


def network_for(shape: Triple) -> tuple[Triple, int]:
    """Patch (z, y, x) and number of stages for volumes of `shape`.

    The patch is the paper's, cut to the volume. Of the six stages those are kept that leave at
    least three voxels along every axis of the deepest one, and the patch is cut to a multiple of
    what they halve.

    Raises:
        ConfigError: an axis is too short for two stages.
    """
    axes = [min(pair) for pair in zip(PATCH, shape, strict=True)]
    stages = sum(min(axes) // 2**depth >= DEEPEST for depth in range(len(FEATURES)))
    if stages < 2:
        raise ConfigError(
            f"volumes of {shape} are too small for a U-Net; nnU-Net needs at least {2 * DEEPEST} "
            "voxels along every axis. Choose a larger shape."
        )
    factor = 2 ** (stages - 1)
    z, y, x = (axis // factor * factor for axis in axes)
    return (z, y, x), stages


def plans_of(name: str, cases: Sequence[Case], spec: PreprocessSpec) -> dict[str, Any]:
    """`nnUNetPlans.json` of the dataset in folder `name`.

    Raises:
        CatalogError: no case has a voxel of any class.
        ConfigError: the volumes are too small.
    """
    patch, stages = network_for(spec.shape)
    spacing = _median([case.spacing for case in cases])
    resampling = {"order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": CASES,
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": BATCH,
        "patch_size": list(patch),
        "median_image_size_in_voxels": _median([case.shape for case in cases]),
        "spacing": spacing,
        "normalization_schemes": [_normalisation(spec)],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False} | resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True} | resampling | {"order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False} | resampling | {"order": 1},
        "batch_dice": False,
        "architecture": residual_unet(stages),
    }
    return {
        "dataset_name": name,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": list(spec.shape),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": _intensities(cases),
    }


def inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration of a plan with what it inherits.

    Raises:
        KeyError: it, or one that it inherits from, is not there or inherits from itself.
    """
    found: dict[str, Any] = {}
    left = dict(configurations)
    current: str | None = name
    while current is not None:
        configuration = left.pop(current)
        found = {**configuration, **found}
        current = configuration.get("inherits_from")
    return found


def residual_unet(stages: int) -> dict[str, Any]:
    """nnU-Net's entry for the paper's residual U-Net with the first so many of its stages."""
    return {
        "network_class_name": NETWORK,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(FEATURES[:stages]),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
            "n_blocks_per_stage": list(BLOCKS[:stages]),
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _normalisation(spec: PreprocessSpec) -> str:
    return {
        "zscore": "ZScoreNormalization",
        "minmax": "RescaleTo01Normalization",
        "none": "NoNormalization",
    }[spec.normalise]


CHANNEL = {"zscore": "CT, z-scored", "minmax": "rescale_to_0_1", "none": "noNorm"}
"""nnU-Net chooses the normalisation by this name: "CT" would be its own clip by percentiles, a name
it does not know is the z-score of the plans."""


def dataset_of(classes: Mapping[str, int], spec: PreprocessSpec, cases: int) -> dict[str, Any]:
    """`dataset.json`; the entry `uvlm` is ours, nnU-Net reads the others.

    Raises:
        ConfigError: class values other than 1, 2, 3, ..., or a name that means something else to
            nnU-Net.
    """
    named = sorted(classes.items(), key=lambda item: item[1])
    values = [value for _, value in named]
    if not values or values != list(range(1, len(values) + 1)):
        raise ConfigError(f"nnU-Net needs the class values 1, 2, 3, ..., got {values}.")
    if reserved := {"background", "ignore"} & set(classes):
        raise ConfigError(f"nnU-Net uses the class name {min(reserved)!r} itself; rename it.")
    return {
        "channel_names": {"0": CHANNEL[spec.normalise]},
        "labels": {"background": 0, **dict(named)},
        "numTraining": cases,
        "file_ending": FILE_ENDING,
        "uvlm": {"spec": to_dict(spec), "spec_hash": spec.hash},
    }


def fingerprint_of(cases: Sequence[Case]) -> dict[str, Any]:
    """`dataset_fingerprint.json`.

    Raises:
        CatalogError: no case has a voxel of any class.
    """
    return {
        "spacings": [list(case.spacing) for case in cases],
        "shapes_after_crop": [list(case.shape) for case in cases],
        "foreground_intensity_properties_per_channel": _intensities(cases),
        "median_relative_size_after_cropping": 1.0,
    }


def _intensities(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """HU of the foreground, every case counted alike, as nnU-Net's extractor counts them."""
    found = [case.foreground for case in cases if case.foreground]
    if not found:
        raise CatalogError(
            f"none of {len(cases)} masks has a voxel of any class, so there is nothing to train "
            "on. Check the masks' values and the class table."
        )
    values = np.concatenate(found).astype(np.float64)
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    properties = {
        "mean": values.mean(),
        "median": median,
        "std": values.std(),
        "min": values.min(),
        "max": values.max(),
        "percentile_00_5": low,
        "percentile_99_5": high,
    }
    return {"0": {name: float(value) for name, value in properties.items()}}


def splits_of(rows: Sequence[Row]) -> list[dict[str, list[str]]]:
    """`splits_final.json`: five folds over the patients that no catalog row holds out."""
    held_out = held_out_patients(rows)
    folds = {r.series_id: fold_of(r.patient_id) for r in rows if r.patient_id not in held_out}
    return [
        {
            "train": sorted(name for name, other in folds.items() if other != fold),
            "val": sorted(name for name, other in folds.items() if other == fold),
        }
        for fold in range(FOLDS)
    ]


def _median(values: Sequence[tuple[float, ...]]) -> list[float]:
    return [float(value) for value in np.median(np.array(values), axis=0)]
