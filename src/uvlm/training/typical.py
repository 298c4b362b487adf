"""What the features of a run's training studies are like, found at its end and kept in the bundle.

Inference compares each study with it, so that a person is asked to look at what the model was not
trained on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from uvlm.data.batching import validation_batches
from uvlm.data.dataset import StudyDataset
from uvlm.inference.guided.typical import Moments, Typical, pooled
from uvlm.models.bundle_files import ENCODERS
from uvlm.models.vision import vision_input
from uvlm.preprocessing.catalog import Row
from uvlm.training.session import Session

__all__ = ["typical_features"]

log = logging.getLogger(__name__)

MOST, MOST_HELD_OUT = 2000, 1000
"""Training and validation studies that are encoded: three times as many as the paper's 640
features, and enough for a 99th percentile. They are spread evenly over the catalog."""

FEWEST = 10
"""Studies of either kind below which nothing is said."""


def typical_features(session: Session, model: nn.Module) -> dict[str, Tensor]:
    """The bundle's "typical" tensors: those of the earlier bundle and those of the part trained.

    One pass of the encoder over some of the studies as they are, in full precision; none where the
    encoder is that of an earlier part which has them already. `model` is in eval mode afterwards.
    """
    earlier = session.earlier.extras.get("typical", {}) if session.earlier else {}
    found = {name: tensor.clone() for name, tensor in earlier.items()}
    task = session.config.task
    if task == "segmentation" or task.startswith("contrastive"):
        return found
    part = "report" if task == "report" else "classification"
    made = _of_encoder_taken_over(session)
    if made is None:
        model.eval()
        made = _fit(session, model)
    for name in ("classification", "report") if task == "joint" else (part,):
        found = {key: tensor for key, tensor in found.items() if not key.startswith(f"{name}.")}
        found |= {} if made is None else {k: t.clone() for k, t in made.tensors(name).items()}
    return found


def _of_encoder_taken_over(session: Session) -> Typical | None:
    """Of the part whose encoder the run began with, where it stayed as it was."""
    if session.earlier is None or not session.frozen:
        return None
    source = [name for name in ENCODERS if name in session.earlier.parts][-1]
    part: Any = session.earlier.parts[source]
    if part.spec != session.studies.spec or part.config.encoder != session.model_config.encoder:
        return None
    return Typical.of(session.earlier.extras.get("typical", {}), source)


def _fit(session: Session, model: nn.Module) -> Typical | None:
    train = _spread(session.studies.train, MOST)
    held_out = _spread(session.studies.val, MOST_HELD_OUT)
    if min(len(train), len(held_out)) < FEWEST:
        log.warning(
            "the bundle will not know studies unlike its training studies: of %d for training and "
            "%d for validation, %d of each are needed",
            len(train),
            len(held_out),
            FEWEST,
        )
        return None
    encoder: Any = model.get_submodule("encoder")
    if session.slices is None and getattr(encoder.config, "gated", False):
        log.warning(
            "the bundle will not know studies unlike its training studies: the encoder looks at "
            "slices, and the run was given a feature bank alone; name the slices too (data.slices)"
        )
        return None
    moments = Moments(2 * encoder.config.features[-1])
    for values_F in _features(session, encoder, train):
        moments.add(values_F)
    found = Typical.fit(moments, list(_features(session, encoder, held_out)))
    log.info(
        "features of %d training studies: %.1f %% of studies like them lie beyond distance %.1f",
        found.studies,
        100 * found.rate,
        found.limit,
    )
    return found


@torch.no_grad()
def _features(session: Session, encoder: Any, rows: Sequence[Row]) -> Iterator[Tensor]:
    """(F,) of each study."""
    device = session.accelerator.device
    encoder.to(device)
    data = replace(session.config.data, bank=None)
    studies = StudyDataset(rows, data, session.studies.spec, slices=session.slices)
    for batch in validation_batches(studies, len(rows)):
        seen = {key: batch[key].to(device) for key in ("image", "slices") if key in batch}
        for row in range(len(batch["image"])):
            x = vision_input({key: value[row : row + 1] for key, value in seen.items()})
            # A queue of one: each stage is let go of when the next is there.
            (deepest_1Cdhw,) = deque(encoder.each_stage(x), maxlen=1)
            yield pooled(deepest_1Cdhw)


def _spread(rows: Sequence[Row], most: int) -> Sequence[Row]:
    return [rows[i * len(rows) // most] for i in range(most)] if len(rows) > most else rows
