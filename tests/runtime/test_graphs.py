"""Bundles whose graphs cannot be loaded, fail, or have tensors that are not the contract's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import build_bundle, reseal, rewrite
from onnx import TensorProto, helper, numpy_helper
from tiny_sessions import CPU, PIXELS, with_select_graph

from batchcap.bundle.bundle import open_bundle
from batchcap.errors import BundleError
from batchcap.runtime.sessions import open_sessions


def find(values: object, name: str) -> onnx.ValueInfoProto:
    return next(value for value in values if value.name == name)


def drop(values: object, name: str) -> None:
    values.remove(find(values, name))


def retype(file_side: str, name: str, kind: int) -> Callable[[onnx.ModelProto], None]:
    """Give an input or output another type, with the cast that keeps the graph valid."""

    def change(model: onnx.ModelProto) -> None:
        tensor = find(getattr(model.graph, file_side), name)
        old = tensor.type.tensor_type.elem_type
        tensor.type.tensor_type.elem_type = kind
        for node in model.graph.node:
            names = node.input if file_side == "input" else node.output
            names[:] = ["inside" if n == name else n for n in names]
        if file_side == "input":
            model.graph.node.insert(0, helper.make_node("Cast", [name], ["inside"], to=old))
        else:
            model.graph.node.append(helper.make_node("Cast", ["inside"], [name], to=kind))
            for node in list(model.graph.node)[:-1]:
                node.input[:] = ["inside" if n == name else n for n in node.input]

    return change


def resize(side: str, name: str, axis: int, size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        shape = find(getattr(model.graph, side), name).type.tensor_type.shape
        shape.dim[axis].Clear()
        shape.dim[axis].dim_value = size

    return change


def rename(side: str, old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        find(getattr(model.graph, side), old).name = new
        for node in model.graph.node:
            node.input[:] = [new if n == old else n for n in node.input]
            node.output[:] = [new if n == old else n for n in node.output]

    return change


def lose_input(name: str, value: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    """A constant takes the input's place."""

    def change(model: onnx.ModelProto) -> None:
        drop(model.graph.input, name)
        model.graph.initializer.append(numpy_helper.from_array(value, name))

    return change


def lose_output(name: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: drop(model.graph.output, name)


def more_output(name: str, source: str, shape: list[str | int]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", [source], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    return change


def more_input(model: onnx.ModelProto) -> None:
    """What a converter does with a captured constant."""
    model.graph.input.append(helper.make_tensor_value_info("captured", TensorProto.FLOAT, [3]))


def lose_states(model: onnx.ModelProto) -> None:
    for tensor in [t for t in model.graph.output if t.name.startswith("state.")]:
        model.graph.output.remove(tensor)


def longer_state(model: onnx.ModelProto) -> None:
    """Two rows where the contract has one: [B, 2]."""
    model.graph.node.append(helper.make_node("Concat", ["state.half", "state.half"], ["state.two"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("state.two", TensorProto.FLOAT16, ["B", 2]))


def flat_token(model: onnx.ModelProto) -> None:
    """The decoder takes [B] and adds the axis itself."""
    tensor = find(model.graph.input, "token")
    del tensor.type.tensor_type.shape.dim[1]
    for node in model.graph.node:
        node.input[:] = ["inside" if n == "token" else n for n in node.input]
    model.graph.node.insert(0, helper.make_node("Unsqueeze", ["token", "one"], ["inside"]))


ENCODER, DECODER, SELECT = "encoder.onnx", "decoder.onnx", "select.onnx"


WRONG: list[tuple[str, Callable[[onnx.ModelProto], None], str]] = [
    (ENCODER, rename("input", "image", "pixels"), "has no input `image`"),
    (ENCODER, more_input, "has an input `captured` that nothing feeds or reads"),
    (ENCODER, retype("input", "image", TensorProto.FLOAT), r"input `image` is tensor\(float\), not tensor\(uint8\)"),
    (ENCODER, resize("input", "image", 0, 1), "input `image` has the size 1 on axis 0, where it needs any size"),
    (ENCODER, resize("input", "image", 1, 16), "input `image` has the size 16 on axis 1, where it needs 8"),
    (ENCODER, more_output("features", "mean", ["B", 3]), r"output `features` is neither `state\.\*` nor `memory"),
    (ENCODER, lose_states, r"has no output `state\.\*`"),
    (ENCODER, longer_state, r"output `state\.two` has the size 2 on axis 1, where it needs 1"),
    (DECODER, rename("input", "token", "tokens"), "has no input `token`"),
    (DECODER, lose_input("candidates", np.array([5])), "has no input `candidates`"),
    (DECODER, lose_input("state.half", np.zeros((1, 1), np.float16)), r"has no input `state\.half`"),
    (DECODER, rename("input", "memory.colour", "memory.color"), r"has no input `memory\.colour`"),
    (DECODER, more_input, "has an input `captured` that nothing feeds or reads"),
    (DECODER, retype("input", "token", TensorProto.INT32), r"input `token` is tensor\(int32\), not tensor\(int64\)"),
    (DECODER, retype("input", "state.half", TensorProto.FLOAT), r"input `state\.half` is tensor\(float\), not .*16"),
    (DECODER, flat_token, "input `token` has 1 dimensions, not 2"),
    (DECODER, resize("input", "parent", 1, 3), "input `parent` has the size 3 on axis 1, where it needs any size"),
    (DECODER, resize("input", "state.row", 1, 3), r"input `state\.row` has the size 3 on axis 1, where it needs any"),
    (DECODER, lose_output("log_prob"), "has no output `log_prob`"),
    (DECODER, lose_output("next_state.past"), r"has no output `next_state\.past`"),
    (DECODER, lose_output("attention"), "has no output `attention`"),
    (
        DECODER,
        more_output("logits_out", "all", ["B", "K", "V"]),
        "has an output `logits_out` that nothing feeds or reads",
    ),
    (DECODER, retype("output", "next_token", TensorProto.INT32), r"output `next_token` is tensor\(int32\)"),
    (DECODER, retype("output", "log_prob", TensorProto.DOUBLE), r"output `log_prob` is tensor\(double\)"),
    (DECODER, retype("output", "next_state.half", TensorProto.FLOAT), r"output `next_state\.half` is tensor\(float\)"),
    (SELECT, rename("input", "rows", "keep"), "has no input `rows`"),
    (SELECT, retype("input", "rows", TensorProto.INT32), r"input `rows` is tensor\(int32\), not tensor\(int64\)"),
    (SELECT, resize("input", "rows", 0, 3), "input `rows` has the size 3 on axis 0, where it needs any size"),
    (SELECT, more_input, "has an input `captured` that nothing feeds or reads"),
    (SELECT, lose_input("state.half", np.zeros((1, 1), np.float16)), r"has no input `state\.half`"),
    (SELECT, resize("input", "state.row", 1, 1), r"input `state\.row` has the size 1 on axis 1, where it needs any"),
    (SELECT, retype("input", "memory.colour", TensorProto.DOUBLE), r"input `memory\.colour` is tensor\(double\)"),
    (SELECT, lose_output("selected.memory.colour"), r"has no output `selected\.memory\.colour`"),
    (
        SELECT,
        retype("output", "selected.state.half", TensorProto.FLOAT),
        r"output `selected\.state\.half` is tensor\(f",
    ),
    (SELECT, more_output("copy", "memory.colour", ["B", 3]), "has an output `copy` that nothing feeds or reads"),
]


@pytest.fixture(scope="module")
def whole_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every graph there can be."""
    return build_bundle(tmp_path_factory.mktemp("bundles") / "whole", select=True)


@pytest.mark.parametrize(("file", "change", "problem"), WRONG)
def test_wrong_tensors(
    whole_bundle: Path, tmp_path: Path, file: str, change: Callable[[onnx.ModelProto], None], problem: str
) -> None:
    folder = Path(shutil.copytree(whole_bundle, tmp_path / "broken"))
    rewrite(folder, file, change)
    with pytest.raises(BundleError, match=f"{re.escape(file)}: {problem}"):
        open_sessions(open_bundle(folder), CPU)


def test_an_attention_grid_that_does_not_fit(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    reseal(folder, attention_grid=(3, 3))
    with pytest.raises(BundleError, match="output `attention` has the size 6 on axis 2, where it needs 9"):
        open_sessions(open_bundle(folder), CPU)


def test_a_graph_that_cannot_be_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    rewrite(folder, DECODER, lambda m: m.graph.node.append(helper.make_node("NoSuchOperator", ["token"], ["x"])))
    with pytest.raises(BundleError, match=r"decoder\.onnx: onnxruntime cannot load it: .*NoSuchOperator"):
        open_sessions(open_bundle(folder), CPU)


def test_a_graph_that_fails_while_running(tiny_bundle: Path) -> None:
    encoder, decoder = open_sessions(open_bundle(tiny_bundle), CPU)
    stepper = decoder.start(encoder(PIXELS))
    with pytest.raises(BundleError, match=r"decoder\.onnx: its graph failed: "):
        stepper.step(np.full((3, 1), 10_000), np.zeros((3, 1), np.int64), candidates=4)


def test_a_select_graph_that_fails_is_named(whole_bundle: Path) -> None:
    bundle = open_bundle(whole_bundle)
    encoder, decoder = open_sessions(bundle, CPU)
    stepper = with_select_graph(decoder, bundle).start(encoder(PIXELS))
    with pytest.raises(BundleError, match=r"select\.onnx: its graph failed: "):
        stepper.select(np.array([5]))
