"""HSENet's lists, volumes and features of a few small phantoms, as its scripts would write them."""

import json

import numpy as np

from tests.preprocessing.studies_factory import body
from uvlm.preprocessing.hsenet_lists import from_hu

SHAPE = (20, 48, 44)
"""(z, y, x)"""

SLICES = (6, 5)
SERIES = ("train_1_a_1", "train_2_a_1", "valid_1_a_1")
ASKS = (("nodule", "lung/lung/right lung"), ("nodule", "lung/lung/left lung"), ("cyst", "heart"))


def hu_of(number):
    """(z, y, x) HU within the window; every series another."""
    z, y, x = SHAPE
    hu = np.clip(body()[0][:z, :y, :x], -1000, 200).astype(np.int16)
    hu[number] = np.clip(hu[number] + 40, -1000, 200)
    hu[:, 3:6, 2:9] = -60 + number  # no symmetry along y and x
    return hu


def make_lists(folder, series=SERIES):
    """Volumes, features, `reports.json` and `vqa.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    reports, questions = {}, {}
    for number, name in enumerate(series):
        image = folder / f"{name}_3D_features.npy"
        np.save(image, from_hu(hu_of(number)).transpose(0, 2, 1)[None])
        features = folder / f"{name}_biomedclip_features.npy"
        np.save(features, np.full(SLICES, number + 0.5, np.float32))
        entry = {"image": str(image), "biomedclip_features": str(features)}
        split = "train" if name.startswith("train") else "validation"
        reports.setdefault(split, []).append(entry | {"text": f"Report of {name}."})
        asked = [entry | {"anatomy": where, "abnormality": what} for what, where in ASKS]
        questions.setdefault(split, []).extend(asked)
    for name, content in (("reports", reports), ("vqa", questions)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def change(path, split, number, **changes):
    """Alter an entry of a list; None takes the key out."""
    content = json.loads(path.read_text())
    entry = content[split][number] | changes
    content[split][number] = {key: value for key, value in entry.items() if value is not None}
    path.write_text(json.dumps(content))
