"""HSENet's own lists: volumes already prepared as `.npy`, with reports, slice features, questions.

    INPUT.json...   as HSENet's scripts read them: stage 1, stage 2 and reports, BIMCV-R, questions

Such a volume lost its voxel sizes and its way to the CT: the column `geometry` of the catalog says
"unknown", and its millimetres are indices. Its HU are those of the window, rounded. A file that a
list names and that is missing or of another kind rejects its study; nothing stands in for it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from uvlm.errors import CatalogError, InputError
from uvlm.imaging.preprocess import PreprocessSpec, preset
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.catalog import check_id
from uvlm.preprocessing.hsenet_lists import (
    ListEntry,
    read_features,
    read_list,
    read_volume_file,
    to_hu,
)
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.sources.bimcv_r import ids_in
from uvlm.preprocessing.sources.ct_rate_files import named_series
from uvlm.preprocessing.sources.radgenome_tables import Question, questions_of
from uvlm.preprocessing.study import Listing, Rejection, Study
from uvlm.text.cleaning import clean_report

__all__ = [
    "DESCRIPTION",
    "NNUNET",
    "ListVolume",
    "add_arguments",
    "features_of",
    "list_lists",
    "list_studies",
    "spec_of",
]

DESCRIPTION = (
    "Takes over what HSENet's scripts made: lists that name .npy volumes, reports, slice features "
    "and questions. Several lists of the same volumes become one catalog. Where the CTs are at "
    "hand, prepare those instead: an .npy volume has lost its geometry and what lay outside the "
    "window. The grid is 32 256 256 unless --shape says another."
)
NNUNET: NnunetName | None = None

SHAPE = (32, 256, 256)
SLICES = (32, 768)
UNKNOWN = "unknown"
SUFFIX = "_3D_features"

Axes = Literal["zxy", "zyx"]
Grid = tuple[int, int, int]

NOTE = "Made from a list: HU are those of the window -1000..200, rounded; the geometry is unknown."


@dataclass(frozen=True, kw_only=True)
class ListVolume:
    """A volume that a list names, and the slice features that go with it."""

    path: Path
    shape: Grid
    """Voxels that the file must have, in its own order."""

    axes: Axes = "zxy"
    features: Path | None = None
    slices: tuple[int, int] = SLICES
    """Slices, and numbers of each."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path, *((self.features,) if self.features else ()))

    def read(self) -> Volume:
        """HU on a grid of 1 mm, which stands for no length; features are checked too."""
        hu = to_hu(read_volume_file(self.path, self.shape))
        if self.features is not None:
            read_features(self.features, self.slices)
        affine = np.eye(4)
        if self.axes == "zxy":
            affine = affine[[1, 0, 2, 3]]
        return Volume(
            array=hu,
            affine=affine,
            provenance=Provenance(
                path=str(self.path),
                format="npy",
                checksum=hashlib.sha256(self.path.read_bytes()).hexdigest(),
                notes=(NOTE,),
            ),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("lists", type=Path, nargs="+", metavar="INPUT", help="JSON lists of the same volumes")
    add(
        "--moved",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="beginning of the paths in the lists, and what it is now",
    )
    add(
        "--axes",
        choices=("zxy", "zyx"),
        default="zxy",
        help="order of the files' axes (default zxy, as HSENet's scripts write CT-RATE)",
    )
    add("--name", default="HSENet lists", help="what the studies are, for model cards")
    add(
        "--feature-shape",
        type=int,
        nargs=2,
        default=SLICES,
        metavar=("S", "F"),
        help="slices and numbers of each (default 32 768)",
    )
    add("--slices", type=Path, metavar="BANK", help="slice bank to write (default OUT/slices)")


def spec_of(args: argparse.Namespace) -> PreprocessSpec:
    """HSENet's, without the crop that its scripts have already done."""
    spec = preset("hsenet", tuple(args.shape) if args.shape else SHAPE)
    return replace(spec, foreground=False)


def list_studies(args: argparse.Namespace) -> Listing:
    return list_lists(
        [Path(os.path.abspath(path)) for path in args.lists],
        shape=tuple(args.shape) if args.shape else SHAPE,
        moved=tuple(args.moved) if args.moved else None,
        axes=args.axes,
        slices=tuple(args.feature_shape),
        name=args.name,
    )


@dataclass
class _Draft:
    """What the lists say of one image."""

    image: Path
    split: str
    source: Path
    report: str | None = None
    features: Path | None = None
    questions: list[ListEntry] = field(default_factory=list)


def list_lists(
    lists: Sequence[Path],
    *,
    shape: Grid = SHAPE,
    moved: tuple[str, str] | None = None,
    axes: Axes = "zxy",
    slices: tuple[int, int] = SLICES,
    name: str = "HSENet lists",
) -> Listing:
    """The studies of one or several lists; a series is named as its file, without `_3D_features`.

    Raises:
        CatalogError: as `read_list`; lists that disagree about an image; two images of one name.
    """
    drafts: dict[Path, _Draft] = {}
    for path in lists:
        for entry in read_list(path, moved):
            draft = drafts.setdefault(entry.image, _Draft(entry.image, entry.split, path))
            _add(draft, path, entry)
    names = _names(drafts.values())
    studies, rejected = [], []
    for series, draft in names.items():
        if draft.report == "" and not draft.questions:
            error = f"{draft.source}: no report of {draft.image}. Add it, or remove the entry."
            rejected.append(Rejection(series_id=series, source=draft.source, error=error))
            continue
        file_shape = shape if axes == "zyx" else (shape[0], shape[2], shape[1])
        image = ListVolume(
            path=draft.image, shape=file_shape, axes=axes, features=draft.features, slices=slices
        )
        studies.append(_study(series, draft, image))
    vqa, unanswered = questions_of(
        question for study in studies for question in _questions(study, names[study.series_id])
    )
    asked = any(draft.questions for draft in drafts.values())
    return Listing(
        name=name,
        region="chest",
        labels=(),
        studies=tuple(studies),
        extra_columns=("geometry",),
        rejected=tuple(rejected),
        tables={"vqa_rejected.csv": unanswered} if asked else {},
        study_tables={"vqa.csv": vqa} if asked else {},
        warnings=_doubts(names, len(unanswered) - 1),
    )


def _add(draft: _Draft, path: Path, entry: ListEntry) -> None:
    def refuse(what: str) -> InputError:
        found = f"{entry.where}: {what} than in {draft.source} ({entry.image})"
        return CatalogError.about(path, found, "Make the lists agree.")

    if entry.split != draft.split:
        raise refuse("in another split")
    if entry.text is not None:
        report = clean_report(entry.text)
        if draft.report not in (None, report):
            raise refuse("another report")
        draft.report = report
    if entry.features is not None:
        if draft.features not in (None, entry.features):
            raise refuse("other features")
        draft.features = entry.features
    if entry.abnormality is not None:
        draft.questions.append(entry)


def _names(drafts: Iterable[_Draft]) -> dict[str, _Draft]:
    names: dict[str, _Draft] = {}
    for draft in drafts:
        series = re.sub(rf"({SUFFIX})?\.npy$", "", draft.image.name)
        problem = check_id(series)
        if problem:
            found = f"the name of {draft.image} {problem}"
            raise CatalogError.about(draft.source, found, "Rename the file.")
        other = names.setdefault(series, draft)
        if other is not draft:
            found = f"{draft.image} has the name of {other.image}"
            raise CatalogError.about(draft.source, found, "Give every file a name of its own.")
    return names


def _study(series: str, draft: _Draft, image: ListVolume) -> Study:
    named = named_series(series)
    patient, case = (named[0], named[1]) if named else ids_in(series) or (series, series)
    return Study(
        series_id=series,
        case_id=case,
        patient_id=patient,
        image=image,
        split=draft.split,
        report=draft.report or "",
        extra={"geometry": UNKNOWN},
    )


def _questions(study: Study, draft: _Draft) -> Iterable[Question]:
    """Entries that ask the same are one question with every answer."""
    asked: dict[str, Question] = {}
    for entry in draft.questions:
        finding = entry.abnormality or ""
        new = Question(study.series_id, "location", "", finding)
        question = asked.setdefault(finding.casefold(), new)
        answer = "/".join(part.strip() for part in entry.anatomy.split("/") if part.strip())
        if answer:
            question.answers.setdefault(answer.casefold(), answer)
    return asked.values()


def _doubts(names: Mapping[str, _Draft], unanswered: int) -> tuple[str, ...]:
    bare = sum(draft.features is None for draft in names.values())
    counts = (
        (len(names), "volumes have no geometry: their millimetres are indices."),
        (bare if bare < len(names) else 0, "studies have no slice features."),
        (unanswered, "questions have no right answer; see vqa_rejected.csv."),
    )
    return tuple(f"{count} {text}" for count, text in counts if count)


def features_of(listing: Listing) -> dict[str, Path]:
    """Series to its file of slice features, of those that have one."""
    images = {study.series_id: study.image for study in listing.studies}
    return {
        series: image.features
        for series, image in images.items()
        if isinstance(image, ListVolume) and image.features is not None
    }
