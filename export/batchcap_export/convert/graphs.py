"""TensorFlow to ONNX: the encoder and the single step of a captioner as the two graphs of the bundle contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from batchcap.bundle.files import LOOPS
from batchcap.errors import ExportError
from batchcap_export.convert.rounding import pack
from batchcap_export.model.beams import next_words
from batchcap_export.model.captioner import CaptionModel

Array = NDArray[Any]
OPSET = 18
# Smaller tensors are kept as they are: shapes, biases, scales of a layer.
_STORED_BELOW = 4096


def convert_encoder(source: CaptionModel) -> onnx.ModelProto:
    """``image`` [B, H, W, 3] -> ``state.*`` [B, 1, ...], ``memory.*`` [B, ...]."""
    how = source.preprocess
    pixels = tf.uint8 if how.pixels == "uint8" else tf.float32

    def encode(image: Any) -> dict[str, Any]:
        states, memories = source.encode(image)
        out = {f"state.{name}": state[:, None] for name, state in states.items()}
        return out | {f"memory.{name}": memory for name, memory in memories.items()}

    signature = [tf.TensorSpec((None, how.height, how.width, 3), pixels, name="image")]
    model = _convert(encode, signature, ["image"])
    return finish(model, {"image": ("B",)} | {o.name: ("B",) for o in model.graph.output})


def convert_decoder(source: CaptionModel) -> onnx.ModelProto:
    """One step of the contract: ``token``, ``parent``, ``candidates``, states and memories in; the best words out."""
    states, memories = _state_specs(source)
    names = ["token", "parent", "candidates", *(f"state.{n}" for n in states), *(f"memory.{n}" for n in memories)]

    def step(token: Any, parent: Any, candidates: Any, *tensors: Any) -> dict[str, Any]:
        state = dict(zip(states, tensors, strict=False))
        memory = dict(zip(memories, tensors[len(states) :], strict=True))
        count = tf.cast(candidates[0], tf.int32)
        log_prob, word, following, attention = next_words(source.step, token, parent, count, state, memory)
        out = {"log_prob": log_prob, "next_token": word} | {f"next_state.{n}": s for n, s in following.items()}
        return out if attention is None else out | {"attention": attention}

    beams = tf.TensorSpec((None, None), tf.int64, name="token"), tf.TensorSpec((None, None), tf.int64, name="parent")
    signature = [*beams, tf.TensorSpec((1,), tf.int64, name="candidates"), *states.values(), *memories.values()]
    model = _convert(step, signature, names)
    _feed_topk(model)
    axes = {"token": ("B", "K"), "parent": ("B", "K"), "log_prob": ("B", "K", "C"), "next_token": ("B", "K", "C")}
    axes |= {f"state.{n}": ("B", "P") for n in states} | {f"next_state.{n}": ("B", "K") for n in states}
    axes |= {f"memory.{n}": ("B",) for n in memories} | {"attention": ("B", "K")}
    return finish(model, axes)


def convert_select(decoder: onnx.ModelProto) -> onnx.ModelProto:
    """The graph by which images leave the batch on a device: all that the decoder carries, gathered on the first axis.

    ``rows`` int64 [S], ``state.*`` [B, P, ...] and ``memory.*`` [B, ...] in; the same with ``selected.`` before their
    names, of S images, out: a graph cannot give back a tensor under the name of its input. There are no weights in it.
    """
    carried = [tensor for tensor in decoder.graph.input if tensor.name.startswith(("state.", "memory."))]
    outputs = [onnx.ValueInfoProto(name=f"selected.{tensor.name}", type=tensor.type) for tensor in carried]
    nodes = [helper.make_node("Gather", [t.name, "rows"], [o.name]) for t, o in zip(carried, outputs, strict=True)]
    rows = helper.make_tensor_value_info("rows", TensorProto.INT64, ["S"])
    graph = helper.make_graph(nodes, "select", [rows, *carried], outputs)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=decoder.ir_version)
    beams = {tensor.name: ("P",) if tensor.name.startswith("state.") else () for tensor in carried}
    axes = {name: ("B", *rest) for name, rest in beams.items()}
    return finish(model, {"rows": ("S",)} | axes | {f"selected.{name}": ("S", *rest) for name, rest in beams.items()})


def _state_specs(source: CaptionModel) -> tuple[dict[str, tf.TensorSpec], dict[str, tf.TensorSpec]]:
    """What the decoder carries, from tracing the encoder: states as [B, P, ...], memories as [B, ...]."""
    how = source.preprocess
    spec = tf.TensorSpec((None, how.height, how.width, 3), tf.uint8 if how.pixels == "uint8" else tf.float32)
    traced = tf.function(source.encode).get_concrete_function(spec).structured_outputs
    states = {n: tf.TensorSpec((None, None, *s.shape[1:]), s.dtype, name=f"state_{n}") for n, s in traced[0].items()}
    memories = {n: tf.TensorSpec((None, *m.shape[1:]), m.dtype, name=f"memory_{n}") for n, m in traced[1].items()}
    return states, memories


def _convert(function: Callable[..., Any], signature: list[tf.TensorSpec], names: list[str]) -> onnx.ModelProto:
    traced = tf.function(function, input_signature=signature)
    model, _ = tf2onnx.convert.from_function(traced, signature, opset=OPSET)
    _keep_constants(model, traced.get_concrete_function())
    given = [tensor.name for tensor in model.graph.input]
    if len(given) != len(names):
        raise ExportError(
            f"The converted graph has the inputs {', '.join(given)}, but {', '.join(names)} were asked for.",
            "Keep what the function needs besides them in layers or variables.",
        )
    _rename(model, dict(zip(given, names, strict=True)))
    return model


def _keep_constants(model: onnx.ModelProto, traced: Any) -> None:
    """Constants that the function took from around it, which the converter turns into inputs without a word."""
    values = {inner.name: outer for outer, inner in traced.graph.captures if outer.dtype != tf.resource}
    for tensor in [tensor for tensor in model.graph.input if tensor.name in values]:
        model.graph.input.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(values[tensor.name].numpy(), tensor.name))


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    for tensor in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _feed_topk(model: onnx.ModelProto) -> None:
    """``candidates`` is TopK's own k, and ``next_token`` its own indices: no casts to int32 and back in between."""
    graph = model.graph
    makes = {name: node for node in graph.node for name in node.output}
    topk = makes["log_prob"]
    if topk.op_type != "TopK":
        raise ExportError(f"log_prob comes from {topk.op_type}, not from TopK.")
    old = makes["next_token"]
    graph.node.remove(old)
    topk.input[1] = "candidates"
    topk.output[1] = "next_token"


def finish(model: onnx.ModelProto, axes: Mapping[str, tuple[str, ...]]) -> onnx.ModelProto:
    """Drop what nothing uses, name the dynamic axes, give nodes names that do not depend on the conversion, and check.

    Args:
        axes: for each input and output the names of its first axes; further unknown axes stay unnamed.
    """
    _order(model)
    loops = sorted({f"{node.op_type} ({node.name})" for node in model.graph.node if node.op_type in LOOPS})
    if loops:
        raise ExportError(
            f"The converted graph holds {', '.join(loops)}: the name tells the layer.",
            "Set unroll=True in the recurrent layer, or call its cell.",
        )
    for tensor in (*model.graph.input, *model.graph.output):
        for index, dimension in enumerate(tensor.type.tensor_type.shape.dim):
            names = axes.get(tensor.name, ())
            if index < len(names):
                dimension.dim_param = names[index]
            elif not dimension.HasField("dim_value"):
                dimension.dim_param = "C" if tensor.name in ("log_prob", "next_token") else f"{tensor.name}_{index}"
    del model.graph.value_info[:]
    _rename_inside(model)
    model.producer_name, model.producer_version, model.doc_string, model.graph.doc_string = "batchcap", "", "", ""
    onnx.checker.check_model(model, full_check=True)
    return model


def _order(model: onnx.ModelProto) -> None:
    """Nodes and weights in the order in which the outputs need them: the converter's own changes from call to call.

    What no output needs is dropped.
    """
    graph = model.graph
    makes = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    used: dict[str, onnx.TensorProto] = {}
    placed: set[int] = set()
    # Depth first without recursion: a network is deeper than Python's stack. A name is met before and after its inputs.
    waiting = [(tensor.name, False) for tensor in reversed(graph.output)]
    while waiting:
        name, ready = waiting.pop()
        if name in weights:
            used.setdefault(name, weights[name])
        node = makes.get(name)
        if node is None or id(node) in placed:
            continue
        if ready:
            placed.add(id(node))
            nodes.append(node)
        else:
            waiting.append((name, True))
            waiting.extend((given, False) for given in reversed(node.input))
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(used.values())


def _rename_inside(model: onnx.ModelProto) -> None:
    """``Conv_12`` and its tensor ``Conv_12:0``: the same input gives the same file."""
    fixed = {tensor.name for tensor in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {}
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
        if not node.domain:
            node.ClearField("domain")  # the converter writes it down empty, or leaves it out, as it happens
        for position, output in enumerate(node.output):
            if output and output not in fixed:
                names[output] = f"{node.name}:{position}"
        for position, given in enumerate(node.input):
            if given and given not in fixed and given not in names:
                names[given] = f"{node.name}.{position}"
    _rename(model, names)


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
