"""Instance normalisation with channels last equals the plain one in 64 bits, gradients too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from uvlm.models import normalisation
from uvlm.models.normalisation import InstanceNorm, Moments


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


@given(
    channels=st.integers(1, 9),
    slabs=st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=4),
    width=st.integers(1, 40),
    rows=st.integers(1, 12),
    mean=st.sampled_from([0.0, 1000.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_moments_however_slabs_and_rows_divide(channels, slabs, width, rows, mean, dtype) -> None:
    torch.manual_seed(0)
    maps = [(torch.randn(*slab, channels) + mean).to(dtype) for slab in slabs]
    moments = Moments()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalisation, "WIDTH", width)
        patch.setattr(normalisation, "ROWS", rows)
        for slab in maps:
            moments.add(slab)
            slab.zero_()  # what was added may be overwritten
    torch.manual_seed(0)
    maps = [(torch.randn(*slab, channels) + mean).to(dtype) for slab in slabs]
    voxels = torch.cat([slab.flatten(0, 2) for slab in maps]).double()
    found_mean, found_variance = moments.together()
    torch.testing.assert_close(found_mean, voxels.mean(0), rtol=2e-7, atol=2e-7)
    expected = voxels.var(0, unbiased=False)
    # The means of parts are 32-bit numbers, so of few voxels the variance is off by that rounding.
    atol = 1e-5 + 2e-7 * mean
    torch.testing.assert_close(found_variance, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mean", [0.3, 1000.0])
def test_moments_of_many_voxels(dtype, mean) -> None:
    """Moments rounded to bfloat16 would be off by 4e-3."""
    torch.manual_seed(0)
    slab = (torch.randn(33, 64, 65, 16) * 8 + mean).to(dtype)
    moments = Moments()
    moments.add(slab)
    exact = slab.double().flatten(0, 2)
    found_mean, found_variance = moments.together()
    torch.testing.assert_close(found_mean, exact.mean(0), rtol=5e-7, atol=5e-7)
    torch.testing.assert_close(found_variance, exact.var(0, unbiased=False), rtol=1e-5, atol=0)


def test_a_large_map_takes_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each, threads wait for each other."""
    calls: list[int] = []
    plain = normalisation._row_moments

    def counted(rows: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(rows))
        return plain(rows)

    monkeypatch.setattr(normalisation, "_row_moments", counted)
    Moments().add(torch.zeros(96, 64, 64, 32))
    assert calls == [12_288]


def test_maps_of_autocast_have_gradients() -> None:
    norm = InstanceNorm(3, affine=True)
    x = torch.randn(2, 3, 4, 5, 6)
    narrow, wide = x.bfloat16().requires_grad_(), x.bfloat16().float().requires_grad_()
    weights = torch.randn(x.shape)
    (norm(narrow).float() * weights).sum().backward()
    (norm(wide) * weights).sum().backward()
    assert narrow.grad.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.grad.float(), wide.grad, rtol=2e-2, atol=2e-2)
