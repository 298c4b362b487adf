"""Scores of a made-up system, for what compares results."""

import numpy as np

from uvlm.evaluation.measure import mean_measure

IDS = [f"s{i}" for i in range(40)]
PATIENTS = [f"p{i // 2}" for i in range(40)]
VALUES = np.random.default_rng(0).random((40, 3))
NAMES = ("F1", "BLEU-mean", "F1: Lung nodule")


def measures(values):
    return [
        mean_measure("ce_f1@vlm3d-macro18", ("F1", "F1: Lung nodule"), values[:, [0, 2]]),
        mean_measure("bleu@vlm3d", ("BLEU-mean",), values[:, [1]]),
    ]
