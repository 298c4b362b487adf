"""What a plan of nnU-Net says about a checkpoint: network, classes, preprocessing, region."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uvlm.config import from_dict
from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.models.config import EncoderConfig, Grid
from uvlm.models.weights.reader import Checkpoint
from uvlm.preprocessing.nnunet_plans import inherited
from uvlm.registry import REGIONS

__all__ = ["Plan", "read_plan"]

log = logging.getLogger(__name__)

UNETS = ("ResidualEncoderUNet", "ResEncoderUNet")
FIXED: dict[str, tuple[Any, ...]] = {
    "conv_bias": (True,),
    "dropout_op": (None,),
    "nonlin_first": (None, False),
    "block": (None,),
    "bottleneck_channels": (None,),
    "pool_type": (None, "conv"),
    "squeeze_excitation": (None, False),
    "stochastic_depth_p": (None, 0, 0.0),
    "use_stages": (None,),
}
"""Settings our network has no choice in, and the values they must have."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One configuration of a plan, read and checked."""

    network: str
    """Class of the network, without its module."""

    published: bool
    """Whether the published U-VLM code wrote it, which prepares its data in its own way."""

    arch: Mapping[str, Any]
    """Settings of the network."""

    encoder: EncoderConfig
    patch: Grid
    volume: Grid
    """Voxels (z, y, x) of a typical prepared study."""

    classes: tuple[str, ...]
    """Of `dataset.json`, background left out; () if it names none."""

    spec: PreprocessSpec | None
    """None: prepared by nnU-Net itself."""

    region: str
    """"unknown" only where nnU-Net prepared the data and the plan names no region."""

    trained_on: str

    @property
    def is_unet(self) -> bool:
        return self.network in UNETS


def read_plan(checkpoint: Checkpoint, region: str | None = None) -> Plan:
    """Read the plan of a checkpoint.

    Args:
        region: the body region, where the plan does not name it

    Raises:
        BundleError: there is no plan, or its network is another than ours.
    """
    setup = _configuration(checkpoint)
    try:
        architecture = setup["architecture"]
        named = str(architecture["network_class_name"])
        arch = {**architecture["arch_kwargs"], **checkpoint.settings}
        patch, volume = _grid(setup["patch_size"]), _grid(setup["median_image_size_in_voxels"])
        encoder = _encoder(checkpoint, arch)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, (BundleError, ConfigError)):
            raise
        raise BundleError.about(
            checkpoint.path,
            f"its plan lacks a setting, or has one of another kind ({error})",
            "Give the plans.json of nnU-Net 2.4 or later that it was trained with: --plans FILE.",
        ) from error
    if checkpoint.plans.get("transpose_forward", [0, 1, 2]) != [0, 1, 2]:
        log.warning(
            "%s: it was trained with the axes in the order %s of (z, y, x), which this package "
            "never uses; expect less of its encoder.",
            checkpoint.path,
            checkpoint.plans["transpose_forward"],
        )
    published = named.startswith("uvlm.")
    network = named.rpartition(".")[2]
    spec = _spec(checkpoint, published, volume if network in UNETS else patch)
    return Plan(
        network=network,
        published=published,
        arch=arch,
        encoder=encoder,
        patch=patch,
        volume=volume,
        classes=_classes(checkpoint),
        spec=spec,
        region=_region(checkpoint, region, spec),
        trained_on=_trained_on(checkpoint),
    )


def _configuration(checkpoint: Checkpoint) -> dict[str, Any]:
    """The configuration that was trained, with what it inherits."""
    tables = checkpoint.plans.get("configurations")
    if not isinstance(tables, Mapping) or not tables:
        raise BundleError.about(
            checkpoint.path,
            "nothing says which network it is: it holds no plan, and none lies beside it",
            "Give the plan it was trained with: --plans FILE --dataset-json FILE.",
        )
    name = checkpoint.configuration or (next(iter(tables)) if len(tables) == 1 else None)
    if name is None:
        raise BundleError.about(
            checkpoint.path,
            f"it does not say which configuration of {', '.join(tables)} it is",
            "Give a plans.json with that one alone: --plans FILE.",
        )
    try:
        return inherited(tables, name)
    except KeyError as error:
        raise BundleError.about(
            checkpoint.path,
            f"its plan has the configurations {', '.join(tables)}, no usable {error}",
            "Give the plan it was trained with: --plans FILE.",
        ) from None


def _grid(values: Any) -> Grid:
    z, y, x = (int(value) for value in values)
    return z, y, x


def _encoder(checkpoint: Checkpoint, arch: Mapping[str, Any]) -> EncoderConfig:
    """Raises BundleError where the plan asks for something our encoder is not."""
    stages = int(arch["n_stages"])
    kernels, strides = _per_stage(arch["kernel_sizes"], stages), _per_stage(arch["strides"], stages)
    wrong = [f"{k} = {arch[k]!r}" for k, allowed in FIXED.items() if arch.get(k) not in allowed]
    wrong += [
        f"{key} = {arch.get(key)!r}"
        for key, ending in (("conv_op", "Conv3d"), ("norm_op", "InstanceNorm3d"))
        if not str(arch.get(key)).endswith(ending)
    ]
    if not str(arch.get("nonlin")).endswith("LeakyReLU"):
        wrong.append(f"nonlin = {arch.get('nonlin')!r}")
    norm, slope = dict(arch["norm_op_kwargs"] or {}), dict(arch["nonlin_kwargs"] or {})
    if norm.get("eps", 1e-5) != 1e-5 or not norm.get("affine", False):
        wrong.append(f"norm_op_kwargs = {norm}")
    if slope.get("negative_slope", 0.01) != 0.01:
        wrong.append(f"nonlin_kwargs = {slope}")
    if any(set(kernel) != {3} for kernel in kernels):
        wrong.append(f"kernel_sizes = {arch['kernel_sizes']}")
    if any(len(set(stride)) != 1 for stride in strides) or strides[0][0] != 1:
        wrong.append(f"strides = {arch['strides']}")
    features, stem = tuple(int(n) for n in arch["features_per_stage"]), arch.get("stem_channels")
    if stem not in (None, features[0]):
        wrong.append(f"stem_channels = {stem}")
    if wrong:
        raise BundleError.about(
            checkpoint.path,
            f"its network is another than this package's: {'; '.join(wrong)}",
            "Only residual encoders of nnU-Net with 3x3x3 convolutions can be taken over.",
        )
    return EncoderConfig(
        features=features,
        strides=tuple(stride[0] for stride in strides),
        blocks=tuple(int(n) for n in arch["n_blocks_per_stage"]),
        in_channels=max(1, len(checkpoint.dataset.get("channel_names", {"0": ""}))),
    )


def _per_stage(values: Any, stages: int) -> list[tuple[int, ...]]:
    """One triple per stage of a setting that may be one number, or one per stage."""
    each = [values] * stages if isinstance(values, int) else list(values)
    return [(v, v, v) if isinstance(v, int) else tuple(int(n) for n in v) for v in each]


def _classes(checkpoint: Checkpoint) -> tuple[str, ...]:
    labels = checkpoint.dataset.get("labels")
    if not isinstance(labels, Mapping):
        return ()
    values = {name: value for name, value in labels.items() if name != "background"}
    if not all(isinstance(value, int) for value in values.values()):
        raise BundleError.about(
            checkpoint.path,
            "its classes are regions, which overlap",
            "Only networks with one class per voxel can be taken over.",
        )
    values.pop("ignore", None)
    ordered = sorted(values, key=lambda name: values[name])
    if [values[name] for name in ordered] != list(range(1, len(ordered) + 1)):
        raise BundleError.about(
            checkpoint.path,
            f"its class values are {sorted(values.values())}",
            "They must be 1, 2, 3, ...; give the dataset.json it was trained with.",
        )
    return tuple(ordered)


def _spec(checkpoint: Checkpoint, published: bool, shape: Grid) -> PreprocessSpec | None:
    """How its data was prepared: as `uvlm prepare` recorded, as the published code does, or by
    nnU-Net."""
    recorded = checkpoint.dataset.get("uvlm")
    if isinstance(recorded, Mapping) and "spec" in recorded:
        return from_dict(PreprocessSpec, recorded["spec"], "dataset.json: uvlm.spec")
    return preset("authors", shape) if published else None


def _region(checkpoint: Checkpoint, given: str | None, spec: PreprocessSpec | None) -> str:
    recorded = checkpoint.dataset.get("uvlm", {})
    region = given or checkpoint.plans.get("region") or recorded.get("region")
    names = " ".join(
        str(table.get(key, ""))
        for table in (checkpoint.plans, checkpoint.dataset)
        for key in ("plans_name", "dataset_name", "name", "description")
    )
    found = [name for name in REGIONS if re.search(name, names, re.IGNORECASE)]
    if region is None and len(found) == 1:
        return found[0]
    if region is None and spec is not None:
        raise BundleError.about(
            checkpoint.path,
            "nothing says which body region it was trained for",
            f"Say it: --region {'|'.join(REGIONS)}.",
        )
    return str(region or "unknown")


def _trained_on(checkpoint: Checkpoint) -> str:
    name = checkpoint.plans.get("dataset_name") or "an unnamed dataset"
    epochs = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    return f"{name}, by {checkpoint.trainer}{epochs} (imported)"
