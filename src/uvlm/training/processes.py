"""The processes of a run: how they find each other, and what they compute on."""

from __future__ import annotations

import atexit
import logging
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import nn
from torch.optim import Optimizer

from uvlm.errors import ConfigError
from uvlm.training.config import RunConfig
from uvlm.training.weights import divided

__all__ = ["join_processes", "prepare"]

log = logging.getLogger(__name__)

PATIENCE = timedelta(hours=6)
"""How long processes wait for the main one, which validates and writes alone."""

DIVIDING = {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"}


def join_processes(config: RunConfig) -> Accelerator:
    """Meet the other processes that a launcher started, or be the only one.

    Raises:
        ConfigError: the precision, or the way of dividing weights, cannot be had.
    """
    # A process may train more than once, with another precision each time.
    AcceleratorState._reset_state()
    precision = config.loop.precision
    world = int(os.environ.get("WORLD_SIZE", "1"))
    # Several processes without an accelerator would otherwise not hear of each other.
    cpu = config.loop.device == "cpu" or (world > 1 and not torch.accelerator.is_available())
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            cpu=cpu,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as error:
        raise ConfigError(f"loop.precision {precision} cannot be used here: {error}") from error
    # Without a GPU, Accelerate would say nothing and compute in 32 bits.
    if precision == "fp16" and accelerator.scaler is None:
        raise ConfigError("loop.precision fp16 needs a GPU; choose bf16 or no.")
    if world > 1:
        # Once, however many runs follow: threads of the group must not outlive the interpreter.
        atexit.unregister(_part)
        atexit.register(_part)
    _check_processes(accelerator, world)
    if DIVIDING & os.environ.keys() and not divided(accelerator):
        raise ConfigError(
            "FSDP and DeepSpeed divide weights over several GPUs, which are not there; launch with "
            "runs/accelerate/ddp.yaml instead."
        )
    if accelerator.distributed_type is DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ConfigError(
            "FSDP needs version 2: set fsdp_version: 2 in Accelerate's configuration."
        )
    if accelerator.distributed_type is DistributedType.DEEPSPEED:
        _set_deepspeed(accelerator, config)
    return accelerator


def _part() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_processes(accelerator: Accelerator, world: int) -> None:
    if accelerator.num_processes != world:
        raise ConfigError(
            f"{world} processes were started, but {accelerator.num_processes} work together; on "
            "CPUs add --loop.device cpu."
        )
    launched_alone = (
        os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
        and "MASTER_PORT" in os.environ
        and "LOCAL_RANK" not in os.environ
        and world == 1
    )
    if launched_alone:
        log.warning(
            "`accelerate launch --cpu` starts several processes only with MPI; this is one alone. "
            "Give `--multi_gpu` in place of `--cpu`: without a GPU it starts processes on CPUs."
        )


def _set_deepspeed(accelerator: Accelerator, config: RunConfig) -> None:
    """Its own configuration file leaves to us what the run's settings say."""
    if config.optim.ema > 0:
        raise ConfigError("optim.ema needs whole weights; use DDP or FSDP, not DeepSpeed.")
    plugin: Any = accelerator.state.deepspeed_plugin
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": config.data.batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": config.optim.clip,
        "zero_allow_untested_optimizer": True,
    }


def prepare(accelerator: Accelerator, task: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
    """Both as the processes share them.

    Raises:
        ConfigError: the layers to divide weights by are not in the model.
    """
    try:
        prepared: tuple[Any, Any] = accelerator.prepare(task, optimizer)
    except ValueError as error:
        if "layer class" not in str(error):
            raise
        raise ConfigError(
            f"{error} Set fsdp_transformer_layer_cls_to_wrap in Accelerate's configuration: Block "
            "for a decoder from scratch, Qwen3DecoderLayer for Qwen3."
        ) from error
    return prepared
