"""One study of the catalog as tensors, or the patch of it that a training step asks for.

Only the chunks that the patch touches are decoded. What a sample looks like depends on its `Draw`
(study and seed) and on nothing else, so a resumed run sees what an unbroken run would have seen.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from uvlm.data.augment import Augmenter
from uvlm.data.bank import Bank
from uvlm.data.config import DataConfig, Grid
from uvlm.data.partial import PartialRow
from uvlm.data.questions import QuestionRow
from uvlm.data.slice_bank import SliceBank
from uvlm.errors import CatalogError
from uvlm.imaging.preprocess import PreprocessSpec
from uvlm.imaging.store import StoredArray, read_scaling
from uvlm.preprocessing.catalog import Row
from uvlm.text.cleaning import clean_report
from uvlm.text.prompts import Example, findings_sentence, spacing_sentence

__all__ = [
    "Draw",
    "Encode",
    "EncodeQuestion",
    "EncodeText",
    "Sample",
    "StudyDataset",
    "report_group",
]

Encode = Callable[[str, str | None], Example]
"""Report and, where the model is told something of the study in its prompt, that -> tokens."""

EncodeText = Callable[[str, np.random.Generator | None], list[int]]
"""Report and, while training, what draws the sentences to keep -> ids for a text encoder."""

EncodeQuestion = Callable[[QuestionRow, str, np.random.Generator | None], Example]
"""Question, one of its right answers and, while training, what draws its wording -> tokens."""

Sample = dict[str, Any]
"""image (1, d, h, w) float32, or from a bank features: stage -> (K, C) float16; as asked for: seg
(1, d, h, w) int16 and, where catalogs differ in their classes, known (C,) bool; labels (C,) float32
with NaN for unknown; tokens (T,) int64, answer (T,) bool, of a report or a question; text (T,)
int64, group () int64, the same for equal reports; slices (S, F) float32; and series_id."""

MARGIN = 1.5
"""How much more than a patch is read per axis, so that turning it draws in real voxels. nnU-Net
reads 1.6 times its cubic patches for the same angles; corners beyond are filled with the mean."""

VOXELS_PER_CLASS = 100
"""Voxels remembered per study and class; a patch centre needs one."""

FINDINGS_STREAM, TEXT_STREAM, QUESTION_STREAM = 1, 2, 3
"""Tell the random numbers of what a study is told and asked from those of its image, and from one
another."""


class Draw(NamedTuple):
    """What a sampler asks a dataset for."""

    study: int
    seed: int


class StudyDataset(Dataset[Sample]):
    """Rows of a catalog; `dataset[Draw(study, seed)]` is a sample.

    Args:
        rows: studies, of which all have what `need` names
        config: shape, patch and augmentation
        spec: how the volumes were prepared
        need: any of "mask", "labels", and of "report" or "question", and "text"
        encode: report to token ids; needed with "report"
        train: augment, and centre patches on classes as often as the configuration says
        bank: features in place of the volumes; where `config` augments, of a view drawn at random
        spacing: give `encode` the sentence on the study's own voxel size and extent
        findings: names of the rows' labels, to give `encode` the sentence on those present; while
            training some are hidden or wrong, as `config` says
        slices: features of axial slices, given with the volumes
        encode_text: needed with "text"
        questions: series -> its questions; needed with "question". While training one of them and
            one of its answers are drawn, otherwise the first of both are taken
        encode_question: needed with "question"

    Raises:
        CatalogError: a study has no question; when a sample is asked for, a stored volume is not of
            `config.shape` or was prepared in another way.
        InputError: the slices of a study are missing or damaged.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        config: DataConfig,
        spec: PreprocessSpec,
        *,
        need: Sequence[str] = (),
        encode: Encode | None = None,
        train: bool = False,
        bank: Bank | None = None,
        spacing: bool = False,
        findings: Sequence[str] = (),
        slices: SliceBank | None = None,
        encode_text: EncodeText | None = None,
        questions: Mapping[str, tuple[QuestionRow, ...]] | None = None,
        encode_question: EncodeQuestion | None = None,
    ) -> None:
        encoders = {"report": encode, "text": encode_text, "question": encode_question}
        for what, encoder in encoders.items():
            if what in need and encoder is None:
                raise ValueError(f"a dataset with need {what!r} lacks what encodes it")
        if {"report", "question"} <= set(need):
            raise ValueError("a sample is learned from its report or from a question, not both")
        self.questions = questions or {}
        _check_questions(rows if "question" in need else (), self.questions)
        self.rows = list(rows)
        self.config = config
        self.spec = spec
        self.need = frozenset(need)
        self.encode = encode
        self.train = train
        self.bank = bank
        self.spacing = spacing
        self.findings = tuple(findings)
        self.slices = slices
        self.encode_text = encode_text
        self.encode_question = encode_question
        self.patch: Grid = config.patch or config.shape
        augmenting = train and config.augment.active
        self.augmenter = Augmenter(config.augment, self.patch) if augmenting else None
        self.margin = _margin(self.patch, config) if augmenting else (0, 0, 0)
        self._class_voxels: dict[str, list[NDArray[np.int32]]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> Sample:
        row = self.rows[draw.study]
        rng = np.random.default_rng(draw.seed)
        sample: Sample = {"series_id": row.series_id}
        sample |= self._volume(row, rng) if self.bank is None else self._features(row, rng)
        if "labels" in self.need:
            values = [float("nan") if v is None else v for v in row.labels]
            sample["labels"] = torch.tensor(values, dtype=torch.float32)
        if "report" in self.need and self.encode is not None:
            told = (self._spacing(row), self._findings(row, draw.seed))
            sample |= _learned(self.encode(row.report or "", " ".join(filter(None, told)) or None))
        if "text" in self.need:
            sample |= self._text(row, draw.seed)
        if "question" in self.need:
            sample |= _learned(self._question(row, draw.seed))
        return sample

    def _stream(self, seed: int, stream: int) -> np.random.Generator | None:
        """Random numbers of their own, so that no part of a sample depends on another being asked
        for; None for validation, which draws nothing."""
        return np.random.default_rng((seed, stream)) if self.train else None

    def _text(self, row: Row, seed: int) -> Sample:
        assert self.encode_text is not None
        report = row.report or ""
        ids = self.encode_text(report, self._stream(seed, TEXT_STREAM))
        return {
            "text": torch.tensor(ids, dtype=torch.int64),
            "group": torch.tensor(report_group(report), dtype=torch.int64),
        }

    def _question(self, row: Row, seed: int) -> Example:
        assert self.encode_question is not None
        questions, rng = self.questions[row.series_id], self._stream(seed, QUESTION_STREAM)
        question = questions[0 if rng is None else rng.integers(len(questions))]
        answers = question.answers
        answer = answers[0 if rng is None else rng.integers(len(answers))]
        return self.encode_question(question, answer, rng)

    def _volume(self, row: Row, rng: np.random.Generator) -> Sample:
        corner = self._corner(row, rng)
        image = torch.from_numpy(self._read_image(row, corner))
        seg = torch.from_numpy(self._read_mask(row, corner)) if "mask" in self.need else None
        slices = None if self.slices is None else self.slices.read(row.series_id).float()
        if self.augmenter is not None:
            seed = int(rng.integers(2**31))
            image, seg, slices = self.augmenter.with_slices(image, seg, slices, seed)
        sample: Sample = {"image": image} if seg is None else {"image": image, "seg": seg}
        if slices is not None:
            sample["slices"] = slices
        if seg is not None and isinstance(row, PartialRow):
            sample["known"] = torch.tensor(row.known)
        return sample

    def _features(self, row: Row, rng: np.random.Generator) -> Sample:
        """Of the first view, which is the volume as it is, unless training volumes are augmented:
        then each view is as likely."""
        assert self.bank is not None
        views = self.bank.views(row.series_id) if self.augmenter is not None else 1
        return {"features": self.bank.read(row.series_id, int(rng.integers(views)))}

    def _spacing(self, row: Row) -> str | None:
        if not self.spacing:
            return None
        meta = self._open(row, row.image).meta
        if meta is None:
            raise CatalogError.about(
                row.image,
                "it carries no metadata, so the voxel size of its study is unknown",
                "Prepare it with `uvlm prepare`, or train without --model.spacing.",
            )
        return spacing_sentence(*meta.grid.source_lps)

    def _findings(self, row: Row, seed: int) -> str | None:
        """None where the list is hidden, or would deny what is unknown."""
        if not self.findings:
            return None
        values = np.array([np.nan if value is None else value for value in row.labels])
        present = values == 1
        rng = self._stream(seed, FINDINGS_STREAM)
        if rng is not None:
            hidden, flips = rng.random(), rng.random(len(values))
            if hidden < self.config.findings_hidden:
                return None
            present ^= ~np.isnan(values) & (flips < self.config.findings_flipped)
        if np.isnan(values).any() and not present.any():
            return None
        names = zip(self.findings, present, strict=True)
        return findings_sentence([name for name, there in names if there])

    def _corner(self, row: Row, rng: np.random.Generator) -> Grid:
        """First voxel of the patch, inside the volume."""
        free = np.subtract(self.config.shape, self.patch)
        if not free.any():
            return 0, 0, 0
        centred = self.train and "mask" in self.need and rng.random() < self.config.foreground
        voxels = self._foreground(row) if centred else []
        if voxels:
            of_class = voxels[rng.integers(len(voxels))]
            centre = of_class[rng.integers(len(of_class))]
            corner = np.clip(centre - np.array(self.patch) // 2, 0, free)
        else:
            corner = rng.integers(0, free + 1)
        z, y, x = corner.tolist()
        return z, y, x

    def _foreground(self, row: Row) -> list[NDArray[np.int32]]:
        """Up to 100 voxels (n, 3) of each class present; the same whoever asks first."""
        if row.series_id not in self._class_voxels:
            assert row.mask is not None
            labels = self._open(row, row.mask)[:, :, :]
            rng = np.random.default_rng(zlib.crc32(row.series_id.encode()))
            self._class_voxels[row.series_id] = _sample_classes(labels, rng)
        return self._class_voxels[row.series_id]

    def _read_image(self, row: Row, corner: Grid) -> NDArray[np.float32]:
        """(1, d, h, w), normalised by the statistics of the whole volume; 0 beyond its border."""
        stored = self._open(row, row.image)
        inside, padding = self._region(corner)
        values = stored[inside].astype(np.float32)
        offset, scale = read_scaling(stored, self.spec)
        values -= np.float32(offset)
        values /= np.float32(scale)
        return np.pad(values, padding)[None]

    def _read_mask(self, row: Row, corner: Grid) -> NDArray[np.int16]:
        assert row.mask is not None
        inside, padding = self._region(corner)
        values = self._open(row, row.mask)[inside].astype(np.int16)
        values = row.in_run(values) if isinstance(row, PartialRow) else values
        return np.pad(values, padding)[None]

    def _open(self, row: Row, path: Path) -> StoredArray:
        stored = StoredArray(path)
        if tuple(stored.shape) != self.config.shape:
            raise CatalogError.about(
                path,
                f"the volume of {row.series_id} is {tuple(stored.shape)}, "
                f"the run expects {self.config.shape}",
                "Prepare the dataset again with that shape, or set --data.shape.",
            )
        if stored.meta is not None and stored.meta.spec_hash != self.spec.hash:
            raise CatalogError.about(
                path,
                f"it was prepared with specification {stored.meta.spec_hash}, "
                f"its catalog says {self.spec.hash}",
                "Prepare the dataset again, into a new folder.",
            )
        return stored

    def _region(self, corner: Grid) -> tuple[tuple[slice, slice, slice], list[tuple[int, int]]]:
        """Where patch and margin lie in the volume, and how far they reach beyond it."""
        slices, padding = [], []
        axes = zip(corner, self.patch, self.margin, self.config.shape, strict=True)
        for start, size, margin, limit in axes:
            first, last = start - margin, start + size + margin
            slices.append(slice(max(first, 0), min(last, limit)))
            padding.append((max(-first, 0), max(last - limit, 0)))
        z, y, x = slices
        return (z, y, x), padding


def report_group(report: str) -> int:
    """64 bits with a sign that equal reports share, whatever their white space."""
    cleaned = clean_report(report).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(cleaned).digest()[:8], "big", signed=True)


def _learned(example: Example) -> Sample:
    answer = torch.zeros(len(example.ids), dtype=torch.bool)
    answer[example.answer] = True
    return {"tokens": torch.tensor(example.ids), "answer": answer}


def _check_questions(rows: Sequence[Row], questions: Mapping[str, tuple[QuestionRow, ...]]) -> None:
    without = [row for row in rows if not questions.get(row.series_id)]
    if without:
        raise CatalogError.about(
            without[0].image,
            f"its series {without[0].series_id} has no question, as {len(without)} of {len(rows)}",
            "Leave them out, or add their questions to the catalog's vqa.csv.",
        )


def _margin(patch: Grid, config: DataConfig) -> Grid:
    """Voxels read around a patch on each side; none where it already covers the volume."""
    if not config.augment.spatial:
        return 0, 0, 0
    z, y, x = (
        0 if size == limit else ceil(size * (MARGIN - 1) / 2)
        for size, limit in zip(patch, config.shape, strict=True)
    )
    return z, y, x


def _sample_classes(
    labels: NDArray[np.integer[Any]], rng: np.random.Generator
) -> list[NDArray[np.int32]]:
    flat = labels.ravel()
    voxels = np.flatnonzero(flat)
    order = np.argsort(flat[voxels], kind="stable")
    values = flat[voxels][order]
    starts = np.flatnonzero(np.diff(values, prepend=0))
    groups = np.split(voxels[order], starts[1:]) if len(starts) else []
    chosen = [group[rng.integers(len(group), size=VOXELS_PER_CLASS)] for group in groups]
    return [np.stack(np.unravel_index(c, labels.shape), 1).astype(np.int32) for c in chosen]
