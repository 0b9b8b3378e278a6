"""Saved networks in ``.keras`` and ``.h5`` files: their layers are known."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf
from keras import layers, tree

from batchcap.errors import ExportError
from batchcap_export.importers.keras import functional, legacy
from batchcap_export.importers.keras.networks import HOOK, Network, Port
from batchcap_export.model import recurrent


def open_file(path: Path) -> Network:
    """Open a ``.keras`` or ``.h5`` file; nothing in it is run that is not a layer of Keras.

    Raises:
        ExportError: it holds no whole network, code of its own, or layers that Keras does not know.
    """
    config = _config(path)
    _check_layers(path, config)
    try:
        model = legacy.load(path) if path.suffix.lower() != ".keras" else keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"{path}: Keras {keras.__version__} cannot open it: {reason}", HOOK) from error
    graph = functional.as_functional(model)
    if graph is None:
        raise ExportError(f"{path}: is no functional model, so that its layers are not known.", HOOK)
    return _described(path, graph)


def _config(path: Path) -> dict[str, Any]:
    """The description of a saved model, read without running anything in it."""
    try:
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as archive:
                text: Any = archive.read("config.json")
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs.get("model_config")
        if text is None:
            raise ExportError(
                f"{path}: holds weights without a model.", "Save the whole model: model.save('model.keras')."
            )
        config: dict[str, Any] = json.loads(text)
        return config
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ExportError(
            f"{path}: is no model that Keras has saved: {error}", "Save one: model.save('model.keras')."
        ) from error


def _check_layers(path: Path, config: dict[str, Any]) -> None:
    unknown = []
    for layer in _layer_configs(config):
        kind, name = str(layer["class_name"]), str(layer["config"].get("name", layer.get("name", "")))
        if kind == "Lambda":
            raise ExportError(
                f"{path}: layer {name} is a Lambda, which holds code that would run when it is opened.",
                f"Replace it by layers or keras.ops and save again. {HOOK}",
            )
        own = layer.get("registered_name") is not None and not str(layer.get("module") or "").startswith("keras")
        if own or ("module" not in layer and not _is_known(kind)):
            unknown.append(f"{name} ({kind})")
    if unknown:
        raise ExportError(
            f"{path}: has layers that Keras {keras.__version__} does not know: {', '.join(unknown)}.",
            f"Replace them by layers of Keras and save again as .keras. {HOOK}",
        )


def _is_known(kind: str) -> bool:
    return hasattr(layers, kind) or kind in ("Functional", "Model", "Sequential")


def _layer_configs(node: Any) -> Iterator[dict[str, Any]]:
    """Every layer's description, also inside models and wrappers, but no initializer, policy or activation."""
    if isinstance(node, list):
        for value in node:
            yield from _layer_configs(value)
    elif isinstance(node, dict):
        if "class_name" in node and isinstance(node.get("config"), dict) and "name" in node["config"]:
            is_layer = "inbound_nodes" in node or "layers" in node["config"] or "trainable" in node["config"]
            if is_layer:
                yield node
        for name, value in node.items():
            if name not in ("inbound_nodes", "compile_config", "build_config"):
                yield from _layer_configs(value)


def _described(path: Path, model: keras.Model) -> Network:
    inputs = tuple(Port(t.name, tuple(t.shape), keras.backend.standardize_dtype(t.dtype)) for t in model.inputs)
    names = _output_names(model)
    outputs = tuple(
        Port(name, tuple(t.shape), keras.backend.standardize_dtype(t.dtype))
        for name, t in zip(names, model.outputs, strict=True)
    )
    words, follows = _wiring(model, inputs, outputs)
    loose = any(port.name in words and len(port.shape) == 2 and port.shape[1] not in (None, 1) for port in inputs)
    runs = _for_one_word(model, words) if loose and follows else model

    def cast(tensors: Sequence[Any]) -> list[Any]:
        return [tf.cast(value, port.dtype) for value, port in zip(tensors, inputs, strict=True)]

    # Functions with names: TensorFlow complains of lambdas when it traces them.
    def run(tensors: Sequence[Any]) -> list[Any]:
        return list(tree.flatten(runs(tree.pack_sequence_as(runs.input, cast(tensors)), training=False)))

    def straight(tensors: Sequence[Any]) -> list[Any]:
        return functional.evaluate(model, cast(tensors), functional.plainly)

    def beams(tensors: Sequence[Any]) -> list[Any]:
        return functional.evaluate(model, cast(tensors), functional.on_beams)

    return Network(
        file=path,
        inputs=inputs,
        outputs=outputs,
        run=run,
        straight=straight,
        beams=beams,
        parameters=int(model.count_params()),
        model=model,
        words=words,
        follows=follows,
    )


def _for_one_word(model: keras.Model, words: frozenset[str]) -> keras.Model:
    """The model with inputs of one word: Keras holds one that was declared for a whole caption to that length."""
    inputs = [
        keras.Input((1,) if tensor.name in words else tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]
    outputs = functional.evaluate(model, inputs, lambda _, operation, args, kwargs: operation(*args, **kwargs))
    return keras.Model(inputs, outputs)


def _output_names(model: keras.Model) -> list[str]:
    """Each output by the layer that makes it, with its place where the layer makes several."""
    names = []
    for tensor, layer in zip(model.outputs, model.output_names, strict=True):
        _, _, place = tensor._keras_history  # noqa: SLF001 - no public way
        names.append(f"{layer}:{place}" if place else layer)
    # A layer that is called twice has one name.
    return [name if names.count(name) == 1 else f"{name}/{index}" for index, name in enumerate(names)]


@dataclass(frozen=True, slots=True, eq=False)
class _Trace:
    """A tensor while the graph is read: it is known by being itself."""


def _wiring(
    model: keras.Model, inputs: Sequence[Port], outputs: Sequence[Port]
) -> tuple[frozenset[str], dict[str, str]]:
    """Which inputs are words, and which input and output are the state of one recurrent layer."""
    traces = [_Trace() for _ in inputs]
    names = {trace: port.name for trace, port in zip(traces, inputs, strict=True)}
    words: set[str] = set()
    states: list[tuple[str, _Trace]] = []

    def call(_: functional.Key, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Trace]:
        made = [_Trace() for _ in tree.flatten(operation.output)]
        if isinstance(operation, layers.Embedding) and args[0] in names:
            words.add(names[args[0]])
        if isinstance(operation, layers.RNN) and operation.return_state:
            initial = recurrent.recurrent_arguments(args, kwargs)[1] or ()
            states.extend((names[s], after) for s, after in zip(initial, made[1:], strict=False) if s in names)
        return made

    ends = functional.evaluate(model, traces, call)
    found = {trace: port.name for trace, port in zip(ends, outputs, strict=True)}
    return frozenset(words), {name: found[after] for name, after in states if after in found}
