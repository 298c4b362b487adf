"""The contact sheet shows every class of a set, or says why it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from uvlm.errors import InputError
from uvlm.phantom.make import make_abdomen, make_chest
from uvlm.phantom.sheet import OUTLINE, draw_sheet


@pytest.mark.parametrize("make", [make_chest, make_abdomen])
def test_a_sheet_has_outlined_blocks(tmp_path, make):
    make(tmp_path / "set", studies=2, seed=0, shape=(16, 32, 32), min_prevalence=0.5)
    draw_sheet(tmp_path / "set", tmp_path / "sheet.png")
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape[0] > 1000
    assert (picture == OUTLINE).all(axis=2).sum() > 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "sheet.png"]


def test_a_folder_without_studies_is_refused(tmp_path):
    with pytest.raises(InputError, match="no phantom studies"):
        draw_sheet(tmp_path, tmp_path / "sheet.png")
