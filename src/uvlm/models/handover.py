"""Hand a trained encoder from one task to the next, every tensor by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from uvlm.errors import BundleError, ConfigError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.models.bundle import Bundle
from uvlm.models.bundle_files import ENCODERS, Split

__all__ = ["Handover", "check_split", "load_encoder", "recorded"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What was handed over; belongs into the record of the run."""

    source: str
    """Part of the bundle the encoder came from."""

    fingerprint: str
    """The bundle's."""

    tensors: int
    """Tensors copied: all of the encoder's."""

    values: int
    """Numbers in them."""

    differences: tuple[str, ...]
    """How the preprocessing of this run differs from the source's, one setting each."""


def check_split(bundle: Bundle, split: Split) -> None:
    """Refuse to go on from `bundle` with other validation patients than its parts had.

    A larger share would validate on patients the encoder has learned from; a smaller one would
    train on patients an earlier part was validated on. A part that does not say how its patients
    were divided is warned of; a 2D encoder has learned from none of them.

    Raises:
        ConfigError: naming the share to use.
    """
    for name, part in bundle.parts.items():
        if part.task == "slices":
            continue
        if part.split is None:
            log.warning(
                "%s: its %s part does not say which patients it was validated on; unless its "
                "val_fraction was %g too, patients it was trained on are validated on now.",
                bundle.path,
                name,
                split.val_fraction,
            )
        elif part.split.val_fraction != split.val_fraction:
            raise ConfigError.about(
                bundle.path,
                f"its {name} part was trained with val_fraction {part.split.val_fraction:g}, this "
                f"run has {split.val_fraction:g}, so one would train on what the other validates "
                "on",
                f"Use --data.val-fraction {part.split.val_fraction:g}, or train the {name} part "
                "again.",
            )
        elif set(part.split.held_out) != set(split.held_out):
            raise ConfigError.about(
                bundle.path,
                f"its {name} part left out the splits {', '.join(part.split.held_out) or 'none'}, "
                f"this run leaves out {', '.join(split.held_out)}",
                f"Train the {name} part again.",
            )


def load_encoder(
    target: nn.Module, bundle: Bundle, spec: PreprocessSpec | None, *, part: str | None = None
) -> Handover:
    """Copy the encoder of `bundle` into `target.encoder`.

    Args:
        target: a model of this package on any device, with `encoder` and `config`
        spec: preprocessing of the run that begins; a difference is warned of and recorded
        part: whose encoder; default the last one trained

    Raises:
        BundleError: the encoders differ in any setting, or the bundle lacks the part.
    """
    source = part or [name for name in ENCODERS if name in bundle.parts][-1]
    if source not in bundle.parts:
        raise BundleError.about(
            bundle.path, f"it has no {source} part", f"It holds {', '.join(bundle.parts)}."
        )
    given: Any = bundle.modules[source]
    taking: Any = target
    found = _differences(given.config.encoder, taking.config.encoder)
    if found:
        raise BundleError.about(
            bundle.path,
            f"its encoder differs from this run's: {'; '.join(found)}",
            "Give both runs one encoder configuration.",
        )
    weights = given.encoder.state_dict()
    taking.encoder.load_state_dict(weights, strict=True)
    return recorded(bundle, source, weights, spec)


def recorded(
    bundle: Bundle, source: str, weights: Mapping[str, Tensor], spec: PreprocessSpec | None
) -> Handover:
    """The record of `weights` taken over from part `source`; other preprocessing is warned of."""
    differences = _preparations(bundle.parts[source].spec, spec)
    for difference in differences:
        log.warning("%s: preprocessing differs from this run's: %s", bundle.path, difference)
    values = sum(tensor.numel() for tensor in weights.values())
    log.info(
        "weights of the %s part taken over: %d tensors, %d values", source, len(weights), values
    )
    return Handover(
        source=source,
        fingerprint=bundle.fingerprint,
        tensors=len(weights),
        values=values,
        differences=differences,
    )


def _preparations(there: PreprocessSpec | None, here: PreprocessSpec | None) -> tuple[str, ...]:
    """How two ways of preparing volumes differ; None is nnU-Net's own, which has no description."""
    if there is None and here is not None:
        return ("the volumes were prepared by nnU-Net there",)
    return () if here is None else _differences(there, here)


def _differences(there: Any, here: Any) -> tuple[str, ...]:
    names = (field.name for field in fields(there))
    pairs = ((name, getattr(there, name), getattr(here, name)) for name in names)
    return tuple(f"{name} is {a} there, {b} here" for name, a, b in pairs if a != b)
