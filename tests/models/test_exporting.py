"""The exported graph gives PyTorch's numbers, says so, and is written whole or not at all."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.inference.bundle_factory import SHAPE, tiny_bundle
from uvlm.errors import BundleError, ConfigError, MissingExtraError
from uvlm.models import exporting
from uvlm.models.bundle import Bundle, load_bundle
from uvlm.models.exporting import (
    Format,
    compare,
    export_encoder,
    graph_of,
    load_graph,
    write_graph,
)

NEEDS = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "b"
    return load_bundle(tiny_bundle(folder, ("classification", "report")))


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_graph_is_encoder_and_pooling(bundle: Bundle) -> None:
    graph = graph_of(bundle, "report", (2,))
    x = torch.randn(1, 1, *SHAPE)
    with torch.inference_mode():
        found = dict(zip(graph.names, graph(x), strict=True))
        stages = bundle.modules["report"].encoder(x)
        tokens = bundle.modules["report"].align.pool(stages)
    assert list(found) == [*(f"tokens_{stage}" for stage in tokens), "map_2", "deepest"]
    assert all(found[f"tokens_{stage}"].equal(made) for stage, made in tokens.items())
    assert found["deepest"].equal(stages[-1])
    assert found["map_2"].equal(stages[1])


def test_the_decoders_side_is_not_exported(bundle: Bundle) -> None:
    names = {name.split(".")[0] for name, _ in graph_of(bundle, "report").named_parameters()}
    assert names == {"encoder"}


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_an_export_computes_what_the_bundle_does(
    bundle: Bundle, to: Format, tmp_path: Path
) -> None:
    if find_spec(NEEDS[to]) is None:
        pytest.skip(f"{NEEDS[to]} is not installed")
    worst = export_encoder(bundle, tmp_path / "out", to)
    said = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert 0 <= worst < 1e-3
    assert (said["format"], said["bundle"]) == (to, bundle.fingerprint)
    assert said["largest_difference"] == worst
    graph = graph_of(bundle, "report")
    assert said["outputs"] == graph.names
    assert compare(graph, load_graph(tmp_path / "out", to)) == pytest.approx(worst, abs=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_classifier_alone_gives_its_deepest_map(tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle(tmp_path / "b", ("classification",)))
    export_encoder(bundle, tmp_path / "out", "torch")
    said = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert said["outputs"] == ["deepest"]


def test_other_numbers_are_an_error_and_leave_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(folder: Path, to: Format) -> exporting.Run:
        run = load_graph(folder, to)
        return lambda x: [made * 1.01 for made in run(x)]

    monkeypatch.setattr(exporting, "load_graph", wrong)
    with pytest.raises(BundleError, match=r"differs from PyTorch by 0\.01"):
        export_encoder(bundle, tmp_path / "out", "torch")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_is_no_match(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, to: Format) -> exporting.Run:
        run = load_graph(folder, to)
        return lambda x: [*run(x)[:-1], run(x)[-1] * float("nan")]

    monkeypatch.setattr(exporting, "load_graph", broken)
    with pytest.raises(BundleError, match="differs"):
        export_encoder(bundle, tmp_path / "out", "torch")


def test_an_existing_folder_stays(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="it exists already"):
        export_encoder(bundle, tmp_path, "torch")


def test_a_segmentation_alone_is_refused(tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle(tmp_path / "b", ("segmentation",)))
    with pytest.raises(BundleError, match="no report or classification part"):
        export_encoder(bundle, tmp_path / "out", "torch")


@pytest.mark.parametrize(("to", "module"), [("onnx", "onnxscript"), ("openvino", "openvino")])
def test_a_missing_library_names_the_extra(
    bundle: Bundle, to: Format, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, module)
    with pytest.raises(MissingExtraError, match=r"uvlm\[runtime\]"):
        export_encoder(bundle, tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


def test_openvino_is_kept_from_sending_anything() -> None:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    exporting.openvino()
    assert sys.modules.get("openvino_telemetry") is None


@pytest.mark.parametrize("to", ["onnx", "openvino", "torch"])
def test_what_a_library_cannot_express_is_said_in_one_line(tmp_path, to):
    class Strange(torch.nn.Module):
        shape, names = (4, 4, 4), ["out"]

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x if float(x.sum()) > 0 else -x]

    pytest.importorskip("openvino" if to == "openvino" else "onnxscript")
    with pytest.raises(ConfigError, match=f"cannot be turned into {to}"):
        write_graph(Strange(), tmp_path, to)
