"""Choose among candidate reports: likely to the decoder, and agreeing with the class head.

A decoder prefers what most reports say; a class head has seen whether a finding is there. A
candidate's score is its log-probability per token plus a weight times its agreement: the mean over
the classes of log p where the labeller reads the class as present, of log (1 - p) where it does
not. No torch import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from uvlm.errors import InputError
from uvlm.text.labelling.protocol import Labeller

__all__ = ["Ranked", "agreement", "rerank"]

SURE = 0.01
"""A head is never taken to be surer than this: one class must not decide over all others."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate and why it stands where it does."""

    place: int
    """Among the candidates given, counted from 0."""

    text: str
    likelihood: float
    """Mean log-probability of its tokens, nats."""

    agreement: float
    """See `agreement`; 0 where labeller and head share no class."""

    score: float


def agreement(stated: Mapping[str, int], probabilities: Mapping[str, float]) -> float:
    """Mean log-probability, to the class head, of what a report says of the classes both know.

    Args:
        stated: class -> 1 where the report says it is there, else 0
        probabilities: class -> probability that it is there
    """
    known = [(stated[name], p) for name, p in probabilities.items() if name in stated]
    sure = [(there, min(max(p, SURE), 1 - SURE)) for there, p in known]
    return sum(log(p if there else 1 - p) for there, p in sure) / len(sure) if sure else 0.0


def rerank(
    texts: Sequence[str],
    likelihoods: Sequence[float],
    labeller: Labeller,
    probabilities: Mapping[str, float],
    weight: float,
) -> list[Ranked]:
    """The candidates, best first; of equals the one given first.

    Args:
        likelihoods: mean log-probability per token of each
        weight: of the agreement, see `GuideOptions.agreement`

    Raises:
        InputError: labeller and class head share no class, so that nothing can agree.
    """
    if weight and not set(labeller.classes) & set(probabilities):
        raise InputError(
            f"candidates cannot be compared with the class head: its labels "
            f"({', '.join(list(probabilities)[:3])}, ...) are none of those that {labeller.name} "
            "reads in reports. Give an agreement of 0, or no candidates."
        )
    ranked = []
    labelled = labeller.label(texts)
    for place, (text, likelihood, labels) in enumerate(
        zip(texts, likelihoods, labelled, strict=True)
    ):
        agreed = agreement(labels.values, probabilities)
        ranked.append(
            Ranked(
                place=place,
                text=text,
                likelihood=likelihood,
                agreement=agreed,
                score=likelihood + weight * agreed,
            )
        )
    return sorted(ranked, key=lambda candidate: -candidate.score)
