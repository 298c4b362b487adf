"""Search among studies by words, by a study or by one of their own number.

An index holds one unit vector per study and, where every study has a report, one per report. It
belongs to the bundle that made it: vectors of another one cannot be compared.

    INDEX.npz     ids, image (N, W) and maybe text (N, W), as `uvlm evaluate retrieval` reads them
    INDEX.json    fingerprint and preprocessing of the bundle, checksum of INDEX.npz, studies that
                  could not be embedded

Shapes: N studies, W numbers of an embedding.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uvlm.errors import BundleError, ConfigError, InputError
from uvlm.evaluation.embeddings import read_embeddings, unit_rows
from uvlm.evaluation.joining import study_key
from uvlm.evaluation.written import write_whole

__all__ = ["Among", "Hit", "Index", "check_name"]

FORMAT = 1
SUFFIX, DESCRIPTION = ".npz", ".json"
DIGITS = 6
"""Of a cosine, as vectors have 32 bits; beyond, equal rows may differ by a processor's order of
additions."""

ANEW = "Build it again with `uvlm retrieve index`."

Among = Literal["volumes", "reports"]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A study that was found."""

    rank: int
    """From 1."""

    id: str
    cosine: float
    """To the query, -1 to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """Unit vectors of studies and what made them.

    Raises:
        InputError: no study, another number of vectors than of ids, an id twice, or a vector
            without direction.
    """

    ids: tuple[str, ...]

    image: NDArray[np.float64]
    """(N, W)"""

    text: NDArray[np.float64] | None = None
    """(N, W); None where a study has no report."""

    fingerprint: str
    """Of the part and the bundle that made the vectors: part/fingerprint."""

    spec_hash: str
    """Of the preprocessing."""

    signatures: tuple[str, ...] = ()
    """Hashes of names, sizes and times of the studies' files, to know one again; () unknown."""

    failed: Mapping[str, str] = field(default_factory=dict)
    """Id -> why the study is not in the index."""

    path: Path | None = None
    """Where it was read from."""

    def __post_init__(self) -> None:
        name, times = Counter(self.ids).most_common(1)[0] if self.ids else ("", 0)
        if times > 1:
            raise self._error(f"study {name!r} twice", "Give each study once.")
        for kind, rows in (("image", self.image), ("text", self.text)):
            if rows is not None and len(rows) != len(self.ids):
                raise self._error(f"{len(self.ids)} ids and {len(rows)} {kind} vectors", ANEW)
            if rows is not None:
                unit = unit_rows(rows, self.ids, self.path or "the index")
                object.__setattr__(self, kind, unit)

    def check(self, fingerprint: str) -> None:
        """Raise BundleError if a part of a bundle is not what made the index."""
        if fingerprint != self.fingerprint:
            raise BundleError.about(
                self.path or "the index",
                f"it was made with {self.fingerprint}, the bundle is {fingerprint}",
                "Give that bundle, or build the index again with `uvlm retrieve index`.",
            )

    def search(
        self,
        vector: ArrayLike,
        top: int = 10,
        *,
        among: Among = "volumes",
        leave_out: Collection[str] = (),
    ) -> list[Hit]:
        """The studies nearest to a vector, nearest first, those equally near by id.

        All are compared, so that the first of a longer list are the shorter list.

        Args:
            vector: (W,)
            leave_out: ids that are no answer, as that of the query itself

        Raises:
            ConfigError: `top` is below 1.
            InputError: a vector of another width or without direction; or reports are asked for
                and the index has none.
        """
        if top < 1:
            raise ConfigError(f"top must be at least 1, got {top}.")
        rows = self._rows(among)
        (query,) = unit_rows(np.atleast_2d(np.asarray(vector)), what="the query")
        if query.shape != rows.shape[1:]:
            raise self._error(
                f"its vectors have {rows.shape[1]} numbers, the query {len(query)}",
                "Give a query made with the same bundle.",
            )
        cosines = np.round(rows @ query, DIGITS)
        order = sorted(range(len(self.ids)), key=lambda row: (-cosines[row], self.ids[row]))
        found = [row for row in order if self.ids[row] not in leave_out][:top]
        return [
            Hit(rank=rank, id=self.ids[row], cosine=float(cosines[row]))
            for rank, row in enumerate(found, 1)
        ]

    def search_like(
        self, study: str, top: int = 10, *, query: Among = "volumes", among: Among = "volumes"
    ) -> list[Hit]:
        """The studies nearest to one of the index, which itself is left out unless its volume is
        asked for by its report, or the other way about.

        Raises:
            ConfigError, InputError: as `search`; or there is no such study.
        """
        rows = self._rows(query)
        own = self.same_study(study)
        if not own:
            raise self._error(f"no study {study!r}", "Name one of its ids.")
        vector = rows[self.ids.index(study if study in own else min(own))]
        return self.search(vector, top, among=among, leave_out=own if query == among else ())

    def same_study(self, name: str, signature: str = "") -> set[str]:
        """Ids under which a study may stand in the index: its name's, or that of the same files."""
        same = {each for each in self.ids if study_key(each) == study_key(name)}
        known = zip(self.ids, self.signatures, strict=False)
        return same | {each for each, known_as in known if signature and known_as == signature}

    def save(self, path: Path) -> list[Path]:
        """Write INDEX.npz and INDEX.json, both or neither.

        Raises:
            InputError: the name does not end in .npz, one exists already, or cannot be written.
        """
        path = check_name(path)
        arrays: dict[str, Any] = {"ids": np.array(self.ids), "image": self.image.astype(np.float32)}
        if self.text is not None:
            arrays["text"] = self.text.astype(np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        described = {
            "format": FORMAT,
            "bundle": self.fingerprint,
            "spec_hash": self.spec_hash,
            "sha256": hashlib.sha256(content).hexdigest(),
            "signatures": list(self.signatures),
            "failed": dict(self.failed),
        }
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        beside = path.with_suffix(DESCRIPTION)
        return write_whole(path.parent, {beside.name: text, path.name: content})

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing, damaged, or not the other's.
        """
        beside = check_name(path).with_suffix(DESCRIPTION)
        found = read_embeddings(path)
        try:
            described = json.loads(beside.read_text("utf-8"))
            if described["format"] != FORMAT:
                raise InputError.about(beside, f"of format {described['format']!r}", ANEW)
            about = {name: str(described[own]) for name, own in _NAMES.items()}
            signatures = tuple(map(str, described["signatures"]))
            failed = {str(name): str(why) for name, why in described["failed"].items()}
            sha256 = described["sha256"]
        except FileNotFoundError:
            raise InputError.about(
                path, f"there is no {beside.name} beside it", f"Copy both files. {ANEW}"
            ) from None
        except InputError:  # which is a ValueError
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError.about(beside, f"damaged ({type(error).__name__})", ANEW) from None
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise InputError.about(path, f"it is not the file that {beside.name} describes", ANEW)
        return cls(
            ids=found.ids,
            image=found.image,
            text=found.text,
            signatures=signatures,
            failed=failed,
            path=path,
            **about,
        )

    def _rows(self, among: Among) -> NDArray[np.float64]:
        if among == "volumes":
            return self.image
        if self.text is None:
            raise self._error(
                "it holds no reports", "Build it from a catalog whose studies all have one."
            )
        return self.text

    def _error(self, found: str, remedy: str) -> InputError:
        return InputError.about(self.path or "the index", found, remedy)


_NAMES = {"fingerprint": "bundle", "spec_hash": "spec_hash"}


def check_name(path: Path) -> Path:
    """Raise InputError if an index cannot have this name."""
    if path.suffix.lower() != SUFFIX:
        raise InputError.about(path, f"its name does not end in {SUFFIX}", "Give such a name.")
    return path
