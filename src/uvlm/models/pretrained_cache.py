"""Keys and values of a pretrained decoder, allocated once.

Speaks the three words of transformers' caches that decoder layers use: `update`, `get_seq_length`
and the model's `past_key_values`. The sizes of heads come from the first keys, so it fits every
architecture.

Shapes: B batch, H key heads, T positions of this call, S positions so far, F width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["PretrainedCache"]


class PretrainedCache:
    """For use without gradients: positions are written in place."""

    is_compileable = False

    def __init__(self, *, layers: int, batch: int, capacity: int) -> None:
        self.batch = batch
        self.capacity = capacity
        self.length = 0
        """Positions filled in every layer."""
        self._stores: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def update(
        self, keys_BHTF: Tensor, values_BHTF: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write this call's keys and values behind the cached ones; (B, H, S, F) of both."""
        store = self._stores[layer_idx]
        if store is None:
            store = (self._room(keys_BHTF), self._room(values_BHTF))
            self._stores[layer_idx] = store
        keys, values = store
        stop = self.length + keys_BHTF.shape[2]
        keys[:, :, self.length : stop] = keys_BHTF
        values[:, :, self.length : stop] = values_BHTF
        return keys[:, :, :stop], values[:, :, :stop]

    def crop(self, length: int) -> None:
        """Forget the positions from `length` on."""
        self.length = min(self.length, length)

    def choose(self, rows_n: Tensor, since: int = 0) -> None:
        """See `Cache.choose`."""
        self.batch, filled = len(rows_n), slice(since, self.length)
        for layer, store in enumerate(self._stores):
            if store is None:
                continue
            old_new = [(old, old if since else self._room(old)) for old in store]
            for old_BHSF, new_nHSF in old_new:
                new_nHSF[:, :, filled] = old_BHSF[:, :, filled].index_select(0, rows_n)
            keys, values = (new for _, new in old_new)
            self._stores[layer] = (keys, values)

    def _room(self, like_BHTF: Tensor) -> Tensor:
        _, heads, _, width = like_BHTF.shape
        return torch.empty(
            (self.batch, heads, self.capacity, width),
            device=like_BHTF.device,
            dtype=like_BHTF.dtype,
        )
