"""Who sees whom in a multimodal sequence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from uvlm.models.layout import PaddedPrompts, TokenLayout

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


# Without one or both markers


@pytest.mark.parametrize(("opening", "closing"), [(1, 1), (1, 0), (0, 0), (0, 1)])
def test_parts_fill_the_sequence_whichever_markers_there_are(opening: int, closing: int) -> None:
    layout = TokenLayout(num_vision=4, num_text=3, opening=opening, closing=closing)
    order = list(range(len(layout)))
    assert len(layout) == opening + 4 + closing + 3
    assert order[layout.vision] == list(range(opening, opening + 4))
    assert order[layout.text] == order[opening + 4 + closing :]


@pytest.mark.parametrize(("opening", "closing"), [(1, 0), (0, 0)])
def test_a_mask_without_markers_is_that_with_them_their_places_left_out(
    opening: int, closing: int
) -> None:
    layout = TokenLayout(num_vision=4, num_text=3, opening=opening, closing=closing)
    mask, kept = layout.visible(0), torch.ones(len(LAYOUT), dtype=torch.bool)
    kept[0], kept[VISION.stop] = bool(opening), bool(closing)
    assert mask is not None
    assert MASK is not None
    assert mask.equal(MASK[kept][:, kept])
    for start in range(1, len(layout) - 1):
        rows = layout.visible(start)
        assert rows is not None
        assert rows.equal(mask[start:])
    assert layout.visible(len(layout) - 1) is None


# Prompts of different lengths

LONG = TokenLayout(num_vision=4, num_text=6)
PROMPTS = PaddedPrompts(lengths_B=torch.tensor([2, 4, 1]), longest=4)


def test_padding_is_not_seen_and_all_else_is_as_without_it() -> None:
    padded, plain = replace(LONG, prompts=PROMPTS).visible(0), LONG.visible(0)
    assert padded is not None
    assert plain is not None
    assert padded.shape == (3, 1, len(LONG), len(LONG))
    first = LONG.text.start
    for row, length in enumerate((2, 4, 1)):
        own = [p for p in range(len(LONG)) if not first + length <= p < first + 4]
        assert padded[row, 0][:, own].equal(plain[:, own])
        others = [p for p in range(len(LONG)) if p not in own]
        assert not padded[row, 0][:, others].any()


@pytest.mark.parametrize("start", range(1, 12))
def test_later_queries_of_padded_rows_see_what_they_see_in_the_whole_mask(start: int) -> None:
    layout = replace(LONG, prompts=PROMPTS)
    whole, rows = layout.visible(0), layout.visible(start)
    assert whole is not None
    assert rows is not None
    assert rows.equal(whole[:, :, start:])
    assert layout.positions(start).equal(layout.positions(0)[:, start:])


def test_positions_go_on_behind_each_rows_own_prompt() -> None:
    assert LONG.positions(0).tolist() == list(range(12))
    written = replace(LONG, prompts=PROMPTS).positions(LONG.text.start + 4)
    assert written.tolist() == [[8, 9], [10, 11], [7, 8]]
    assert PROMPTS.rows(torch.tensor([2, 2])).lengths_B.tolist() == [1, 1]
