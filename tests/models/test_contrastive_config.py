"""Contrastive configurations refuse what is impossible, and load no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uvlm.errors import ConfigError
from uvlm.models.contrastive_config import ConsistencyConfig, ContrastiveConfig


def test_reading_it_needs_no_torch():
    code = "import sys, uvlm.models.contrastive_config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_weight_falls_in_a_line_and_is_exactly_0_at_its_end():
    falling = ConsistencyConfig()
    assert [falling.weight_at(step) for step in (0, 2500, 5000, 10**9)] == [0.1, 0.05, 0.0, 0.0]
    assert falling.weight_at(4999) > 0
    assert ConsistencyConfig(steps=0).weight_at(0) == 0.0


@pytest.mark.parametrize("change", [{"weight": -0.1}, {"steps": -1}])
def test_negative_consistency_is_refused(change: dict[str, float]):
    with pytest.raises(ConfigError, match="must not be negative"):
        ConsistencyConfig(**change)


def test_embeddings_without_width_are_refused():
    with pytest.raises(ConfigError, match="width of the embeddings must be positive, got 0"):
        ContrastiveConfig(width=0)
