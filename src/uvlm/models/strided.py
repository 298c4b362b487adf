"""A strided convolution whose weight gradient large volumes on a CPU do not bring to a halt.

oneDNN computes the weight gradient of a strided 3D convolution with its fast kernel up to an input
of 2^30 bytes, and by a reference loop, hundreds of times slower, from there on; the second stage of
the paper's encoder at 192x256x256 has 1.6 * 2^30. The gradient is a sum over output planes, so it
is taken in slabs of them; nothing is copied, as slabs of one study lie together in memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["StridedConv3d"]

PAD = 1
LIMIT = 2**29
"""Bytes of a slab's input."""


class StridedConv3d(nn.Conv3d):
    """`nn.Conv3d` with a kernel of 3 and the same stride, at least 2, along all axes, padded by 1.

    Shape:
        input: (B, C, D, H, W), each of D H W divisible by the stride
    """

    @classmethod
    def over(cls, plain: nn.Conv3d) -> StridedConv3d:
        """The same convolution, with its very parameters."""
        sizes = (plain.in_channels, plain.out_channels, 3, plain.stride[0], PAD)
        made = cls(*sizes, device="meta")
        made.weight, made.bias = plain.weight, plain.bias
        return made

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type == "cpu" and input.dtype == torch.float32:
            size = input[0].numel() * input.element_size()
            narrow = torch.is_autocast_enabled("cpu")
            if size > LIMIT and not narrow and self.weight.requires_grad:
                result: Tensor = _InSlabs.apply(input, self.weight, self.bias, self.stride[0])  # type: ignore[no-untyped-call]
                return result
        return super().forward(input)


class _InSlabs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv3d(x, weight, bias, stride, PAD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        stride = ctx.stride
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _gradients(grad, x, weight, stride, PAD, of_input=True)[0]
        plane = x[0, :, 0].numel() * x.element_size()
        planes = max(1, (LIMIT // plane - 2 * PAD) // stride)
        grad_weight, grad_bias = torch.zeros_like(weight), weight.new_zeros(weight.shape[0])
        for study in range(len(x)):
            for start in range(0, grad.shape[2], planes):
                part = grad[study : study + 1, :, start : start + planes]
                # Of the volume's ends only the first is reached into: D is divisible.
                first = start * stride - PAD
                last = (start + part.shape[2] - 1) * stride + PAD
                seen = x[study : study + 1, :, max(first, 0) : last + 1]
                made = _gradients(part, seen, weight, stride, PAD if first < 0 else 0)
                grad_weight += made[1]
                grad_bias += made[2]
        return grad_x, grad_weight, grad_bias, None


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, pad_z: int, *, of_input: bool = False
) -> list[Tensor]:
    wanted = [of_input, not of_input, not of_input]
    made: list[Tensor] = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        [weight.shape[0]],
        [stride] * 3,
        [pad_z, PAD, PAD],
        [1] * 3,
        False,
        [0] * 3,
        1,
        wanted,
    )
    return made
