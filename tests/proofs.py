"""What must hold of every bundle that an export made: the contract of its graphs, and `batchcap run` with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from typer.testing import CliRunner, Result

from batchcap.cli.app import app


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def shapes(file: Path) -> dict[str, list[str | int]]:
    """Of all inputs and outputs of a graph; a name is an axis of any size."""
    graph = onnx.load(file).graph
    tensors = (*graph.input, *graph.output)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in tensors}


def check_graphs(bundle: Path) -> None:
    """No loops, one operator set, the contract's names, and axes of any size for images, beams and candidates."""
    for name in ("encoder.onnx", "decoder.onnx"):
        model = onnx.load(bundle / name)
        assert not {node.op_type for node in model.graph.node} & {"Loop", "Scan", "If", "BatchNormalization"}
        assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    encoder, decoder = shapes(bundle / "encoder.onnx"), shapes(bundle / "decoder.onnx")
    assert encoder.pop("image")[::3] == ["B", 3]
    plain = {"token": ["B", "K"], "parent": ["B", "K"], "candidates": [1]}
    plain |= {"log_prob": ["B", "K", "C"], "next_token": ["B", "K", "C"]}
    carried = {name: shape for name, shape in decoder.items() if name.startswith(("state.", "memory."))}
    assert carried.keys() == encoder.keys()
    assert [name for name in carried if name.startswith("state.")]
    for name, shape in carried.items():
        inside = shape[2 if name.startswith("state.") else 1 :]
        assert shape == (["B", "P", *inside] if name.startswith("state.") else ["B", *inside])
        begun = ["B", 1, *inside] if name.startswith("state.") else shape
        # An axis that the encoder's own graph does not tell has a name of its own there: NAME_1, ...
        free = [f"{name}_{axis}" for axis in range(len(begun))]
        told = [
            size if size != other else begun[axis]
            for axis, (size, other) in enumerate(zip(encoder[name], free, strict=True))
        ]
        assert told == begun
        if name.startswith("state."):
            plain[f"next_{name}"] = ["B", "K", *inside]
    attention = decoder.pop("attention", ["B", "K"])
    assert attention[:2] == ["B", "K"]
    assert decoder == plain | carried


def captions_of(bundle: Path, image_folder: Path, output: Path, *more: Any) -> list[str]:
    """What `batchcap run` says of all images of a folder."""
    done = call("run", image_folder, "-o", output, "--model", bundle, "--quiet", *more)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line)["caption"] for line in output.read_text(encoding="utf-8").splitlines()]
