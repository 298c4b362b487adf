"""Instance normalisation with channels last equals the plain one in 64 bits, gradients too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.normalisation import ROWS, InstanceNorm


def both(shape: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """(result, gradients of input, weight and bias): ours, and PyTorch's in 64 bits."""
    torch.manual_seed(0)
    norm = InstanceNorm(shape[1], affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x, gradient = torch.randn(shape) * 3 + 5, torch.randn(shape)
    mine = x.clone().requires_grad_()
    result = norm(mine)
    result.backward(gradient)
    ours = [result.detach(), mine.grad, norm.weight.grad, norm.bias.grad]
    leaves = [t.detach().double().requires_grad_() for t in (x, norm.weight, norm.bias)]
    oracle = F.instance_norm(leaves[0], weight=leaves[1], bias=leaves[2], eps=norm.eps)
    oracle.backward(gradient.double())
    return ours, [oracle.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("shape", [(2, 5, 4, 6, 8), (1, 3, 2, 1, 3), (1, 4, 40, 32, 32)])
def test_it_is_instance_normalisation(shape) -> None:
    ours, oracle = both(shape)
    for found, expected in zip(ours, oracle, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-4)


def test_large_volumes_lose_no_digits() -> None:
    shape = (1, 8, 64, 64, 64)
    assert shape[2] * shape[3] * shape[4] > 8 * ROWS
    ours, oracle = both(shape)
    error = (ours[0] - oracle[0]).abs().max()
    assert error < 2e-5
    # PyTorch's, with channels last, does: the reason for this module.
    x = torch.randn(shape).add(5).contiguous(memory_format=torch.channels_last_3d)
    plain = F.group_norm(x, shape[1])
    assert (plain - F.instance_norm(x.contiguous().double())).abs().max() > 10 * error


def test_the_result_has_channels_last() -> None:
    made = InstanceNorm(3, affine=True)(torch.randn(2, 3, 4, 5, 6))
    assert made.is_contiguous(memory_format=torch.channels_last_3d)


def test_one_voxel_is_refused() -> None:
    with pytest.raises(ValueError, match="one voxel"):
        InstanceNorm(3, affine=True)(torch.randn(2, 3, 1, 1, 1))
