"""Studies of ReXGroundingCT that CT-RATE must not train on.

ReXGroundingCT divides CT-RATE's scans anew: its validation and test studies lie in CT-RATE's
training set. The other way round, what CT-RATE validates on is left out of ReXGroundingCT's
training by `nnunet_raw.keep_apart`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from uvlm.preprocessing.sources.nnunet_raw import ids_of
from uvlm.preprocessing.split import HELD_OUT

__all__ = ["held_out_table", "leakage"]


def held_out_table(studies: Iterable[tuple[str, str | None]]) -> list[tuple[str, ...]]:
    """`held_out.csv`, for `uvlm prepare ct-rate --held-out`.

    Args:
        studies: (series, split)
    """
    rows = {(series, ids_of(series)[1]) for series, split in studies if split in HELD_OUT}
    return [("series_id", "patient_id"), *sorted(rows)]


def leakage(studies: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """A warning, where held-out studies lie in CT-RATE's training set.

    Args:
        studies: (series, split)
    """
    inside = Counter(
        split for series, split in studies if split in HELD_OUT and series.startswith("train_")
    )
    if inside:
        yield (
            f"{inside['valid']} validation and {inside['test']} test studies of ReXGroundingCT lie "
            "in CT-RATE's training set. Keep them out of what CT-RATE trains: `uvlm prepare "
            "ct-rate ... --held-out held_out.csv`, the file that this command writes beside its "
            "catalog."
        )
