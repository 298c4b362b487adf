"""The losses against slow, obvious versions of themselves."""

from __future__ import annotations

from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uvlm.models.contrastive_loss import consistency_loss, contrastive_loss, cosines, unlike

SCALE = torch.tensor(10.0)


def units(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 6, generator=generator), dim=-1).requires_grad_()


def one_by_one(image: Tensor, text: Tensor, groups: list[int]) -> Tensor:
    """Each query against its own answer and those of other reports."""
    terms = []
    for queries, gallery in ((image, text), (text, image)):
        for row, query in enumerate(queries):
            columns = [j for j in range(len(image)) if j == row or groups[j] != groups[row]]
            logits = torch.stack([SCALE * (query @ gallery[j]) for j in columns])
            terms.append(logits.logsumexp(0) - logits[columns.index(row)])
    return torch.stack(terms).mean()


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 1, 0, 0, 1], [7, 7, 7, 7, 7]])
def test_equal_reports_are_no_negatives_of_each_other(groups: list[int]):
    image, text = units(5), units(5, 1)
    found = contrastive_loss(image, text, SCALE, torch.tensor(groups))
    torch.testing.assert_close(found, one_by_one(image, text, groups))
    found.backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_without_groups_all_others_are_negatives():
    image, text = units(5), units(5, 1)
    expected = one_by_one(image, text, list(range(5)))
    torch.testing.assert_close(contrastive_loss(image, text, SCALE), expected)


def test_guessing_costs_the_logarithm_of_the_studies():
    same = units(1).expand(8, -1)
    assert contrastive_loss(same, same, SCALE).item() == pytest.approx(log(8))


def test_the_sum_is_divided_by_the_count_given():
    image, text = units(4), units(4, 1)
    half = contrastive_loss(image, text, SCALE, count=8.0)
    torch.testing.assert_close(half, contrastive_loss(image, text, SCALE) / 2)


def test_cosines_are_in_32_bits_inside_mixed_precision():
    image, text = units(4), units(4, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = cosines(image, text)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, image @ text.T)


def test_a_study_is_not_unlike_itself():
    found = unlike(torch.tensor([5, 9, 5]))
    assert found.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


def test_consistency_is_the_mean_squared_difference_of_logits():
    student, teacher = cosines(units(3), units(3, 1)), cosines(units(3, 2), units(3, 3))
    own, other = torch.tensor(5.0), torch.tensor(7.0)
    found = consistency_loss(student, teacher, own, other)
    torch.testing.assert_close(found, F.mse_loss(5 * student[0], 7 * teacher[0]))
    assert consistency_loss(student, student, own, own) == 0


def test_consistency_reaches_the_student_alone():
    mine, others = (units(3), units(3, 1)), (units(3, 2), units(3, 3))
    scale = torch.tensor(5.0, requires_grad=True)
    consistency_loss(cosines(*mine), cosines(*others), scale, scale).backward()
    assert all(tensor.grad is not None for tensor in (*mine, scale))
    assert all(tensor.grad is None for tensor in others)
