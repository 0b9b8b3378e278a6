"""TensorFlow to ONNX: the encoder and the single step of a captioner as the two graphs of the bundle contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx
from onnx import TensorProto, helper, numpy_helper

from batchcap.errors import ExportError
from batchcap_export.convert.finishing import finish, rename
from batchcap_export.model.beams import next_words
from batchcap_export.model.caption_model import CaptionModel

OPSET = 18


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
    """The select graph, which prunes images on a device: the decoder's states and memories, gathered on axis 0.

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
    rename(model, dict(zip(given, names, strict=True)))
    return model


def _keep_constants(model: onnx.ModelProto, traced: Any) -> None:
    """Make constants of the function's captured tensors, which the converter silently turns into inputs."""
    values = {inner.name: outer for outer, inner in traced.graph.captures if outer.dtype != tf.resource}
    for tensor in [tensor for tensor in model.graph.input if tensor.name in values]:
        model.graph.input.remove(tensor)
        model.graph.initializer.append(numpy_helper.from_array(values[tensor.name].numpy(), tensor.name))


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
