"""An encoder's forward pass for inference on a CPU, in less time and memory than its modules take.

The numbers are those of `Encoder`. What differs is what moves through memory, as the first stage of
the paper's encoder has maps of 1.6 GB:

- A convolution goes over slabs of planes small enough for the cache. Their moments, of which the
  normalisation is made, are taken while they are there; the normalisation itself, the residual
  and the ReLU are applied in place when the next convolution comes by, while it needs the planes.
- The second convolution of a block writes where it has just read, one plane before. No more than
  two maps of a stage exist.
- Weights of small maps are brought into the processor's order once, not at each call.

Shapes: C channels, D H W voxels along z y x, N rows (voxels). Maps are (D, H, W, C) in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models.encoder import Encoder
from uvlm.models.normalisation import Moments
from uvlm.models.pooling import block_mean

__all__ = ["LeanEncoder"]

SLAB = 2**24
"""Bytes of a slab: below half a cache of the third level, and below what malloc gives back."""

CHUNK = 2**17
"""Numbers normalised at once, for each thread: as many as the second level holds."""

SMALL_MAP = 2**14
"""Voxels up to which reordering a weight takes a good part of the convolution's time."""

Finish = Callable[[Tensor, int, int], None]


class LeanEncoder:
    """`Encoder.each_stage` without gradients, for one volume at a time on the CPU.

    It reads the encoder's parameters as they are when it is made.

    Args:
        dtype: of maps and weights; bfloat16 halves memory, and time on processors that have it
    """

    def __init__(self, encoder: Encoder, dtype: torch.dtype = torch.float32) -> None:
        self.config = encoder.config
        self.dtype = dtype
        stem: Any = encoder.stem
        self._stem = [_Conv(block, dtype) for block in stem.convs]
        stages: Any = encoder.stages
        self._stages = [[_Block(block, dtype) for block in stage.blocks] for stage in stages]

    def each_stage(self, x_BCDHW: Tensor) -> Iterator[Tensor]:
        """Stage after stage, each (1, C, d, h, w) with channels last, of `dtype`.

        Raises:
            ConfigError: D H W are not divisible by the product of the strides.
            ValueError: more than one volume.
        """
        if len(x_BCDHW) != 1:
            raise ValueError(f"the lean encoder takes one volume at a time, got {len(x_BCDHW)}")
        z, y, x = x_BCDHW.shape[2:]
        self.config.stage_grid((z, y, x), self.config.num_stages)
        planes = x_BCDHW[0].to(self.dtype).permute(1, 2, 3, 0)
        # Stepwise, as a generator that is never exhausted must not leave its mode switched on.
        with torch.inference_mode():
            current = _Map(planes)
            for conv in self._stem:
                current = conv(current)
        del planes
        for stage in self._stages:
            with torch.inference_mode():
                for block in stage:
                    current = block(current)
                current.upto(len(current.planes))
                made = current.as_stage()
            yield made
            del made


class _Map:
    """Planes (D, H, W, C) on which `finish` may have to work yet, each once, from the first on."""

    def __init__(self, planes: Tensor, finish: Finish | None = None) -> None:
        self.planes = planes
        self._finish = finish
        self._done = 0

    def upto(self, end: int) -> Tensor:
        """The planes, of which those before `end` are finished."""
        if self._finish is not None and end > self._done:
            self._finish(self.planes, self._done, end)
            self._done = end
            if end == len(self.planes):
                self._finish = None  # with all that it refers to
        return self.planes

    def as_stage(self) -> Tensor:
        """(1, C, D, H, W)"""
        return _volume(self.planes)


def _normalise(
    scale: Tensor,
    shift: Tensor,
    slope: float | None,
    residual: Tensor | None = None,
    residual_scale: Tensor | None = None,
) -> Finish:
    """In place x -> leaky(x * scale + shift + residual * residual_scale); a slope of None is
    none."""
    size = CHUNK * torch.get_num_threads() // len(scale)

    def finish(planes: Tensor, start: int, end: int) -> None:
        rows_NC = planes[start:end].view(-1, len(scale))
        others_NC = None if residual is None else residual[start:end].view(-1, len(scale))
        for first in range(0, len(rows_NC), size):
            rows = rows_NC[first : first + size]
            exact = rows.float()  # itself, if it is float already
            torch.addcmul(shift, exact, scale, out=exact)
            if others_NC is not None:
                other = others_NC[first : first + size].float()
                if residual_scale is None:
                    exact.add_(other)
                else:
                    exact.addcmul_(other, residual_scale)
            if slope is not None:
                F.leaky_relu_(exact, slope)
            if exact.dtype != rows.dtype:
                rows.copy_(exact)

    return finish


class _Conv:
    """A convolution of 3x3x3 with the normalisation and ReLU that follow it."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        conv = block.conv
        self.weight: Tensor = conv.weight.detach().to(dtype)
        self.bias: Tensor = conv.bias.detach().to(dtype)
        self.stride: int = conv.stride[0]
        self.norm: Any = block.norm
        self.slope: float | None = block.nonlin.negative_slope if hasattr(block, "nonlin") else None
        self._packed: tuple[tuple[int, ...], Tensor] | None = None

    def __call__(self, x: _Map) -> _Map:
        """Into a new map, with a plane to spare before it for `in_place`."""
        grid = [n // self.stride for n in x.planes.shape[:3]]
        room = torch.empty(grid[0] + 1, *grid[1:], len(self.weight), dtype=self.weight.dtype)
        scale, shift = self.into(room[1:], x)
        return _Map(room[1:], _normalise(scale, shift, self.slope))

    def in_place(self, x: _Map) -> tuple[Tensor, Tensor, Tensor]:
        """Over `x` as `__call__` made it, from a plane earlier on: planes, scale and shift."""
        base = x.planes
        out = base.as_strided(base.shape, base.stride(), base.storage_offset() - base.stride(0))
        scale, shift = self.into(out, x)
        return out, scale, shift

    def into(self, out_DHWC: Tensor, x: _Map) -> tuple[Tensor, Tensor]:
        """Convolve and write, without the normalisation; its scale and shift."""
        moments = Moments()
        depth = len(out_DHWC)
        count = max(1, SLAB // (out_DHWC[0].numel() * out_DHWC.element_size()))
        few = self.weight.shape[1] * 27 < 64
        for first in range(0, depth, count):
            last = min(first + count, depth)
            begin, end = first * self.stride - 1, (last - 1) * self.stride + 2
            planes = x.upto(min(end, len(x.planes)))
            made = out_DHWC[first:last]
            if few:
                self._multiply(_planes(planes, begin, end), made)
                moments.add(made)
            else:
                whole = first == 0 and last == depth
                result = self._whole(planes) if whole else self._slab(_planes(planes, begin, end))
                moments.add(result)
                made.copy_(result)
        return moments.affine(self.norm)

    def _slab(self, seen_DHWC: Tensor) -> Tensor:
        """(d, h, w, C) of planes with those before and after."""
        x_1CDHW = _volume(seen_DHWC)
        made = F.conv3d(x_1CDHW, self.weight, self.bias, self.stride, (0, 1, 1))
        return made[0].permute(1, 2, 3, 0)

    def _whole(self, planes_DHWC: Tensor) -> Tensor:
        """(d, h, w, C) of a map that needs no slabs."""
        x_1CDHW = _volume(planes_DHWC)
        if planes_DHWC[..., 0].numel() > SMALL_MAP or not torch._C._has_mkldnn:
            made = F.conv3d(x_1CDHW, self.weight, self.bias, self.stride, 1)
        else:
            stride, pad, size = [self.stride] * 3, [1] * 3, tuple(x_1CDHW.shape)
            if self._packed is None or self._packed[0] != size:
                order: Any = torch._C._nn.mkldnn_reorder_conv3d_weight
                self._packed = size, order(self.weight.to_mkldnn(), pad, stride, pad, 1, size)
            weight = self._packed[1]
            made = torch.mkldnn_convolution(x_1CDHW, weight, self.bias, pad, stride, pad, 1)
        return made[0].permute(1, 2, 3, 0)

    def _multiply(self, seen_DHWC: Tensor, out_DHWC: Tensor) -> None:
        """The same as one product of matrices, which for few input channels is faster."""
        s, channels = self.stride, self.weight.shape[1]
        d, h, w, _ = out_DHWC.shape
        padded_CDHW = F.pad(seen_DHWC.permute(3, 0, 1, 2), (1, 1, 1, 1))
        columns = padded_CDHW.new_empty(channels, 27, d, h, w)
        for tap in range(27):
            i, j, k = tap // 9, tap // 3 % 3, tap % 3
            part = padded_CDHW[:, i : i + s * d : s, j : j + s * h : s, k : k + s * w : s]
            columns[:, tap] = part[:, :d]
        weight_KC = self.weight.flatten(1).t()
        rows_NK = columns.view(channels * 27, -1).t()
        torch.addmm(self.bias, rows_NK, weight_KC, out=out_DHWC.view(-1, len(self.weight)))


class _Block:
    """A residual block: two convolutions, beside them the input, averaged and projected where
    its size or channels change."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        self.first, self.second = _Conv(block.conv1, dtype), _Conv(block.conv2, dtype)
        self.slope: float = block.nonlin2.negative_slope
        skip = list(block.skip) if isinstance(block.skip, torch.nn.Sequential) else []
        projections: list[Any] = [layer for layer in skip if hasattr(layer, "conv")]
        self.norm: Any = None
        self.weight: Tensor | None = None
        for projection in projections:
            self.norm = projection.norm
            self.weight = projection.conv.weight.detach().to(dtype).flatten(1).t()

    def __call__(self, x: _Map) -> _Map:
        inner = self.first(x)  # has finished all of x
        beside, factor, more = self._beside(x.planes)
        planes, scale, shift = self.second.in_place(inner)
        if more is not None:
            shift = shift + more
        return _Map(planes, _normalise(scale, shift, self.slope, beside, factor))

    def _beside(self, planes: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What is added, and scale and shift of its normalisation, if any."""
        if self.first.stride > 1:
            planes = _averaged(planes, self.first.stride)
        if self.weight is None:
            return planes, None, None
        planes, moments = planes @ self.weight, Moments()
        moments.add(planes)
        return planes, *moments.affine(self.norm)


def _averaged(planes_DHWC: Tensor, stride: int) -> Tensor:
    """(d, h, w, C)"""
    d, h, w = (n // stride for n in planes_DHWC.shape[:3])
    made = planes_DHWC.new_empty(d, h, w, planes_DHWC.shape[3])
    count = max(1, SLAB // (planes_DHWC[0].numel() * planes_DHWC.element_size() * stride))
    for first in range(0, d, count):
        part = _volume(planes_DHWC[first * stride : (first + count) * stride])
        mean = block_mean(part, (part.shape[2] // stride, h, w))
        made[first : first + count] = mean[0].permute(1, 2, 3, 0)
    return made


def _volume(planes_DHWC: Tensor) -> Tensor:
    """(1, C, D, H, W), channels last also by what PyTorch asks of the first stride."""
    return planes_DHWC[None].permute(0, 4, 1, 2, 3)


def _planes(planes: Tensor, begin: int, end: int) -> Tensor:
    """Planes `begin` to `end`; zeros where they lie outside."""
    inside = planes[max(begin, 0) : end]
    zero = planes.new_zeros(1, *planes.shape[1:])
    parts = [zero] * (begin < 0) + [inside] + [zero] * (end > len(planes))
    return inside if len(parts) == 1 else torch.cat(parts)
