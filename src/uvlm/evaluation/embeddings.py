"""Embeddings of volumes and reports as a file: `ids`, `image` and, for reports, `text` in one .npz.

Rows are made unit vectors when they are read, so that a product is a cosine. A row that is zero or
not finite has no direction; it is refused, never ranked.

Shapes: N studies, D numbers per embedding.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvlm.errors import InputError
from uvlm.evaluation.joining import study_key

__all__ = ["Embeddings", "read_embeddings", "unit_rows"]

SHOWN = 3
"""Ids named in a message."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Unit vectors of the same studies."""

    ids: tuple[str, ...]

    image: NDArray[np.float64]
    """(N, D)"""

    text: NDArray[np.float64] | None = None
    """(N, D), in the space of `image`."""

    path: Path | None = None
    """Where they were read from."""

    def __post_init__(self) -> None:
        for name, rows in (("image", self.image), ("text", self.text)):
            if rows is not None and len(rows) != len(self.ids):
                raise self._error(
                    f"{len(self.ids)} ids and {len(rows)} {name} embeddings",
                    "Give one row per id, in the same order.",
                )
        if self.text is not None and self.text.shape != self.image.shape:
            raise self._error(
                f"image embeddings are {self.image.shape} and text embeddings {self.text.shape}",
                "Both must come from the last projection of one model.",
            )

    def in_order(
        self, ids: Sequence[str], *, extra: Literal["refuse", "drop"] = "refuse"
    ) -> Embeddings:
        """The same embeddings in the order of `ids`, which are those of the reports or labels.

        Ids are compared by `study_key`. A study without an embedding is refused: leaving it out
        would make the gallery smaller and the search easier.

        Args:
            extra: embeddings of studies that are not asked for; "drop" where they are left out for
                a reason that is stated elsewhere, such as other reconstructions of a scan

        Raises:
            InputError: an id occurs twice, or is missing on one side.
        """
        own, wanted = [study_key(name) for name in self.ids], [study_key(name) for name in ids]
        for side, names in (("the embeddings", own), ("the references", wanted)):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise self._error(f"{side} name study {twice[0]!r} twice", "Give each study once.")
        place = {name: row for row, name in enumerate(own)}
        missing = [name for name in wanted if name not in place]
        others = sorted(set(own) - set(wanted)) if extra == "refuse" or missing else []
        if missing or others:
            raise self._error(_unmatched(missing, others), _REMEDY)
        rows = np.array([place[name] for name in wanted], dtype=np.int64)
        return Embeddings(
            ids=tuple(ids),
            image=self.image[rows],
            text=None if self.text is None else self.text[rows],
            path=self.path,
        )

    def _error(self, found: str, remedy: str) -> InputError:
        return InputError.about(self.path or "embeddings", found, remedy)


_REMEDY = "Give embeddings of exactly the studies that are scored; the size of the gallery counts."


def _unmatched(missing: Sequence[str], extra: Sequence[str]) -> str:
    parts = []
    for names, where in ((missing, "without an embedding"), (extra, "without a reference")):
        if names:
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            parts.append(f"studies {where}: {len(names)} ({shown})")
    folded = {name.casefold() for name in missing} & {name.casefold() for name in extra}
    if folded:
        parts.append(f"{len(folded)} of them differ in capitals only")
    return "; ".join(parts)


def read_embeddings(path: Path) -> Embeddings:
    """Read `ids` (N texts), `image` (N, D) and, if there, `text` (N, D) of an .npz file.

    Raises:
        InputError: the file is missing or damaged, lacks an array, or a row has no direction.
    """
    try:
        # Pickles inside are refused: a file of vectors must not be able to run code.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            found = ", ".join(file.files) or "nothing"
            arrays = {name: file[name] for name in ("ids", "image", "text") if name in file.files}
    except FileNotFoundError as error:
        raise InputError.about(path, "there is no such file", "Give an .npz file.") from error
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError.about(
            path,
            "no readable .npz file of plain arrays",
            "Write it with numpy.savez(FILE, ids=..., image=..., text=...), ids as texts.",
        ) from error
    for name in ("ids", "image"):
        if name not in arrays:
            raise InputError.about(
                path, f"no array {name!r}; found: {found}", "Name them ids, image and text."
            )
    ids = tuple(str(name) for name in arrays["ids"].ravel())
    text = arrays.get("text")
    return Embeddings(
        ids=ids,
        image=unit_rows(arrays["image"], ids, f"{path}: array 'image'"),
        text=None if text is None else unit_rows(text, ids, f"{path}: array 'text'"),
        path=path,
    )


def unit_rows(
    rows: NDArray[Any], ids: Sequence[str] = (), what: Path | str = "embeddings"
) -> NDArray[np.float64]:
    """(N, D) numbers -> (N, D) of length one.

    Args:
        ids: to name a bad row by; its number otherwise

    Raises:
        InputError: not two axes of numbers, no row, or a row that is zero or not finite.
    """
    array = np.asarray(rows)
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.number):
        raise InputError.about(
            what,
            f"shape {array.shape} of {array.dtype}",
            "Give one row of numbers per study, (studies, width).",
        )
    values = array.astype(np.float64)
    # Scaled by the largest entry first: the square of a large or tiny number has no float.
    largest = np.abs(values).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(largest) & (largest > 0))[:, 0])
    if len(bad):
        first = int(bad[0])
        name = repr(ids[first]) if first < len(ids) else f"number {first + 1}"
        kind = "zero" if largest[first, 0] == 0 else "not finite"
        raise InputError.about(
            what,
            f"{len(bad)} of {len(values)} embeddings have no direction; that of {name} is {kind}",
            "Compute them again; a model in half precision may have overflowed.",
        )
    values /= largest
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values
