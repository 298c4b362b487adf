"""A network of ours with weights found elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from uvlm.errors import BundleError
from uvlm.models.backbone import EncoderOnly
from uvlm.models.bundle_files import Part, TaskConfig
from uvlm.models.config import EncoderOnlyConfig, SegmentationConfig
from uvlm.models.unet import SegmentationModel
from uvlm.models.weights.ledger import Ledger
from uvlm.models.weights.plan import Plan

__all__ = ["Built", "Take", "build", "encoder_only", "part_of", "segmentation"]

Take = Callable[[str, torch.Size], Tensor]
"""Our name of a tensor and its shape in, the tensor out."""

Built = dict[str, tuple[Part, nn.Module]]


def build(kind: Callable[[Any], nn.Module], config: TaskConfig, take: Take) -> nn.Module:
    """A network whose every tensor comes from `take`; in eval mode, on the CPU."""
    with torch.device("meta"):
        module = kind(config)
    state = {name: take(name, tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    return module.eval()


def part_of(plan: Plan, task: str, config: TaskConfig) -> Part:
    """What the plan says about a part."""
    return Part(
        task=task,
        config=config,
        spec=plan.spec,
        region=plan.region,
        trained_on=plan.trained_on,
        patch=plan.patch if task == "segmentation" else None,
    )


def encoder_only(plan: Plan, ledger: Ledger) -> Built:
    """The encoder of any of the networks."""
    config = EncoderOnlyConfig(encoder=plan.encoder)
    module = build(EncoderOnly, config, ledger.take)
    ledger.leave(ledger.tensors, "only the encoder was asked for")
    return {"encoder": (part_of(plan, "encoder", config), module)}


def segmentation(plan: Plan, ledger: Ledger) -> Built:
    """A residual-encoder U-Net of nnU-Net, or of the published code: the same network.

    Raises:
        BundleError: its decoder is another than ours, or the classes are unknown.
    """
    path = ledger.path
    outputs, _, *_ = ledger.shape("decoder.seg_layers.0.weight")
    if outputs != 1 + len(plan.classes):
        raise BundleError.about(
            path,
            f"it has {outputs} outputs, its dataset names {len(plan.classes)} classes",
            "Give the dataset.json it was trained with (--dataset-json FILE), or take the encoder "
            "alone: --encoder-only.",
        )
    below = plan.encoder.features[-2]
    if ledger.shape("decoder.stages.0.convs.0.conv.weight")[1] == below:
        raise BundleError.about(
            path,
            "its decoder adds the skip connections, this package's concatenates them",
            "Take the encoder alone: --encoder-only.",
        )
    convs = plan.arch["n_conv_per_stage_decoder"]
    counts = {convs} if isinstance(convs, int) else set(convs)
    if len(counts) != 1:
        raise BundleError.about(
            path,
            f"its decoder has {convs} convolutions per level, this package's equally many",
            "Take the encoder alone: --encoder-only.",
        )
    config = SegmentationConfig(
        encoder=plan.encoder, classes=plan.classes, convs_per_stage=counts.pop()
    )
    module = build(SegmentationModel, config, ledger.take)
    return {"segmentation": (part_of(plan, "segmentation", config), module)}
