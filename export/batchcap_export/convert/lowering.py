"""A graph of a bundle in float16 arithmetic, or in int8, by the converters that come with onnxruntime."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import onnx
import onnx.external_data_helper
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers import float16

from batchcap_export.convert.finishing import finish

Feed: TypeAlias = Mapping[str, NDArray[Any]]
"""The inputs of one run of a graph, by name."""
_HALF = ("state.", "next_state.", "memory.")
# What sums many values, or spreads them over many magnitudes, loses most in float16, and is a small part of the work.
_DELICATE = frozenset((
    *float16.DEFAULT_OP_BLOCK_LIST,
    *("Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Div"),
    *("LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMin"),
))  # fmt: skip
# Between two delicate nodes they are part of the same formula, as the squares of a variance are.
_ELEMENTWISE = frozenset(("Add", "Sub", "Mul", "Neg", "Abs"))
# Where the time goes, and what lies between: without it every value would be converted back and forth.
_QUANTIZED = ["Conv", "Gemm", "MatMul", "Relu", "Clip", "Add", "Concat", "MaxPool", "AveragePool", "Resize"]
_WEIGHTED = frozenset(("Conv", "Gemm", "MatMul"))


def in_float16(path: Path) -> onnx.ModelProto:
    """Float16 arithmetic, weights, states and memories; every other input and output as it was.

    Softmax, normalization, exponentials and sums stay float32, and so do log_prob's log-softmax and top-k.
    """
    model = _plain(path)
    kept = [t.name for t in (*model.graph.input, *model.graph.output) if not t.name.startswith(_HALF)]
    formulas = sorted(_formulas(model.graph))
    model = float16.convert_float_to_float16(
        model, keep_io_types=kept, op_block_list=sorted(_DELICATE), node_block_list=formulas
    )
    _keep_float32(model.graph)
    return _finished(model)


def in_int8(path: Path, feeds: Iterable[Feed], float_layers: int) -> onnx.ModelProto:
    """Static quantization: int8 weights with a scale a channel, uint8 between the layers, float32 in and out.

    Args:
        feeds: inputs of the graph. A range is the mean of the extremes of all feeds, so few images a feed are better:
            with the extremes of all images, outliers would take most of the 256 levels.
        float_layers: the last so many layers stay float32: their rounding would go straight into the results.
    """
    model = _plain(path)
    with tempfile.TemporaryDirectory(prefix="batchcap-int8-") as folder, _anonymous():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            out,
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            # A list in a fixed order: the default is a set, whose order differs from run to run.
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=sorted(_before(model.graph) | _last(model.graph, float_layers)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"CalibMovingAverage": True, "MatMulConstBOnly": True},
        )
        return _finished(onnx.load(out))


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    """The feeds one by one, as the calibration asks for them."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)


@contextmanager
def _anonymous() -> Iterator[None]:
    """onnx calls temporary files after this machine's network address, by a service or a file in /var: not here."""
    helper = onnx.external_data_helper
    helper.uuid = SimpleNamespace(uuid1=uuid.uuid4)
    try:
        yield
    finally:
        helper.uuid = uuid


def _plain(path: Path) -> onnx.ModelProto:
    """The graph with its weights as plain float32 constants, however they are stored, and a type for every tensor."""
    with tempfile.TemporaryDirectory(prefix="batchcap-plain-") as folder, _anonymous():
        out = Path(folder) / "plain.onnx"
        quant_pre_process(path, out, skip_symbolic_shape=True)
        return onnx.load(out)


def _finished(model: onnx.ModelProto) -> onnx.ModelProto:
    """Canonical names, the axes' own names, and only the operator sets in use."""
    del model.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    opsets = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    shapes = {t.name: t.type.tensor_type.shape.dim for t in (*model.graph.input, *model.graph.output)}
    return finish(model, {name: tuple(takewhile(bool, (d.dim_param for d in dims))) for name, dims in shapes.items()})


def _formulas(graph: onnx.GraphProto) -> set[str]:
    """Names of the elementwise nodes between two delicate ones."""
    after: set[str] = set()
    before: set[str] = set()
    for nodes, reached, near, far in (
        (graph.node, after, "input", "output"),
        (reversed(graph.node), before, "output", "input"),
    ):
        tensors: set[str] = set()
        for node in nodes:
            inside = node.op_type in _ELEMENTWISE and not tensors.isdisjoint(getattr(node, near))
            if inside:
                reached.add(node.name)
            if inside or node.op_type in _DELICATE:
                tensors.update(getattr(node, far))
    return after & before


def _keep_float32(graph: onnx.GraphProto) -> None:
    """Undo the detours over float16 that the converter leaves between float32 nodes, and before a float32 output."""
    makes = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Cast" and _cast_to(node) == TensorProto.FLOAT:
            source = makes.get(node.input[0])
            if source is not None and source.op_type == "Cast" and _cast_to(source) == TensorProto.FLOAT16:
                node.input[0] = source.input[0]


def _cast_to(node: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")


def _before(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes before the first layer, such as the scaling of pixels."""
    made: set[str] = set()
    names: set[str] = set()
    weights = {tensor.name for tensor in graph.initializer}
    for node in graph.node:  # each comes after what it needs
        if _is_layer(node, weights) or any(name in made for name in node.input):
            made.update(node.output)
        else:
            names.add(node.name)
    return names


def _last(graph: onnx.GraphProto, layers: int) -> set[str]:
    """Names of the last ``layers`` layers before the results, and of all that follows on the first of them.

    The results of a step are its words; the next state meets more layers before it becomes one.
    """
    makes = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    results = [tensor.name for tensor in graph.output if not tensor.name.startswith("next_state.")]
    waiting = [(name, layers) for name in (["log_prob"] if "log_prob" in results else results)]
    left: dict[str, int] = {}
    while waiting:
        name, more = waiting.pop()
        node = makes.get(name)
        # A size is no value that is rounded.
        if node is None or node.op_type == "Shape" or left.get(node.name, 0) >= more:
            continue
        left[node.name] = more
        more -= _is_layer(node, weights)
        if more > 0:
            waiting.extend((given, more) for given in node.input)
    return set(left)


def _is_layer(node: onnx.NodeProto, weights: set[str]) -> bool:
    return node.op_type in _WEIGHTED and node.input[1] in weights
