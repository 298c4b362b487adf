"""The strided convolution in slabs is the plain one, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uvlm.models import strided
from uvlm.models.config import EncoderConfig
from uvlm.models.encoder import Encoder
from uvlm.models.strided import StridedConv3d

CHANNELS, GRID = 3, (12, 6, 9)
PLANE = CHANNELS * GRID[1] * GRID[2] * 4


def gradients(conv: nn.Conv3d, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    result = conv(x)
    weights = torch.linspace(-1, 1, result.numel()).reshape(result.shape)
    (result * weights).sum().backward()
    leaves = (x, conv.weight, conv.bias)
    made = [result.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]
    conv.zero_grad()
    return made


@pytest.fixture
def slabs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Planes of input of each weight gradient."""
    seen: list[int] = []
    plain = strided._gradients

    def noting(grad: Tensor, x: Tensor, *args: int, of_input: bool = False) -> list[Tensor]:
        if not of_input:
            seen.append(x.shape[2])
        return plain(grad, x, *args, of_input=of_input)  # type: ignore[arg-type]

    monkeypatch.setattr(strided, "_gradients", noting)
    return seen


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("planes", [3, 5, 8, 11])
def test_slabs_give_the_gradients_of_the_whole(
    stride: int,
    layout: torch.memory_format,
    planes: int,
    slabs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(CHANNELS, 4, 3, stride, padding=1)
    conv = StridedConv3d.over(plain)
    x = torch.randn(2, CHANNELS, *GRID).contiguous(memory_format=layout)
    monkeypatch.setattr(strided, "LIMIT", planes * PLANE)
    cut = gradients(conv, x)
    for ours, theirs in zip(cut, gradients(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert len(slabs) > 2
    assert max(slabs) <= max(planes, 3)


def test_an_input_that_needs_no_gradient_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.Conv3d(CHANNELS, 4, 3, 2, padding=1)
    x = torch.randn(1, CHANNELS, *GRID)
    monkeypatch.setattr(strided, "LIMIT", PLANE)
    StridedConv3d.over(plain)(x).sum().backward()
    ours = plain.weight.grad
    plain.weight.grad = None
    plain(x).sum().backward()
    torch.testing.assert_close(ours, plain.weight.grad)


def test_small_volumes_and_half_precision_go_the_plain_way(
    slabs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    conv = StridedConv3d.over(nn.Conv3d(CHANNELS, 4, 3, 2, padding=1))
    x = torch.randn(1, CHANNELS, *GRID)
    conv(x).sum().backward()
    monkeypatch.setattr(strided, "LIMIT", PLANE)
    with torch.autocast("cpu", torch.bfloat16):
        conv(x).sum().backward()
    assert slabs == []


def test_every_strided_kernel_of_the_encoder_is_cut() -> None:
    encoder = Encoder(EncoderConfig(features=(4, 8, 8), strides=(2, 2, 2), blocks=(1, 1, 1)))
    kernels = [m for m in encoder.modules() if isinstance(m, nn.Conv3d) and max(m.stride) > 1]
    assert len(kernels) == 3
    assert all(type(kernel) is StridedConv3d for kernel in kernels)
