"""Bundles from strangers: nothing outside the folder is opened, nothing absurd is read, nothing broken crashes."""

from __future__ import annotations

import ast
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import build_bundle, edit_manifest, reseal, rewrite
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import batchcap
from batchcap.bundle import onnx_scan
from batchcap.bundle.bundle import open_bundle, write_manifest
from batchcap.bundle.graph_contract import verify_encoder
from batchcap.errors import BundleError
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.sessions import open_sessions

MIB = 1024 * 1024


# Names and kinds of files


@pytest.mark.parametrize("name", ["NUL", "con.bin", "Lpt1.a.b", "ends.", "a b", "-o", "~x", "\u00e9", ""])
def test_a_name_that_is_no_file_everywhere(folder: Path, name: str) -> None:
    edit_manifest(folder, lambda m: m["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match=r"is no plain file name - at `\$.files`"):
        open_bundle(folder)


@pytest.mark.parametrize(("name", "other"), [("Encoder.onnx", "encoder.onnx"), ("BUNDLE.json", "bundle.json")])
def test_names_that_differ_in_case_alone(folder: Path, name: str, other: str) -> None:
    edit_manifest(folder, lambda m: m["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match=f"({name} and {other}|{other} and {name}) are one file on some computers"):
        open_bundle(folder)


def test_no_bundle_is_written_that_could_not_be_opened(folder: Path) -> None:
    manifest = open_bundle(folder).manifest
    (folder / "my notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match=r"'my notes\.txt' is no plain file name"):
        write_manifest(folder, manifest)


def test_a_link_must_lead_to_the_listed_bytes(folder: Path, tmp_path: Path) -> None:
    kept = folder / "vocabulary.txt"
    (tmp_path / "elsewhere").write_bytes(kept.read_bytes())
    (tmp_path / "secret").write_bytes(bytes(kept.stat().st_size))
    kept.unlink()
    kept.symlink_to(tmp_path / "elsewhere")
    open_bundle(folder)
    kept.unlink()
    kept.symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match=r"vocabulary\.txt: was altered"):
        open_bundle(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["bundle.json", "vocabulary.txt"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match=f"{name}: is no plain file"):
        open_bundle(folder)


# Sizes


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / "bundle.json").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file: reading it would end in a MemoryError
    with pytest.raises(
        BundleError, match=r"bundle\.json: has 1,099,511,627,776 bytes, more than the 4,194,304 that are allowed"
    ):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("name", "limit"), [("vocabulary.txt", 64 * MIB), ("MODEL_CARD.md", 16 * MIB), ("encoder.onnx", 2048 * MIB)]
)
def test_a_huge_file_is_not_hashed(folder: Path, name: str, limit: int) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(1 << 40)
    edit_manifest(folder, lambda m: m["files"][name].update(bytes=1 << 40))
    with pytest.raises(BundleError, match=rf"{name}: has .* by the manifest, more than the {limit:,} that are allowed"):
        open_bundle(folder)
    edit_manifest(folder, lambda m: m["files"][name].update(bytes=100))
    with pytest.raises(BundleError, match=rf"{name}: was altered .*bytes instead of 100"):
        open_bundle(folder)


def test_a_manifest_that_is_nested_too_deep(folder: Path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    text = (folder / "bundle.json").read_text().replace('"recipe": {', f'"recipe": {{"deep": {deep}', 1)
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json: .*recursion"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda m: m.update(vocabulary_size=1_000_001), r"at `\$.vocabulary_size`"),
        (lambda m: m.update(attention_grid=[1, 4096]), r"at `\$.attention_grid"),
        (
            lambda m: m["preprocess"].update(height=10**6, width=10**6, resize_height=10**6, resize_width=10**6),
            r"images of 1000000 rows or columns are too large",
        ),
    ],
)
def test_absurd_numbers(folder: Path, change: Callable[[dict[str, Any]], object], problem: str) -> None:
    edit_manifest(folder, change)
    with pytest.raises(BundleError, match=problem):
        open_bundle(folder)


def test_absurd_shapes(folder: Path) -> None:
    image = SimpleNamespace(name="image", type="tensor(uint8)", shape=["B", 8, 8, 3])
    outputs = [SimpleNamespace(name="state.x", type="tensor(float)", shape=["B", 1, 1 << 20, 1 << 20])]
    graph = SimpleNamespace(get_inputs=lambda: [image], get_outputs=lambda: outputs)
    with pytest.raises(BundleError, match=r"output `state\.x` has 1,099,511,627,776 numbers an image"):
        verify_encoder(open_bundle(folder), graph)


# Operators


def test_an_operator_that_onnxruntime_does_not_have(folder: Path) -> None:
    def odd(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Steal", ["image"], ["never"], domain="com.example"))
        model.opset_import.append(helper.make_opsetid("com.example", 1))

    rewrite(folder, "encoder.onnx", odd)
    with pytest.raises(BundleError, match=r"encoder\.onnx: uses the operator 'Steal' of the domain 'com\.example'"):
        open_bundle(folder)


def test_a_function_of_the_file_itself_is_no_strange_operator(folder: Path) -> None:
    def same(model: onnx.ModelProto) -> None:
        inner = helper.make_node("Identity", ["a"], ["b"])
        opset = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("own", "Same", ["a"], ["b"], [inner], opset))
        model.opset_import.append(helper.make_opsetid("own", 1))
        last = next(node for node in model.graph.node if "log_prob" in node.output)
        renamed = ["all_log_prob", *last.output[1:]]
        del last.output[:]
        last.output.extend(renamed)
        model.graph.node.append(helper.make_node("Same", ["all_log_prob"], ["log_prob"], domain="own"))

    rewrite(folder, "decoder.onnx", same)
    open_sessions(open_bundle(folder), choose_device("cpu"))


# Broken and hostile protobuf


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes of graphs."""
    content = b""
    for _ in range(depth):
        content = field(1, field(5, field(6, content)))
    return field(7, content)


HOSTILE = {
    "longer than what holds it": varint(7 << 3 | 2) + varint((1 << 63) + 5),
    "ends no number": b"\x3a" + b"\xff" * 11,
    "nested deeper than 100 messages": nested(2000),
    "more than 1,000,000 parts": field(7, field(1, b"") * 1_000_001),
    "ends no protobuf tag": varint((1 << 32) | 7 << 3 | 2) + varint(0),
    "a name of 70,000 bytes": field(7, field(1, field(4, b"x" * 70_000))),
}


@pytest.mark.parametrize("problem", HOSTILE)
def test_hostile_headers(folder: Path, problem: str) -> None:
    (folder / "encoder.onnx").write_bytes(HOSTILE[problem])
    reseal(folder)
    started = time.process_time()
    with pytest.raises(BundleError, match=rf"encoder\.onnx: is no ONNX file \(.*{problem}"):
        open_bundle(folder)
    assert time.process_time() - started < 10


def with_everything() -> bytes:
    """A small model file with outside weights wherever a tensor can stand."""

    def outside(name: str) -> TensorProto:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=name)
        return tensor

    inner = helper.make_graph([helper.make_node("Deep", [], ["d"], domain="x")], "inner", [], [], [outside("a")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, value=outside("b"), many=[outside("c")])
    graph = helper.make_graph([node], "outer", [], [], [outside("d")])
    graph.sparse_initializer.add().indices.CopyFrom(outside("e"))
    model = helper.make_model(graph)
    constant = helper.make_node("Constant", [], ["w"], value=outside("f"))
    model.functions.append(helper.make_function("odd", "f", [], ["w"], [constant], []))
    return model.SerializeToString()


def known_to_onnx(message: Any) -> tuple[set[str], set[tuple[str, str]]]:
    """Outside files and used operators by the onnx package's own reading: every field of every message."""
    files, operators = set(), set()
    if isinstance(message, onnx.TensorProto):
        files |= {entry.value for entry in message.external_data if entry.key == "location"}
    if isinstance(message, onnx.NodeProto):
        operators.add((message.domain, message.op_type))
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in value if isinstance(value, (list, tuple)) or hasattr(value, "__len__") else [value]:
                more = known_to_onnx(part)
                files, operators = files | more[0], operators | more[1]
    return files, operators


EVERYTHING = with_everything()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file with a few bytes changed, cut out, doubled, or put in."""
    content = bytearray(EVERYTHING)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        size = draw(st.integers(0, 12))
        kind = draw(st.sampled_from(("change", "cut", "double", "put")))
        if kind == "change":
            content[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + size]
        elif kind == "double":
            content[at:at] = content[at : at + size]
        else:
            content[at:at] = draw(st.binary(max_size=12) | st.integers(0, 2**70).map(varint))
        if not content:
            content += b"\x00"
    return bytes(content)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
@example(EVERYTHING)
def test_whatever_onnx_finds_in_a_mutated_file_is_found_here(tmp_path: Path, content: bytes) -> None:
    """No bytes hide a file or an operator from this reader that another reader would see."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    started = time.process_time()
    try:
        found = onnx_scan.references(path)
    except ValueError:
        found = None
    assert time.process_time() - started < 1  # seconds of this process alone, whatever else the machine does
    if found is None:
        return
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # noqa: BLE001 - protobuf's own error, which is no part of its interface
        return
    files, operators = known_to_onnx(model)
    own = {(function.domain, function.name) for function in model.functions}
    assert files <= found.files
    assert operators - own <= found.operators


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_bundle_opens_or_says_why_not(tiny_bundle: Path, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(("bundle.json", "vocabulary.txt", "encoder.onnx", "decoder.onnx")))
    content = bytearray((tiny_bundle / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    folder = tmp_path / "b"
    shutil.copytree(tiny_bundle, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    if name != "bundle.json":
        reseal(folder)
    try:
        problem = str(open_bundle(folder).folder)
    except BundleError as error:
        problem = error.message
    assert str(folder) in problem


@pytest.mark.parametrize("path", sorted(Path(batchcap.__file__).parent.rglob("*.py")), ids=str)
def test_the_runtime_reads_no_pickle(path: Path) -> None:
    """Nor anything else that could hold one, or code."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"pickle", "marshal", "shelve", "dill", "joblib"}
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        assert called not in {"np.load", "numpy.load", "eval", "exec"}


def test_moving_a_bundle_changes_nothing(tmp_path: Path) -> None:
    before = open_bundle(build_bundle(tmp_path / "here"))
    moved = open_bundle((tmp_path / "here").rename(tmp_path / "there"))
    copied = open_bundle(Path(shutil.copytree(tmp_path / "there", tmp_path / "deep" / "copy")))
    assert before.label == moved.label == copied.label
    assert before.manifest == moved.manifest == copied.manifest
