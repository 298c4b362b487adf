"""Shared by all tests: the folder of real data, or a skip that says it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real CT, beside the project; synthetic studies cover the same ground."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data: {REAL_DATA} is absent")
    return REAL_DATA
