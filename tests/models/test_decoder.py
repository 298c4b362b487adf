"""The decoder: positions, sight, injection, cache and logits are what the paper says."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.tiny import DECODER
from uvlm.models.decoder import Decoder, rotary_table, rotate
from uvlm.models.injection import VisualPlan
from uvlm.models.layout import TokenLayout

K, T, B = 7, 6, 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(DECODER).eval()
    for p in decoder.parameters():  # at their start, attention scores are nearly all equal
        p.data.add_(0.1 * torch.randn_like(p))
    return decoder


@pytest.fixture
def plan() -> VisualPlan:
    per_layer = {layer: normal(B, K, DECODER.width, seed=layer) for layer in (1, 2, 5)}
    return VisualPlan(prefix=normal(B, K, DECODER.width), per_layer=per_layer)


LAYOUT = TokenLayout(num_vision=K, num_text=T)
EMBEDDINGS = normal(B, len(LAYOUT), DECODER.width, seed=9)


# Positions


@pytest.mark.parametrize("shift", [1, 45, 495])
def test_attention_scores_depend_on_relative_position_only(shift: int) -> None:
    table = rotary_table(520, 64, 10_000.0)
    q, k = normal(1, 1, 1, 1, 64), normal(1, 1, 1, 1, 64, seed=1)

    def score(i: int, j: int) -> Tensor:
        return (rotate(q, table[:, i : i + 1]) * rotate(k, table[:, j : j + 1])).sum()

    # float32 angles near position 500 carry about 3e-5 rad; scores are of order 8.
    torch.testing.assert_close(score(12 + shift, 5 + shift), score(12, 5), atol=1e-3, rtol=0)
    assert not torch.isclose(score(13, 5), score(12, 5), atol=1e-2)


def test_rotation_keeps_norms() -> None:
    x = normal(1, 500, 1, 1, 64)
    turned = rotate(x, rotary_table(500, 64, 10_000.0))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


def test_rotation_is_multiplication_by_a_unit_complex_number() -> None:
    x = normal(1, 9, 1, 1, 8)
    frequencies = 10_000.0 ** (-torch.arange(4) / 4)
    angles = torch.outer(torch.arange(9), frequencies)
    expected = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(
        torch.ones_like(angles), angles
    ).view(1, 9, 1, 1, 4)
    turned = rotate(x, rotary_table(9, 8, 10_000.0))
    torch.testing.assert_close(torch.complex(turned[..., :4], turned[..., 4:]), expected)


# Sight, by perturbation


def influence(decoder: Decoder, plan: VisualPlan | None = None) -> Tensor:
    """(L, L) bool: does the output at the row move when the input at the column does?"""
    before = decoder.hidden(EMBEDDINGS, LAYOUT, plan)
    moved = []
    for position in range(len(LAYOUT)):
        changed = EMBEDDINGS.clone()
        changed[:, position] += normal(DECODER.width, seed=3)
        moved.append((decoder.hidden(changed, LAYOUT, plan) - before).abs().amax((0, 2)) > 1e-6)
    return torch.stack(moved, dim=1)


def test_each_vision_token_is_moved_by_every_other(decoder: Decoder) -> None:
    assert influence(decoder)[LAYOUT.vision, LAYOUT.vision].all()


def test_no_vision_token_is_moved_by_text_or_the_marker_before_it(decoder: Decoder) -> None:
    assert not influence(decoder)[LAYOUT.vision, LAYOUT.vision.stop :].any()


def test_text_is_moved_by_all_vision_and_earlier_text_only(decoder: Decoder) -> None:
    rows = influence(decoder)[LAYOUT.text]
    assert rows[:, LAYOUT.vision].all()
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    assert not (rows[:, LAYOUT.text] & later).any()
    assert (rows[:, LAYOUT.text] | later).all()


# Injection (Eq. 5)


def test_injection_adds_before_each_layer_at_vision_positions_only(
    decoder: Decoder, plan: VisualPlan
) -> None:
    given: dict[int, Tensor] = {}
    left: dict[int, Tensor] = {0: EMBEDDINGS}
    for number, block in enumerate(decoder.blocks, start=1):
        block.register_forward_pre_hook(lambda _, args, n=number: given.__setitem__(n, args[0]))
        block.register_forward_hook(lambda _, __, out, n=number: left.__setitem__(n, out))
    decoder.hidden(EMBEDDINGS, LAYOUT, plan)
    for layer, hidden in given.items():
        expected = left[layer - 1].clone()
        if layer in plan.per_layer:
            expected[:, LAYOUT.vision] += plan.per_layer[layer]
        assert torch.equal(hidden, expected)


def test_injection_before_the_last_layer_reaches_text(decoder: Decoder) -> None:
    def text_logits(scale: float) -> Tensor:
        tokens = scale * normal(B, K, DECODER.width)
        plan = VisualPlan(prefix=torch.zeros_like(tokens), per_layer={DECODER.layers: tokens})
        return decoder(EMBEDDINGS, LAYOUT, plan)[0]

    assert not torch.allclose(text_logits(0.0), text_logits(1.0), atol=1e-4)


@pytest.mark.parametrize("layer", [0, DECODER.layers + 1])
def test_injection_before_a_layer_that_does_not_exist_is_refused(
    decoder: Decoder, layer: int
) -> None:
    tokens = normal(B, K, DECODER.width)
    with pytest.raises(ValueError, match=rf"layers \[{layer}\].*decoder 5 layers"):
        decoder(EMBEDDINGS, LAYOUT, VisualPlan(prefix=tokens, per_layer={layer: tokens}))


def test_an_injected_sequence_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at layer 2 has shape \(2, 6, 24\)"):
        VisualPlan(prefix=normal(2, 7, 24), per_layer={2: normal(2, 6, 24)})


# Cache


@torch.no_grad()
def test_cached_steps_equal_the_whole_sequence_at_once(decoder: Decoder, plan: VisualPlan) -> None:
    whole, _ = decoder(EMBEDDINGS, LAYOUT, plan)
    cache = decoder.new_cache(B, len(LAYOUT))
    pieces = []
    for num_text in (2, 3, 5, 6):  # the prompt, one token, two at once, one token
        layout = TokenLayout(num_vision=K, num_text=num_text)
        chunk = EMBEDDINGS[:, cache.length : len(layout)]
        logits, _ = decoder(chunk, layout, None if cache.length else plan, cache)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_cache_is_allocated_once(decoder: Decoder, plan: VisualPlan) -> None:
    cache = decoder.new_cache(B, len(LAYOUT))
    store, rotary = cache.store.data_ptr(), cache.rotary.data_ptr()
    for num_text in range(1, T + 1):
        layout = TokenLayout(num_vision=K, num_text=num_text)
        chunk = EMBEDDINGS[:, cache.length : len(layout)]
        decoder(chunk, layout, None if cache.length else plan, cache)
    assert (cache.store.data_ptr(), cache.rotary.data_ptr()) == (store, rotary)
    assert cache.length == len(LAYOUT)


def test_a_full_cache_names_both_sizes(decoder: Decoder) -> None:
    cache = decoder.new_cache(B, len(LAYOUT) - 1)
    with pytest.raises(ValueError, match="15 positions do not fit a cache of 14"):
        decoder(EMBEDDINGS, LAYOUT, None, cache)


@torch.no_grad()
def test_vision_cannot_enter_behind_cached_text(decoder: Decoder, plan: VisualPlan) -> None:
    cache = decoder.new_cache(B, 40)
    decoder(EMBEDDINGS, LAYOUT, plan, cache)
    longer = TokenLayout(num_vision=K, num_text=T + 1)
    with pytest.raises(ValueError, match="not after 15"):
        decoder(EMBEDDINGS[:, -1:], longer, plan, cache)


def test_embeddings_that_do_not_fill_the_layout_are_refused(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="15 positions, got 14 embeddings after 0"):
        decoder(EMBEDDINGS[:, 1:], LAYOUT)


# Logits

MASK_BT = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=torch.bool)
WHERE = [
    slice(-1, None),
    slice(2, 4),
    torch.tensor([5, 0]),
    MASK_BT,
]


@pytest.mark.parametrize("where", WHERE)
def test_logits_at_equals_choosing_from_all_logits(
    decoder: Decoder, plan: VisualPlan, where: Tensor | slice
) -> None:
    every, _ = decoder(EMBEDDINGS, LAYOUT, plan)
    some, _ = decoder(EMBEDDINGS, LAYOUT, plan, logits_at=where)
    whole_mask = isinstance(where, Tensor) and where.dtype == torch.bool
    torch.testing.assert_close(some, every[where] if whole_mask else every[:, where])


def test_logits_are_for_text_positions_only(decoder: Decoder, plan: VisualPlan) -> None:
    logits, _ = decoder(EMBEDDINGS, LAYOUT, plan)
    assert logits.shape == (B, T, DECODER.vocab_size)
    hidden = decoder.hidden(EMBEDDINGS, LAYOUT, plan)
    torch.testing.assert_close(logits, decoder.head(hidden)[:, LAYOUT.text])


def test_output_matrix_is_the_embedding_matrix(decoder: Decoder) -> None:
    h = normal(B, 1, DECODER.width)
    expected = F.layer_norm(h, (24,), decoder.norm.weight, decoder.norm.bias)
    torch.testing.assert_close(decoder.head(h), expected @ decoder.embedding.weight.T)


def test_weights_start_as_the_papers() -> None:
    torch.manual_seed(0)
    decoder = Decoder(DECODER)
    assert decoder.embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert decoder.blocks[0].ffn[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not decoder.blocks[0].attention.qkv.bias.any()
