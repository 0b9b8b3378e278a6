"""Tiny real bundles in a few lines of onnx.helper: models whose truth can be computed in plain NumPy.

An image's mean colour picks a row in the first half of a table of logits and shifts all of them; each token leads to
another row.
Import it as ``from bundles import build_bundle``; `conftest.py` makes that possible.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchcap.bundle.bundle import write_manifest
from batchcap.bundle.manifest import Generation, Manifest, Provenance, Tokens
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.preprocess import Preprocess

WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "dog", "cat", "runs", "sits", "red", "green", "blue")
GRID = (2, 3)
_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


@dataclass(frozen=True)
class Tables:
    """A whole captioning model."""

    logits: np.ndarray
    """float32 [rows, V]."""
    following: np.ndarray
    """int64 [rows, V]: the row after a row and a token."""
    colour: np.ndarray
    """float32 [3, V]: what the mean colour (0..1) adds to the logits."""

    def first_row(self, levels: np.ndarray) -> int:
        """The row that an image of mean colour ``levels`` [3] (0..255) begins with, before ``<start>``."""
        return int(np.floor(np.float32(levels[0]) * np.float32(len(self.logits) / 512)))

    def log_probs(self, row: int, levels: np.ndarray) -> np.ndarray:
        """float64 [V] natural log-probabilities in ``row``."""
        logits = self.logits[row].astype(np.float64) + np.asarray(levels, np.float64) / 255 @ self.colour
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    def attention(self, levels: np.ndarray, tokens: tuple[int, ...], start: int = 1) -> np.ndarray:
        """float64 [T, R] the weights that lead to each of ``tokens``."""
        row, out = self.first_row(levels), np.zeros((len(tokens), GRID[0] * GRID[1]))
        for index, last in enumerate((start, *tokens)[: len(tokens)]):
            row = int(self.following[row, last])
            weight = np.exp(_looks(len(self.logits))[row].astype(np.float64))
            out[index] = weight / weight.sum()
        return out

    def log_prob(self, levels: np.ndarray, tokens: tuple[int, ...], start: int = 1) -> float:
        """Of ``tokens`` after ``start``, ``<end>`` among them where the caption ended."""
        row, last, total = self.first_row(levels), start, 0.0
        for token in tokens:
            row = int(self.following[row, last])
            total += self.log_probs(row, levels)[token]
            last = token
        return total


def _looks(rows: int) -> np.ndarray:
    """float32 [rows, R]: where each row of the tables looks, before the softmax."""
    return np.random.default_rng(7).normal(size=(rows, GRID[0] * GRID[1])).astype(np.float32)


def random_tables(seed: int = 2, rows: int = 10, words: int = len(WORDS)) -> Tables:
    """Tables whose captions differ by image and end after a few words: ``<end>`` grows likelier row by row."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (rows, words)).astype(np.float32)
    logits[:, 2] = np.linspace(-6, 8, rows)
    following = np.arange(rows)[:, None] + random.integers(1, 3, (rows, words))
    colour = random.normal(0, 2.0, (3, words)).astype(np.float32)
    colour[:, 2] = 0
    return Tables(logits, np.minimum(following, rows - 1), colour)


def build_bundle(
    folder: Path,
    tables: Tables | None = None,
    *,
    words: tuple[str, ...] = WORDS,
    name: str = "tiny",
    size: int = 8,
    pixels: str = "uint8",
    memory: bool = True,
    attention: bool = True,
    past: bool = True,
    select: bool = False,
    generation: Generation | None = None,
    terms: str = "none",
) -> Path:
    """Write a bundle of about 10 kB and return its folder, which must not exist.

    Args:
        folder: where.
        tables: the model; None is `random_tables`.
        words: the vocabulary; ids 0 to 3 are padding, start, end and unknown.
        name: of the bundle.
        size: rows and columns of the input.
        pixels: ``uint8`` or ``float32``.
        memory: the colour is a memory; else it is one more state.
        attention: the decoder has the output.
        past: one more state, int64 and growing from an empty axis: all tokens so far.
        select: with the graph by which images leave the batch.
        generation: the defaults.
        terms: under which the model may be used.
    """
    tables = tables or random_tables(words=len(words))
    folder.mkdir(parents=True)
    onnx.save(_encoder(tables, size, pixels, memory, past), folder / "encoder.onnx")
    decoder = _decoder(tables, memory, attention, past)
    onnx.save(decoder, folder / "decoder.onnx")
    if select:
        onnx.save(_select(decoder), folder / "select.onnx")
    Vocabulary(words).save(folder / "vocabulary.txt")
    (folder / "MODEL_CARD.md").write_text(f"# {name}\n\nA table, for tests.\n", encoding="utf-8")
    manifest = Manifest(
        name=name,
        version="1",
        preprocess=Preprocess(size, size, size, size, pixels=pixels),
        tokens=Tokens(padding=0, start=1, end=2, unknown=3),
        vocabulary_size=len(words),
        generation=generation or Generation(beam_size=3, max_length=6, length_penalty=0.7),
        attention_grid=GRID if attention else None,
        provenance=Provenance(architecture="table", data="none", terms=terms),
        tools={"onnx": onnx.__version__},
        opset=17,
    )
    write_manifest(folder, manifest)
    return folder


def rewrite(folder: Path, file: str, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change one graph of a bundle and seal the bundle again, as a careless exporter would."""
    model = onnx.load(folder / file)
    change(model)
    onnx.save(model, folder / file)
    reseal(folder)


def reseal(folder: Path, **fields: object) -> None:
    """Write the manifest anew over the files as they are, with other ``fields``."""
    manifest = msgspec.json.decode((folder / "bundle.json").read_bytes(), type=Manifest)
    write_manifest(folder, msgspec.structs.replace(manifest, **fields))


def endless(value: str, same: str) -> list[onnx.NodeProto]:
    """Nodes that give ``same``, which is ``value``, after every last step of a loop without an end."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["going_on"]), helper.make_node("Identity", ["old"], ["new"])],
        "body",
        [
            info("step", TensorProto.INT64, []),
            info("go_on", TensorProto.BOOL, []),
            info("old", TensorProto.FLOAT, None),
        ],
        [info("going_on", TensorProto.BOOL, []), info("new", TensorProto.FLOAT, None)],
    )
    yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
    return [yes, helper.make_node("Loop", ["", "yes", value], [same], body=body)]


def reroute(model: onnx.ModelProto, tensor: str) -> None:
    """What gave ``tensor`` gives ``old_value``, for a node that comes behind it."""
    for node in model.graph.node:
        node.output[:] = ["old_value" if name == tensor else name for name in node.output]


def looping(tensor: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        reroute(model, tensor)
        model.graph.node.extend(endless("old_value", tensor))

    return change


def _model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _encoder(tables: Tables, size: int, pixels: str, memory: bool, past: bool) -> onnx.ModelProto:
    colour = "memory.colour" if memory else "state.colour"
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["levels"], ["mean"], axes=[1, 2], keepdims=0),
        node("Div", ["mean", "scale"], ["colour"]),
        node("Slice", ["mean", "zero", "one", "one"], ["red"]),
        node("Mul", ["red", "rows_a_level"], ["at"]),
        node("Floor", ["at"], ["floor"]),
        node("Cast", ["floor"], ["state.row"], to=TensorProto.INT64),
        node("Cast", ["red"], ["state.half"], to=TensorProto.FLOAT16),
        node("Identity", ["colour"], [colour]) if memory else node("Unsqueeze", ["colour", "one"], [colour]),
    ]
    outputs = [
        value("state.row", TensorProto.INT64, ["B", 1]),
        value("state.half", TensorProto.FLOAT16, ["B", 1]),
        value(colour, TensorProto.FLOAT, ["B", 3] if memory else ["B", 1, 3]),
    ]
    if past:
        nodes += [
            node("Shape", ["image"], ["images"], end=1),
            node("Concat", ["images", "one", "zero"], ["nothing"], axis=0),
            node("ConstantOfShape", ["nothing"], ["state.past"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
        ]
        outputs.append(value("state.past", TensorProto.INT64, ["B", 1, "T"]))
    constants = {
        "scale": np.float32(255),
        "rows_a_level": np.float32(len(tables.logits) / 512),
        "zero": np.array([0], np.int64),
        # The second axis, and one element.
        "one": np.array([1], np.int64),
    }
    return _model(nodes, [value("image", _TYPES[pixels], ["B", size, size, 3])], outputs, constants)


def _decoder(tables: Tables, memory: bool, attention: bool, past: bool) -> onnx.ModelProto:
    node, value = helper.make_node, helper.make_tensor_value_info
    states = {"row": (TensorProto.INT64, ["B", "P"]), "half": (TensorProto.FLOAT16, ["B", "P"])}
    if not memory:
        states["colour"] = (TensorProto.FLOAT, ["B", "P", 3])
    if past:
        states["past"] = (TensorProto.INT64, ["B", "P", "T"])
    nodes = [node("Unsqueeze", ["parent", "last"], ["index"])]
    nodes += [node("GatherND", [f"state.{s}", "index"], [f"own.{s}"], batch_dims=1) for s in states]
    nodes += [
        node("Mul", ["own.row", "words"], ["row_start"]),
        node("Add", ["row_start", "token"], ["entry"]),
        node("Gather", ["following", "entry"], ["next_state.row"]),
        node("Identity", ["own.half"], ["next_state.half"]),
        node("Gather", ["logits", "next_state.row"], ["row_logits"]),
        node("Unsqueeze", ["memory.colour", "one"], ["seen"]) if memory else node("Identity", ["own.colour"], ["seen"]),
        node("MatMul", ["seen", "colour_weights"], ["shift"]),
        node("Add", ["row_logits", "shift"], ["all"]),
        node("LogSoftmax", ["all"], ["log_probs"], axis=-1),
        node("TopK", ["log_probs", "candidates"], ["log_prob", "next_token"], axis=-1, largest=1, sorted=1),
    ]
    outputs = [
        value("log_prob", TensorProto.FLOAT, ["B", "K", "C"]),
        value("next_token", TensorProto.INT64, ["B", "K", "C"]),
    ]
    if not memory:
        nodes.append(node("Identity", ["own.colour"], ["next_state.colour"]))
    if past:
        nodes.append(node("Unsqueeze", ["token", "last"], ["newest"]))
        nodes.append(node("Concat", ["own.past", "newest"], ["next_state.past"], axis=2))
    # Named unlike the input's axes: the next step's beams and length are not this one's.
    for state, (kind, shape) in states.items():
        rest = ["U" if axis == "T" else axis for axis in shape[2:]]
        outputs.append(value(f"next_state.{state}", kind, ["B", "K", *rest]))
    if attention:
        regions = GRID[0] * GRID[1]
        nodes.append(node("Gather", ["looks", "next_state.row"], ["look"]))
        nodes.append(node("Softmax", ["look"], ["attention"], axis=-1))
        outputs.append(value("attention", TensorProto.FLOAT, ["B", "K", regions]))
    inputs = [
        value("token", TensorProto.INT64, ["B", "K"]),
        value("parent", TensorProto.INT64, ["B", "K"]),
        value("candidates", TensorProto.INT64, [1]),
        *(value(f"state.{s}", t, shape) for s, (t, shape) in states.items()),
    ]
    if memory:
        inputs.append(value("memory.colour", TensorProto.FLOAT, ["B", 3]))
    constants = {
        "last": np.array([2], np.int64),
        "one": np.array([1], np.int64),
        "words": np.int64(tables.logits.shape[1]),
        "following": tables.following.astype(np.int64).reshape(-1),
        "logits": tables.logits,
        "colour_weights": tables.colour,
        "looks": _looks(len(tables.logits)),
    }
    return _model(nodes, inputs, outputs, constants)


def _select(decoder: onnx.ModelProto) -> onnx.ModelProto:
    carried = [tensor for tensor in decoder.graph.input if tensor.name.startswith(("state.", "memory."))]
    nodes = [helper.make_node("Gather", [t.name, "rows"], [f"selected.{t.name}"], axis=0) for t in carried]
    outputs = []
    for tensor in carried:
        dims = [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
        kind = tensor.type.tensor_type.elem_type
        outputs.append(helper.make_tensor_value_info(f"selected.{tensor.name}", kind, ["S", *dims[1:]]))
    return _model(nodes, [helper.make_tensor_value_info("rows", TensorProto.INT64, ["S"]), *carried], outputs, {})


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON by hand."""
    path = folder / "bundle.json"
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
