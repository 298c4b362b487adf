"""No model hub is asked for anything while a metric's model is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["offline"]

FLAGS = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@contextmanager
def offline() -> Iterator[None]:
    """Set the offline flags of the Hugging Face libraries, and put them back afterwards."""
    before = {flag: os.environ.get(flag) for flag in FLAGS}
    os.environ.update(dict.fromkeys(FLAGS, "1"))
    # huggingface_hub reads its flag once, when it is imported.
    constants = sys.modules.get("huggingface_hub.constants")
    known = getattr(constants, "HF_HUB_OFFLINE", None)
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if constants is not None:
            constants.HF_HUB_OFFLINE = known  # type: ignore[attr-defined]
        for flag, value in before.items():
            if value is None:
                os.environ.pop(flag, None)
            else:
                os.environ[flag] = value
