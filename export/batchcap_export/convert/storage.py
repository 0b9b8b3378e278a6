"""Big weights stored in fewer bytes: the graph computes with the same values."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchcap.errors import ExportError
from batchcap_export.convert.rounding import Array, pack

# Smaller tensors are kept as they are: shapes, biases, scales of a layer.
_STORED_BELOW = 4096


def compact(model: onnx.ModelProto, storage: str) -> None:
    """Store the big float32 weights in fewer bytes, in place; the values the graph computes with do not change.

    ``float16``: as float16 and a Cast. ``int8``: as int8, a Cast and a product with a scale for each row or column.
    onnxruntime folds both once, when it opens the file. The weights must have been rounded before
    (`rounding.round_weights`): a weight that does not survive the way there and back is an error, not an approximation.

    Raises:
        ExportError: a weight is not exactly what ``storage`` can hold.
    """
    if storage == "float32":
        return
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    matrices: dict[bytes, str] = {}
    for tensor in graph.initializer:
        values, name = numpy_helper.to_array(tensor), tensor.name
        if tensor.data_type != TensorProto.FLOAT or values.size < _STORED_BELOW:
            initializers.append(tensor)
            continue
        twin = matrices.get(np.ascontiguousarray(values.T).tobytes())
        if twin is not None:
            # A tied embedding is there twice, once turned for the product over the vocabulary.
            nodes.append(helper.make_node("Transpose", [twin], [name], f"{name}.turn"))
            continue
        if values.ndim == 2:
            matrices[values.tobytes()] = name
        nodes += _stored(values, name, storage, pack(values, storage), initializers)
    kept = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(initializers)
    graph.node.extend((*nodes, *kept))
    onnx.checker.check_model(model, full_check=True)


def _stored(
    values: Array,
    name: str,
    storage: str,
    packed: tuple[Array, Array | None] | None,
    initializers: list[onnx.TensorProto],
) -> list[onnx.NodeProto]:
    if packed is None:
        raise ExportError(f"Weight {name} {values.shape} is not rounded to {storage}.")
    small, scale = packed
    initializers.append(numpy_helper.from_array(small, f"{name}.{storage}"))
    if scale is None:
        return [helper.make_node("Cast", [f"{name}.{storage}"], [name], f"{name}.cast", to=TensorProto.FLOAT)]
    initializers.append(numpy_helper.from_array(scale, f"{name}.scale"))
    # Not DequantizeLinear: onnxruntime computes it anew in every run, or joins it with a product whose other factor it
    # rounds to 8 bits too: 1.5 times as slow, other captions (benchmarks/results/stored-int8-flickr8k-small.json).
    return [
        helper.make_node("Cast", [f"{name}.{storage}"], [f"{name}.wide"], f"{name}.cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name], f"{name}.mul"),
    ]
