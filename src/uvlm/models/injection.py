"""What a decoder receives from vision, whichever encoder it comes from.

Shapes: B batch, K visual tokens, E width of the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from uvlm.models.layout import MaskKind, PaddedPrompts, TokenLayout

__all__ = ["VisualPlan"]


@dataclass(frozen=True, kw_only=True, eq=False)
class VisualPlan:
    """Visual tokens at the input, and what is added to them at each layer (Eq. 5).

    Raises:
        ValueError: an injected sequence differs in shape from the prefix.
    """

    prefix: Tensor
    """(B, K, E), the input embeddings at the vision positions."""

    per_layer: Mapping[int, Tensor] = field(default_factory=dict)
    """Decoder layer, counted from 1 -> (B, K, E), added at that layer."""

    mask: MaskKind = "vision_bidirectional"
    """Who sees whom among the visual tokens."""

    place: Literal["before", "middle"] = "before"
    """Before the layer, or between its attention and its feed-forward block (authors)."""

    gates: Mapping[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    """Decoder layer -> what scales its addition, given the hidden states (B, K, E) there."""

    opening: int = 1
    closing: int = 1
    """Markers before and after the visual tokens, see `TokenLayout`."""

    def __post_init__(self) -> None:
        for layer, tokens in self.per_layer.items():
            if tokens.shape != self.prefix.shape:
                raise ValueError(
                    f"injection at layer {layer} has shape {tuple(tokens.shape)}, "
                    f"the visual prefix {tuple(self.prefix.shape)}; they must be equal"
                )

    def layout(self, num_text: int, prompts: PaddedPrompts | None = None) -> TokenLayout:
        """Positions of these visual tokens followed by `num_text` text tokens."""
        return TokenLayout(
            num_vision=self.prefix.shape[1],
            num_text=num_text,
            mask=self.mask,
            prompts=prompts,
            opening=self.opening,
            closing=self.closing,
        )

    def rows(self, chosen: Sequence[int]) -> VisualPlan:
        """Of the studies with these indices."""
        at = list(chosen)
        per_layer = {layer: tokens_BKE[at] for layer, tokens_BKE in self.per_layer.items()}
        return replace(self, prefix=self.prefix[at], per_layer=per_layer)

    def inject(self, layer: int, hidden_BTE: Tensor, layout: TokenLayout) -> Tensor:
        """Hidden states of a whole sequence, with this layer's tokens added at vision positions."""
        tokens_BKE = self.per_layer.get(layer)
        if tokens_BKE is None:
            return hidden_BTE
        if gate := self.gates.get(layer):
            tokens_BKE = gate(hidden_BTE[:, layout.vision]) * tokens_BKE
        before, after = layout.vision.start, hidden_BTE.shape[1] - layout.vision.stop
        return hidden_BTE + F.pad(tokens_BKE, (0, 0, before, after))
