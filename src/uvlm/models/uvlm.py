"""Models of task 2 and 3: the shared encoder with a class head, or any encoder with a decoder.

Shapes: B batch, C labels or channels, D H W voxels along z y x, T text tokens, E decoder width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uvlm.errors import ConfigError
from uvlm.models.bridge import Bridge, build_bridge
from uvlm.models.config import ClassificationConfig, PretrainedConfig, ReportConfig
from uvlm.models.decoder import Decoder
from uvlm.models.encoder import Encoder
from uvlm.models.heads import QueryHead
from uvlm.models.injection import VisualPlan
from uvlm.models.language import LogitsAt
from uvlm.models.layout import TokenLayout
from uvlm.models.pretrained import PretrainedDecoder
from uvlm.models.stages import StageEncoder
from uvlm.models.vision import build_encoder
from uvlm.models.vit import SlicedVolume

__all__ = ["ClassificationModel", "ReportModel"]


class ClassificationModel(nn.Module):
    """A volume in, one logit per label out (Eq. 2).

    Shape:
        x: (B, in_channels, D, H, W)
        result: (B, C)
    """

    def __init__(self, config: ClassificationConfig) -> None:
        super().__init__()
        if not config.classes:
            raise ConfigError("classification needs classes; take them from the catalog's labels.")
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.head = QueryHead(config.encoder.features[-1], len(config.classes), config.heads)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        return self.classify(self.encoder(x_BCDHW))

    def classify(self, stages: Sequence[Tensor]) -> Tensor:
        """`forward` from the encoder's stages on."""
        logits: Tensor = self.head(stages[-1])
        return logits


def _decoder(config: ReportConfig) -> Decoder | PretrainedDecoder:
    if not isinstance(config.decoder, PretrainedConfig):
        return Decoder(config.decoder)
    if config.injection.place != "before":
        raise ConfigError("a pretrained decoder takes injection before its layers only.")
    decoder = PretrainedDecoder(config.decoder)
    if config.before_text >= decoder.positions:
        fewer = "a larger packer.kernel" if config.packer else "a deeper injection.reference_stage"
        raise ConfigError(
            f"the base model reads {decoder.positions} positions, too few for "
            f"{config.num_visual_tokens} visual tokens and a report; use {fewer} or another base."
        )
    return decoder


class ReportModel(nn.Module):
    """A volume and text tokens in, next-token logits out (Eq. 3 to 5).

    With a pretrained decoder a fresh model lacks the base's weights; `load_base_weights` and
    `load_bundle` give them.

    `forward` is `decode(visual_plan(encoder(x)), tokens)`; callers that have one part already,
    such as the encoder's stages or the plan of a study, start there.

    Shape:
        x: (B, in_channels, D, H, W), D H W = config.shape; a `SlicedVolume` for an encoder that
            looks at slices
        tokens: (B, T), text only (the vision markers are added here), padded at the end
        result: (B, T, V), position t predicts token t + 1; or those `logits_at` names
    """

    def __init__(self, config: ReportConfig) -> None:
        super().__init__()
        self.config = config
        self.marker_ids = config.marker_ids
        if not config.decoder.layers:
            raise ConfigError("the base of the pretrained decoder was not read; use read_base.")
        self.encoder: StageEncoder = build_encoder(config.encoder)
        self.align: Bridge = build_bridge(config)
        self.decoder = _decoder(config)

    def forward(
        self, x: Tensor | SlicedVolume, tokens_BT: Tensor, *, logits_at: LogitsAt = None
    ) -> Tensor:
        plan = self.visual_plan(self.encoder(x))
        return self.decode(plan, tokens_BT, logits_at=logits_at)

    def visual_plan(self, stages: Sequence[Tensor]) -> VisualPlan:
        """What the decoder receives from the encoder's stages."""
        plan: VisualPlan = self.align(stages)
        return plan

    def decode(self, plan: VisualPlan, tokens_BT: Tensor, *, logits_at: LogitsAt = None) -> Tensor:
        """Logits at the text positions, without a cache."""
        embeddings_BLE, layout = self.embed(plan, tokens_BT)
        logits, _ = self.decoder(embeddings_BLE, layout, plan, logits_at=logits_at)
        return torch.as_tensor(logits)

    def embed(self, plan: VisualPlan, tokens_BT: Tensor) -> tuple[Tensor, TokenLayout]:
        """Embeddings of the whole sequence, `<vision_start> vision <vision_end> text` with the
        markers there are, and where each part sits."""
        ids, opening = self.marker_ids, self.config.opening
        ids_Bm = tokens_BT.new_tensor(ids).expand(len(tokens_BT), len(ids))
        # One look-up: each has a gradient as large as the vocabulary.
        found_BXE = self.decoder.embedding(torch.cat((ids_Bm, tokens_BT), dim=1))
        before_BmE, after_BmE, text_BTE = found_BXE.tensor_split((opening, len(ids)), dim=1)
        embeddings_BLE = torch.cat((before_BmE, plan.prefix, after_BmE, text_BTE), dim=1)
        return embeddings_BLE, plan.layout(tokens_BT.shape[1])
