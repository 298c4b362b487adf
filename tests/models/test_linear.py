"""Products with a weight matrix are those of PyTorch, whichever way they are computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models import linear as module
from uvlm.models.linear import LARGE, Linear, linear


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("entries", [3, 8, 50])
@pytest.mark.parametrize("shape", [(1, 1, 24), (4, 1, 24), (2, 3, 24), (3, 3, 24), (0, 24)])
def test_few_rows_are_multiplied_as_many_are(
    monkeypatch: pytest.MonkeyPatch, entries: int, shape: tuple[int, ...], bias: bool
) -> None:
    monkeypatch.setattr(module, "CACHED", 1)
    x, weight = drawn(*shape), drawn(entries, 24)
    added = drawn(entries) if bias else None
    torch.testing.assert_close(linear(x, weight, added), F.linear(x, weight, added))


@pytest.mark.parametrize(
    ("rows", "entries", "batched"), [(1, 20, True), (1, 60, True), (4, 60, True), (5, 60, False)]
)
def test_single_rows_and_few_of_a_tall_matrix_go_the_way_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, rows: int, entries: int, batched: bool
) -> None:
    asked = []
    few_rows = module._few_rows
    monkeypatch.setattr(module, "_few_rows", lambda *a: (asked.append(rows), few_rows(*a))[1])
    linear(drawn(rows, 24), drawn(entries, 24))
    assert asked == []  # small matrices are in the cache
    monkeypatch.setattr(module, "CACHED", 1)
    linear(drawn(rows, 24), drawn(entries, 24))
    assert asked == ([rows] if batched else [])


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN was asked for."""
    if not torch._C._has_mkldnn:
        pytest.skip("this PyTorch is built without oneDNN")
    monkeypatch.setattr(module, "has_onednn", lambda: True)
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
