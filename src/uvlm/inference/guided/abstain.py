"""Whether a person must look at a study before anything else, and why.

A model answers whatever it is given. Where the study is not of the kind it was trained on, or the
report stays at odds with what else is known, the answer is given with the reasons for doubt.
No torch import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uvlm.imaging.audit import Audit
from uvlm.inference.evidence.types import Contradiction

__all__ = ["Distance", "review_reasons"]

MOST_CONTRADICTIONS = 1
"""One that stands alone is shown at its sentence; more say that the report as a whole is in
doubt."""

ENOUGH = frozenset({"side", "itself"})
"""Kinds of which one is one too many: a disputed side, and a report that contradicts itself."""

COARSE = "Voxels are "
"""The audit's warning that says nothing of what the model knows: studies are resized to one grid,
and thick slices are in every training set."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a study's features lie from those of the training studies."""

    value: float
    limit: float
    rate: float
    """Share of studies like the training ones beyond the limit."""

    @property
    def beyond(self) -> bool:
        """A value that is not a number is beyond every limit."""
        return not self.value <= self.limit


def review_reasons(
    *,
    region: str | None,
    audit: Audit | None,
    distance: Distance | None = None,
    contradictions: Sequence[Contradiction] = (),
) -> tuple[str, ...]:
    """One sentence per reason; () where none was found.

    Args:
        region: body region that the model was trained on; None where a flag names another already
        audit: None for values that are unknown to be HU
        distance: None where the bundle does not know what its training studies were like
        contradictions: of the report, after the best candidate was chosen
    """
    reasons = [*_of_audit(region, audit)]
    if distance is not None and distance.beyond:
        reasons.append(
            f"The study is unlike those the model was trained on: distance {distance.value:.1f}, "
            f"of studies like them {distance.rate:.1%} lie beyond {distance.limit:.1f}."
        )
    # What two sentences repeat is one disagreement.
    named = dict.fromkeys(map(_named, contradictions))
    if any(found.kind in ENOUGH for found in contradictions) or len(named) > MOST_CONTRADICTIONS:
        reasons.append(f"The report is contradicted: {', '.join(named)}.")
    return tuple(reasons)


def _named(found: Contradiction) -> str:
    what = (found.label or "a finding").lower()
    kinds = {"unmentioned": "not mentioned", "itself": "both stated and denied"}
    return f"{what} ({kinds.get(found.kind, found.kind)})"


def _of_audit(region: str | None, audit: Audit | None) -> list[str]:
    if audit is None:
        return ["It is unknown whether the values are Hounsfield units."]
    reasons = [] if audit.usable else [audit.reason]
    if region and audit.region != "unknown" and region not in audit.region.split("+"):
        reasons.append(f"The study looks like {audit.region}, the model was trained on {region}.")
    return [*reasons, *(text for text in audit.warnings if not text.startswith(COARSE))]
