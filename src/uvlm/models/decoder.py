"""The language decoder: pre-norm transformer with rotary positions, visual injection and KV cache.

Shapes: B batch, T positions of this call, S positions so far, K visual tokens, E width, H heads,
        F width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.config import DecoderConfig
from uvlm.models.injection import VisualPlan
from uvlm.models.language import LanguageDecoder
from uvlm.models.layout import TokenLayout
from uvlm.models.linear import Linear, linear
from uvlm.models.shortlist import Ranked, Shortlist, ranked

__all__ = ["Decoder", "KVCache", "authors_table", "rotary_table", "rotate"]

Injection = Callable[[Tensor], Tensor]
"""Hidden states of a whole sequence in, with visual tokens added out."""


def rotary_table(
    length: int, head_width: int, base: float, device: torch.device | str | None = None
) -> Tensor:
    """(2, length, F): cosine and sine of position times frequency, float32.

    Both channels of a pair (i, i + F/2) have one angle, and the sine of the first is negative, as
    `rotate` wants it.
    """
    angles = _angles(length, head_width, base, device)
    return torch.stack((_twice(angles.cos()), _twice(angles.sin(), -1)))


def authors_table(
    length: int, head_width: int, base: float, device: torch.device | str | None = None
) -> Tensor:
    """The published code's angles, in the form of `rotary_table`.

    It lays frequencies out twice in a row, as for pairs (i, i + F/2), but turns neighbours
    (2i, 2i + 1): the two of a pair get frequencies 2i and 2i + 1, counted modulo F/2. Here the even
    channels stand first and the odd ones after them, so that pair i is (i, i + F/2) as in `rotate`.
    """
    twice = _twice(_angles(length, head_width, base, device))
    even, odd = twice[..., 0::2], twice[..., 1::2]
    cos, sin = torch.cat((even.cos(), odd.cos()), -1), torch.cat((-even.sin(), odd.sin()), -1)
    return torch.stack((cos, sin))


def _angles(length: int, head_width: int, base: float, device: torch.device | str | None) -> Tensor:
    exponents = torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width
    positions = torch.arange(length, device=device, dtype=torch.float32)
    return torch.outer(positions, base**-exponents)


def _twice(half: Tensor, sign: int = 1) -> Tensor:
    return torch.cat((sign * half, half), dim=-1)


def rotate(x_BTXHF: Tensor, table: Tensor) -> Tensor:
    """Turn the pair (i, i + F/2) of each head by its position's angle; `table` is (2, T, F), or
    (2, B, T, F) where rows differ in their positions.

    A rotation keeps norms, and the product of two rotated vectors depends only on how far apart
    they stand. With the table of `authors_table` it is none: each of a pair has its own angle.
    """
    cos, sin = table[..., None, None, :]
    wide = x_BTXHF.float()
    turned = torch.addcmul(wide * cos, wide.roll(wide.shape[-1] // 2, -1), sin)
    return turned.type_as(x_BTXHF)


def table_for(
    config: DecoderConfig, length: int, device: torch.device | str | None = None
) -> Tensor:
    """Rotary table of a decoder, for positions 0 to `length`."""
    table = rotary_table if config.rotary == "halves" else authors_table
    return table(length, config.width // config.heads, config.rope_base, device)


class KVCache:
    """Keys, values and rotary table of a fixed number of positions, allocated once.

    For use without gradients: positions are written in place.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        batch: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        head_width = config.width // config.heads
        shape = (config.layers, 2, batch, config.heads, capacity, head_width)
        self.store = torch.empty(shape, device=device, dtype=dtype)
        self.rotary = table_for(config, capacity, device)
        self.capacity = capacity
        self.length = 0
        """Positions filled in every layer."""

    def extend(self, layer: int, keys_BHTF: Tensor, values_BHTF: Tensor) -> tuple[Tensor, Tensor]:
        """Write this call's keys and values behind the cached ones; (B, H, S, F) of both."""
        stop = self.length + keys_BHTF.shape[2]
        keys, values = self.store[layer]
        keys[:, :, self.length : stop] = keys_BHTF
        values[:, :, self.length : stop] = values_BHTF
        return keys[:, :, :stop], values[:, :, :stop]

    def crop(self, length: int) -> None:
        """Forget the positions from `length` on."""
        self.length = min(self.length, length)

    def choose(self, rows_n: Tensor, since: int = 0) -> None:
        """See `Cache.choose`."""
        filled = slice(since, self.length)
        layers, two, _, *shape = self.store.shape
        new = self.store if since else self.store.new_empty((layers, two, len(rows_n), *shape))
        for old_2BHSF, new_2nHSF in zip(self.store, new, strict=True):
            new_2nHSF[..., filled, :] = old_2BHSF[..., filled, :].index_select(1, rows_n)
        self.store = new


def _attend(q_BHTF: Tensor, k_BHSF: Tensor, v_BHSF: Tensor, visible: Tensor | None) -> Tensor:
    if visible is None and q_BHTF.shape[2] == 1 and q_BHTF.device.type == "cpu":
        # SDPA on CPUs is made for many queries; one reads keys and values sooner so, the query
        # standing upright (618 of them, eight layers, one study: 0.4 against 1.1 ms; eight
        # studies: 5.8 against 11).
        scores_BHS1 = k_BHSF @ (q_BHTF * q_BHTF.shape[-1] ** -0.5).transpose(-1, -2)
        return torch.matmul(scores_BHS1.flatten(2).softmax(dim=-1)[:, :, None], v_BHSF)
    return F.scaled_dot_product_attention(q_BHTF, k_BHSF, v_BHSF, attn_mask=visible)


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value come from one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self,
        x_BTE: Tensor,
        rotary: Tensor,
        visible_TS: Tensor | None,
        cache: KVCache | None,
        layer: int,
    ) -> Tensor:
        qkv_BT3HF = self.qkv(x_BTE).unflatten(-1, (3, self.heads, -1))
        q_BHTF, k_BHTF = rotate(qkv_BT3HF[:, :, :2], rotary).permute(2, 0, 3, 1, 4)
        v_BHTF = qkv_BT3HF[:, :, 2].transpose(1, 2)
        k_BHSF, v_BHSF = cache.extend(layer, k_BHTF, v_BHTF) if cache else (k_BHTF, v_BHTF)
        read_BHTF = _attend(q_BHTF, k_BHSF, v_BHSF, visible_TS)
        read_BTE: Tensor = self.out(read_BHTF.transpose(1, 2).flatten(2))
        return read_BTE


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.ffn = nn.Sequential(
            Linear(config.width, config.ffn), nn.GELU(), Linear(config.ffn, config.width)
        )

    def forward(
        self,
        h_BTE: Tensor,
        rotary: Tensor,
        visible_TS: Tensor | None,
        cache: KVCache | None,
        layer: int,
        middle: Injection | None = None,
    ) -> Tensor:
        """`middle` adds what enters between attention and feed-forward block."""
        h_BTE = h_BTE + self.attention(self.norm1(h_BTE), rotary, visible_TS, cache, layer)
        if middle is not None:
            h_BTE = middle(h_BTE)
        h_BTE = h_BTE + self.ffn(self.norm2(h_BTE))
        return h_BTE


class TiedEmbedding(nn.Embedding):
    """The embedding matrix, which is the output matrix too."""

    shortlist: Shortlist | None = None
    """Set for decoding; training would leave it behind."""

    def logits(self, h_BTE: Tensor) -> Tensor:
        """(B, T, V): how well each entry agrees with the hidden states."""
        return linear(h_BTE, self.weight)

    def ranked(self, h_BTE: Tensor, tolerance: float) -> Ranked | None:
        """As `LanguageDecoder.ranked`; None without a shortlist that can tell."""
        return ranked(self.shortlist, h_BTE, self, tolerance)


class Decoder(LanguageDecoder):
    """Trained from scratch; the output matrix is the embedding matrix."""

    config: DecoderConfig

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = TiedEmbedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache on the decoder's device, for `capacity` positions, vision included."""
        weight = self.norm.weight  # not the embedding's, which may be of low precision
        return KVCache(
            self.config, batch=batch, capacity=capacity, device=weight.device, dtype=weight.dtype
        )

    def head(self, h_BTE: Tensor) -> Tensor:
        """Hidden states to logits."""
        return self.embedding.logits(self.norm(h_BTE))

    def ranked(self, h_BTE: Tensor, tolerance: float = 0.0) -> Ranked:
        found: Ranked | None = self.embedding.ranked(self.norm(h_BTE), tolerance)
        return super().ranked(h_BTE, tolerance) if found is None else found

    def hidden(
        self,
        embeddings_BTE: Tensor,
        layout: TokenLayout,
        plan: VisualPlan | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states of this call's positions before the final normalisation."""
        start = cache.length if cache else 0
        self.check(embeddings_BTE, layout, plan, cache)
        device = embeddings_BTE.device
        table = cache.rotary if cache else table_for(self.config, len(layout), device)
        if layout.prompts is None:
            rotary = table[:, start : len(layout)]
        else:
            rotary = table[:, layout.positions(start, device)]
        visible_TS = layout.visible(start, device)
        h_BTE = embeddings_BTE
        for index, block in enumerate(self.blocks):
            middle: Injection | None = None
            if plan is not None and plan.place == "before":
                h_BTE = plan.inject(index + 1, h_BTE, layout)
            elif plan is not None:
                middle = partial(plan.inject, index + 1, layout=layout)
            h_BTE = block(h_BTE, rotary, visible_TS, cache, index, middle)
        if cache:
            cache.length = len(layout)
        return h_BTE
