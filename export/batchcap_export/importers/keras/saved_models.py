"""SavedModel folders: networks of which only the graph is known, with loops over one word taken apart.

TensorFlow writes a recurrent layer as a While that reads its words from one list and writes its outputs to another. For
one word the body runs once: it takes the loop's place, and the lists of one become tensors [1, ...]. On more than one
word the Unpack that reads the list fails, so that nothing wrong comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

from batchcap.errors import ExportError
from batchcap_export.importers.keras.networks import HOOK, Network, Port

_SIGNATURES = ("serving_default", "serve")
_PASSING = frozenset({"Identity", "Cast", "StopGradient"})
_LOOPS = frozenset({"While", "StatelessWhile"})


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
    inputs = tuple(_port(name, spec) for name, spec in sorted(given.items()))
    outputs = tuple(_port(name, spec) for name, spec in sorted(made.items()))
    frozen = convert_variables_to_constants_v2(signature, lower_control_flow=False, aggressive_inlining=True)
    graph = frozen.graph.as_graph_def()
    # The frozen function orders its tensors by itself: inputs keep their names, outputs are in the order of the dict.
    ends = dict(zip(sorted(made), (tensor.name for tensor in frozen.outputs), strict=True))
    feeds = {name: _feed(frozen, name) for name in given}
    words, follows = _wiring(graph, feeds, ends)
    once = _without_loops(graph)

    @tf.function
    def traced(tensors: Sequence[Any]) -> list[Any]:
        values = {feeds[port.name]: value for port, value in zip(inputs, tensors, strict=True)}
        wanted = [ends[port.name] for port in outputs]
        found = tf.graph_util.import_graph_def(once, input_map=values, return_elements=wanted, name="")
        for port, tensor in zip(outputs, found, strict=True):
            tensor.set_shape(port.shape)
        return list(found)

    def straight(tensors: Sequence[Any]) -> list[Any]:
        return list(traced([tf.cast(tensor, port.dtype) for tensor, port in zip(tensors, inputs, strict=True)]))

    def run(tensors: Sequence[Any]) -> list[Any]:
        values = {p.name: tf.cast(value, p.dtype) for p, value in zip(inputs, tensors, strict=True)}
        # By way of the whole: the signature alone does not keep the variables.
        found = loaded.signatures[name](**values)
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


def _port(name: str, spec: Any) -> Port:
    return Port(name, tuple(spec.shape.as_list()), spec.dtype.name)


def _feed(frozen: Any, name: str) -> str:
    return next(tensor.name for tensor in frozen.inputs if tensor.op.name == name)


def _wiring(graph: Any, feeds: dict[str, str], ends: dict[str, str]) -> tuple[frozenset[str], dict[str, str]]:
    """Which inputs are words (they choose rows of a table), and which input and output are one state of a loop."""
    nodes = {node.name: node for node in graph.node}
    names = {tensor.split(":")[0]: name for name, tensor in feeds.items()}
    words = set()
    for node in graph.node:
        if node.op in ("GatherV2", "ResourceGather"):
            chosen = {names[above] for above in _above(nodes, node.input[1]) if above in names}
            words |= chosen if len(chosen) == 1 else set()
    loops = {}
    for name, tensor in ends.items():
        source, place = _passed(nodes, tensor)
        if nodes[source].op in _LOOPS:
            loops[source, place] = name
    follows = {}
    for (loop, place), output in loops.items():
        before = _passed(nodes, nodes[loop].input[place])[0]
        if before in names:
            follows[names[before]] = output
    return frozenset(words), follows


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
        name = waiting.pop().lstrip("^").split(":")[0]
        if name not in seen and name in nodes:
            seen.add(name)
            yield name
            waiting += nodes[name].input


def _without_loops(graph: Any) -> Any:
    """The graph with the body of each loop in its place, and lists of one element as tensors with one row."""
    bodies = {function.signature.name: function for function in graph.library.function}
    nodes = list(graph.node)
    while loops := [node for node in nodes if node.op in _LOOPS]:
        loop = loops[0]
        made, ends = _body(loop, bodies[loop.attr["body"].func.name])
        nodes = [node for node in nodes if node is not loop] + made
        for node in nodes:
            node.input[:] = [_redirected(tensor, loop.name, ends) for tensor in node.input]
    types: dict[str, int] = {}
    for node in _in_order(nodes):
        _plain_list(node, types)
    once = type(graph)()
    once.versions.CopyFrom(graph.versions)
    once.node.extend(nodes)
    return once


def _body(loop: Any, function: Any) -> tuple[list[Any], list[str]]:
    """The nodes of a loop's body, fed as the loop is, and the tensors that it gives."""
    inside, flat = function_def_to_graph_def(function)
    arguments = [argument.name for argument in function.signature.input_arg]
    given = dict(zip(arguments, [t for t in loop.input if not t.startswith("^")], strict=True))

    def outside(tensor: str) -> str:
        control, name = tensor.startswith("^"), tensor.lstrip("^")
        root = name.split(":")[0]
        if root in given:
            return f"^{given[root].split(':')[0]}" if control else given[root]
        return f"{'^' if control else ''}{loop.name}/{name}"

    nodes = []
    for node in inside.node:
        if node.name not in given:
            node.name, node.input[:] = f"{loop.name}/{node.name}", [outside(tensor) for tensor in node.input]
            nodes.append(node)
    ends = [function.ret[result.name] for result in function.signature.output_arg]
    return nodes, [outside(flat.get(tensor, tensor)) for tensor in ends]


def _redirected(tensor: str, loop: str, ends: Sequence[str]) -> str:
    """What a node takes in, where it was an output of ``loop``: now one of ``ends``."""
    name, _, place = tensor.partition(":")
    if name.lstrip("^") != loop:
        return tensor
    return f"^{ends[0].split(':')[0]}" if name.startswith("^") else ends[int(place or 0)]


def _in_order(nodes: Sequence[Any]) -> list[Any]:
    """Nodes after what they take in; without loops there are no circles."""
    by_name = {node.name: node for node in nodes}
    out: list[Any] = []
    done: set[str] = set()
    waiting = [(node.name, False) for node in reversed(nodes)]
    while waiting:
        name, ready = waiting.pop()
        if name in done or name not in by_name:
            continue
        if ready:
            done.add(name)
            out.append(by_name[name])
        else:
            waiting.append((name, True))
            waiting += [(given.lstrip("^").split(":")[0], False) for given in by_name[name].input]
    return out


def _plain_list(node: Any, types: MutableMapping[str, int]) -> None:
    """An operation on a list of one element as the operation on a tensor [1, ...] that gives the same.

    Args:
        types: the elements' type of what was a list, by the node that makes it; ``node`` is added where it makes one.
    """
    before = list(node.input)
    kind = node.attr["element_dtype"].type if "element_dtype" in node.attr else 0
    if node.op in ("TensorListFromTensor", "TensorListStack"):
        _become(node, "Identity", before[:1], T=kind)
    elif node.op == "TensorListReserve":
        # Nothing reads it: what is written replaces it.
        _become(node, "Const", [], dtype=kind)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.as_dtype(kind), ()))
    elif node.op == "TensorListSetItem":
        _become(node, "Pack", before[2:3], T=kind)
        node.attr["N"].i = 1
    elif node.op == "TensorListGetItem":
        _become(node, "Unpack", before[:1], T=kind)
        node.attr["num"].i = 1
        return
    elif node.op == "Identity" and node.attr["T"].type == types_pb2.DT_VARIANT:
        kind = types[before[0].split(":")[0]]
        _become(node, "Identity", before[:1], T=kind)
    else:
        return
    types[node.name] = kind


def _become(node: Any, op: str, inputs: Sequence[str], **types: int) -> None:
    kept = [tensor for tensor in node.input if tensor.startswith("^")]
    node.op = op
    node.input[:] = [*inputs, *kept]
    node.attr.clear()
    for name, kind in types.items():
        node.attr[name].type = kind
