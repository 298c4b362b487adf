"""Images and reports in one space (HSENet-CLIP; with a gated encoder HSENet-2E3-CLIP).

Shapes: B batch, T tokens, C width of an encoder's last stage, W width of the embeddings.
"""

from __future__ import annotations

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.models.contrastive_config import ContrastiveConfig
from uvlm.models.contrastive_loss import contrastive_loss
from uvlm.models.linear import Linear
from uvlm.models.text_tower import TextTower
from uvlm.models.vision import build_encoder
from uvlm.models.vit import SlicedVolume, ViT

__all__ = ["ContrastiveModel", "contrastive_loss"]

START = log(1 / 0.07)
LARGEST = log(100.0)
"""Of the temperature's logarithm, as in CLIP (arXiv 2103.00020)."""


class ContrastiveModel(nn.Module):
    """An image encoder and a text tower, each with a projection to unit vectors.

    A vision transformer describes an image by its class token, a U-Net encoder by the mean over
    its deepest stage. The text tower of a base has random weights until `load_text_weights`.

    Attributes:
        encoder: `Encoder` or `ViT`, handed on to the tasks that follow
        scale: the temperature's logarithm, or the plain multiplier of cosines
    """

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = build_encoder(config.encoder)
        self.text = TextTower(config.text)
        self.image_projection = Linear(config.encoder.features[-1], config.width)
        self.text_projection = Linear(self.text.width, config.width)
        self.scale = nn.Parameter(torch.tensor(START))

    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """What weight decay leaves alone: a temperature whose logarithm it would pull to 1, not to
        what the data ask; the published code's decays."""
        return (self.scale,) if self.config.temperature == "exp" else ()

    def embed_image(self, x: Tensor | SlicedVolume) -> Tensor:
        """(B, W) of length 1, in 32 bits.

        Args:
            x: what the encoder takes; slices are ignored by one without a gate
        """
        if isinstance(self.encoder, ViT):
            features_BC, _ = self.encoder.features(x)
        else:
            volume = x.volume if isinstance(x, SlicedVolume) else x
            deepest = self.config.encoder.num_stages
            features_BC = self.encoder.pooled(volume, _mean, (deepest,))[deepest]
        return F.normalize(self.image_projection(features_BC).float(), dim=-1)

    def embed_text(self, tokens_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, W) of length 1, in 32 bits; arguments as `TextTower` takes them."""
        first_BE = self.text(tokens_BT, mask_BT)
        return F.normalize(self.text_projection(first_BE).float(), dim=-1)

    def logit_scale(self) -> Tensor:
        """What cosines are multiplied by."""
        if self.config.temperature == "authors":
            return self.scale
        return self.scale.clamp(max=LARGEST).exp()

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Bring the parameter back to its limit after a step: beyond it, it would have no gradient
        and could not return."""
        if self.config.temperature == "exp":
            self.scale.clamp_(max=LARGEST)


def _mean(stage_BCDHW: Tensor, stage: int) -> Tensor:
    return stage_BCDHW.float().mean(dim=(2, 3, 4))
