"""`uvlm measure CT MASK`: volume in ml and mean HU of each class of a mask."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from uvlm.cli.common import write_json
from uvlm.errors import ImageError, InputError

if TYPE_CHECKING:
    from uvlm.imaging.measure import ClassMeasure
    from uvlm.imaging.volume import Volume

__all__ = ["main"]

log = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".b2nd")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="uvlm measure",
        description="Volume in ml and mean HU of each class of a mask, on the CT's own grid.",
    )
    parser.add_argument("ct", type=Path, help="CT: any file or folder `uvlm inspect` reads")
    parser.add_argument(
        "mask", type=Path, help="mask with one label per class, or a folder with one file per class"
    )
    parser.add_argument(
        "--names", type=Path, metavar="JSON", help='names of the labels: {"1": "spleen", ...}'
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    args = parser.parse_args(argv)
    if args.names and args.mask.is_dir():
        raise InputError.about(args.names, "names given for a folder", "Files name their class.")
    if args.json:
        _refuse_output(args.json, args.names)

    from uvlm.imaging.audit import audit
    from uvlm.imaging.readers import read_volume
    from uvlm.preprocessing.sources.structures import read_class_names

    image = read_volume(args.ct)
    verdict = audit(image)
    if not verdict.usable:
        log.warning("%s: the means are not HU. %s", args.ct, verdict.reason)
    rows = _measure(image, args.mask, read_class_names(args.names) if args.names else None)
    print(_table(rows))
    if args.json:
        classes = [asdict(row) for row in rows]
        facts = {"ct": str(args.ct), "mask": str(args.mask), "hu_verdict": verdict.verdict}
        write_json(args.json, {**facts, "classes": classes})
    return 0


def _refuse_output(out: Path, names: Path | None) -> None:
    """What was given to read is never replaced by what is written."""
    if out.suffix.lower() != ".json" or (names and names.resolve() == out.resolve()):
        raise InputError.about(out, "no name for the numbers", "Give a new one that ends in .json.")


def _measure(image: Volume, mask: Path, names: dict[int, str] | None) -> list[ClassMeasure]:
    from uvlm.imaging.measure import measure
    from uvlm.imaging.readers import read_volume

    if not mask.is_dir():
        return measure(image, read_volume(mask, labels=True), names)
    files = {path.name[: -len(s)]: path for s in SUFFIXES[::-1] for path in mask.glob(f"*{s}")}
    if not files:
        raise ImageError.about(mask, "a folder without masks", f"Give files {', '.join(SUFFIXES)}.")
    rows = []
    for label, (name, path) in enumerate(sorted(files.items()), start=1):
        organ = read_volume(path, labels=True)
        if len(found := _labels(organ)) > 1:
            raise ImageError.about(
                path, f"labels {found[:5]} in one file of a folder", "Give it alone, as the mask."
            )
        one = replace(organ, array=(organ.array > 0).astype("uint8"))
        rows += [replace(row, label=label) for row in measure(image, one, {1: name})]
    return rows


def _table(rows: list[ClassMeasure]) -> str:
    width = max([len("class"), *(len(row.name) for row in rows)])
    lines = [f"{'class':<{width}}  {'label':>5}  {'ml':>12}  {'mean HU':>10}  {'voxels':>10}"]
    for row in rows:
        mean = "-" if row.mean_hu is None else f"{row.mean_hu:.2f}"
        lines.append(
            f"{row.name:<{width}}  {row.label:>5}  {row.volume_ml:>12.3f}  {mean:>10}  "
            f"{row.voxels:>10}"
        )
    return "\n".join(lines)


def _labels(mask: Volume) -> list[int]:
    import numpy as np

    return [int(label) for label in np.unique(mask.array) if label != 0]
