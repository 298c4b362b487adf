"""The residual U-Net encoder every task shares: one feature map per stage, shallow to deep.

Shapes: B batch, C channels of a stage, D H W voxels along z y x.
"""

from __future__ import annotations

from typing import Any

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

__all__ = ["Encoder", "initialise_convolutions", "name_weights_once", "residual_encoder"]


def residual_encoder(config: EncoderConfig) -> Any:
    """The network of dynamic-network-architectures with nnU-Net's blocks: 3x3x3 convolutions with
    bias, instance normalisation, leaky ReLU. The stem takes the first stride, so that nothing is
    computed at a resolution no stage keeps."""
    blocks: dict[str, Any] = {
        "conv_op": nn.Conv3d,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
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


class Encoder(nn.Module):
    """A volume in, the feature maps of all stages out.

    Shape:
        x: (B, in_channels, D, H, W), each of D H W divisible by the product of the strides
        result: one (B, C_i, D_i, H_i, W_i) per stage, shallowest first
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        built = residual_encoder(config)
        self.stem: nn.Module = built.stem
        self.stages: nn.Sequential = built.stages
        name_weights_once(self)
        initialise_convolutions(self)

    def forward(self, x_BCDHW: Tensor) -> list[Tensor]:
        z, y, x = x_BCDHW.shape[2:]
        self.config.stage_grid((z, y, x), self.config.num_stages)
        features_BCDHW = self.stem(x_BCDHW)
        stages = []
        for stage in self.stages:
            features_BCDHW = stage(features_BCDHW)
            stages.append(features_BCDHW)
        return stages
