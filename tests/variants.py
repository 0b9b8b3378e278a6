"""Bundles with more than one precision, with made-up figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bundles import Tables, build_bundle, random_tables, reseal
from onnx import TensorProto, helper

from batchcap.bundle.manifest import Variant, graph_file


def variant(**changes: Any) -> Variant:
    fields = {"images": 1000, "changed": 20, "equivalent": True, "signature": "made up"}
    return Variant(**(fields | changes))


def halved(model: onnx.ModelProto, of: tuple[str, ...]) -> onnx.ModelProto:
    """The model with float16 tensors where its inputs and outputs ``of`` these prefixes are float32."""
    before, after = [], []
    for tensor in (*model.graph.input, *model.graph.output):
        kind = tensor.type.tensor_type
        if kind.elem_type != TensorProto.FLOAT or not tensor.name.startswith(of):
            continue
        kind.elem_type, name = TensorProto.FLOAT16, tensor.name
        if tensor in model.graph.input:
            before.append(helper.make_node("Cast", [name], [f"{name}.wide"], to=TensorProto.FLOAT))
            ends = [node.input for node in model.graph.node]
        else:
            after.append(helper.make_node("Cast", [f"{name}.wide"], [name], to=TensorProto.FLOAT16))
            ends = [part for node in model.graph.node for part in (node.input, node.output)]
        for names in ends:
            names[:] = [f"{name}.wide" if given == name else given for given in names]
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def build_variants(folder: Path, **variants: Variant) -> Path:
    """A bundle whose int8 pair says other words than its fp32 pair, and whose fp16 pair has float16 memories."""
    build_bundle(folder)
    if "int8" in variants:
        tables = random_tables()
        other = Tables(np.roll(tables.logits, 1, axis=1), tables.following, tables.colour)
        source = build_bundle(folder.parent / f"{folder.name}-other", other)
        for name in ("encoder.onnx", "decoder.onnx"):
            shutil.copy(source / name, folder / graph_file(name, "int8"))
    if "fp16" in variants:
        for name in ("encoder.onnx", "decoder.onnx"):
            model = halved(onnx.load(folder / name), ("state.", "next_state.", "memory."))
            onnx.save(model, folder / graph_file(name, "fp16"))
    reseal(folder, variants=variants)
    return folder


def broken(folder: Path, tmp_path: Path, change: Callable[[Path], object]) -> Path:
    """A copy of a bundle, changed."""
    copy = Path(shutil.copytree(folder, tmp_path / "broken"))
    change(copy)
    return copy
