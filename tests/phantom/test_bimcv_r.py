"""The layout of BIMCV-R: read back whole, patients with two sessions, left stays left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uvlm.imaging.readers import read_volume
from uvlm.phantom import bimcv_r
from uvlm.phantom.make import make_chest
from uvlm.phantom.source import read_source_folder
from uvlm.preprocessing.sources.bimcv_r import list_bimcv_r


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("source") / "chest"
    make_chest(out, studies=5, seed=6, shape=(16, 32, 32))
    return out


def test_the_source_module_reads_it_back(source, tmp_path):
    bimcv_r.write(source, tmp_path, seed=0)
    listing = list_bimcv_r(tmp_path)
    truth = read_source_folder(source)
    assert (listing.name, listing.rejected, listing.excluded) == (
        "synthetic chest studies",
        (),
        (),
    )
    assert len(listing.studies) == len(truth)
    assert len({study.case_id for study in listing.studies}) == len(truth)
    assert len({study.patient_id for study in listing.studies}) == len(truth) - 2
    for study, true in zip(listing.studies, truth, strict=True):
        assert study.report == f"{true.findings} Conclusion {true.impression}"
        ours, original = study.image.read(), read_volume(true.image)
        np.testing.assert_array_equal(ours.affine, original.affine)
        np.testing.assert_array_equal(ours.array, original.array)


def test_equal_seeds_give_equal_tables(source, tmp_path):
    tables = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        bimcv_r.write(source, tmp_path / name, seed)
        tables.append((tmp_path / name / "bimcv_r.csv").read_bytes())
    assert tables[0] == tables[1] != tables[2]
