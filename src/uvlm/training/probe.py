"""How fast this machine trains: one small step of the encoder, timed."""

from __future__ import annotations

import time

import torch

from uvlm.models.config import EncoderConfig
from uvlm.models.encoder import Encoder
from uvlm.models.sizes import encoder_sizes

__all__ = ["measured_tflops"]

CONFIG = EncoderConfig(blocks=(1, 1, 1, 1, 1, 1))
SHAPES = {"cpu": (64, 64, 64), "cuda": (128, 128, 128)}
REPEATS = {"cpu": 3, "cuda": 10}


def measured_tflops(device: str, precision: str) -> float:
    """10^12 operations per second of a training step of the paper's encoder with fewer blocks.

    Args:
        device: "cpu" or "cuda"
        precision: of `LoopConfig`
    """
    shape = SHAPES[device]
    encoder = Encoder(CONFIG).to(device)
    x = torch.zeros(1, 1, *shape, device=device)
    narrow = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)

    def step() -> None:
        with torch.autocast(device, narrow, enabled=precision != "no"):
            loss = encoder(x)[-1].float().sum()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    step()  # kernels are chosen once
    took = []
    for _ in range(REPEATS[device]):
        start = time.perf_counter()
        step()
        took.append(time.perf_counter() - start)
    seconds = min(took)  # what else runs only adds
    flops = 3 * sum(part.flops for part in encoder_sizes(CONFIG, shape))
    return flops / seconds / 1e12
