"""Reports become labels in the order asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from uvlm.errors import InputError
from uvlm.evaluation.labels.agreement import label_matrix
from uvlm.text.labelling.protocol import Labels


class Words:
    """A class is present where its name stands in the report."""

    name = "words"
    classes = ("nodule", "effusion")

    def label(self, reports: Sequence[str]) -> list[Labels]:
        return [Labels(values={c: int(c in r) for c in self.classes}, evidence=()) for r in reports]


def test_columns_come_in_the_order_asked_for():
    labels = Words().label(["nodule", "effusion", ""])
    assert label_matrix(labels, ["effusion", "nodule"]).tolist() == [[0, 1], [1, 0], [0, 0]]
    assert label_matrix([], ["nodule"]).shape == (0, 1)


def test_a_class_the_labeller_lacks_is_refused():
    with pytest.raises(InputError, match="no class 'hernia'; it has nodule, effusion"):
        label_matrix(Words().label(["nodule"]), ["hernia"])
