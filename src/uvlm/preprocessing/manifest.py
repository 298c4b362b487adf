"""`run.json`: what made a prepared folder, from what, with which result; and whose folder it is.

It is written when a run begins (`outcome` "running") and when it ends, so that a folder says what
it is from the first moment, and a run that was killed can be told from one that ended.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from uvlm.config import to_dict
from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.preprocessing.catalog import Row, read_spec, write_text
from uvlm.preprocessing.entries import grouped
from uvlm.preprocessing.records import Record
from uvlm.preprocessing.study import Exclusion, Listing

__all__ = [
    "RUN",
    "Identity",
    "Outcome",
    "compare_earlier",
    "notes_of",
    "now",
    "prevalence",
    "refuse_other",
    "versions",
    "write_run",
]

RUN = "run.json"

Outcome = Literal["running", "complete", "partial", "failed"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What must be equal for a second run to go on in the same folder."""

    name: str
    labels: tuple[str, ...]
    scopes: Mapping[str, Mapping[str, int]]
    """Scope to classes."""

    spec: PreprocessSpec

    @classmethod
    def of(cls, listing: Listing, spec: PreprocessSpec) -> Identity:
        scopes = {scope.name: dict(scope.classes) for scope in listing.scopes}
        return cls(name=listing.name, labels=listing.labels, scopes=scopes, spec=spec)

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        values: dict[str, Any] = json.loads(json.dumps(to_dict(self)))
        return values | {"spec_hash": self.spec.hash}


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(timezone.utc)


def versions() -> dict[str, str]:
    """Of what decides the result."""
    found = {"python": platform.python_version()}
    for name in ("uvlm", "numpy", "blosc2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def prevalence(labels: Sequence[str], rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Label -> how many series have it, have it not, and are unknown."""
    found = {}
    for place, label in enumerate(labels):
        counts = Counter(row.labels[place] for row in rows)
        found[label] = {
            "positive": counts[1.0],
            "negative": counts[0.0],
            "unknown": counts[None],
        }
    return found


def notes_of(records: Iterable[Record]) -> dict[str, int]:
    """What readers decided, audits doubted and masks needed -> in how many series, commonest first.

    Sentences that differ only in numbers or names are one.
    """
    found = []
    for record in records:
        image = record.image
        found += [*image.get("warnings", ()), *image.get("notes", ()), *record.notes]
    return dict(grouped(found))


def write_run(
    out: Path,
    identity: Identity,
    *,
    outcome: Outcome,
    started: datetime,
    excluded: Sequence[Exclusion] = (),
    **facts: Any,
) -> None:
    """Write `run.json` whole or not at all.

    Args:
        facts: further entries, ready for JSON
    """
    ended = None if outcome == "running" else now()
    reasons = Counter(each.reason for each in excluded)
    values = {
        "outcome": outcome,
        "dataset": identity.plain(),
        "versions": versions(),
        "started": started.isoformat(timespec="seconds"),
        "ended": ended and ended.isoformat(timespec="seconds"),
        "seconds": ended and round((ended - started).total_seconds(), 1),
        **facts,
        "exclusion_reasons": dict(reasons.most_common()),
        "exclusions": [to_dict(each) for each in excluded],
    }
    write_text(out / RUN, json.dumps(values, indent=2) + "\n")


def refuse_other(out: Path, identity: Identity, names: Iterable[str]) -> None:
    """Refuse a folder that holds anything but an earlier run of the same dataset.

    Args:
        names: files that the run will write into `out` or below

    Raises:
        CatalogError: saying which file is another's, or what differs.
    """
    if out.exists() and not out.is_dir():
        raise CatalogError.about(out, "a file, not a folder", "Choose another --out.")
    earlier = _earlier(out)
    if earlier is not None:
        wanted = identity.plain()
        differs = [
            key for key in ("spec", "scopes", "labels", "name") if earlier[key] != wanted[key]
        ]
        if differs:
            raise CatalogError.about(
                out,
                "it holds a dataset that was prepared in another way (another "
                f"{', '.join(differs)})",
                "Choose another --out.",
            )
        return
    if not (out / RUN).exists() and _is_described(out):
        raise CatalogError.about(
            out,
            "a dataset that was prepared without run.json, as version 0.1.0 did. It can be trained "
            "on as it is, but not added to",
            "Choose another --out.",
        )
    for name in names:
        if (out / name).exists():
            raise CatalogError.about(
                out / name,
                "a file that this command did not write, or a dataset prepared in another way",
                "Choose another --out, or move it.",
            )


def _is_described(out: Path) -> bool:
    """Whether the `dataset.json` in `out` is that of a prepared dataset."""
    try:
        return read_spec(out) is not None
    except CatalogError:
        return False


def _earlier(out: Path) -> dict[str, Any] | None:
    """The identity of the run that wrote into `out`, by `run.json`."""
    try:
        found = json.loads((out / RUN).read_text("utf-8"))["dataset"]
        return {key: found[key] for key in ("spec", "scopes", "labels", "name")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compare_earlier(out: Path, listing: Listing, earlier: Mapping[str, Record]) -> list[str]:
    """What to tell the user if `earlier` runs prepared series that `listing` does not have.

    Raises:
        CatalogError: it has none of them, so that `out` holds another dataset.
    """
    prepared = {name for name, record in earlier.items() if record.error is None}
    listed = {study.series_id for study in listing.studies}
    listed |= {each.series_id for each in listing.rejected}
    listed |= {each.series_id for each in listing.excluded}
    gone = prepared - listed
    if prepared and gone == prepared:
        raise CatalogError.about(
            out,
            f"it holds {len(prepared)} prepared series, of which none is in this dataset",
            "Choose another --out.",
        )
    if not gone:
        return []
    return [
        f"{len(gone)} series of an earlier run are no longer in the dataset; they are in no "
        "catalog, and their stores stay."
    ]
