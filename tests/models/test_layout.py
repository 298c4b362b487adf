"""Who sees whom in a multimodal sequence."""

from __future__ import annotations

import pytest
import torch

from uvlm.models.layout import TokenLayout

LAYOUT = TokenLayout(num_vision=4, num_text=3)
MASK = LAYOUT.visible(0)
assert MASK is not None
VISION, TEXT = LAYOUT.vision, LAYOUT.text


def test_markers_vision_and_text_fill_the_sequence_without_overlap() -> None:
    order = list(range(len(LAYOUT)))
    assert [0, *order[VISION], VISION.stop, *order[TEXT]] == order
    assert (len(order[VISION]), len(order[TEXT])) == (4, 3)


def test_every_vision_token_sees_every_vision_token() -> None:
    assert MASK[VISION, VISION].all()


def test_no_vision_token_sees_text_or_the_marker_before_it() -> None:
    assert not MASK[VISION, VISION.stop :].any()


def test_all_else_is_causal() -> None:
    causal = torch.ones_like(MASK).tril()
    assert MASK[TEXT].equal(causal[TEXT])
    assert MASK[0].equal(causal[0])
    assert MASK[VISION.stop].equal(causal[VISION.stop])


def test_a_causal_layout_is_causal_everywhere() -> None:
    mask = TokenLayout(num_vision=4, num_text=3, mask="causal").visible(0)
    assert mask is not None
    assert mask.equal(torch.ones(9, 9, dtype=torch.bool).tril())


@pytest.mark.parametrize("start", range(1, 8))
def test_later_queries_see_what_they_see_in_the_whole_mask(start: int) -> None:
    rows = LAYOUT.visible(start)
    assert rows is not None
    assert rows.equal(MASK[start:])


def test_a_single_text_token_needs_no_mask() -> None:
    assert LAYOUT.visible(len(LAYOUT) - 1) is None
    assert MASK[-1].all()
