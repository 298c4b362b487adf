"""Products with a weight matrix are those of PyTorch, whichever way they are computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models import linear as module
from uvlm.models.linear import FEW_ROWS, LARGE, Linear, linear


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("entries", [3, 8, 50])
@pytest.mark.parametrize("shape", [(1, 1, 24), (4, 1, 24), (2, 3, 24), (0, 24)])
def test_few_rows_are_multiplied_as_many_are(entries: int, shape: tuple[int, ...]) -> None:
    x, weight = drawn(*shape), drawn(entries, 24)
    assert x[..., 0].numel() <= FEW_ROWS
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN was asked for."""
    if not torch._C._has_mkldnn:
        pytest.skip("this PyTorch is built without oneDNN")
    monkeypatch.setattr(module, "_has_onednn", lambda: True)
    asked: list[tuple[int, ...]] = []
    plain = module._product

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        found = plain(x, weight, bias)
        asked.append(tuple(found.shape))
        return found

    monkeypatch.setattr(module, "_product", counted)
    return asked


@pytest.mark.parametrize("bias", [True, False])
def test_large_products_and_gradients_are_exact_to_32_bits(products, bias: bool) -> None:
    x, layer = drawn(2, 150, 200).requires_grad_(), Linear(200, 300, bias=bias)
    assert x.numel() * 300 >= LARGE
    coming = drawn(300, 2, 150).permute(1, 2, 0)
    inputs = (x, *layer.parameters())
    found = torch.autograd.grad(layer(x), inputs, coming)
    assert products == [(2, 150, 300), (2, 150, 200), (300, 200)]
    wide = [each.detach().double().requires_grad_() for each in inputs]
    expected = torch.autograd.grad(F.linear(*wide), wide, coming.double())
    for a, b in zip((layer(x), *found), (F.linear(*wide), *expected), strict=True):
        assert (a - b).abs().max() < 3e-6 * b.abs().max()


def test_only_gradients_that_are_wanted_are_computed(products) -> None:
    layer = Linear(200, 300)
    layer(drawn(300, 200)).sum().backward()
    assert products == [(300, 300), (300, 200)]


def test_small_and_narrow_products_are_pytorchs(products) -> None:
    weight = drawn(300, 200)
    linear(drawn(20, 200), weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(drawn(300, 200), weight).dtype == torch.bfloat16
    linear(drawn(300, 200).double(), weight.double())
    assert products == []
