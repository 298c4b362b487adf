"""Training in processes of its own, so that they can be killed, and several at once.

The processes are forked from a server that has imported everything, which takes no time. A kill is
a real SIGKILL, by the process itself, before a chosen change to the run's folder.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from uvlm.training.config import RunConfig

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
SECONDS = 240


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["uvlm.training.run", "tests.training.processes"])
    return context


class Changes:
    """Counts the changes a process makes under a folder; kills it before number `fatal`."""

    def __init__(self, folder: Path, fatal: int | None) -> None:
        self.folder = str(folder)
        self.fatal = fatal
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            changes = isinstance(path, str | os.PathLike) and bool(
                (flags or 0) & (os.O_WRONLY | os.O_RDWR) or (mode and set(mode) & set("wax+"))
            )
        else:
            path, changes = arguments[0] if arguments else None, event in CHANGES
        if not changes or not isinstance(path, str | os.PathLike):
            return
        if not str(path).startswith(self.folder) or "tensorboard" in str(path):
            return
        if len(self.seen) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen.append(f"{event} {Path(path).relative_to(self.folder)}")


def _child(
    config: RunConfig,
    resume: bool,
    environment: dict[str, str],
    fatal: int | None,
    sender: Any,
) -> None:
    import torch

    from uvlm.training.run import train

    torch.set_num_threads(1)
    os.environ |= environment
    if "ACCELERATE_USE_FSDP" in environment:
        _divide_on_cpu()
    os.environ["OMP_NUM_THREADS"] = "1"
    assert config.out is not None
    changes = Changes(config.out, fatal)
    sys.addaudithook(changes)
    try:
        train(config, resume=resume)
        sender.send(changes.seen)
    except BaseException as error:
        sender.send(error)
        raise


def _divide_on_cpu() -> None:
    """Accelerate divides weights over GPUs only; gloo can do it as well. Say that these are
    GPUs, once the way to talk is chosen."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def train_in_processes(
    config: RunConfig,
    *,
    resume: bool = False,
    processes: int = 1,
    kill: tuple[int, int] | None = None,
    environment: dict[str, str] | None = None,
) -> list[str] | None:
    """Run `train` and return the main process's changes to the folder; None if it was killed.

    Args:
        kill: (process, change before which it is killed); the others are killed with it
        environment: variables to add, as a launcher would

    Raises:
        whatever a process raised.
    """
    context = _context()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children, receivers = [], []
    for rank in range(processes):
        variables = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **(environment or {}),
        }
        receiver, sender = context.Pipe(duplex=False)
        fatal = kill[1] if kill and kill[0] == rank else None
        child = context.Process(
            target=_child,
            args=(config, resume, variables if processes > 1 else {}, fatal, sender),
        )
        child.start()
        sender.close()
        children.append(child)
        receivers.append(receiver)
    if kill is not None:
        children[kill[0]].join(SECONDS)
        for child in children:
            if children[kill[0]].exitcode != 0:
                child.kill()
    results = [_result(receiver) for receiver in receivers]
    for child in children:
        child.join(10)
        child.kill()
    if kill is not None and children[kill[0]].exitcode == -signal.SIGKILL:
        return None
    for result in results:
        if isinstance(result, BaseException):
            raise result
    assert isinstance(results[0], list), "a process ended without a word"
    return results[0]


def _result(receiver: Any) -> Any:
    try:
        return receiver.recv() if receiver.poll(SECONDS) else None
    except EOFError:
        return None
