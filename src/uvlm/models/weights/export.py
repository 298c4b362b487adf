"""Write a bundle's segmentation as a results folder of nnU-Net, which predicts with it.

OUT/dataset.json, plans.json       what nnU-Net needs to build the network
OUT/fold_0/checkpoint_final.pth    the weights, each under all names nnU-Net has for it
OUT/README.md                      what the network expects, for people

nnU-Net resamples a study to a spacing; a bundle made for one shape resizes it whatever its spacing
is. So stock prediction equals the bundle's only on studies that already have the prepared shape and
whose header says the plan's spacing; others are resampled to it, not to the shape.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import Tensor, nn

from uvlm import __version__
from uvlm.config import to_dict
from uvlm.errors import BundleError
from uvlm.models.bundle import Bundle, Part
from uvlm.models.config import SegmentationConfig
from uvlm.models.weights.ledger import first_name
from uvlm.preprocessing.nnunet_plans import CONFIGURATION, Case, dataset_of, plans_of

__all__ = ["SPACING", "export_nnunet"]

SPACING = (1.5, 1.0, 1.0)
"""mm (z, y, x) of a plan whose preprocessing has none: the published plans' figure."""

README = """\
# A segmentation network for nnU-Net

    nnUNetv2_predict_from_modelfolder -m THIS_FOLDER -f 0 -i INPUT -o OUTPUT

Written by uvlm {version} from a bundle trained on: {trained_on}.

It was trained on volumes of {shape} voxels (z, y, x), prepared as follows; lengths are in mm and
limits in HU:

{prepared}

{warning}
"""
RESIZED = """\
nnU-Net resamples a study to {spacing} mm (z, y, x); the training volumes were resized to one shape
whatever their spacing was. So this network does on raw studies less than it can: `uvlm segment`
with the bundle prepares them as in training. nnU-Net gives the bundle's own results on volumes
prepared by `uvlm prepare` whose header says {spacing} mm. Values were clipped to {clip} HU in
training, which nnU-Net does not do.
"""
RESAMPLED = """\
nnU-Net resamples a study to the training's {spacing} mm (z, y, x), with another interpolation and
without the training's crop or clip to {clip} HU; `uvlm segment` with the bundle does it as in
training.
"""


def export_nnunet(
    bundle: Bundle, folder: Path | str, *, spacing: tuple[float, float, float] | None = None
) -> Path:
    """Write the segmentation part of `bundle` into a new `folder`, whole or not at all.

    Args:
        spacing: mm per voxel (z, y, x) of the plan; only where the preprocessing has none of its
            own, default `SPACING`

    Raises:
        BundleError: no segmentation, one that nnU-Net cannot describe, a `spacing` beside the
            preprocessing's own, or `folder` exists.
        ConfigError: a class name means something else to nnU-Net.
    """
    folder = Path(folder)
    part, config = _segmentation(bundle)
    if folder.exists():
        raise BundleError.about(folder, "it exists already", "Choose a new folder.")
    spec = part.our_spec
    if spec.spacing and spacing:
        raise BundleError.about(
            bundle.path,
            f"its studies are resampled to {_joined(spec.spacing)} mm, not to {_joined(spacing)}",
            "Leave --spacing out: it is for bundles that resize to one shape.",
        )
    used = spec.spacing or spacing or SPACING
    dataset = dataset_of(part.labels, spec, 0)
    case = Case(series_id="", shape=spec.shape, spacing=used, foreground=(0,))
    plans = _plans(plans_of(f"uvlm_{part.region}", [case], spec), part, config)
    arch = plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    text = (RESAMPLED if spec.spacing else RESIZED).format(
        spacing=_joined(used), clip=_joined(spec.clip or ("no limits",), " to ")
    )
    checkpoint = {
        "network_weights": _weights(bundle.modules["segmentation"], config, arch),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION, "plans": plans, "dataset_json": dataset},
        "inference_allowed_mirroring_axes": None,
    }
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    fold = aside / "fold_0"
    fold.mkdir(parents=True)
    try:
        torch.save(checkpoint, fold / "checkpoint_final.pth")
        for name, content in (("plans.json", plans), ("dataset.json", dataset)):
            (aside / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        about = README.format(
            version=__version__,
            trained_on=part.trained_on,
            shape=_joined(spec.shape, "x"),
            prepared=indent(json.dumps(to_dict(spec), indent=2), "    "),
            warning=text,
        )
        (aside / "README.md").write_text(about, encoding="utf-8")
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _joined(values: tuple[Any, ...], by: str = " x ") -> str:
    return by.join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _segmentation(bundle: Bundle) -> tuple[Part, SegmentationConfig]:
    part = bundle.parts.get("segmentation")
    if part is None or not isinstance(part.config, SegmentationConfig):
        raise BundleError.about(
            bundle.path,
            f"it has no segmentation part, only {', '.join(bundle.parts)}",
            "nnU-Net can do nothing else; give a bundle trained for segmentation.",
        )
    if part.spec is None:
        raise BundleError.about(
            bundle.path,
            "its data was prepared by nnU-Net, whose plan the bundle does not keep",
            "Use the results folder that it was imported from.",
        )
    if part.config.encoder.strides[0] != 1:
        raise BundleError.about(
            bundle.path,
            f"its first stage has the stride {part.config.encoder.strides[0]}",
            "nnU-Net has no such network; only a first stride of 1 can be exported.",
        )
    return part, part.config


def _plans(plans: dict[str, Any], part: Part, config: SegmentationConfig) -> dict[str, Any]:
    """`plans` with the bundle's network and patch."""
    setup, encoder = plans["configurations"][CONFIGURATION], config.encoder
    setup["patch_size"] = list(part.patch or part.our_spec.shape)
    setup["architecture"]["arch_kwargs"] |= {
        "n_stages": encoder.num_stages,
        "features_per_stage": list(encoder.features),
        "kernel_sizes": [[3, 3, 3]] * encoder.num_stages,
        "strides": [[stride] * 3 for stride in encoder.strides],
        "n_blocks_per_stage": list(encoder.blocks),
        "n_conv_per_stage_decoder": [config.convs_per_stage] * (encoder.num_stages - 1),
    }
    plans["region"] = part.region
    return plans


def _weights(
    module: nn.Module, config: SegmentationConfig, arch: dict[str, Any]
) -> dict[str, Tensor]:
    """Every name nnU-Net's network has, several of them for one tensor."""
    kinds = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    with torch.device("meta"):
        theirs = ResidualEncoderUNet(
            config.encoder.in_channels, num_classes=1 + len(config.classes), **{**arch, **kinds}
        )
    ours = module.state_dict()
    weights = {name: ours[first_name(name)].cpu() for name in theirs.state_dict()}
    left = set(ours) - {first_name(name) for name in weights}
    assert not left, f"nnU-Net has no place for {sorted(left)}"
    return weights
