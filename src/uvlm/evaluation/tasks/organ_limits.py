"""Limits that are given for all organs or for one: `30`, or `liver=50`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uvlm.errors import ConfigError

__all__ = ["Given", "organ_limits", "said_limits"]

Given = tuple[tuple[str, float], ...]
"""(organ or label, number); no organ: of all that are not named."""


def organ_limits(
    option: str, given: Given, names: Sequence[str], otherwise: float, most: float = math.inf
) -> dict[str, float]:
    """Label -> its limit.

    Args:
        names: of the labels, which begin with their organ ("Liver lesion")
        otherwise: of the labels of which nothing is given

    Raises:
        ConfigError: no such organ, one twice, or a number that is not from 0 to `most`.
    """
    organs = {name.split()[0].casefold(): name for name in names}
    labels = {name.casefold(): name for name in names}
    found: dict[str, float] = {}
    for organ, number in given:
        label = (labels | organs).get(organ.casefold(), "")
        if organ and not label:
            known = ", ".join(organs)
            raise ConfigError(
                f"{option}: no organ {organ!r}. Give NUMBER or ORGAN=NUMBER, with ORGAN one of "
                f"{known}."
            )
        if label in found:
            raise ConfigError(f"{option}: two numbers for {organ or 'all organs'}. Keep one.")
        if not 0.0 <= number <= most or math.isinf(number):
            limit = f"from 0 to {most:g}" if most < math.inf else "a number from 0"
            raise ConfigError(f"{option} must be {limit}, got {number:g}.")
        found[label] = number
    return {name: found.get(name, found.get("", otherwise)) for name in names}


def said_limits(values: dict[str, float]) -> str:
    """One number where all are alike, else each with its label."""
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):.3g}"
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
