"""The page of protocols is what the code says, and naming an unknown one tells the known ones."""

from pathlib import Path

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.protocols import TASKS, all_protocols, chosen_protocols, reference_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "protocols.md"


def test_the_reference_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == reference_page(), "run scripts/protocols"


@pytest.mark.parametrize("task", TASKS)
def test_default_protocols_are_chosen_when_none_is_named(task):
    chosen = chosen_protocols(task)
    assert chosen
    assert set(chosen) == {info.name for info in all_protocols(task) if info.default}


def test_named_protocols_keep_their_order_and_count_once():
    assert chosen_protocols("cls", ["brier", "auroc", "brier"]) == ("brier", "auroc")


def test_a_protocol_of_another_task_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"no protocol 'auroc' for vqa\. Choose from: vqa@exact"):
        chosen_protocols("vqa", ["auroc"])
