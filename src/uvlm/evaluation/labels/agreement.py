"""From what a labeller says to the arrays that are compared.

Shapes: N studies, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.text.labelling.protocol import Labels

__all__ = ["label_matrix"]


def label_matrix(labels: Sequence[Labels], classes: Sequence[str]) -> NDArray[np.float64]:
    """(N, C) of 0 and 1, columns in the order of `classes`.

    Raises:
        InputError: a class was not labelled.
    """
    for one in labels[:1]:
        missing = [name for name in classes if name not in one.values]
        if missing:
            raise InputError(
                f"the labeller has no class {missing[0]!r}; it has {', '.join(one.values)}."
            )
    rows = [[one.values[name] for name in classes] for one in labels]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(classes))
