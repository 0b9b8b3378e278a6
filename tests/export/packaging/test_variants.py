"""float16 and int8 variants of a real bundle: what their graphs hold, how they are judged, when they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paths import TESTS
from typer.testing import CliRunner, Result

pytest.importorskip("tensorflow", reason="the export extra is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper
from precisions import judge

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.cli.app import app
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.precision_choice import in_precision
from batchcap_export.convert.lowering import in_float16
from batchcap_export.proof.evaluate import caption_files

SOURCE = TESTS / "tiny_captioner.py"
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element type of every tensor, by name."""
    inferred = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    typed = (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info)
    return {t.name: t.type.tensor_type.elem_type for t in typed} | {t.name: t.data_type for t in graph.initializer}


def sides(graph: onnx.GraphProto) -> dict[str, int]:
    return {t.name: t.type.tensor_type.elem_type for t in (*graph.input, *graph.output)}


def load(bundle: Bundle, name: str) -> onnx.GraphProto:
    return onnx.load(bundle.folder / name).graph


# float16


def test_float16_lies_where_it_should(both: Bundle) -> None:
    for name in ("encoder", "decoder"):
        before, after = (sides(load(both, f"{name}{precision}.onnx")) for precision in ("", ".fp16"))
        assert before.keys() == after.keys()
        for tensor, kind in before.items():
            carried = tensor.startswith(("state.", "next_state.", "memory."))
            assert after[tensor] == (HALF if carried and kind == FLOAT else kind), tensor
        graph = load(both, f"{name}.fp16.onnx")
        kinds = types(graph)
        heavy = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
        assert heavy
        assert {kinds[given] for node in heavy for given in node.input} == {HALF}
        big = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > 64 and tensor.data_type == FLOAT]
        assert big == []


def test_delicate_formulas_stay_float32(both: Bundle) -> None:
    graph = load(both, "decoder.fp16.onnx")
    kinds = types(graph)
    delicate = {"Softmax", "LogSoftmax", "TopK", "ReduceMean", "Sqrt", "Reciprocal"}
    found = [node for node in graph.node if node.op_type in delicate]
    assert {node.op_type for node in found} == delicate
    assert {kinds[node.input[0]] for node in found} == {FLOAT}
    # The variance: what is squared and what is averaged are float32, and so is all between.
    makes = {name: node for node in graph.node for name in node.output}
    squares = [node for node in graph.node if node.op_type == "Mul" and node.input[0] == node.input[1]]
    assert [kinds[node.input[0]] for node in squares] == [FLOAT]
    # From the log-softmax to the output no value passes through float16.
    name, passed = "log_prob", []
    while makes[name].op_type != "LogSoftmax":
        passed.append(kinds[name])
        name = makes[name].input[0]
    assert set(passed) == {FLOAT}


def test_float16_says_nearly_the_same(both: Bundle, place: Path) -> None:
    decoding, cpu = decoding_options(both.manifest), choose_device("cpu")
    exact, rounded = Captioner(both, decoding, cpu), Captioner(both.at("fp16"), decoding, cpu)
    pairs = list(zip(exact.caption(judge(place)), rounded.caption(judge(place)), strict=True))
    same = [(a.captions[0], b.captions[0]) for a, b in pairs if a.captions[0].caption == b.captions[0].caption]
    assert len(same) >= 60
    assert max(abs(a.log_prob - b.log_prob) for a, b in same) > 0
    assert max(abs(a.log_prob - b.log_prob) for a, b in same) < 0.05


def square_of_large(folder: Path) -> Path:
    """mean((x - mean(x)) ** 2) of numbers around 1,000: the squares do not fit in float16."""
    value, node = helper.make_tensor_value_info, helper.make_node
    nodes = [
        node("ReduceMean", ["memory.x", "axis"], ["mean"], name="mean"),
        node("Sub", ["memory.x", "mean"], ["off"], name="off"),
        node("Mul", ["off", "off"], ["square"], name="square"),
        node("ReduceMean", ["square", "axis"], ["variance"], name="variance"),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    ends = [value("memory.x", FLOAT, ["B", 8])], [value("variance", FLOAT, ["B", 1])]
    opset = [helper.make_opsetid("", 18)]
    file = folder / "square.onnx"
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "square", *ends, [axis]), opset_imports=opset, ir_version=8), file
    )
    return file


def test_a_variance_does_not_overflow(tmp_path: Path) -> None:
    model = in_float16(square_of_large(tmp_path))
    run = onnx.reference.ReferenceEvaluator(model)
    x = np.linspace(-1000, 1000, 8, dtype=np.float16)[None]
    (variance,) = run.run(None, {"memory.x": x})
    assert variance == pytest.approx(x.astype(np.float64).var(), rel=1e-3)


# int8


def test_int8_lies_where_it_should(both: Bundle) -> None:
    for name in ("encoder", "decoder"):
        graph = load(both, f"{name}.int8.onnx")
        assert sides(graph) == sides(load(both, f"{name}.onnx"))
        weights = {tensor.name: tensor for tensor in graph.initializer}
        folded = {
            node.output[0]: weights[node.input[0]]
            for node in graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in weights
        }
        layers = {"Conv", "Gemm", "MatMul"}
        quantized = [node for node in graph.node if node.op_type in layers and node.input[1] in folded]
        assert len(quantized) == {"encoder": 1, "decoder": 2}[name]
        assert {folded[node.input[1]].data_type for node in quantized} == {TensorProto.INT8}
        scales = {node.output[0]: weights[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"}
        for node in quantized:  # a scale for each output channel
            axis = 0 if node.op_type == "Conv" else 1
            assert list(scales[node.input[1]].dims) == [folded[node.input[1]].dims[axis]]


def test_the_layers_before_the_results_stay_float32(both: Bundle) -> None:
    for name, result in (("encoder", "memory.regions"), ("decoder", "log_prob")):
        output, graph = result, load(both, f"{name}.int8.onnx")
        makes = {made: node for node in graph.node for made in node.output}
        weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
        while not (makes[output].op_type == "MatMul" and makes[output].input[1] in weights):
            output = makes[output].input[0]
        assert weights[makes[output].input[1]] == FLOAT


# Judgement


def test_changed_captions_are_counted(both: Bundle, place: Path) -> None:
    files = judge(place)
    for name, variant in both.variants.items():
        before, after = caption_files(both.at("fp32"), files), caption_files(both.at(name), files)
        assert (variant.images, variant.changed) == (64, sum(a != b for a, b in zip(before, after, strict=True)))
        assert (variant.cider, variant.equivalent) == (None, True)
        assert "beam3" in variant.signature
    assert "calibrated with 64 images" in both.variants["int8"].signature
    assert in_precision(both, "auto", choose_device("cpu")).precision == "int8"


# The command


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_export_info_run(place: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = call(
        "export", SOURCE, "-o", made, "--images", place / "judge", "--precision", "int8", "--precision", "fp16",
        "--calibrate", place / "calibrate", "--force",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "int8: " in done.stderr
    bundle = open_bundle(made)
    assert set(bundle.variants) == {"fp16", "int8"}
    assert "fp16: " in (made / "MODEL_CARD.md").read_text(encoding="utf-8")
    shown = call("info", made)
    assert "Precisions beside fp32" in shown.stdout
    for name in ("fp16", "int8"):
        ran = call("run", place / "judge", "-o", "-", "-q", "--device", "cpu", "--model", made, "--precision", name)
        assert ran.exit_code == 0, ran.output
        records = [json.loads(line) for line in ran.stdout.splitlines()]
        assert {record["model"] for record in records} == {f"{bundle.label}+{name}"}
        assert len({record["caption"] for record in records}) > 10
