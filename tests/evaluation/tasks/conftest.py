"""Small tables and masks, written as a user would."""

import csv
import json

import nibabel
import numpy as np
import pytest

from tests.evaluation.tasks.livers import CLASSES


@pytest.fixture
def write(tmp_path):
    def save(name, header, rows):
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return save


def values_of(result):
    """(protocol, name) -> value"""
    return {(score.protocol, score.name): score.value for score in result.scores}


@pytest.fixture
def scores():
    return values_of


@pytest.fixture
def folder(tmp_path):
    def save(name, masks):
        (tmp_path / name).mkdir()
        for key, array in masks.items():
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name / f"{key}.nii.gz")
        return tmp_path / name

    return save


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(CLASSES))
    return path
