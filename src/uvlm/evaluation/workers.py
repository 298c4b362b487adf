"""One function over many studies, in this process or in several, with a progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from uvlm.errors import ConfigError

__all__ = ["each"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, what: str
) -> list[Result]:
    """`function` of every item, in order. The bar shows on a terminal only.

    Args:
        function: with several workers one that can be sent to another process
        what: is being done, for the bar

    Raises:
        ConfigError: `workers` is below 1.
        Exception: what the function raises first; what has not begun is then not begun.
    """
    if workers < 1:
        raise ConfigError(f"workers must be 1 or more, got {workers}.")

    def shown(results: Iterator[Result]) -> list[Result]:
        return list(tqdm(results, what, len(items), unit="study", disable=None))

    if min(workers, len(items)) < 2:
        return shown(map(function, items))
    # "spawn": a fork of a process that has threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), context) as pool:
        try:
            return shown(pool.map(function, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
