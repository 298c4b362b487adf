"""Where the model looked: heat maps on the grid of the prepared volume.

`class_heat_maps` asks the class head about findings, `heat_maps` the decoder about sentences it
wrote. Both take the gradient of what was said (`heat_methods`). Which to believe was settled by a
pointing test on synthetic studies, whose lesions are known (`benchmarks/pointing.py`): the class
head points at what a sentence states three times as often as the decoder, which hits no more often
than the middle of the volume does. So `sentence_heat_maps` takes the head's map for a sentence that
states a finding the head knows, the decoder's for any other. Attention, gradients over the visual
tokens alone and leaving tokens out, on a grid of a few cells, did no better than a random voxel and
are not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uvlm.inference.encoding import Encoded
from uvlm.inference.evidence.heat_methods import (
    Traced,
    class_logits,
    finest_stage,
    frozen,
    log_probabilities,
    warmth,
)
from uvlm.inference.evidence.types import CLASS_METHOD, DECODER_METHOD, HeatMap
from uvlm.inference.predict import Prediction, Written
from uvlm.models.bundle import Bundle
from uvlm.models.config import Grid
from uvlm.models.encoder import Encoder
from uvlm.models.uvlm import ClassificationModel, ReportModel

__all__ = [
    "class_heat_maps",
    "heat_maps",
    "on_prepared",
    "sentence_heat_maps",
    "stages_needed",
]

DEEPER = 1
"""Stages after the finest that have a say."""


def stages_needed(model: ReportModel) -> tuple[int, ...]:
    """Numbers of the encoder's stages that heat maps read; for `Predictor.predict(keep=...)`.

    They serve a class head as well. () for an encoder other than a U-Net, which has no heat maps.
    """
    if not isinstance(model.encoder, Encoder):
        return ()
    return (finest_stage(model.config.encoder, model.config.shape),)


def sentence_heat_maps(
    bundle: Bundle,
    prediction: Prediction,
    spans: Sequence[range],
    stated: Sequence[Sequence[str]],
) -> list[HeatMap]:
    """The map that points best for each sentence, all on the report part's prepared volume.

    Args:
        prediction: of the report part and, where the bundle has one, the classification part;
            `stages_needed` of their encoder's stages were kept
        spans: tokens of each sentence, see `heat_maps`
        stated: labels of what each sentence says is there

    Returns:
        one map per sentence; its `method` says whose it is

    Raises:
        ValueError: a span is none of the report, or no stage was kept.
    """
    written = prediction.written
    assert written is not None, "a report was written"
    spec_hash = bundle.parts["report"].our_spec.hash
    groups = _known_to_head(bundle, prediction, stated)
    others = [span for span, group in zip(spans, groups, strict=True) if not group]
    model = cast(ReportModel, bundle.modules["report"])
    by_decoder = iter(heat_maps(model, written, others, spec_hash))
    asked = [group for group in groups if group]
    if not asked:
        return list(by_decoder)
    head = cast(ClassificationModel, bundle.modules["classification"])
    encoded = prediction.encoded["classification"]
    by_head = iter(class_heat_maps(head, encoded, asked, spec_hash))
    return [next(by_head if group else by_decoder) for group in groups]


def _known_to_head(
    bundle: Bundle, prediction: Prediction, stated: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Of each sentence's labels those the class head has; none at all without a head, or with one
    of another preparation: on its grid places and sides would be others."""
    part = bundle.parts.get("classification")
    if part is None or "classification" not in prediction.encoded:
        return [[] for _ in stated]
    if part.our_spec.hash != bundle.parts["report"].our_spec.hash:
        return [[] for _ in stated]
    known = part.labels
    return [[label for label in labels if label in known] for labels in stated]


def heat_maps(
    model: ReportModel, written: Written, spans: Sequence[range], spec_hash: str
) -> list[HeatMap]:
    """Where the decoder looked while writing.

    Args:
        written: the report; `stages_needed` of its encoder's stages were kept
        spans: indices into `written.ids` of the tokens that each map is about, see `token_spans`
        spec_hash: preprocessing of the prepared volume

    Returns:
        one map per span

    Raises:
        ValueError: a span is empty or lies outside the report, or no stage was kept.
    """
    for span in spans:
        if not span or span[0] < 0 or span[-1] >= len(written.ids):
            raise ValueError(
                f"tokens {span.start} to {span.stop} are none of a report of {len(written.ids)}"
            )
    if not spans:
        return []
    with frozen(model):
        traced = Traced.of(model.encoder, written.encoded)
        said_T = log_probabilities(model, written, traced)
        return [
            _heat(traced, said_T[span.start : span.stop].sum(), spec_hash, DECODER_METHOD)
            for span in spans
        ]


def class_heat_maps(
    model: ClassificationModel,
    encoded: Encoded,
    groups: Sequence[Sequence[str]],
    spec_hash: str,
) -> list[HeatMap]:
    """Where the class head saw findings.

    Args:
        encoded: of the classification part; `stages_needed` of its stages were kept
        groups: classes of the model that each map is about, such as those a sentence states
        spec_hash: preprocessing of its prepared volume

    Returns:
        one map per group; groups of the same classes have the same one, computed once

    Raises:
        ValueError: a group is empty or holds no class of the model, or no stage was kept.
    """
    known = model.config.classes
    for group in groups:
        if not group or not set(group) <= set(known):
            raise ValueError(
                f"the class head has no map of {list(group)}; its classes are {', '.join(known)}"
            )
    if not groups:
        return []
    with frozen(model):
        traced = Traced.of(model.encoder, encoded)
        logits = class_logits(model, traced)
        asked = [tuple(sorted({known.index(label) for label in group})) for group in groups]
        # Sentences that state the same share one map, as it depends on nothing else.
        maps = {
            classes: _heat(traced, logits[list(classes)].sum(), spec_hash, CLASS_METHOD)
            for classes in dict.fromkeys(asked)
        }
        return [maps[classes] for classes in asked]


def on_prepared(heat: HeatMap, shape: Grid) -> NDArray[np.float32]:
    """(z, y, x) on the prepared grid by linear interpolation; sums to 1, or is all 0.

    Raises:
        ValueError: the map's grid does not divide `shape`.
    """
    if any(n % cells for n, cells in zip(shape, heat.values.shape, strict=True)):
        raise ValueError(
            f"a heat map of {heat.values.shape} cells does not divide a volume of {tuple(shape)}"
        )
    coarse = torch.from_numpy(np.ascontiguousarray(heat.values, dtype=np.float32))
    fine = F.interpolate(coarse[None, None], size=tuple(shape), mode="trilinear")[0, 0].numpy()
    total = fine.sum(dtype=np.float64)
    result: NDArray[np.float32] = (fine / total).astype(np.float32) if total > 0 else fine
    return result


def _heat(traced: Traced, of: Tensor, spec_hash: str, method: str) -> HeatMap:
    used = list(traced.stages)[: 1 + DEEPER]
    values = warmth(traced, traced.gradients(of), used)
    return HeatMap(values=values.cpu().numpy(), spec_hash=spec_hash, method=method)
