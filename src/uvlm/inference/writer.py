"""Findings to files: JSON for programs, Markdown for people, NIfTI for the mask.

All files of a study are written aside under hidden names and renamed together at the end, so an
interrupted run leaves no half result. Nothing that exists is ever overwritten.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uvlm.errors import InputError
from uvlm.imaging.nifti import write_nifti
from uvlm.text.cleaning import split_sections, split_sentences

if TYPE_CHECKING:
    from uvlm.inference.findings import Findings

__all__ = ["Outputs", "check_free", "markdown", "study_name", "write_outputs"]

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".b2nd", ".zip", ".dcm")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the files of one study lie."""

    json: Path
    """Everything but the mask's voxels."""

    markdown: Path
    """The same for a reader."""

    mask: Path | None
    """NIfTI on the input's grid; None without a segmentation."""

    statistics: Path | None = None
    """JSON of ml and mean HU per class, if asked for."""

    @classmethod
    def of(cls, out: Path, study: str, *, mask: bool, statistics: bool = False) -> Outputs:
        """The names of `study` in the folder `out`."""
        return cls(
            json=out / f"{study}.json",
            markdown=out / f"{study}.md",
            mask=out / f"{study}_mask.nii.gz" if mask else None,
            statistics=out / f"{study}_statistics.json" if statistics else None,
        )

    def all(self) -> list[Path]:
        """Every file."""
        files = (self.json, self.markdown, self.mask, self.statistics)
        return [path for path in files if path is not None]


def study_name(path: Path) -> str:
    """File or folder name without the suffix of an image format."""
    name = path.name if path.name not in ("", ".", "..") else path.resolve().name
    lower = name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def check_free(out: Path, targets: Iterable[Path]) -> None:
    """Raise InputError if `out` cannot be a folder or one of `targets` exists."""
    if out.exists() and not out.is_dir():
        raise InputError.about(out, "is a file", "Give a folder to write into.")
    for path in targets:
        if path.exists():
            raise InputError.about(
                path, "exists already", "Outputs are never overwritten; give another --out."
            )


def write_outputs(findings: Findings, out: Path, *, statistics: bool = False) -> Outputs:
    """Write the files of one study whole or not at all.

    Raises:
        InputError: one of the files exists, or `out` cannot be written to.
    """
    has_mask = findings.mask is not None
    targets = Outputs.of(out, findings.study, mask=has_mask, statistics=statistics)
    check_free(out, targets.all())
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".uvlm-", dir=out) as folder:
            aside = Outputs.of(Path(folder), findings.study, mask=has_mask, statistics=statistics)
            _write_all(findings, aside)
            for source, target in zip(aside.all(), targets.all(), strict=True):
                os.replace(source, target)
    except OSError as error:
        raise InputError.about(
            out, f"cannot be written ({error.strerror})", "Check its permissions and free space."
        ) from error
    return targets


def _write_all(findings: Findings, files: Outputs) -> None:
    content = findings.to_dict()
    if files.mask is not None and findings.mask is not None and findings.affine is not None:
        content["mask"]["file"] = files.mask.name
        write_nifti(files.mask, findings.mask, findings.affine)
    files.json.write_text(_json(content), encoding="utf-8")
    files.markdown.write_text(markdown(content), encoding="utf-8")
    if files.statistics is not None:
        files.statistics.write_text(_json(findings.statistics()), encoding="utf-8")


def markdown(content: Mapping[str, Any]) -> str:
    """`Findings.to_dict()` as Markdown: warnings, report, probabilities, volumes, provenance."""
    blocks = [f"# CT study {content['study']}"]
    if content["warnings"]:
        blocks.append("\n>\n".join(f"> **Warning:** {text}" for text in content["warnings"]))
    blocks.append(f"**{content['disclaimer']}** {content['trained_on']}")
    if content["report"] is not None:
        blocks += ["## Report", *_sections(content["generated"])]
    if content["probabilities"] is not None:
        ranked = sorted(content["probabilities"].items(), key=lambda item: -item[1])
        rows = [(name, f"{value:.2f}") for name, value in ranked]
        blocks += ["## Abnormalities", _table(("Label", "Probability"), rows)]
    if content["mask"] is not None:
        blocks += ["## Segmented volumes", _volumes(content["mask"])]
    blocks += ["## Provenance", _provenance(content)]
    return "\n\n".join(blocks) + "\n"


def _sections(generated: str) -> list[str]:
    """Findings, and impression under a heading of its own, a line per sentence."""
    findings, impression = split_sections(generated)
    blocks = [_bullets(findings)] if findings else []
    if impression:
        blocks += ["### Impression", _bullets(impression)]
    return blocks or ["(The model wrote nothing.)"]


def _bullets(text: str) -> str:
    return "\n".join(f"- {sentence}" for sentence in split_sentences(text))


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _volumes(mask: Mapping[str, Any]) -> str:
    present = {n: s for n, s in mask["statistics"].items() if s["volume_ml"] > 0}
    absent = [name for name in mask["statistics"] if name not in present]
    rows = [
        (name, f"{values['volume_ml']:.1f}", f"{values['mean_hu']:.0f}")
        for name, values in present.items()
    ]
    text = _table(("Structure", "Volume (ml)", "Mean HU"), rows) if rows else "Nothing segmented."
    return text + (f"\n\nNot found: {', '.join(absent)}." if absent else "")


def _provenance(content: Mapping[str, Any]) -> str:
    rows = list(_flat(content["manifest"]))
    for part, card in content["model"].get("parts", {}).items():
        rows.append((f"trained on ({part})", str(card["trained_on"])))
    rows.append(("seconds", ", ".join(f"{k} {v:.1f}" for k, v in content["timings"].items())))
    return _table(("What", "Value"), rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, (list, tuple)):
            yield name, " x ".join(str(item) for item in value)
        else:
            yield name, str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in escaped)
