"""A liver with a lesion, small enough for tests."""

import numpy as np

CLASSES = {
    "liver": 1,
    "liver_lesion": 2,
    "kidney": 3,
    "kidney_lesion": 4,
    "pancreas": 5,
    "pancreatic_lesion": 6,
}


def mask(lesion=True, shift=0):
    """A liver with or without a lesion inside it."""
    array = np.zeros((20, 20, 20), np.uint8)
    array[2 + shift : 14 + shift, 3:15, 3:15] = 1
    if lesion:
        array[5:11, 6:12, 6:12] = 2
    return array


TRUTH = {"a": mask(), "b": mask(lesion=False), "c": mask()}
