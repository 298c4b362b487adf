"""The residual U-Net encoder every task shares: one feature map per stage, shallow to deep.

Shapes: B batch, C channels of a stage, D H W voxels along z y x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.simple_conv_blocks import (
    ConvDropoutNormReLU,
    StackedConvBlocks,
)
from dynamic_network_architectures.initialization.weight_init import (
    InitWeights_He,
    init_last_bn_before_add_to_0,
)
from torch import Tensor, nn

from uvlm.models.config import EncoderConfig
from uvlm.models.normalisation import InstanceNorm
from uvlm.models.stages import StageEncoder
from uvlm.models.strided import StridedConv3d

__all__ = [
    "Encoder",
    "initialise_convolutions",
    "name_weights_once",
    "residual_encoder",
]


def residual_encoder(config: EncoderConfig) -> Any:
    """The network of dynamic-network-architectures with nnU-Net's blocks: 3x3x3 convolutions with
    bias, instance normalisation, leaky ReLU. The stem takes the first stride, so that nothing is
    computed at a resolution no stage keeps."""
    blocks: dict[str, Any] = {
        "conv_op": nn.Conv3d,
        "conv_bias": True,
        "norm_op": InstanceNorm,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    built = ResidualEncoder(
        input_channels=config.features[0],
        n_stages=config.num_stages,
        features_per_stage=list(config.features),
        kernel_sizes=3,
        strides=[1, *config.strides[1:]],
        n_blocks_per_stage=list(config.blocks),
        return_skips=True,
        disable_default_stem=True,
        **blocks,
    )
    built.stem = StackedConvBlocks(
        num_convs=1,
        input_channels=config.in_channels,
        output_channels=config.features[0],
        kernel_size=3,
        initial_stride=config.strides[0],
        **blocks,
    )
    for block in built.modules():
        if isinstance(block, ConvDropoutNormReLU) and max(block.stride) > 1:
            block.conv = block.all_modules[0] = StridedConv3d.over(block.conv)
    return built


def initialise_convolutions(module: nn.Module) -> None:
    """Start as nnU-Net's residual networks do, on which the paper builds: He's normal weights, and
    each residual block an identity (its last normalisation scaled by 0)."""
    module.apply(InitWeights_He(1e-2))
    module.apply(init_last_bn_before_add_to_0)


def name_weights_once(module: nn.Module) -> None:
    """Each convolution block registers its layers twice, as `conv` and `norm` and as a sequence of
    the same, so that a state dict would hold every weight twice: unregister the sequence."""
    for block in module.modules():
        if isinstance(block, ConvDropoutNormReLU):
            vars(block)["all_modules"] = block._modules.pop("all_modules")


class Encoder(StageEncoder):
    """A volume in, the feature maps of all stages out.

    Attributes:
        checkpointing: keep only the input of stem and stages for the backward pass
        channels_last: lay volumes out with channels last on a GPU too; on the CPU they always are

    Shape:
        x: (B, in_channels, D, H, W), each of D H W divisible by the product of the strides
        result: one (B, C_i, D_i, H_i, W_i) per stage, shallowest first
    """

    config: EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        built = residual_encoder(config)
        self.stem: nn.Module = built.stem
        self.stages: nn.Sequential = built.stages
        name_weights_once(self)
        initialise_convolutions(self)

    def each_stage(self, x_BCDHW: Tensor) -> Iterator[Tensor]:
        z, y, x = x_BCDHW.shape[2:]
        self.config.stage_grid((z, y, x), self.config.num_stages)
        features_BCDHW = self._run(self._enter, x_BCDHW)
        for stage in self.stages:
            features_BCDHW = self._run(stage, features_BCDHW)
            yield features_BCDHW

    def _enter(self, x_BCDHW: Tensor) -> Tensor:
        """The stem; what follows keeps the layout of its result."""
        features_BCDHW: Tensor = self.stem(x_BCDHW)
        if self.channels_last:
            return features_BCDHW.contiguous(memory_format=torch.channels_last_3d)
        return features_BCDHW
