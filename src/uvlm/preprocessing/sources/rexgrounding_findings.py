"""What the tables of ReXGroundingCT say: studies, their findings, categories and splits.

    dataset.json                   {"train": [...], "val": [...], "test": [...]}
    MICCAI_challenge_dataset.json  the same, with more validation and test studies; optional

An entry is `{"name": "train_1741_b_2.nii.gz", "findings": {"0": "free text", ...}, "categories":
{"0": "2d", ...}, "pixels": {"0": 1234, ...}}`; `name` is CT-RATE's VolumeName, whatever the split.
Categories may also stand under `category`, or beside the text in an object, or in a CSV file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uvlm.errors import CatalogError, InputError
from uvlm.preprocessing.sources.rexgrounding_classes import category_of
from uvlm.preprocessing.table import read_table

__all__ = ["Entry", "Finding", "read_entries"]

FILES = ("dataset.json", "MICCAI_challenge_dataset.json")
SPLITS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}
ORDER = ("train", "valid", "test")


@dataclass(frozen=True)
class Finding:
    """One finding of a study."""

    index: int
    """Of its mask in the stack."""

    text: str
    category: str
    """As given; empty if unknown."""

    voxels: int | None = None
    """Of its mask, where the table says."""

    @property
    def code(self) -> str | None:
        """One of the 14 categories, or None."""
        return category_of(self.category)


@dataclass(frozen=True)
class Entry:
    """One study."""

    series_id: str
    split: str
    """ "train", "valid" or "test"."""

    findings: tuple[Finding, ...]


def read_entries(folder: Path, categories: Path | None = None) -> tuple[Entry, ...]:
    """Every study of the tables in `folder`; one that stands in several splits has the last of
    train, validation, test.

    Args:
        categories: CSV with the columns name, finding (its index) and category, which count over
            those of the tables.

    Raises:
        CatalogError: no table, a damaged one, an entry of another form, or no category anywhere.
    """
    paths = [folder / name for name in FILES if (folder / name).is_file()]
    if not paths:
        raise CatalogError.about(
            folder, f"neither {FILES[0]} nor {FILES[1]} in it", "Give ReXGroundingCT's folder."
        )
    given = {} if categories is None else _from_csv(categories)
    merged: dict[str, Entry] = {}
    for path in paths:
        for entry in _entries(path, given):
            before = merged.setdefault(entry.series_id, entry)
            merged[entry.series_id] = _joined(before, entry)
    entries = tuple(merged.values())
    if not any(finding.category for entry in entries for finding in entry.findings):
        raise CatalogError.about(
            paths[0],
            "no category of any finding, so that no mask has a class",
            "Use a release whose entries have `categories`, or give --categories CSV with the "
            "columns name, finding, category.",
        )
    return entries


def _joined(first: Entry, second: Entry) -> Entry:
    split = max(first.split, second.split, key=ORDER.index)
    told = [sum(bool(each.category) for each in entry.findings) for entry in (first, second)]
    return Entry(first.series_id, split, (second if told[1] > told[0] else first).findings)


def _entries(path: Path, given: Mapping[tuple[str, int], str]) -> list[Entry]:
    try:
        described = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError.about(
            path, f"unreadable ({type(error).__name__})", "Download it again."
        ) from None
    if not isinstance(described, dict) or not set(SPLITS) & set(described):
        raise CatalogError.about(
            path, "no lists `train`, `val` or `test`", "Give ReXGroundingCT's own file."
        )
    entries = []
    for split, standard in SPLITS.items():
        listed = described.get(split, [])
        if not isinstance(listed, list):
            raise CatalogError.about(path, f"{split!r} is no list", "Download it again.")
        entries += [
            _entry(path, f"{split}[{number}]", standard, each, given)
            for number, each in enumerate(listed)
        ]
    return entries


def _entry(
    path: Path, where: str, split: str, entry: Any, given: Mapping[tuple[str, int], str]
) -> Entry:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise _wrong(path, where, "has no name")
    series_id = _stem(entry["name"])
    texts = _by_index(path, where, entry.get("findings", {}))
    beside = entry.get("categories", entry.get("category", {}))
    codes = _by_index(path, where, [beside] if isinstance(beside, str) else beside)
    pixels = _by_index(path, where, entry.get("pixels", {}))
    findings = []
    for index, said in sorted(texts.items()):
        inside = said if isinstance(said, dict) else {"text": said}
        text = inside.get("text", inside.get("finding", inside.get("description", "")))
        code = given.get((series_id, index)) or codes.get(index) or inside.get("category") or ""
        count = pixels.get(index)
        if not isinstance(text, str) or not isinstance(code, str):
            raise _wrong(path, where, f"finding {index} is not a text with a category")
        voxels = count if isinstance(count, int) and not isinstance(count, bool) else None
        findings.append(Finding(index, " ".join(text.split()), code.strip(), voxels))
    return Entry(series_id, split, tuple(findings))


def _by_index(path: Path, where: str, values: Any) -> dict[int, Any]:
    """`{"0": a, "1": b}` or `[a, b]` by number."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return dict(enumerate(values))
    if not isinstance(values, Mapping):
        raise _wrong(path, where, "has findings or categories that are neither table nor list")
    if not all(str(key).isdecimal() for key in values):
        raise _wrong(path, where, "has a finding that is not numbered 0, 1, 2, ...")
    return {int(key): value for key, value in values.items()}


def _wrong(path: Path, where: str, found: str) -> InputError:
    return CatalogError.about(path, f"{where} {found}", "Correct it, or download the file again.")


def _from_csv(path: Path) -> dict[tuple[str, int], str]:
    table = read_table(path)
    table.require(("name", "finding", "category"))
    given: dict[tuple[str, int], str] = {}
    for number, cells in table.rows:
        if not cells["finding"].isdecimal():
            raise table.error(
                number, "finding", f"{cells['finding'][:20]!r}", "Write its index: 0, 1, 2, ..."
            )
        key = (_stem(cells["name"]), int(cells["finding"]))
        if key in given:
            raise table.error(number, "finding", "the same finding twice", "Remove one row.")
        given[key] = cells["category"]
    return given


def _stem(name: str) -> str:
    return name.strip().removesuffix(".gz").removesuffix(".nii")
