"""Time to load a batch with two workers, against a training step of 0.1 s that waits for it.

No spatial augmentation. `bank`: batches of two studies' features (six stages, 384 tokens) with
their reports as tokens. `patches`: batches of two patches of 96x128x128 with masks out of volumes
of 192x256x256. The files are in the system's cache, as they are after the first epoch where memory
allows.

    python benchmarks/loader.py [--batches N] [--small] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from harness import ROUNDS, Row, machine, publish
from synthetic_ct import chest_ct
from training_case import PROMPT, TEXT, random_bank, report_config

from uvlm.data.batching import DrawSampler, training_batches
from uvlm.data.config import AugmentConfig, DataConfig
from uvlm.data.dataset import StudyDataset
from uvlm.imaging.preprocess import PreprocessSpec, prepare
from uvlm.imaging.store import StoreMeta, meta_of, write_store
from uvlm.imaging.volume import Provenance, Volume
from uvlm.preprocessing.catalog import Row as Study
from uvlm.text.prompts import DEFAULT_PROMPT, build_example
from uvlm.text.tokenizer import train_tokenizer

STEP = 100.0
"""Milliseconds."""

WORKERS, BATCH, STUDIES, WARM_UP = 2, 2, 8, 8
PLAIN = AugmentConfig(spatial=False, intensity=False)


def reports(count: int) -> list[str]:
    """Texts of about as many tokens as the paper's reports."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list(ascii_lowercase), 7)) for _ in range(1000)]
    return [" ".join(rng.choice(words, TEXT - PROMPT)) for _ in range(count)]


def study(number: int, image: Path, mask: Path | None = None, report: str = "") -> Study:
    name = f"s{number}"
    return Study(
        series_id=name,
        case_id=name,
        patient_id=name,
        split=None,
        image=image,
        mask=mask,
        labels=(),
        report=report,
    )


def bank_dataset(folder: Path, small: bool) -> StudyDataset:
    config = report_config(8192, small)
    bank = random_bank(folder / "bank", config, 64)
    texts = reports(64)
    rows = [study(n, folder / f"{n}.b2nd", report=text) for n, text in enumerate(texts)]
    encode = partial(build_example, train_tokenizer(texts, 4096), DEFAULT_PROMPT)
    data = DataConfig(
        shape=config.shape, batch_size=BATCH, augment=PLAIN, workers=WORKERS, bank=bank.path
    )
    spec = PreprocessSpec(shape=config.shape)
    return StudyDataset(rows, data, spec, need=("report",), encode=encode, train=True, bank=bank)


def patch_dataset(folder: Path, small: bool) -> StudyDataset:
    shape, patch = ((192, 256, 256), (96, 128, 128)) if not small else ((48, 64, 64), (24, 32, 32))
    spec = PreprocessSpec(shape=shape)
    rows = []
    array = chest_ct(shape)
    for number in range(STUDIES):
        name = f"s{number}"
        note = Provenance(path=name, format="nifti", checksum=f"{number:064d}")
        volume = Volume(array=np.roll(array, number, 0), affine=np.eye(4), provenance=note)
        prepared = prepare(volume, spec)
        meta = meta_of(prepared)
        image, mask = folder / f"{name}.b2nd", folder / f"{name}_seg.b2nd"
        write_store(image, prepared.array, meta)
        labels = (prepared.array > 100).astype(np.int16) + (prepared.array > -500)
        classes = {"soft": 1, "bone": 2}
        labels_meta = StoreMeta(kind="labels", spec_hash=spec.hash, grid=meta.grid, classes=classes)
        write_store(mask, labels, labels_meta)
        rows.append(study(number, image, mask))
    data = DataConfig(shape=shape, patch=patch, batch_size=BATCH, augment=PLAIN, workers=WORKERS)
    return StudyDataset(rows, data, spec, need=("mask",), train=True)


def milliseconds(dataset: StudyDataset, batches: int) -> float:
    """Of one batch, taken as fast as they come once the workers run; median of five rounds."""
    last = WARM_UP + ROUNDS * batches
    sampler = DrawSampler(studies=len(dataset), batch_size=BATCH, seed=0, first=0, last=last)
    loader = training_batches(dataset, sampler)
    for _ in range(WARM_UP):
        next(loader)
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(batches):
            next(loader)
        rounds.append(1000 * (time.perf_counter() - start) / batches)
    return statistics.median(rounds)


def measure(batches: int, small: bool) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, make in (("bank", bank_dataset), ("patches", patch_dataset)):
            place = Path(folder) / case
            place.mkdir()
            value = milliseconds(make(place, small), batches)
            rows.append(
                Row(case=case, value=value, baseline=STEP, unit="ms/batch", ratio=STEP / value)
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=40, help="per round, of five rounds")
    parser.add_argument("--small", action="store_true", help="try it at a small size")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    torch.manual_seed(0)
    described = machine() | {"workers": WORKERS, "batch": BATCH}
    publish(measure(args.batches, args.small), args.json, described)


if __name__ == "__main__":
    main()
