"""The layout of an nnU-Net raw dataset: read back whole, sides and organs where they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uvlm.imaging.readers import read_volume
from uvlm.phantom import nnunet_raw
from uvlm.phantom.make import make_chest
from uvlm.phantom.source import class_names, read_source_folder
from uvlm.preprocessing.sources.nnunet_raw import list_nnunet_raw


def test_the_source_module_reads_it_back(tmp_path: Path):
    source, out = tmp_path / "chest", tmp_path / "Dataset501_Organs"
    make_chest(source, studies=5, seed=6, shape=(16, 32, 32))
    out.mkdir()
    nnunet_raw.write(source, out, seed=0)
    listing = list_nnunet_raw(out, region="chest")
    truth = {study.series_id: study for study in read_source_folder(source)}
    assert (listing.rejected, listing.excluded) == ((), ())
    assert {study.series_id for study in listing.studies} == set(truth)
    values = class_names(source)
    for study in truth.values():
        part = nnunet_raw.PARTS[study.split]
        assert study.mask is not None
        before = read_volume(study.mask, labels=True)
        after = read_volume(out / f"labels{part}/{study.series_id}.nii.gz", labels=True)
        np.testing.assert_array_equal(after.affine, before.affine)
        for value, structures in enumerate(nnunet_raw.ORGANS.values(), start=1):
            gathered = np.isin(before.array, [values[name] for name in structures])
            np.testing.assert_array_equal(after.array == value, gathered)
    assert len(list((out / "imagesTs").iterdir())) == sum(
        s.split == "valid" for s in truth.values()
    )
