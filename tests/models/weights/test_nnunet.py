"""A checkpoint of nnU-Net's residual-encoder U-Net gives a segmentation part, or its encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.weights.published import (
    ARCH,
    CLASSES,
    SHAPE,
    STOCK,
    dataset,
    plans,
    save,
    stock_unet,
)
from uvlm.config import to_dict
from uvlm.errors import BundleError
from uvlm.imaging.preprocess import preset
from uvlm.models.bundle import load_bundle, save_bundle
from uvlm.models.config import ClassificationConfig, EncoderConfig
from uvlm.models.handover import load_encoder
from uvlm.models.uvlm import ClassificationModel
from uvlm.models.weights import checkpoint_bundle, import_checkpoint

PUBLISHED = "uvlm.networks.res_encoder_unet.ResEncoderUNet"


def stock(folder: Path, described: dict[str, Any] | None = None, **arch: Any) -> Path:
    weights = stock_unet().state_dict()
    return save(folder / "x.pth", weights, plans(**arch), described or dataset())


def test_logits_are_those_of_nnunet(tmp_path: Path) -> None:
    model = checkpoint_bundle(stock(tmp_path)).modules["segmentation"]
    theirs = stock_unet()
    theirs.decoder.deep_supervision = False
    x = torch.randn(1, 1, 8, 16, 16)
    with torch.no_grad():
        # Our normalisation on the CPU sums in another order.
        torch.testing.assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_second_names_are_counted_and_nothing_is_left(tmp_path: Path) -> None:
    weights = stock_unet().state_dict()
    found = import_checkpoint(stock(tmp_path))
    ours = found.bundle.modules["segmentation"].state_dict()
    assert found.record.used == len(ours)
    assert found.record.used + found.record.repeated == len(weights)
    assert not found.record.left_out


def test_what_nnunet_prepared_can_be_handed_on_but_not_applied(tmp_path: Path) -> None:
    part = checkpoint_bundle(stock(tmp_path)).parts["segmentation"]
    assert part.spec is None
    assert part.patch == (8, 16, 16)
    assert part.labels == {"lung": 1, "heart": 2}
    with pytest.raises(BundleError, match="nnUNetv2_predict"):
        _ = part.our_spec


def test_data_that_this_package_prepared_for_nnunet_keeps_its_specification(tmp_path: Path) -> None:
    spec = preset("paper", SHAPE)
    described = {**dataset(), "uvlm": {"spec": to_dict(spec)}}
    path = stock(tmp_path, described)
    with pytest.raises(BundleError, match=r"which body region.*--region"):
        checkpoint_bundle(path)
    part = import_checkpoint(path, region="abdomen").bundle.parts["segmentation"]
    assert (part.spec, part.region) == (spec, "abdomen")


def test_a_segmentation_of_the_published_code_is_prepared_as_it_does(tmp_path: Path) -> None:
    plan = plans(PUBLISHED, "UVLM_ResEncUNetLPlans_abdomen_seg_basic", skip_fusion_mode="concat")
    path = save(tmp_path / "x.pth", stock_unet().state_dict(), plan, dataset())
    part = checkpoint_bundle(path).parts["segmentation"]
    assert (part.spec, part.region) == (preset("authors", SHAPE), "abdomen")


def test_the_plan_may_lie_in_the_results_folder(tmp_path: Path) -> None:
    fold = tmp_path / "fold_0"
    fold.mkdir()
    (tmp_path / "plans.json").write_text(json.dumps(plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset()))
    torch.save(
        {"network_weights": stock_unet().state_dict(), "init_args": {"configuration": "other"}},
        fold / "checkpoint_final.pth",
    )
    assert checkpoint_bundle(fold / "checkpoint_final.pth").parts["segmentation"].patch


def test_weights_alone_are_a_checkpoint_where_the_plan_is_given(tmp_path: Path) -> None:
    torch.save(stock_unet().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(BundleError, match="nothing says which network"):
        import_checkpoint(tmp_path / "weights.pth")
    plan = plans()
    del plan["configurations"]["other"]
    for name, content in (("p.json", plan), ("d.json", dataset())):
        (tmp_path / name).write_text(json.dumps(content))
    found = import_checkpoint(
        tmp_path / "weights.pth", plans=tmp_path / "p.json", dataset=tmp_path / "d.json"
    )
    assert "segmentation" in found.bundle.parts


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    weights = {name: tensor.half() for name, tensor in stock_unet().state_dict().items()}
    path = save(tmp_path / "x.pth", weights, plans(), dataset())
    for tensor in checkpoint_bundle(path).modules["segmentation"].state_dict().values():
        assert tensor.dtype == torch.float32


# Onwards


def test_the_encoder_goes_on_into_a_classification(tmp_path: Path) -> None:
    encoder = EncoderConfig(features=(4, 6, 8, 8), strides=(1, 2, 2, 2), blocks=(1, 1, 2, 1))
    target = ClassificationModel(ClassificationConfig(encoder=encoder, classes=("a", "b")))
    handover = load_encoder(target, load_bundle(stock(tmp_path)), preset("paper", SHAPE))
    assert handover.source == "segmentation"
    assert handover.differences
    theirs = stock_unet().encoder.state_dict()
    for name, tensor in target.encoder.state_dict().items():
        assert torch.equal(tensor, theirs[name])


def test_an_encoder_alone_is_a_bundle_and_goes_on(tmp_path: Path) -> None:
    found = import_checkpoint(stock(tmp_path), only_encoder=True)
    saved = save_bundle(tmp_path / "bundle", found.bundle.parts, found.bundle.modules)
    bundle = load_bundle(saved)
    assert list(bundle.parts) == ["encoder"]
    assert bundle.parts["encoder"].labels == {}
    encoder = bundle.parts["encoder"].config.encoder
    target = ClassificationModel(ClassificationConfig(encoder=encoder, classes=("a", "b")))
    assert load_encoder(target, bundle, None).source == "encoder"
    stages = bundle.modules["encoder"](torch.zeros(1, 1, 16, 16, 16))
    assert [stage.shape[1] for stage in stages] == [4, 6, 8, 8]


# Bad input


@pytest.mark.parametrize(
    ("arch", "match"),
    [
        ({"features_per_stage": [4, 6, 8, 16]}, r"has the shape .*, its network needs"),
        ({"n_blocks_per_stage": [1, 1, 1, 1]}, "of its tensors belong nowhere"),
        ({"n_blocks_per_stage": [1, 1, 2, 2]}, "it lacks encoder.stages.3"),
        ({"kernel_sizes": [[1, 3, 3], *[[3, 3, 3]] * 3]}, "kernel_sizes"),
        ({"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]}, "strides"),
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "conv_op"),
        ({"conv_bias": False}, "conv_bias = False"),
        ({"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}, "norm_op"),
        ({"nonlin_kwargs": {"negative_slope": 0.2}}, "nonlin_kwargs"),
        ({"squeeze_excitation": True}, "squeeze_excitation"),
        ({"n_conv_per_stage_decoder": [1, 2, 1]}, r"convolutions per level.*--encoder-only"),
        ({"n_stages": "four"}, "another kind"),
        ({"network": STOCK.replace("ResidualEncoderUNet", "PlainConvUNet")}, "is a PlainConvUNet"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, arch: dict[str, Any], match: str) -> None:
    with pytest.raises(BundleError, match=match):
        checkpoint_bundle(stock(tmp_path, **arch))


def test_a_surplus_tensor_is_refused_by_name(tmp_path: Path) -> None:
    weights = {**stock_unet().state_dict(), "extra.weight": torch.ones(2)}
    path = save(tmp_path / "x.pth", weights, plans(), dataset())
    with pytest.raises(BundleError, match=r"1 of its tensors belong nowhere: extra\.weight"):
        checkpoint_bundle(path)


def test_a_second_name_with_other_values_is_refused(tmp_path: Path) -> None:
    weights = stock_unet().state_dict()
    name = "decoder.encoder.stages.0.blocks.0.conv1.conv.weight"
    weights[name] = weights[name] + 1
    path = save(tmp_path / "x.pth", weights, plans(), dataset())
    with pytest.raises(BundleError, match=r"two copies of encoder\.stages\.0.*that differ"):
        checkpoint_bundle(path)


@pytest.mark.parametrize(
    "name", ["decoder.seg_layers.2.bias", "encoder.stages.0.blocks.0.conv1.conv.weight"]
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, name: str) -> None:
    weights = stock_unet().state_dict()
    weights[name].flatten()[0] = float("nan")
    path = save(tmp_path / "x.pth", weights, plans(), dataset())
    with pytest.raises(BundleError, match=f"{name}.*no finite real numbers"):
        checkpoint_bundle(path)


def test_one_part_is_taken_by_its_task(tmp_path: Path) -> None:
    path = stock(tmp_path)
    bundle = load_bundle(path, task="segmentation")
    assert [*bundle.parts] == [*bundle.modules] == ["segmentation"]
    with pytest.raises(BundleError, match="no report part; it holds segmentation"):
        load_bundle(path, task="report")


def test_other_classes_than_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="3 outputs, its dataset names 1 classes"):
        checkpoint_bundle(stock(tmp_path, dataset(CLASSES[:1])))


@pytest.mark.parametrize("labels", [{"background": 0, "a": [1, 2]}, {"background": 0, "a": 2}])
def test_regions_and_gaps_among_classes_are_refused(tmp_path: Path, labels: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="its class"):
        checkpoint_bundle(stock(tmp_path, {**dataset(), "labels": labels}))


def test_added_skip_connections_are_refused_but_not_their_encoder(tmp_path: Path) -> None:
    weights = stock_unet().state_dict()
    for level, width in enumerate((8, 6, 4)):
        name = f"decoder.stages.{level}.convs.0"
        for tail in ("conv.weight", "all_modules.0.weight"):
            weights[f"{name}.{tail}"] = weights[f"{name}.{tail}"][:, :width]
    path = save(tmp_path / "x.pth", weights, plans(PUBLISHED, "chest"), dataset())
    with pytest.raises(BundleError, match="adds the skip connections"):
        checkpoint_bundle(path)
    assert "encoder" in import_checkpoint(path, only_encoder=True).bundle.parts


def test_turned_axes_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = {**plans(), "transpose_forward": [1, 0, 2]}
    checkpoint_bundle(save(tmp_path / "x.pth", stock_unet().state_dict(), plan, dataset()))
    assert "the axes in the order [1, 0, 2]" in caplog.text


def test_an_unknown_configuration_is_refused(tmp_path: Path) -> None:
    weights = stock_unet().state_dict()
    path = save(tmp_path / "x.pth", weights, plans(), dataset(), configuration="2d")
    with pytest.raises(BundleError, match="configurations 3d_fullres, other, no usable '2d'"):
        checkpoint_bundle(path)
    assert "kernel_sizes" in ARCH  # the factory's own settings are never changed
