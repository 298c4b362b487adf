"""Means over blocks of voxels that leave channels last where they are.

PyTorch's 3D pooling on the CPU first copies such a map to channels first, and walks it slowly; its
2D pooling does neither, so planes are pooled first, then averaged.

Shapes: B batch, C channels, D H W voxels along z y x, d h w of the result.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["block_mean"]


def block_mean(x_BCDHW: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B, C, d, h, w) in the type of `x`: the mean of each block, for a `grid` d h w that divides
    D H W; else as `adaptive_avg_pool3d`. `x` itself, where a block is a voxel."""
    sizes = tuple(x_BCDHW.shape[2:])
    if any(n % cells for n, cells in zip(sizes, grid, strict=True)):
        return F.adaptive_avg_pool3d(x_BCDHW, grid)
    if sizes == grid:
        return x_BCDHW
    steps = tuple(n // cells for n, cells in zip(sizes, grid, strict=True))
    last = x_BCDHW.is_contiguous(memory_format=torch.channels_last_3d)
    if x_BCDHW.device.type != "cpu" or not last:
        return F.avg_pool3d(x_BCDHW, steps)  # unlike the adaptive kind, every engine knows it
    planes_NCHW = x_BCDHW.transpose(1, 2).flatten(0, 1)
    pooled_NChw = F.avg_pool2d(planes_NCHW, steps[1:])
    apart = pooled_NChw.view(len(x_BCDHW), grid[0], steps[0], *pooled_NChw.shape[1:])
    means_BdChw = apart.mean(2, dtype=torch.float32).to(x_BCDHW.dtype)
    return means_BdChw.transpose(1, 2)
