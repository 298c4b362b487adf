"""A training patch read from a stored volume, against the whole of it.

192x256x256 int16, patches of 96x128x128 (12.5 % of the voxels) at random offsets, one thread, the
file in the system's cache. Ours and baseline are in one file and one run, in turn. `voxels decoded`
counts the blocks that the patches touch, which are all that Blosc2 decodes
(`tests/imaging/test_store.py` proves it); its baseline is the limit. `--table` compares other
chunks and blocks, with which `store.py` chose its own.

    python benchmarks/patch_read.py [--ct FILE] [--table] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import blosc2
import numpy as np
from harness import Row, machine, medians, publish
from synthetic_ct import chest_ct

from uvlm.imaging import store
from uvlm.imaging.preprocess import Prepared, prepare, preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import StoredArray, meta_of, write_store
from uvlm.imaging.volume import Provenance, Volume

DEFAULT_CT = Path(__file__).resolve().parents[2] / "shared/data/crlm/CRLM-CT-1004.nii.gz"
PATCH = (96, 128, 128)
PATCHES = 100
MOST_DECODED = 30.0
"""% of the volume's voxels, on average."""

QUARTER = 0.25
TABLE = [
    ((64, 128, 128), (8, 64, 64)),
    ((64, 128, 128), (16, 64, 64)),
    ((64, 128, 128), (16, 32, 32)),
    ((64, 128, 128), (8, 32, 32)),
    ((64, 128, 128), (16, 16, 32)),
    ((64, 128, 128), (16, 16, 16)),
    ((64, 64, 64), (16, 16, 32)),
    ((192, 256, 256), (16, 16, 32)),
]

Region = tuple[slice, slice, slice]


def prepared(ct: Path | None) -> Prepared:
    """The volume to store, at the paper's shape."""
    if ct is not None:
        return prepare(read_volume(ct), preset("paper"))
    origin = Provenance(path="synthetic", format="nifti", checksum="")
    volume = Volume(array=chest_ct(), affine=np.diag([0.75, 0.75, 1.1, 1.0]), provenance=origin)
    return prepare(volume, preset("paper"))


def regions(shape: tuple[int, ...]) -> list[Region]:
    rng = np.random.default_rng(0)
    corners = [
        [int(rng.integers(0, n - p + 1)) for n, p in zip(shape, PATCH, strict=True)]
        for _ in range(PATCHES)
    ]
    return [
        (slice(z, z + PATCH[0]), slice(y, y + PATCH[1]), slice(x, x + PATCH[2]))
        for z, y, x in corners
    ]


def decoded(shape: tuple[int, ...], blocks: tuple[int, ...], patches: list[Region]) -> float:
    """% of the voxels in blocks that a patch touches, on average."""
    touched = [
        np.prod(
            [((r.stop - 1) // b - r.start // b + 1) * b for r, b in zip(patch, blocks, strict=True)]
        )
        for patch in patches
    ]
    return float(100 * np.mean(touched) / np.prod(shape))


def measure(path: Path, volume: Prepared) -> list[Row]:
    write_store(path, volume.array, meta_of(volume))
    stored = StoredArray(path)
    patches = regions(stored.shape)
    following = cycle(patches)
    found = medians({"patch": lambda: stored[next(following)], "whole": stored.read}, PATCHES)
    whole, patch = (1000 * found[name] for name in ("whole", "patch"))
    share = decoded(stored.shape, blosc2.open(str(path), mode="r").blocks, patches)
    return [
        Row(
            case="patch, whole volume", value=patch, baseline=whole, unit="ms", ratio=whole / patch
        ),
        Row(
            case="patch, a quarter of it",
            value=patch,
            baseline=QUARTER * whole,
            unit="ms",
            ratio=QUARTER * whole / patch,
        ),
        Row(
            case="voxels decoded, limit",
            value=share,
            baseline=MOST_DECODED,
            unit="%",
            ratio=MOST_DECODED / share,
        ),
    ]


def compare(folder: Path, volume: Prepared) -> None:
    """Print what other chunks and blocks would give."""
    print(f"{'chunks':<16}{'blocks':<14}{'MB':>6}{'ratio':>7}{'write':>8}{'whole':>8}{'patch':>8}")
    for number, (chunks, blocks) in enumerate(TABLE):
        store.CHUNKS, store.BLOCKS = chunks, blocks
        path = folder / f"{number}.b2nd"
        write = timed(lambda path=path: rewrite(path, volume))
        rows = measure(path, volume)
        size = path.stat().st_size
        print(
            f"{'x'.join(map(str, chunks)):<16}{'x'.join(map(str, blocks)):<14}{size / 1e6:>6.2f}"
            f"{volume.array.nbytes / size:>7.2f}{write:>6.0f}ms{rows[0].baseline:>6.1f}ms"
            f"{rows[0].value:>6.2f}ms  {rows[0].value / rows[0].baseline:.3f} of the whole, "
            f"{rows[2].value:.1f} % decoded"
        )


def rewrite(path: Path, volume: Prepared) -> None:
    path.unlink(missing_ok=True)
    write_store(path, volume.array, meta_of(volume))


def timed(action: Callable[[], object]) -> float:
    """Median milliseconds of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ct", type=Path, default=DEFAULT_CT if DEFAULT_CT.exists() else None)
    parser.add_argument("--table", action="store_true", help="compare other chunks and blocks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    args = parser.parse_args()
    described = machine() | {"volume": "a real CT" if args.ct else "synthetic"}
    with tempfile.TemporaryDirectory() as folder:
        volume = prepared(args.ct)
        if args.table:
            compare(Path(folder), volume)
        else:
            publish(measure(Path(folder) / "ct.b2nd", volume), args.json, described)


if __name__ == "__main__":
    main()
