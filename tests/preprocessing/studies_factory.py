"""A few small chest studies as a source module would list them, and images that misbehave."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.imaging.bodies import chest
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.readers import read_volume
from uvlm.preprocessing.study import Listing, Mask, Scope, Statement, Study, VolumeFile

ALL = Scope(name="all", classes={"lung": 1, "body": 2}, table={10: 1, 200: 2})
LUNG = Scope(name="lung+x", classes={"lung": 1}, table={10: 1, 200: 0})
NAMES = ("p1_a", "p1_b", "p2_a", "p3_a")


@dataclass(frozen=True)
class Slow(VolumeFile):
    seconds: float = 0.2

    def read(self):
        time.sleep(self.seconds)
        return super().read()


@dataclass(frozen=True)
class Killed(VolumeFile):
    """What the kernel does to a process that takes too much memory."""

    def read(self):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Huge(VolumeFile):
    """Far more memory than a worker may use, and than this machine has."""

    def read(self):
        return np.ones(1 << 40, np.uint8)


@dataclass(frozen=True)
class Broken(VolumeFile):
    def read(self):
        raise ZeroDivisionError("surprise")


@dataclass(frozen=True)
class TwoValues:
    """Lung is 10, the rest of the body 200; says one thing of each kind about the study."""

    path: Path

    @property
    def files(self):
        return (self.path,)

    def read(self, image):
        return Mask(
            volume=read_volume(self.path, labels=True),
            labels={"Mass": 1.0},
            columns={"lung_ml": "12"},
            statements=(Statement("A mass.", 0.25),),
            notes=("Nothing overlaps.",),
        )


def body():
    made = chest(20, 15)
    return made.array[:, ::2, ::2], made.affine @ np.diag([2, 2, 1, 1])


def make_files(folder, names=NAMES):
    """An image and a mask of each, all different."""
    array, affine = body()
    folder.mkdir(parents=True, exist_ok=True)
    lung = (array < -500) & (array > -950)
    mask = np.where(lung, 10, (array > -500) * 200).astype(np.uint8)
    for number, name in enumerate(names):
        changed = array.copy()
        changed[number % 20] += 3
        write_nifti(folder / f"{name}.nii.gz", changed, affine)
        write_nifti(folder / f"{name}_mask.nii.gz", mask, affine)
    return folder


def study(folder, name, image=VolumeFile, mask=True, **fields):
    """`p1_a`: patient p1, case p1_a."""
    values = {
        "series_id": name,
        "case_id": name,
        "patient_id": name.split("_")[0],
        "image": image(folder / f"{name}.nii.gz"),
        "mask": TwoValues(folder / f"{name}_mask.nii.gz") if mask else None,
        "labels": {"Nodule": 0.0},
        "report": f"Lungs of {name} are clear.",
        "extra": {"site": "A"},
    }
    return Study(**(values | fields))


def listing(folder, studies=None, scopes=(ALL,), **fields):
    if studies is None:
        studies = [study(folder, name, mask=bool(scopes)) for name in NAMES]
    values = {
        "name": "Phantoms",
        "region": "chest",
        "labels": ("Nodule", "Mass"),
        "studies": tuple(studies),
        "scopes": scopes,
        "extra_columns": ("site", "lung_ml"),
    }
    return Listing(**(values | fields))
