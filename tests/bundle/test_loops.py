"""A graph that runs for ever is refused when the bundle is opened: no signal would end a run of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import build_bundle, endless, looping, reroute, reseal, rewrite
from onnx import TensorProto, helper, numpy_helper
from photos import write_photos

from batchcap.bundle.bundle import open_bundle
from batchcap.bundle.files import LOOPS, LoopError
from batchcap.bundle.manifest import Variant


def hidden_in_a_branch(model: onnx.ModelProto) -> None:
    reroute(model, "memory.colour")
    out = helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)
    branch = helper.make_graph(endless("old_value", "inside"), "branch", [], [out])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    choice = helper.make_node("If", ["always"], ["memory.colour"], then_branch=branch, else_branch=branch)
    model.graph.node.append(choice)


def hidden_in_a_function(model: onnx.ModelProto) -> None:
    reroute(model, "memory.colour")
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Same", ["a"], ["b"], endless("a", "b"), opset))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Same", ["old_value"], ["memory.colour"], domain="own"))


def behind_a_function_of_its_name(model: onnx.ModelProto) -> None:
    """The file defines a Loop of its own, which nothing has to use."""
    looping("memory.colour")(model)
    opset = [helper.make_opsetid("", 17)]
    inner = [helper.make_node("Identity", ["c"], ["b"])]
    model.functions.append(helper.make_function("", "Loop", ["a", "c", "d"], ["b"], inner, opset))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_bundle(tmp_path / "bundle", select=True)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("encoder.onnx", looping("memory.colour")),
        ("decoder.onnx", looping("log_prob")),
        ("select.onnx", looping("selected.memory.colour")),
        ("encoder.onnx", hidden_in_a_branch),
        ("encoder.onnx", hidden_in_a_function),
        ("encoder.onnx", behind_a_function_of_its_name),
    ],
)
def test_an_endless_loop_is_refused(folder: Path, file: str, change: Callable[[onnx.ModelProto], None]) -> None:
    rewrite(folder, file, change)
    with pytest.raises(LoopError, match=rf"{file} holds .*Loop: a graph of a bundle has no loops"):
        open_bundle(folder)


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_all_that_repeats_is_refused(folder: Path, name: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(name, ["old"], ["new"]))

    rewrite(folder, "decoder.onnx", change)
    with pytest.raises(LoopError, match=f"holds {name}"):
        open_bundle(folder)


def test_a_graph_of_another_precision_is_looked_at_too(folder: Path) -> None:
    for graph in ("encoder", "decoder"):
        shutil.copyfile(folder / f"{graph}.onnx", folder / f"{graph}.int8.onnx")
    signature = {"images": 1, "changed": 0, "equivalent": True, "signature": "none"}
    reseal(folder, variants={"int8": Variant(**signature)})
    open_bundle(folder)
    rewrite(folder, "encoder.int8.onnx", looping("memory.colour"))
    with pytest.raises(LoopError, match=r"encoder\.int8\.onnx"):
        open_bundle(folder)


def test_a_run_says_so_and_ends(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, "encoder.onnx", looping("memory.colour"))
    write_photos(tmp_path / "photos", 1)
    command = [sys.executable, "-m", "batchcap", "run", tmp_path / "photos", "-o", "-", "--model", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "encoder.onnx holds Loop" in done.stderr
