"""What the features of training studies are like, and how far from them a study lies.

The deepest stage of the encoder, mean and spread of each channel over space, is compared by
Mahalanobis distance (Lee et al. 2018) with the covariance of the training studies, shrunk by OAS
(Chen et al. 2010) since there may be fewer studies than features. The limit is a conformal
quantile of the distances of validation studies: of studies like them, no more than `rate` lie
beyond it, whatever the features' distribution.

Shapes: C channels of the deepest stage, d h w its voxels along z y x, F = 2 C features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

__all__ = ["RATE", "Moments", "Typical", "pooled"]

RATE = 0.01
"""Share of studies like the training ones that may be called unlike them."""


def pooled(deepest_1Cdhw: Tensor) -> Tensor:
    """(2 C,) float64 on the CPU: mean and standard deviation of each channel."""
    values_CN = deepest_1Cdhw[0].flatten(1).double()
    return torch.cat([values_CN.mean(1), values_CN.std(1, correction=0)]).cpu()


class Moments:
    """Mean and covariance of features that come one by one; none is kept (Welford 1962)."""

    def __init__(self, features: int) -> None:
        self.count = 0
        self.mean_F = torch.zeros(features, dtype=torch.float64)
        self.scatter_FF = torch.zeros(features, features, dtype=torch.float64)

    def add(self, values_F: Tensor) -> None:
        """Take one study in."""
        self.count += 1
        before_F = values_F - self.mean_F
        self.mean_F += before_F / self.count
        self.scatter_FF += torch.outer(before_F, values_F - self.mean_F)

    def precision(self) -> Tensor:
        """(F, F) inverse of the covariance, shrunk towards equal and independent features."""
        features = len(self.mean_F)
        covariance_FF = self.scatter_FF / self.count
        trace, square = covariance_FF.trace(), covariance_FF.square().sum()
        above = (1 - 2 / features) * square + trace**2
        below = (self.count + 1 - 2 / features) * (square - trace**2 / features)
        share = float((above / below).clamp(0, 1)) if below > 0 else 1.0
        # Features that never change, such as dead channels, still need a scale.
        scale = max(float(trace) / features, torch.finfo(torch.float32).tiny)
        shrunk_FF = (1 - share) * covariance_FF
        shrunk_FF += share * scale * torch.eye(features, dtype=torch.float64)
        inverse_FF: Tensor = torch.linalg.inv(shrunk_FF)
        return inverse_FF.contiguous()


@dataclass(frozen=True, kw_only=True, eq=False)
class Typical:
    """Features of training studies."""

    mean_F: Tensor
    precision_FF: Tensor
    limit: float
    """Largest distance of a study like them."""

    rate: float
    """Share of such studies that may lie beyond the limit."""

    studies: int
    """From which mean and precision are."""

    @classmethod
    def fit(cls, moments: Moments, held_out: Sequence[Tensor]) -> Typical:
        """The limit from the features (F,) of studies that gave no moments."""
        # What is stored decides, so that a limit fits the distances measured later.
        stored = moments.mean_F.float(), moments.precision().float()
        own = cls(
            mean_F=stored[0], precision_FF=stored[1], limit=0.0, rate=0.0, studies=moments.count
        )
        distances = sorted(own.distance(values_F) for values_F in held_out)
        count = len(distances)
        place = min(ceil((1 - RATE) * (count + 1)), count)
        return cls(
            mean_F=own.mean_F,
            precision_FF=own.precision_FF,
            limit=distances[place - 1],
            rate=(count + 1 - place) / (count + 1),
            studies=moments.count,
        )

    def distance(self, values_F: Tensor) -> float:
        """How many standard deviations, all features together, a study lies from the mean."""
        apart_F = values_F - self.mean_F.double()
        square = apart_F @ self.precision_FF.double() @ apart_F
        return float(square.clamp(min=0).sqrt())

    def tensors(self, part: str) -> dict[str, Tensor]:
        """To store, beside those of other parts."""
        numbers = torch.tensor([self.limit, self.rate, self.studies], dtype=torch.float64)
        return {
            f"{part}.mean": self.mean_F,
            f"{part}.precision": self.precision_FF,
            f"{part}.numbers": numbers,
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], part: str) -> Typical | None:
        """Of a part's encoder, as stored; None where nothing is."""
        if f"{part}.numbers" not in tensors:
            return None
        limit, rate, studies = tensors[f"{part}.numbers"].tolist()
        return cls(
            mean_F=tensors[f"{part}.mean"].cpu(),
            precision_FF=tensors[f"{part}.precision"].cpu(),
            limit=limit,
            rate=rate,
            studies=int(studies),
        )
