"""What no model was trained on is told from new studies of its own kind, by features alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.inference.bundle_factory import chest_array
from uvlm.inference.guided.typical import Moments, Typical, pooled
from uvlm.models.config import EncoderConfig
from uvlm.models.encoder import Encoder

SHAPE = (16, 32, 32)
ENCODER = EncoderConfig(features=(4, 8, 8), strides=(1, 2, 2), blocks=(1, 1, 1))
Array = NDArray[np.float64]


def chest(seed: int) -> Array:
    """HU of a patient of another size, place and lung density than the next."""
    rng = np.random.default_rng(seed)
    hu = chest_array(SHAPE, seed).astype(np.float64)
    hu = np.where(hu < -700, hu + rng.normal(0, 20), hu)
    return np.roll(hu, rng.integers(-1, 2, 3), (0, 1, 2))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ENCODER).eval()


@torch.inference_mode()
def features(encoder: Encoder, hu: Array) -> torch.Tensor:
    image = torch.tensor((hu - hu.mean()) / hu.std(), dtype=torch.float32)
    *_, deepest = encoder.each_stage(image[None, None])
    return pooled(deepest)


@pytest.fixture(scope="module")
def typical(encoder: Encoder) -> Typical:
    moments = Moments(2 * ENCODER.features[-1])
    for seed in range(100):
        moments.add(features(encoder, chest(seed)))
    return Typical.fit(moments, [features(encoder, chest(seed)) for seed in range(100, 200)])


def flagged(encoder: Encoder, typical: Typical, studies: list[Array]) -> float:
    return float(np.mean([typical.distance(features(encoder, s)) > typical.limit for s in studies]))


def test_new_studies_of_the_same_kind_pass(encoder, typical):
    assert typical.rate < 0.011
    assert flagged(encoder, typical, [chest(seed) for seed in range(200, 280)]) <= 0.05


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: -hu,
        lambda hu: np.maximum(hu - 1024, -1024),
        lambda hu: np.random.default_rng(0).normal(0, 300, hu.shape),
        lambda hu: hu.transpose(1, 0, 2).reshape(hu.shape),
    ],
    ids=["inverted", "intercept twice, clipped", "noise", "axes mixed up"],
)
def test_what_is_no_chest_is_flagged(encoder, typical, change):
    assert flagged(encoder, typical, [change(chest(seed)) for seed in range(200, 220)]) == 1.0
