"""SavedModel folders: networks of which only the graph is known. Loops over one word are replaced by their bodies.

TensorFlow writes a recurrent layer as a While that reads its words from one list and writes its outputs to another. For
one word the body runs once: it is called in the loop's place, and the lists of one become tensors [1, ...]. Lists of
more do not fit into them, so that nothing wrong comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from batchcap.errors import ExportError
from batchcap_export.importers.keras.networks import HOOK, Network, Port

_SIGNATURES = ("serving_default", "serve")
_PASSING = frozenset({"Identity", "Cast", "StopGradient"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_ONE = tf.compat.v1.AttrValue(i=1)
# Operations on a list of one: what gives the same for a tensor [1, ...], the input that it takes, and its settings.
_ON_TENSORS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "TensorListFromTensor": ("Identity", 0, {}),
    "TensorListGetItem": ("Unpack", 0, {"num": _ONE}),
    "TensorListSetItem": ("Pack", 2, {"N": _ONE}),
    "TensorListStack": ("Identity", 0, {}),
}


def open_saved_model(folder: Path) -> Network:
    """Open a SavedModel folder by its serving signature.

    Raises:
        ExportError: it cannot be opened, or has no signature that can be called.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"{folder}: TensorFlow {tf.__version__} cannot open it: {reason}", HOOK) from error
    name = next((name for name in _SIGNATURES if name in loaded.signatures), "")
    signature = loaded.signatures[name] if name else None
    if signature is None or not signature.structured_input_signature[1]:
        raise ExportError(
            f"{folder}: has no serving signature: {', '.join(loaded.signatures) or 'none at all'}.",
            "Save the model with model.export(FOLDER).",
        )
    given, made = signature.structured_input_signature[1], signature.structured_outputs
    inputs = tuple(Port(name, tuple(spec.shape), spec.dtype.name) for name, spec in sorted(given.items()))
    outputs = tuple(Port(name, tuple(spec.shape), spec.dtype.name) for name, spec in sorted(made.items()))
    frozen = _frozen(signature)
    words, follows = _wiring(frozen, [port.name for port in outputs])
    once = _without_loops(frozen)

    def cast(tensors: Sequence[Any]) -> dict[str, Any]:
        return {port.name: tf.cast(value, port.dtype) for port, value in zip(inputs, tensors, strict=True)}

    def straight(tensors: Sequence[Any]) -> list[Any]:
        values = cast(tensors)
        # The frozen function orders its tensors by itself: inputs keep their names, outputs are sorted by theirs.
        found = once(*(values[tensor.op.name] for tensor in frozen.inputs))
        for port, tensor in zip(outputs, found, strict=True):
            tensor.set_shape(port.shape)
        return list(found)

    def run(tensors: Sequence[Any]) -> list[Any]:
        # By way of the whole: the signature alone does not keep the variables.
        found = loaded.signatures[name](**cast(tensors))
        return [found[port.name] for port in outputs]

    return Network(
        file=folder,
        inputs=inputs,
        outputs=outputs,
        run=run,
        straight=straight,
        parameters=sum(int(tf.size(variable)) for variable in signature.variables),
        words=words,
        follows=follows,
    )


def _frozen(function: Any) -> Any:
    return convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)


def _function(graph: Any, like: Any) -> Any:
    """A graph as a function with the tensors that ``like`` takes and gives."""
    names, ends = [tensor.name for tensor in like.inputs], [tensor.name for tensor in like.outputs]

    def call(*values: Any) -> Any:
        return tf.graph_util.import_graph_def(graph, dict(zip(names, values, strict=True)), ends, name="")

    return tf.function(call, [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in like.inputs], autograph=False)


def _wiring(frozen: Any, outputs: Sequence[str]) -> tuple[frozenset[str], dict[str, str]]:
    """Which inputs are words (they choose rows of a table), and which input and output are one state of a loop."""
    nodes = {node.name: node for node in frozen.graph.as_graph_def().node}
    inputs = {tensor.op.name for tensor in frozen.inputs}
    chosen = [inputs.intersection(_above(nodes, node.input[1])) for node in nodes.values() if node.op == "GatherV2"]
    words = frozenset[str]().union(*(found for found in chosen if len(found) == 1))
    follows = {}
    for output, tensor in zip(outputs, frozen.outputs, strict=True):
        loop, place = _passed(nodes, tensor.name)
        if nodes[loop].op in _LOOPS:
            before, _ = _passed(nodes, nodes[loop].input[place])
            follows |= {before: output} if before in inputs else {}
    return words, follows


def _passed(nodes: dict[str, Any], tensor: str) -> tuple[str, int]:
    """Where a tensor comes from, back through what hands it on."""
    name, _, place = tensor.partition(":")
    while nodes[name].op in _PASSING:
        name, _, place = nodes[name].input[0].partition(":")
    return name, int(place or 0)


def _above(nodes: dict[str, Any], tensor: str) -> Iterator[str]:
    """All nodes that a tensor depends on."""
    waiting, seen = [tensor], set()
    while waiting:
        name = waiting.pop().split(":")[0]
        if name not in seen and name in nodes:
            seen.add(name)
            yield name
            waiting += nodes[name].input


def _without_loops(frozen: Any) -> Any:
    """The function with the body of each loop called once in its place, and lists of one as tensors with one row."""
    graph = frozen.graph.as_graph_def()
    while loops := [node for node in graph.node if node.op in _LOOPS]:
        for loop in loops:
            types = loop.attr["T"]
            called = {"f": loop.attr["body"], "Tin": types, "Tout": types}
            loop.CopyFrom(type(loop)(name=loop.name, op="PartitionedCall", input=loop.input, attr=called))
        frozen = _frozen(_function(graph, frozen).get_concrete_function())
        graph = frozen.graph.as_graph_def()  # with the bodies in the place of their calls
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        node.input[:] = [tensor for tensor in node.input if not tensor.startswith("^")]  # there is nothing to wait for
    sources = {node.name: _source(nodes, node) for node in graph.node if node.op in _ON_TENSORS}
    for name, source in sources.items():
        node = nodes[name]
        op, _, settings = _ON_TENSORS[node.op]
        attributes = {"T": node.attr["element_dtype"], **settings}
        node.CopyFrom(type(node)(name=name, op=op, input=[source], attr=attributes))
    needed = {name for tensor in frozen.outputs for name in _above(nodes, tensor.name)}
    return _function(type(graph)(versions=graph.versions, node=[nodes[name] for name in sorted(needed)]), frozen)


def _source(nodes: dict[str, Any], node: Any) -> str:
    """The tensor that an operation on a list takes: what the list was made from, or what is put into it."""
    given = node.input[_ON_TENSORS[node.op][1]]
    return "{}:{}".format(*_passed(nodes, given)) if node.op in ("TensorListGetItem", "TensorListStack") else given
