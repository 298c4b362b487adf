"""Gradients of what a model says with respect to the maps of its encoder.

The visual tokens of a report are too few to point: 384 in a volume of 192x256x256, each a box of 32
voxels a side. Their gradients are therefore carried back through the deepest stages of the encoder
to maps fine enough to show a lesion, which takes seconds on a CPU for each sentence. Nothing
shallower is run a second time: the maps come from `Encoded.kept`.

Shapes: C channels of a stage, d h w voxels of a stage, T tokens of a report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uvlm.errors import ConfigError
from uvlm.inference.encoding import Encoded
from uvlm.inference.predict import Written
from uvlm.models.config import Grid
from uvlm.models.encoder import Encoder
from uvlm.models.stages import StageEncoder
from uvlm.models.uvlm import ClassificationModel, ReportModel
from uvlm.models.vision_config import VisionConfig

__all__ = ["Traced", "class_logits", "finest_stage", "frozen", "log_probabilities", "warmth"]

FINEST = 2**15
"""Voxels of the finest map that is used: 24x32x32 for a volume of 192x256x256. With more the
stages to go back through take as long as the report itself."""


def finest_stage(config: VisionConfig, shape: Grid) -> int:
    """Number of the shallowest stage whose map has at most `FINEST` voxels; else the deepest."""
    stages = range(1, config.num_stages + 1)
    sizes = {stage: torch.Size(config.stage_grid(shape, stage)).numel() for stage in stages}
    return next((stage for stage in stages if sizes[stage] <= FINEST), config.num_stages)


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """The maps of an encoder's deeper stages, each made of the one before with its gradient."""

    stages: Mapping[int, Tensor]
    """Number -> (1, C, d, h, w), finest first; the first is the leaf."""

    tokens: Mapping[int, Tensor]
    """As in `Encoded`, for the stages shallower than these."""

    @classmethod
    def of(cls, encoder: StageEncoder, encoded: Encoded) -> Traced:
        """From the finest map on that was kept.

        Raises:
            ValueError: none was.
            ConfigError: the encoder has no stages that are made of one another.
        """
        if not isinstance(encoder, Encoder):
            raise ConfigError(
                "heat maps go back through the stages of a U-Net; this model's encoder is a vision "
                "transformer. Ask for the report without evidence."
            )
        if not encoded.kept:
            raise ValueError(
                "no stage of the encoder was kept; give Predictor.predict keep=stages_needed(model)"
            )
        first = min(encoded.kept)
        dtype = next(encoder.parameters()).dtype
        # A copy, for what was made in inference mode has no gradient.
        made = encoded.kept[first].to(dtype=dtype, copy=True).requires_grad_()
        stages = {first: made}
        for number, stage in enumerate(list(encoder.stages)[first:], start=first + 1):
            made = stage(made)
            stages[number] = made
        tokens = {number: t.to(dtype=dtype, copy=True) for number, t in encoded.tokens.items()}
        return cls(stages=stages, tokens=tokens)

    def gradients(self, of: Tensor) -> dict[int, Tensor]:
        """Stage -> (1, C, d, h, w), of a number with respect to each map by all ways; 0 where it
        does not depend on one. Can be asked again for another number.

        Raises:
            ValueError: it depends on none of them, or by operations without a gradient.
        """
        maps = list(self.stages.values())
        found = torch.autograd.grad(of, maps, retain_graph=True, allow_unused=True)
        if all(gradient is None for gradient in found):
            raise ValueError(
                "what was said has no gradient with respect to the encoder's maps; products of "
                "narrowed weights may have none: load the model with precision fp32"
            )
        return {
            stage: torch.zeros_like(of_map) if gradient is None else gradient
            for (stage, of_map), gradient in zip(self.stages.items(), found, strict=True)
        }


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Gradients are taken, but none for weights, which would cost memory for nothing."""
    wanting = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        # Entering a study from within inference mode is common: the pipeline predicts in it.
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def log_probabilities(model: ReportModel, written: Written, traced: Traced) -> Tensor:
    """(T,) log-probability of every token of the report after those before it."""
    align = model.align
    pooled = {
        stage: align.pool_stage(traced.stages[stage], stage)
        if stage in traced.stages
        else traced.tokens[stage]
        for stage in align.stages_used
    }
    ids = torch.tensor([*written.prompt, *written.ids], device=pooled[align.stages_used[0]].device)
    # The token at a position predicts the next one.
    last = slice(len(written.prompt) - 1, len(ids) - 1)
    logits_TV = model.decode(align.project(pooled), ids[None], logits_at=last)[0].float()
    said_T = ids[len(written.prompt) :]
    return torch.as_tensor(-F.cross_entropy(logits_TV, said_T, reduction="none"))


def class_logits(model: ClassificationModel, traced: Traced) -> Tensor:
    """(labels,) of the class head."""
    return model.classify(list(traced.stages.values()))[0]


def warmth(traced: Traced, gradients: Mapping[int, Tensor], used: Sequence[int]) -> Tensor:
    """(d, h, w) of the first of the stages `used`, at least 0 and summing to 1, or all 0.

    Each stage says how much its every voxel speaks for the number: the gradient times how far the
    map's channels lie above or below their mean over the study. What speaks against it is left
    out. A place is warm if all stages say so (their geometric mean): the deeper ones know what
    something is, the finer ones where.
    """
    grid = tuple(traced.stages[used[0]].shape[2:])
    product = torch.ones(grid, device=traced.stages[used[0]].device)
    for stage in used:
        map_1Cdhw = traced.stages[stage].detach().float()
        over_1Cdhw = map_1Cdhw - map_1Cdhw.mean(dim=(2, 3, 4), keepdim=True)
        speaks_11dhw = (gradients[stage].float() * over_1Cdhw).sum(dim=1, keepdim=True).relu()
        on_grid = F.interpolate(speaks_11dhw, size=grid, mode="trilinear")[0, 0]
        product = product * _shares(on_grid).pow(1 / len(used))
    return _shares(product)


def _shares(values: Tensor) -> Tensor:
    total = values.sum()
    return values / total if total > 0 else values
