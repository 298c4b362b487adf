"""Findings to files: JSON for programs, Markdown and HTML for people, NIfTI for the mask.

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
from uvlm.inference.markdown import markdown

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

    html: Path | None = None
    """One page with pictures; None without a report."""

    @classmethod
    def of(
        cls,
        out: Path,
        study: str,
        *,
        mask: bool,
        statistics: bool = False,
        html: bool = False,
    ) -> Outputs:
        """The names of `study` in the folder `out`."""
        return cls(
            json=out / f"{study}.json",
            markdown=out / f"{study}.md",
            mask=out / f"{study}_mask.nii.gz" if mask else None,
            statistics=out / f"{study}_statistics.json" if statistics else None,
            html=out / f"{study}.html" if html else None,
        )

    def all(self) -> list[Path]:
        """Every file."""
        files = (self.json, self.markdown, self.mask, self.statistics, self.html)
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


def write_outputs(
    findings: Findings, out: Path, *, statistics: bool = False, aside: str = ".uvlm-"
) -> Outputs:
    """Write the files of one study whole or not at all.

    Args:
        aside: begins the hidden folder's name

    Raises:
        InputError: one of the files exists, or `out` cannot be written to.
    """
    what = {
        "mask": findings.mask is not None,
        "statistics": statistics,
        "html": findings.generated is not None and findings.volume is not None,
    }
    targets = Outputs.of(out, findings.study, **what)
    check_free(out, targets.all())
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=aside, dir=out) as folder:
            made = Outputs.of(Path(folder), findings.study, **what)
            _write_all(findings, made)
            for source, target in zip(made.all(), targets.all(), strict=True):
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
    if files.html is not None and findings.volume is not None:
        from uvlm.inference.rendering.document import html_page  # it imports findings

        page = html_page(findings, findings.volume)
        files.html.write_text(page, encoding="utf-8")


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
