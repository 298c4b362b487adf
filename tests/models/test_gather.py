"""Without other processes gathering is the identity; with them see the contrastive task's tests."""

from __future__ import annotations

import torch

from uvlm.models.gather import first_row, gather_rows


def test_alone_rows_come_back_as_they_are():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(rows) is rows
    assert first_row(3) == 0
