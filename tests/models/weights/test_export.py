"""A bundle's segmentation, written for nnU-Net, is the same network there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.inference.bundle_factory import PATCH, SHAPE, tiny_bundle, tiny_spec
from uvlm.errors import BundleError
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.weights import import_checkpoint
from uvlm.models.weights.export import export_nnunet


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path / "bundle", ("segmentation",)))


def predictor(folder: Path) -> Any:
    """nnU-Net's own, as `nnUNetv2_predict_from_modelfolder` makes it, without mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    made = nnUNetPredictor(
        use_mirroring=False, use_gaussian=True, device=torch.device("cpu"), allow_tqdm=False
    )
    made.initialize_from_trained_model_folder(str(folder), (0,))
    return made


def test_nnunet_loads_the_folder_and_computes_the_same_logits(
    bundle: Bundle, tmp_path: Path
) -> None:
    theirs = predictor(export_nnunet(bundle, tmp_path / "out"))
    x = torch.randn(1, 1, *PATCH)
    network = theirs.network.eval()
    with torch.no_grad():
        ours = bundle.modules["segmentation"](x)
        torch.testing.assert_close(network(x), ours, atol=1e-4, rtol=1e-4)
    assert theirs.allowed_mirroring_axes is None  # left stays left
    assert theirs.label_manager.all_labels == [0, 1, 2, 3]


def test_nnunet_predicts_a_prepared_volume_as_the_bundle_does(
    bundle: Bundle, tmp_path: Path
) -> None:
    from uvlm.inference.segment import sliding_labels

    spacing = (2.0, 1.5, 1.5)
    theirs = predictor(export_nnunet(bundle, tmp_path / "out", spacing=spacing))
    volume = np.random.default_rng(0).normal(0, 300, SHAPE).astype(np.float32)
    labels = theirs.predict_single_npy_array(volume[None], {"spacing": list(spacing)})
    scored = torch.from_numpy((volume - volume.mean()) / volume.std())
    ours = sliding_labels(bundle.modules["segmentation"], scored, PATCH)
    assert labels.shape == SHAPE
    # nnU-Net keeps logits in half precision: near-ties may fall to either side.
    assert (labels == ours).mean() > 0.99


def test_what_was_exported_can_be_imported_again(bundle: Bundle, tmp_path: Path) -> None:
    folder = export_nnunet(bundle, tmp_path / "out")
    found = import_checkpoint(folder / "fold_0" / "checkpoint_final.pth").bundle
    old, new = bundle.parts["segmentation"], found.parts["segmentation"]
    assert (new.config, new.spec, new.patch, new.region) == (
        old.config,
        old.spec,
        old.patch,
        old.region,
    )
    state = found.modules["segmentation"].state_dict()
    for name, tensor in bundle.modules["segmentation"].state_dict().items():
        assert torch.equal(tensor, state[name])


def test_the_folder_says_how_studies_must_be_prepared(bundle: Bundle, tmp_path: Path) -> None:
    text = (export_nnunet(bundle, tmp_path / "a") / "README.md").read_text()
    assert "1.5 x 1 x 1 mm" in text
    assert "-1024 to 3071" in text
    part = bundle.parts["segmentation"]
    resampled = replace(part, spec=replace(tiny_spec(), spacing=(3.0, 2.0, 2.0)))
    other = replace(bundle, parts={"segmentation": resampled})
    text = (export_nnunet(other, tmp_path / "b") / "README.md").read_text()
    assert "3 x 2 x 2 mm" in text
    with pytest.raises(BundleError, match="resampled to 3 x 2 x 2 mm, not to 1 x 1 x 1"):
        export_nnunet(other, tmp_path / "c", spacing=(1.0, 1.0, 1.0))


def test_nothing_is_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="exists already"):
        export_nnunet(bundle, tmp_path / "out")


def test_a_failed_export_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        export_nnunet(bundle, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_that_nnunet_cannot_describe_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    other = load_bundle(tiny_bundle(tmp_path / "other", ("classification",)))
    with pytest.raises(BundleError, match="no segmentation part, only classification"):
        export_nnunet(other, tmp_path / "out")
    part = bundle.parts["segmentation"]
    foreign = replace(bundle, parts={"segmentation": replace(part, spec=None)})
    with pytest.raises(BundleError, match="prepared by nnU-Net"):
        export_nnunet(foreign, tmp_path / "out")
    halved = replace(part.config, encoder=replace(part.config.encoder, strides=(2, 2, 2)))
    strided = replace(bundle, parts={"segmentation": replace(part, config=halved)})
    with pytest.raises(BundleError, match="stride 2"):
        export_nnunet(strided, tmp_path / "out")
