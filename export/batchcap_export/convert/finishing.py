"""The last step of every conversion: a graph that is minimal, named, in a fixed order, and checked."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from batchcap.bundle.files import LOOPS
from batchcap.errors import ExportError


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, in place: {name now: new name}."""
    for tensor in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def finish(model: onnx.ModelProto, axes: Mapping[str, tuple[str, ...]]) -> onnx.ModelProto:
    """Drop unused nodes, name the dynamic axes, name and order nodes in a fixed way, and check the graph.

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
    rename(model, names)
