"""From a full-resolution `.nii.gz` to a `.b2nd` of 192x256x256: speed, memory, workers, plan.

One synthetic chest CT of 512x512x300 int16, gzip level 6, in the system's cache; one thread each.

- plain     `work.prepare_study` (reads, hashes, audits, prepares, describes, writes) against what
            one would write first: nibabel to float64, `scipy.ndimage.zoom` of order 1, Blosc2 with
            ZSTD level 8 of the same int16. The plain way neither checks nor hashes. `turned first`
            resizes the array's transpose, which lies in memory as the file does and is several
            times faster; the steps are compared with that. All in this process.
- workers   studies per minute of `pipeline.run_jobs` with two processes against one, from the
            moment every process has finished its first study.
- memory    highest resident size of a worker of `ingest.prepare_dataset` against the limit of
            1.2 GB (10^9 bytes): int16 and float64 files, and with a mask of 40 classes that also
            becomes an nnU-Net case.
- plan      `estimate` of ten studies against the run itself, studies of many sizes; the numbers are
            % of error, the limit 30.

    python benchmarks/ingest.py [plain workers memory plan] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# ruff: noqa: E402 - NumPy counts its threads when it is imported, and the numbers are for one.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import blosc2
import nibabel as nib
import numpy as np
from harness import Row, machine, medians, publish
from numpy.typing import NDArray
from scipy import ndimage
from synthetic_ct import chest_ct, write_ct

from uvlm.imaging.audit import check
from uvlm.imaging.nifti import read_nifti, write_nifti
from uvlm.imaging.preprocess import PreprocessSpec, prepare, preset
from uvlm.imaging.store import meta_of, write_store
from uvlm.preprocessing.estimate import estimate
from uvlm.preprocessing.ingest import Options, prepare_dataset
from uvlm.preprocessing.masks import MaskFile
from uvlm.preprocessing.nnunet_dataset import NnunetName
from uvlm.preprocessing.pipeline import Workers, run_jobs
from uvlm.preprocessing.study import Listing, Scope, Study, VolumeFile
from uvlm.preprocessing.work import Job, prepare_study

SPEC = preset("paper")
CLASSES = 40
POOL_STUDIES = 16
PLAN_STUDIES = 30
PLAN_SPEC = PreprocessSpec(shape=(96, 128, 128))
LIMIT_GB = 1.2
LIMIT_PERCENT = 30.0
ROUNDS = 5


def plain_read(ct: Path) -> NDArray[np.float64]:
    return nib.load(ct).get_fdata()


def plain_resize(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (x, y, z), as nibabel gives it, to the paper's (z, y, x)."""
    zoom = [m / n for m, n in zip(SPEC.shape[::-1], array.shape, strict=True)]
    return np.asarray(ndimage.zoom(array, zoom, order=1)).T


def turned_resize(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same result, turned to (z, y, x) before."""
    zoom = [m / n for m, n in zip(SPEC.shape, array.T.shape, strict=True)]
    return np.asarray(ndimage.zoom(array.T, zoom, order=1))


def plain_write(array: NDArray[np.float64], out: Path) -> None:
    blosc2.asarray(
        array.astype(np.int16),
        urlpath=str(out),
        mode="w",
        cparams={"codec": blosc2.Codec.ZSTD, "clevel": 8, "nthreads": 1},
    )


def study(name: str, image: Path, mask: Path | None = None) -> Study:
    known = tuple(range(1, CLASSES + 1))
    source = None if mask is None else MaskFile(mask, known)
    image_source = VolumeFile(image)
    return Study(
        series_id=name, case_id=name, patient_id=name, image=image_source, mask=source, report="CT."
    )


def listing(studies: Sequence[Study]) -> Listing:
    values = {i: i for i in range(1, CLASSES + 1)}
    scope = Scope(name="all", classes={f"class {i}": i for i in values}, table=values)
    scopes = (scope,) if studies[0].mask else ()
    return Listing(name="bench", region="chest", labels=(), studies=tuple(studies), scopes=scopes)


def job(out: Path, series_id: str, ct: Path) -> Job:
    (out / "imagesTr").mkdir(parents=True, exist_ok=True)
    return Job(study=study(series_id, ct), scopes=(), spec=SPEC, out=out)


def faster(case: str, ours: float, baseline: float) -> Row:
    return Row(case=case, value=ours, baseline=baseline, unit="s", ratio=baseline / ours)


def within(case: str, value: float, limit: float, unit: str) -> Row:
    return Row(case=case, value=value, baseline=limit, unit=unit, ratio=limit / max(value, 1e-3))


def plain(folder: Path) -> Iterator[Row]:
    ct, out, numbers = folder / "ct.nii.gz", folder / "plain.b2nd", iter(range(1000))

    def ours() -> None:
        record = prepare_study(job(folder / "ours", f"s{next(numbers)}", ct))
        assert record.error is None, record.error

    found = medians(
        {
            "ours": ours,
            "plain": lambda: plain_write(plain_resize(plain_read(ct)), out),
            "plain, turned first": lambda: plain_write(turned_resize(plain_read(ct)), out),
        },
        ROUNDS,
    )
    for case in ("plain", "plain, turned first"):
        yield Row(
            case=case,
            value=60 / found["ours"],
            baseline=60 / found[case],
            unit="studies/min",
            ratio=found[case] / found["ours"],
        )
    yield from steps(folder, ct, out)


def steps(folder: Path, ct: Path, out: Path) -> Iterator[Row]:
    volume, array = read_nifti(ct), plain_read(ct)
    prepared, resized = prepare(volume, SPEC), turned_resize(array)
    numbers = iter(range(1000))

    def write() -> None:
        write_store(folder / f"step{next(numbers)}.b2nd", prepared.array, meta_of(prepared))

    found = medians(
        {
            "read": lambda: read_nifti(ct),
            "audit": lambda: check(volume),
            "plain read": lambda: plain_read(ct),
            "resize": lambda: prepare(volume, SPEC),
            "plain resize": lambda: turned_resize(array),
            "write": write,
            "plain write": lambda: plain_write(resized, out),
        },
        ROUNDS,
    )
    yield faster("step: read", found["read"], found["plain read"])
    yield faster("step: read, audit", found["read"] + found["audit"], found["plain read"])
    yield faster("step: resize", found["resize"], found["plain resize"])
    yield faster("step: write", found["write"], found["plain write"])


def workers(folder: Path) -> Iterator[Row]:
    ct = folder / "ct.nii.gz"
    rates = {count: rate(folder / f"pool{count}", ct, count) for count in (1, 2)}
    yield Row(
        case="two workers",
        value=rates[2],
        baseline=rates[1],
        unit="studies/min",
        ratio=rates[2] / rates[1],
    )


def rate(out: Path, ct: Path, count: int) -> float:
    """Studies per minute of so many processes, once all have started."""
    jobs = [job(out, f"s{i}", ct) for i in range(POOL_STUDIES)]
    ended = []
    for record in run_jobs(jobs, Workers(count=count, isolated=True)):
        assert record.error is None, record.error
        ended.append(time.perf_counter())
    return 60 * (len(ended) - count) / (ended[-1] - ended[count - 1])


def memory(folder: Path) -> Iterator[Row]:
    ct, double, mask = folder / "ct.nii.gz", folder / "double.nii.gz", folder / "mask.nii.gz"
    volume = read_nifti(ct)
    write_nifti(double, volume.array.astype(np.float64), volume.affine)
    write_nifti(mask, structures(volume.array), volume.affine)
    del volume
    nnunet = NnunetName(900, "Bench")
    cases: dict[str, tuple[Study, NnunetName | None]] = {
        "memory": (study("int16", ct), None),
        "memory, float64 file": (study("float64", double), None),
        "memory, mask, nnU-Net": (study("masked", ct, mask), nnunet),
    }
    for case, (one, wanted) in cases.items():
        out = folder / "memory" / one.series_id
        run_of(listing([one]), out, Options(spec=SPEC, isolated=True, nnunet=wanted))
        yield within(case, peak_of(out), LIMIT_GB, "GB")


def structures(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """`CLASSES` classes: body, lungs and bone, each cut into slabs along y."""
    part = np.select([hu > 250, hu > -300, (hu > -950) & (hu < -600)], [1, 2, 3]).astype(np.uint8)
    slab = (np.arange(hu.shape[1]) * (CLASSES // 3) // hu.shape[1]).astype(np.uint8)
    return np.where(part > 0, part + 3 * slab[None, :, None], 0).astype(np.uint8)


def run_of(studies: Listing, out: Path, options: Options) -> None:
    summary = prepare_dataset(studies, out, options)
    assert not summary.rejected, summary.rejected


def peak_of(out: Path) -> float:
    """GB of 10^9 bytes."""
    facts: dict[str, Any] = json.loads((out / "run.json").read_text())
    return float(facts["peak_gb_per_worker"]) * 2**30 / 1e9


def plan(folder: Path) -> Iterator[Row]:
    """Slices from 40 to 185, 160 to 392 voxels wide, in no order."""
    studies = []
    for i in range(PLAN_STUDIES):
        step = 7 * i % PLAN_STUDIES
        ct = folder / f"plan{i}.nii.gz"
        write_ct(ct, chest_ct((40 + 5 * step, 160 + 8 * step, 160 + 8 * step), seed=i))
        studies.append(study(f"p{i}", ct))
    options = Options(spec=PLAN_SPEC, isolated=True)
    guess = estimate(listing(studies), options)
    out = folder / "planned"
    start = time.perf_counter()
    run_of(listing(studies), out, options)
    seconds = time.perf_counter() - start
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"plan: {guess.seconds:.1f} s foretold, {seconds:.1f} s taken (with start and report)")
    yield off("plan: time", guess.seconds, seconds)
    yield off("plan: disk", guess.disk_gb * 2**30, disk)
    yield off("plan: memory", guess.memory_gb * 2**30 / 1e9, peak_of(out))


def off(case: str, foretold: float, true: float) -> Row:
    return within(case, 100 * abs(foretold / true - 1), LIMIT_PERCENT, "% off")


CASES = {"plain": plain, "workers": workers, "memory": memory, "plan": plan}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; or all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    described = machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ct(folder / "ct.nii.gz", chest_ct())
        rows = [row for case in args.cases or CASES for row in CASES[case](folder)]
    publish(rows, args.json, described)


if __name__ == "__main__":
    main()
