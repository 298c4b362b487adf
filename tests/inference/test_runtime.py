"""Every runtime gives the same report; what a machine cannot do is refused, not replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.inference.bundle_factory import SHAPE, tiny_bundle
from uvlm.errors import ConfigError, MissingExtraError
from uvlm.inference import runtime
from uvlm.inference.pipeline import Pipeline
from uvlm.inference.runtime import Runtime, check, encode_with
from uvlm.models.bundle import load_bundle
from uvlm.models.exporting import graph_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("b") / "b", ("classification", "report"))


@pytest.mark.parametrize(
    "name", ["openvino", "onnx", pytest.param("compile", marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_runtime_gives_what_torch_gives(folder: Path, name: Runtime) -> None:
    graph = graph_of(load_bundle(folder), "report", (2,))
    x = torch.randn(1, 1, *SHAPE)
    try:
        found = encode_with(graph, CPU, "fp32", name)(x, True, (2,))
    except MissingExtraError as error:
        pytest.skip(str(error))
    expected = encode_with(graph, CPU, "fp32", "torch")(x, True, (2,))
    torch.testing.assert_close(found.deepest, expected.deepest, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.tokens, expected.tokens, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.kept, expected.kept, rtol=1e-3, atol=1e-3)


def test_a_graph_refuses_maps_it_does_not_give(folder: Path) -> None:
    graph = graph_of(load_bundle(folder), "report")
    encode = runtime._of_graph(graph, lambda x: [], "onnx")
    with pytest.raises(ConfigError, match="Use --runtime torch"):
        encode(torch.zeros(1, 1, *SHAPE), True, (1,))


@pytest.mark.skipif(not runtime.has_bf16(CPU), reason="no bfloat16 here")
def test_bf16_runs_the_encoder_in_16_bits_and_hands_on_32(folder: Path) -> None:
    graph = graph_of(load_bundle(folder), "report")
    x = torch.randn(1, 1, *SHAPE)
    narrow = encode_with(graph, CPU, "bf16", "torch")(x, True, ())
    exact = encode_with(graph, CPU, "fp32", "torch")(x, True, ())
    assert narrow.deepest.dtype == torch.float32
    assert not narrow.deepest.equal(exact.deepest)
    assert (narrow.deepest - exact.deepest).norm() / exact.deepest.norm() < 0.05


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_pipeline_reports_in_low_precision_and_says_so(folder: Path, precision: str) -> None:
    if precision == "bf16" and not runtime.has_bf16(CPU):
        pytest.skip("no bfloat16 here")
    pipeline = Pipeline.load(folder, "cpu", precision=precision)  # type: ignore[arg-type]
    found = pipeline.predict_prepared(torch.randn(*SHAPE).numpy())
    assert found.text is not None
    assert pipeline.precision == precision


def test_a_processor_without_bf16_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "has_bf16", lambda device: False)
    with pytest.raises(ConfigError, match="no arithmetic in bfloat16"):
        Pipeline.load(folder, "cpu", precision="bf16")


def test_compile_without_a_compiler_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler"):
        check(CPU, "fp32", "compile")


@pytest.mark.parametrize(
    ("device", "precision", "name", "message"),
    [
        ("cpu", "fp64", "torch", "precision 'fp64' is unknown"),
        ("cpu", "fp32", "tensorrt", "runtime 'tensorrt' is unknown"),
        ("cuda", "fp32", "openvino", "on the CPU only"),
        ("cuda", "fp32", "onnx", "on the CPU only"),
    ],
)
def test_what_is_impossible_is_refused(
    device: str, precision: str, name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(torch.device(device), precision, name)
