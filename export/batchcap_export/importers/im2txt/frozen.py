"""The frozen graph of the Show and Tell code: loaded, checked, and cut into an encoder of batches and a step.

The graph captions one JPEG file at a time. It is cut where the image, decoded and resized, enters the network; what
comes before is done by `batchcap.images.pixels`, which must give the same numbers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from PIL import Image

from batchcap.errors import ExportError
from batchcap.images.decode import decode_image
from batchcap.images.pixels import preprocess
from batchcap.images.preprocess import JpegDct, Preprocess, ResizeMethod

IMAGE, WORD, STATE = "image_feed", "input_feed", "lstm/state_feed"
INITIAL, SOFTMAX, NEXT = "lstm/initial_state", "softmax", "lstm/state"
_NAMES = (IMAGE, WORD, STATE, INITIAL, SOFTMAX, NEXT)
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_METHODS: Final[dict[bool, ResizeMethod]] = {False: "bilinear-tf1", True: "bilinear"}
_DCT: Final[dict[str, JpegDct]] = {
    "": "fast",
    "INTEGER_FAST": "fast",
    "INTEGER_ACCURATE": "accurate",
}
# Constants of fewer numbers stay in the graph: shapes, biases, scales of a layer.
_LARGE = 4096
# In units of -1..1: the order of two float32 products.
_SAME_PIXELS = 2e-6


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """A graph that is in order, and where to cut it."""

    definition: Any
    """The GraphDef, with placeholders for its weights."""
    weights: Mapping[str, Any]
    """The variable that stands for each of them, by its tensor: every function made of the graph shares them."""
    entrance: str
    """The operation whose first output [1, H, W, 3] enters the network."""
    logits: str
    """The tensor under the softmax."""
    width: int
    """Numbers in the state: twice the units of the LSTM."""
    words: int
    """Outputs of the softmax."""
    preprocess: Preprocess


def load_graph(path: Path) -> Any:
    """The GraphDef of a file.

    Raises:
        ExportError: it cannot be read, or holds none.
    """
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except DecodeError as error:
        raise ExportError(f"{path}: is no graph of TensorFlow.", "Name the frozen graph, show-and-tell.pb.") from error
    if not definition.node:
        raise ExportError(f"{path}: is a graph without nodes, or no frozen graph.", "Name show-and-tell.pb.")
    for node in definition.node:
        node.device = ""  # where it was frozen: that machine may have had a GPU
    return definition


def inspect_graph(definition: Any, where: str) -> FrozenGraph:
    """Check that a graph is that of the Show and Tell code, and find where to cut it.

    Args:
        where: its file, for errors.

    Raises:
        ExportError: a tensor is missing or of another type; it is not frozen; or it prepares images in a way that
            `batchcap.images.pixels` does not know.
    """
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
    except ValueError as error:
        raise ExportError(f"{where}: TensorFlow cannot load this graph: {error}.") from error
    _check_names(graph, where)
    softmax = graph.get_operation_by_name(SOFTMAX)
    if softmax.type != "Softmax":
        raise ExportError(f"{where}: the tensor {SOFTMAX} comes from {softmax.type}, not from Softmax.")
    logits, entrance = softmax.inputs[0], _entrance(graph, where)
    # Sizes are read from what comes out: old graphs do not hold those of their placeholders.
    try:
        with tf.compat.v1.Session(graph=graph) as session:
            prepared = [session.run(entrance.outputs[0], {f"{IMAGE}:0": data}) for data in _PROBES]
            state = session.run(f"{INITIAL}:0", {f"{IMAGE}:0": _PROBES[0]})
            scores = session.run(logits, {f"{WORD}:0": [0], f"{STATE}:0": state})
    except tf.errors.OpError as error:
        said = " ".join(error.message.split())
        raise ExportError(f"{where}: TensorFlow cannot run this graph: {said}.") from error
    how = _preparation(entrance, prepared, where)
    light, weights = _without_weights(definition)
    return FrozenGraph(light, weights, entrance.name, logits.name, state.shape[-1], scores.shape[-1], how)


def _without_weights(definition: Any) -> tuple[Any, dict[str, Any]]:
    """A graph with placeholders for its large constants, and variables with their values.

    Every function that is made of a graph has a copy of its constants, and a conversion makes many functions.
    """
    light, weights = tf.compat.v1.GraphDef(versions=definition.versions, library=definition.library), {}
    for node in definition.node:
        held = node.attr["value"].tensor if node.op == "Const" else None
        numbers = tf.TensorShape(held.tensor_shape).num_elements() if held is not None else 0
        if held is None or held.dtype != tf.float32.as_datatype_enum or numbers < _LARGE:
            light.node.append(node)
            continue
        weights[f"{node.name}:0"] = tf.Variable(tf.make_ndarray(held), trainable=False)
        stand_in = light.node.add(name=node.name, op="Placeholder")
        stand_in.attr["dtype"].type = held.dtype
        stand_in.attr["shape"].shape.CopyFrom(held.tensor_shape)
    return light, weights


def _check_names(graph: Any, where: str) -> None:
    operations = {operation.name: operation for operation in graph.get_operations()}
    if held := sorted(o.name for o in operations.values() if o.type in _VARIABLES):
        raise ExportError(
            f"{where}: is not frozen: {held[0]} and {len(held) - 1} more are variables.",
            "Name the folder with the checkpoint (model.ckpt-*) instead.",
        )
    missing = [name for name in _NAMES if name not in operations]
    if missing:
        fed = [name for name, operation in operations.items() if operation.type == "Placeholder"]
        ends = [o.name for o in operations.values() if o.outputs and not any(t.consumers() for t in o.outputs)]
        raise ExportError(
            f"{where}: has no tensor {', '.join(missing)}. It takes {_few(fed)} and gives {_few(ends)}.",
            f"An inference graph of im2txt has {', '.join(_NAMES)}; a training graph has not.",
        )
    types = {IMAGE: tf.string, WORD: tf.int64, STATE: tf.float32, INITIAL: tf.float32, NEXT: tf.float32}
    for name, wanted in types.items():
        if (given := operations[name].outputs[0].dtype) != wanted:
            raise ExportError(f"{where}: the tensor {name} is {given.name}, not {wanted.name}.")


def _few(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "") or "nothing"


def _entrance(graph: Any, where: str) -> Any:
    """The operation that gives the image to the first convolution on its way to the initial state."""
    image, initial = graph.get_operation_by_name(IMAGE), graph.get_operation_by_name(INITIAL)
    convolutions = {o for o in _downstream(image) & _upstream(initial) if o.type == "Conv2D"}
    names = sorted({o.inputs[0].name for o in convolutions if not (_upstream(o) - {o}) & convolutions})
    if len(names) != 1:
        raise ExportError(
            f"{where}: the image must enter the network by one tensor; found: {', '.join(names) or 'no convolution'}."
        )
    entrance = graph.get_tensor_by_name(names[0]).op
    if image in _upstream(initial, stop=entrance):
        raise ExportError(f"{where}: the image reaches {INITIAL} by another way than {entrance.name}.")
    return entrance


def _upstream(operation: Any, stop: Any = None) -> set[Any]:
    """The operation and all that it is computed from, without anything before ``stop``."""
    return _reached(operation, lambda o: [] if o is stop else [given.op for given in o.inputs])


def _downstream(operation: Any) -> set[Any]:
    """The operation and all that is computed from it."""
    return _reached(operation, lambda o: [user for made in o.outputs for user in made.consumers()])


def _reached(operation: Any, following: Callable[[Any], Iterable[Any]]) -> set[Any]:
    reached, waiting = {operation}, [operation]
    while waiting:
        fresh = set(following(waiting.pop())) - reached
        reached |= fresh
        waiting.extend(fresh)
    return reached


def _preparation(entrance: Any, prepared: list[NDArray[np.float32]], where: str) -> Preprocess:
    """What the graph does with a JPEG file before the network, as `batchcap.images.pixels` calls it.

    The operations tell which modes these are; ``prepared``, the probes as they enter the network, prove it.
    """
    before = _upstream(entrance)
    decoded, resized = (
        [operation for operation in before if operation.type == kind] for kind in ("DecodeJpeg", "ResizeBilinear")
    )
    if len(decoded) != 1 or len(resized) != 1:
        raise ExportError(
            f"{where}: images are not prepared by one DecodeJpeg and one ResizeBilinear "
            f"({len(decoded)} and {len(resized)})."
        )
    size, dct = tf.get_static_value(resized[0].inputs[1]), decoded[0].get_attr("dct_method").decode()
    if size is None or dct not in _DCT or prepared[0].ndim != 4:
        raise ExportError(f"{where}: to what size images are resized, or how JPEG is decoded, is not in the graph.")
    (rows, columns), (height, width) = size.tolist(), prepared[0].shape[1:3]
    how = Preprocess(
        height=height,
        width=width,
        resize_height=rows,
        resize_width=columns,
        method=_METHODS[resized[0].get_attr("half_pixel_centers")],
        fit="stretch" if (rows, columns) == (height, width) else "center-crop" if rows >= height else "pad",
        pixels="float32",
        jpeg_dct=_DCT[dct],
    )
    for data, there in zip(_PROBES, prepared, strict=True):
        here = np.asarray(scaled(preprocess(decode_image(data, how.jpeg_dct), how)))
        off = float(np.abs(there[0] - here).max()) if there.shape[1:] == here.shape else np.inf
        if not off <= _SAME_PIXELS:
            raise ExportError(
                f"{where}: prepares images otherwise than by a {how.method} resize to {rows}x{columns}, "
                f"{how.fit} to {height}x{width} and levels in -1..1 (off by {off:.3g}).",
                "Export it by a Python file that does it: see examples/custom_captioner.py.",
            )
    return how


def _probe(rows: int, columns: int, mode: str) -> bytes:
    """A JPEG file of soft patches."""
    random = np.random.default_rng(rows)
    patches = Image.fromarray(random.integers(0, 256, (7, 7, 3)).astype(np.uint8)).convert(mode)
    file = io.BytesIO()
    patches.resize((columns, rows), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


# A landscape, a portrait, and a small one in grey.
_PROBES: Final = (_probe(375, 500, "RGB"), _probe(500, 333, "RGB"), _probe(61, 90, "L"))


def scaled(levels: Any) -> Any:
    """0..255 to -1..1, by the original's own float32 steps."""
    return (levels * np.float32(1 / 255) - np.float32(0.5)) * np.float32(2.0)


def encoder(frozen: FrozenGraph) -> Callable[[Any], Any]:
    """Pixels float32 [B, H, W, 3] in 0..255 -> the state before ``<S>`` [B, S]; by the graph's own operations.

    What was made for a batch of one is freed: reshapes to it, and zeros that are joined to what the image gives.
    """
    part, how = _cut(frozen), frozen.preprocess
    fixed, repeated = _made_for_one(part, frozen)

    def encode(image: Any) -> Any:
        count = tf.shape(image)[0]
        given = {f"{frozen.entrance}:0": scaled(image)}
        given |= {name: tf.constant(shape, kind) for name, (shape, kind) in fixed.items()}
        given |= {name: tf.repeat(tf.constant(one), count, axis=0) for name, one in repeated.items()}
        return tf.ensure_shape(_run(frozen, part, given, f"{INITIAL}:0")[0], [None, frozen.width])

    return _function(encode, tf.TensorSpec([None, how.height, how.width, 3], tf.float32))


def single_encoder(frozen: FrozenGraph) -> Callable[[Any], Any]:
    """Pixels float32 [1, H, W, 3] in 0..255 -> the state [1, S], by the graph as it is."""
    part, how = _cut(frozen), frozen.preprocess

    def encode(image: Any) -> Any:
        return _run(frozen, part, {f"{frozen.entrance}:0": scaled(image)}, f"{INITIAL}:0")[0]

    return _function(encode, tf.TensorSpec([1, how.height, how.width, 3], tf.float32))


def stepper(frozen: FrozenGraph) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Words int64 [N] and states [N, S] -> logits [N, W] and states [N, S], by the graph as it is."""
    part = _part(frozen.definition, frozen.logits.partition(":")[0], NEXT)

    def step(word: Any, state: Any) -> tuple[Any, Any]:
        given = {f"{WORD}:0": word, f"{STATE}:0": state}
        logits, after = _run(frozen, part, given, frozen.logits, f"{NEXT}:0")
        return tf.ensure_shape(logits, [None, frozen.words]), tf.ensure_shape(after, [None, frozen.width])

    return _function(step, tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, frozen.width], tf.float32))


def _run(frozen: FrozenGraph, part: Any, given: dict[str, Any], *results: str) -> list[Any]:
    """The tensors ``results`` of a part of the graph, inside the function that is being traced."""
    names = {f"{node.name}:0" for node in part.node}
    read = {name: variable.read_value() for name, variable in frozen.weights.items() if name in names}
    made: list[Any] = tf.graph_util.import_graph_def(part, input_map=given | read, return_elements=results, name="")
    return made


def _function(function: Callable[..., Any], *signature: Any) -> Any:
    return tf.function(function, input_signature=signature, autograph=False)


def _cut(frozen: FrozenGraph) -> Any:
    """The part of the graph between the entrance, now a placeholder, and the initial state."""
    how, definition = frozen.preprocess, tf.compat.v1.GraphDef()
    definition.CopyFrom(frozen.definition)
    node = next(node for node in definition.node if node.name == frozen.entrance)
    with tf.Graph().as_default() as alone:
        tf.compat.v1.placeholder(tf.float32, [1, how.height, how.width, 3], "entrance")
    node.CopyFrom(alone.as_graph_def().node[0])
    node.name = frozen.entrance
    return _part(definition, INITIAL)


def _part(definition: Any, *results: str) -> Any:
    """What a graph needs for the operations ``results``, and nothing else."""
    nodes = {node.name: node for node in definition.node}
    needed, waiting = set(results), list(results)
    while waiting:
        # An input is `name`, `name:output`, or `^name` where only the order of execution matters.
        given = {name.lstrip("^").partition(":")[0] for name in nodes[waiting.pop()].input}
        waiting.extend(given - needed)
        needed |= given
    kept = [node for node in definition.node if node.name in needed]
    return tf.compat.v1.GraphDef(node=kept, versions=definition.versions, library=definition.library)


def _made_for_one(part: Any, frozen: FrozenGraph) -> tuple[dict[str, tuple[list[int], Any]], dict[str, NDArray[Any]]]:
    """Tensors that hold a batch of one: shapes to reshape to, freed, and rows [1, ...] that have to be repeated."""
    fixed: dict[str, tuple[list[int], Any]] = {}
    alone: dict[str, Any] = {}
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(part, name="")
    of_image = _downstream(graph.get_operation_by_name(frozen.entrance))
    # In the graph's order: a set has another one in every process, and the same input must give the same file.
    for operation in filter(of_image.__contains__, graph.get_operations()):
        out = operation.outputs[0] if operation.outputs else None
        if operation.type == "Reshape" and operation.inputs[1].op not in of_image:
            shape = operation.inputs[1]
            if out.shape.is_fully_defined() and out.shape.rank and out.shape[0] == 1:
                fixed[shape.name] = [-1, *out.shape[1:].as_list()], shape.dtype
        elif operation.type in ("ConcatV2", "Concat") and out.shape.rank and out.shape[0] == 1:
            beside = [given for given in operation.inputs if given.op not in of_image]
            alone |= {given.name: given for given in beside if given.shape.rank == out.shape.rank}
    with tf.compat.v1.Session(graph=graph) as session:
        return fixed, session.run(alone)
