"""F1, precision and recall, and when they do not exist."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from uvlm.evaluation.rates import detection_rates

NAN = float("nan")


@pytest.mark.parametrize(
    ("true", "found", "predicted", "right", "rates"),
    [
        (0, 0, 0, 0, (NAN, NAN, NAN)),
        (3, 0, 0, 0, (0, 0, 0)),
        (0, 0, 3, 0, (0, 0, NAN)),
        (3, 0, 2, 0, (0, 0, 0)),
        (3, 3, 3, 3, (1, 1, 1)),
        (4, 2, 4, 4, (2 / 3, 1, 0.5)),
        (2, 2, 4, 1, (0.4, 0.25, 1)),
    ],
)
def test_every_case(true, found, predicted, right, rates):
    counts = (np.array(float(n)) for n in (true, found, predicted, right))
    np.testing.assert_allclose(detection_rates(*counts), rates)


def test_of_labels_they_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, said = rng.random((2, 50)) < 0.4
    hits = np.array([float((truth & said).sum())])
    found = detection_rates(np.array([truth.sum()]), hits, np.array([said.sum()]), hits)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, said, average="binary")
    np.testing.assert_allclose(found, [[f1, precision, recall]])
