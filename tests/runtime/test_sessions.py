"""Graphs against the tables they were made from, the check of their tensors, and the choice of a device."""

from __future__ import annotations

import contextlib
import ctypes
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundles import GRID, build_bundle, random_tables, reseal, rewrite
from onnx import TensorProto, helper, numpy_helper

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.decoding.pruning import prune_at_once, prune_by_halves
from batchcap.decoding.types import StepOutput, Stepper
from batchcap.errors import BundleError, DeviceError, OptionError
from batchcap.runtime import device_choice, onnx_session
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoder import Decoder
from batchcap.runtime.device import Device
from batchcap.runtime.device_choice import choose_device, usable_devices
from batchcap.runtime.sessions import open_sessions

CPU, GPU = choose_device("cpu"), Device("cuda", 1, "Card")
LEVELS = np.array([[10, 200, 30], [250, 0, 90], [130, 130, 130]], np.uint8)
PIXELS = np.broadcast_to(LEVELS[:, None, None, :], (3, 8, 8, 3))
KINDS = [
    {},
    {"memory": False},
    {"attention": False, "past": False},
    {"memory": False, "attention": False, "past": False, "pixels": "float32"},
]


@pytest.mark.parametrize("kind", KINDS)
def test_steps_follow_the_tables(tmp_path: Path, kind: dict[str, object]) -> None:
    tables = random_tables(3)
    encoder, decoder = open_sessions(open_bundle(build_bundle(tmp_path / "b", tables, **kind)), CPU)
    features = encoder(PIXELS.astype(kind.get("pixels", "uint8")))
    assert features.images == 3
    stepper = decoder.start(features)
    random = np.random.default_rng(1)
    token, parent = np.full((3, 1), 1), np.zeros((3, 1), np.int64)
    row = np.array([[tables.first_row(levels)] for levels in LEVELS])
    for _ in range(4):
        out = stepper.step(token, parent, candidates=5)
        row = tables.following[np.take_along_axis(row, parent, axis=1), token]
        assert out.log_prob.dtype == np.float32
        assert out.next_token.dtype == np.int64
        assert out.attention is None
        for image, beam in np.ndindex(token.shape):
            truth = tables.log_probs(row[image, beam], LEVELS[image])
            best = np.argsort(-truth)[:5]
            assert out.next_token[image, beam].tolist() == best.tolist()
            assert out.log_prob[image, beam] == pytest.approx(truth[best], abs=1e-5)
        beams = token.shape[1]
        parent = random.integers(0, beams, (3, 4))
        token = random.integers(4, 12, (3, 4))


def test_attention_comes_when_asked_for(tiny_bundle: Path) -> None:
    encoder, decoder = open_sessions(open_bundle(tiny_bundle), CPU)
    stepper = decoder.start(encoder(PIXELS))
    token, parent = np.full((3, 1), 1), np.zeros((3, 1), np.int64)
    looked = stepper.step(token, parent, candidates=2, attention=True).attention
    assert looked is not None
    assert looked.shape == (3, 1, GRID[0] * GRID[1])
    assert looked.sum(axis=2) == pytest.approx(1)


def test_a_model_without_attention_gives_none(tmp_path: Path) -> None:
    bundle = open_bundle(build_bundle(tmp_path / "b", attention=False))
    encoder, decoder = open_sessions(bundle, CPU)
    stepper = decoder.start(encoder(PIXELS))
    assert stepper.step(np.full((3, 1), 1), np.zeros((3, 1), np.int64), candidates=2, attention=True).attention is None


@pytest.mark.parametrize("kind", KINDS[:2])
def test_selected_images_go_on_as_if_alone(tmp_path: Path, kind: dict[str, object]) -> None:
    encoder, decoder = open_sessions(open_bundle(build_bundle(tmp_path / "b", **kind)), CPU)
    token, parent = np.array([[4, 5], [6, 7], [8, 9]]), np.array([[0, 1], [1, 0], [1, 1]])
    begin = (np.full((3, 1), 1), np.zeros((3, 1), np.int64))
    first = (token, np.zeros((3, 2), np.int64))
    features = encoder(PIXELS)
    whole, part = decoder.start(features), decoder.start(features)
    for stepper in (whole, part):
        stepper.step(*begin, candidates=4)
        stepper.step(*first, candidates=4)
    part.select(np.array([2, 0]))
    expected, found = (
        whole.step(token, parent, candidates=4),
        part.step(token[[2, 0]], parent[[2, 0]], candidates=4),
    )
    assert np.array_equal(found.next_token, expected.next_token[[2, 0]])
    assert found.log_prob == pytest.approx(expected.log_prob[[2, 0]], abs=1e-6)


def by_graph(decoder: Decoder, bundle: Bundle) -> Decoder:
    """As on a GPU: images leave by the graph, by halves; here on the CPU."""
    assert bundle.select_path is not None
    decoder.select, decoder.pruning = onnx_session.open_session(bundle.select_path, CPU, 1), prune_by_halves
    return decoder


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_selects_as_numpy_does(tmp_path: Path, kind: dict[str, object]) -> None:
    bundle = open_bundle(build_bundle(tmp_path / "b", select=True, **kind))
    encoder, decoder = open_sessions(bundle, CPU)
    features = encoder(PIXELS.astype(kind.get("pixels", "uint8")))
    one = decoder.start(features)
    assert decoder.select is None
    assert decoder.pruning is prune_at_once
    other = by_graph(Decoder(decoder.session, CPU, decoder.path, words=decoder.words, end=decoder.end), bundle).start(
        features
    )
    token, parent = np.full((3, 1), 1), np.zeros((3, 1), np.int64)
    random = np.random.default_rng(3)
    for kept in ([2, 0], [0, 1], [1]):
        for _ in range(2):
            expected, found = (stepper.step(token, parent, candidates=4) for stepper in (one, other))
            assert np.array_equal(found.next_token, expected.next_token)
            assert np.array_equal(found.log_prob, expected.log_prob)
            parent = random.integers(0, token.shape[1], (len(token), 2))
            token = random.integers(4, 12, parent.shape)
        one.select(np.array(kept))
        other.select(np.array(kept))
        token, parent = token[kept], parent[kept]
    # Every state and memory, the growing one and the one of float16 too.
    assert one._tensors.keys() == other._tensors.keys()
    for name, tensor in one._tensors.items():
        assert tensor.data_type() == other._tensors[name].data_type()
        assert np.array_equal(tensor.numpy(), other._tensors[name].numpy())


class Sizes:
    """How many images each step of a search has; it is what `Captioner.watch` calls."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, stepper: Stepper) -> Stepper:
        self._stepper = stepper
        return self

    def step(self, token: np.ndarray, parent: np.ndarray, **chosen: object) -> StepOutput:
        self.seen.append(len(token))
        return self._stepper.step(token, parent, **chosen)

    def select(self, rows: np.ndarray) -> None:
        self._stepper.select(rows)


def test_a_gpu_lets_images_leave_only_by_the_graph(tmp_path: Path) -> None:
    """What a decoder made for a GPU does in a whole search, its graphs here on the CPU."""
    captioner = Captioner.load(build_bundle(tmp_path / "b", select=True), "cpu", 16, max_length=12)
    pictures = np.random.default_rng(4).integers(0, 256, (16, 1, 1, 3)).astype(np.uint8)
    session, path = captioner._decoder.session, captioner._decoder.path
    graph = onnx_session.open_session(captioner.bundle.select_path, CPU, 1)
    expected = list(captioner.caption(pictures))
    for select in (None, graph):
        decoder = Decoder(session, GPU, path, select, words=12, end=2)
        decoder.device = CPU  # where its tensors lie; what it does with finished images is decided
        captioner._decoder, captioner.watch = decoder, Sizes()
        assert list(captioner.caption(pictures)) == expected
        sizes = captioner.watch.seen
        if select is None:
            assert set(sizes) == {16}
        else:
            assert sizes[0] == 16
            assert len(set(sizes)) > 1
            assert set(sizes) <= {16, 8, 4, 2, 1}


def test_results_stay_when_the_model_goes_on(tiny_bundle: Path) -> None:
    encoder, decoder = open_sessions(open_bundle(tiny_bundle), CPU)
    stepper = decoder.start(encoder(PIXELS))
    first = stepper.step(np.full((3, 1), 1), np.zeros((3, 1), np.int64), candidates=4)
    before = first.log_prob.copy()
    for _ in range(5):
        stepper.step(np.full((3, 1), 7), np.zeros((3, 1), np.int64), candidates=4)
    assert np.array_equal(first.log_prob, before)


# ---- tensors that are not the contract's


def find(values: object, name: str) -> onnx.ValueInfoProto:
    return next(value for value in values if value.name == name)


def drop(values: object, name: str) -> None:
    values.remove(find(values, name))


def retype(file_side: str, name: str, kind: int) -> Callable[[onnx.ModelProto], None]:
    """Give an input or output another type, with the cast that keeps the graph valid."""

    def change(model: onnx.ModelProto) -> None:
        tensor = find(getattr(model.graph, file_side), name)
        old = tensor.type.tensor_type.elem_type
        tensor.type.tensor_type.elem_type = kind
        for node in model.graph.node:
            names = node.input if file_side == "input" else node.output
            names[:] = ["inside" if n == name else n for n in names]
        if file_side == "input":
            model.graph.node.insert(0, helper.make_node("Cast", [name], ["inside"], to=old))
        else:
            model.graph.node.append(helper.make_node("Cast", ["inside"], [name], to=kind))
            for node in list(model.graph.node)[:-1]:
                node.input[:] = ["inside" if n == name else n for n in node.input]

    return change


def resize(side: str, name: str, axis: int, size: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        shape = find(getattr(model.graph, side), name).type.tensor_type.shape
        shape.dim[axis].Clear()
        shape.dim[axis].dim_value = size

    return change


def rename(side: str, old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        find(getattr(model.graph, side), old).name = new
        for node in model.graph.node:
            node.input[:] = [new if n == old else n for n in node.input]
            node.output[:] = [new if n == old else n for n in node.output]

    return change


def lose_input(name: str, value: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    """A constant takes the input's place."""

    def change(model: onnx.ModelProto) -> None:
        drop(model.graph.input, name)
        model.graph.initializer.append(numpy_helper.from_array(value, name))

    return change


def lose_output(name: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: drop(model.graph.output, name)


def more_output(name: str, source: str, shape: list[str | int]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", [source], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    return change


def more_input(model: onnx.ModelProto) -> None:
    """What a converter does with a captured constant."""
    model.graph.input.append(helper.make_tensor_value_info("captured", TensorProto.FLOAT, [3]))


def lose_states(model: onnx.ModelProto) -> None:
    for tensor in [t for t in model.graph.output if t.name.startswith("state.")]:
        model.graph.output.remove(tensor)


def longer_state(model: onnx.ModelProto) -> None:
    """Two rows where the contract has one: [B, 2]."""
    model.graph.node.append(helper.make_node("Concat", ["state.half", "state.half"], ["state.two"], axis=1))
    model.graph.output.append(helper.make_tensor_value_info("state.two", TensorProto.FLOAT16, ["B", 2]))


def flat_token(model: onnx.ModelProto) -> None:
    """The decoder takes [B] and adds the axis itself."""
    tensor = find(model.graph.input, "token")
    del tensor.type.tensor_type.shape.dim[1]
    for node in model.graph.node:
        node.input[:] = ["inside" if n == "token" else n for n in node.input]
    model.graph.node.insert(0, helper.make_node("Unsqueeze", ["token", "one"], ["inside"]))


ENCODER, DECODER, SELECT = "encoder.onnx", "decoder.onnx", "select.onnx"
WRONG: list[tuple[str, Callable[[onnx.ModelProto], None], str]] = [
    (ENCODER, rename("input", "image", "pixels"), "has no input `image`"),
    (ENCODER, more_input, "has an input `captured` that nothing feeds or reads"),
    (ENCODER, retype("input", "image", TensorProto.FLOAT), r"input `image` is tensor\(float\), not tensor\(uint8\)"),
    (ENCODER, resize("input", "image", 0, 1), "input `image` has the size 1 on axis 0, where it needs any size"),
    (ENCODER, resize("input", "image", 1, 16), "input `image` has the size 16 on axis 1, where it needs 8"),
    (ENCODER, more_output("features", "mean", ["B", 3]), r"output `features` is neither `state\.\*` nor `memory"),
    (ENCODER, lose_states, r"has no output `state\.\*`"),
    (ENCODER, longer_state, r"output `state\.two` has the size 2 on axis 1, where it needs 1"),
    (DECODER, rename("input", "token", "tokens"), "has no input `token`"),
    (DECODER, lose_input("candidates", np.array([5])), "has no input `candidates`"),
    (DECODER, lose_input("state.half", np.zeros((1, 1), np.float16)), r"has no input `state\.half`"),
    (DECODER, rename("input", "memory.colour", "memory.color"), r"has no input `memory\.colour`"),
    (DECODER, more_input, "has an input `captured` that nothing feeds or reads"),
    (DECODER, retype("input", "token", TensorProto.INT32), r"input `token` is tensor\(int32\), not tensor\(int64\)"),
    (DECODER, retype("input", "state.half", TensorProto.FLOAT), r"input `state\.half` is tensor\(float\), not .*16"),
    (DECODER, flat_token, "input `token` has 1 dimensions, not 2"),
    (DECODER, resize("input", "parent", 1, 3), "input `parent` has the size 3 on axis 1, where it needs any size"),
    (DECODER, resize("input", "state.row", 1, 3), r"input `state\.row` has the size 3 on axis 1, where it needs any"),
    (DECODER, lose_output("log_prob"), "has no output `log_prob`"),
    (DECODER, lose_output("next_state.past"), r"has no output `next_state\.past`"),
    (DECODER, lose_output("attention"), "has no output `attention`"),
    (
        DECODER,
        more_output("logits_out", "all", ["B", "K", "V"]),
        "has an output `logits_out` that nothing feeds or reads",
    ),
    (DECODER, retype("output", "next_token", TensorProto.INT32), r"output `next_token` is tensor\(int32\)"),
    (DECODER, retype("output", "log_prob", TensorProto.DOUBLE), r"output `log_prob` is tensor\(double\)"),
    (DECODER, retype("output", "next_state.half", TensorProto.FLOAT), r"output `next_state\.half` is tensor\(float\)"),
    (SELECT, rename("input", "rows", "keep"), "has no input `rows`"),
    (SELECT, retype("input", "rows", TensorProto.INT32), r"input `rows` is tensor\(int32\), not tensor\(int64\)"),
    (SELECT, resize("input", "rows", 0, 3), "input `rows` has the size 3 on axis 0, where it needs any size"),
    (SELECT, more_input, "has an input `captured` that nothing feeds or reads"),
    (SELECT, lose_input("state.half", np.zeros((1, 1), np.float16)), r"has no input `state\.half`"),
    (SELECT, resize("input", "state.row", 1, 1), r"input `state\.row` has the size 1 on axis 1, where it needs any"),
    (SELECT, retype("input", "memory.colour", TensorProto.DOUBLE), r"input `memory\.colour` is tensor\(double\)"),
    (SELECT, lose_output("selected.memory.colour"), r"has no output `selected\.memory\.colour`"),
    (
        SELECT,
        retype("output", "selected.state.half", TensorProto.FLOAT),
        r"output `selected\.state\.half` is tensor\(f",
    ),
    (SELECT, more_output("copy", "memory.colour", ["B", 3]), "has an output `copy` that nothing feeds or reads"),
]


@pytest.fixture(scope="module")
def whole_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every graph there can be."""
    return build_bundle(tmp_path_factory.mktemp("bundles") / "whole", select=True)


@pytest.mark.parametrize(("file", "change", "problem"), WRONG)
def test_wrong_tensors(
    whole_bundle: Path, tmp_path: Path, file: str, change: Callable[[onnx.ModelProto], None], problem: str
) -> None:
    folder = Path(shutil.copytree(whole_bundle, tmp_path / "broken"))
    rewrite(folder, file, change)
    with pytest.raises(BundleError, match=f"{re.escape(file)}: {problem}"):
        open_sessions(open_bundle(folder), CPU)


def test_an_attention_grid_that_does_not_fit(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    reseal(folder, attention_grid=(3, 3))
    with pytest.raises(BundleError, match="output `attention` has the size 6 on axis 2, where it needs 9"):
        open_sessions(open_bundle(folder), CPU)


def test_a_graph_that_cannot_be_loaded(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    rewrite(folder, DECODER, lambda m: m.graph.node.append(helper.make_node("NoSuchOperator", ["token"], ["x"])))
    with pytest.raises(BundleError, match=r"decoder\.onnx: onnxruntime cannot load it: .*NoSuchOperator"):
        open_sessions(open_bundle(folder), CPU)


def test_a_graph_that_fails_while_running(tiny_bundle: Path) -> None:
    encoder, decoder = open_sessions(open_bundle(tiny_bundle), CPU)
    stepper = decoder.start(encoder(PIXELS))
    with pytest.raises(BundleError, match=r"decoder\.onnx: its graph failed: "):
        stepper.step(np.full((3, 1), 10_000), np.zeros((3, 1), np.int64), candidates=4)


def test_a_select_graph_that_fails_is_named(whole_bundle: Path) -> None:
    bundle = open_bundle(whole_bundle)
    encoder, decoder = open_sessions(bundle, CPU)
    stepper = by_graph(decoder, bundle).start(encoder(PIXELS))
    with pytest.raises(BundleError, match=r"select\.onnx: its graph failed: "):
        stepper.select(np.array([5]))


def test_the_cpu_prints_nothing(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = open_bundle(tiny_bundle)
    encoder, decoder = open_sessions(bundle, choose_device("cpu"))
    stepper = decoder.start(encoder(PIXELS))
    stepper.step(np.full((3, 1), 1), np.zeros((3, 1), np.int64), candidates=4)
    with pytest.raises(BundleError):
        stepper.step(np.full((3, 1), 10_000), np.zeros((3, 1), np.int64), candidates=4)
    assert capfd.readouterr() == ("", "")


# ---- devices


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "CPU", "cuda0"])
def test_a_device_that_does_not_exist(name: str) -> None:
    with pytest.raises(OptionError, match="no such device"):
        choose_device(name)


def test_the_cpu_is_always_usable() -> None:
    assert CPU.kind == CPU.name == "cpu"
    assert usable_devices()[-1] == CPU


def test_what_auto_takes_is_usable() -> None:
    device = choose_device("auto")
    assert device.kind == usable_devices()[0].kind
    assert bool(device.note) == (device.kind == "cpu")


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match="There is no NVIDIA driver") as error:
        choose_device("cuda")
    assert "--device cpu" in error.value.fix
    assert choose_device("auto").note == error.value.message
    assert usable_devices() == [CPU]


class Driver:
    """What the CUDA driver answers on a machine with ``names``."""

    def __init__(self, *names: str, status: int = 0) -> None:
        self.names, self.status = names, status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's own name
        return self.status

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: object, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: object, size: int, device: object) -> int:  # noqa: N802
        name.value = self.names[device.value].encode()
        return 0


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(status=100))
    with pytest.raises(DeviceError, match=r"no usable GPU \(CUDA error 100\)"):
        choose_device("cuda:0")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    with pytest.raises(DeviceError, match="no usable GPU"):
        choose_device("cuda")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver("One", "Two"))
    with pytest.raises(DeviceError, match="cuda:2: there is no such GPU") as error:
        choose_device("cuda:2")
    assert error.value.fix == "There are: cuda:0 (One), cuda:1 (Two)."


def has_gpu() -> bool:
    return usable_devices()[0].kind == "cuda"


@pytest.mark.skipif(has_gpu(), reason="needs a machine where CUDA does not load")
def test_a_driver_that_onnxruntime_cannot_use(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device_choice, "_driver_names", lambda: ["Pretended"])
    with pytest.raises(DeviceError, match="onnxruntime can") as error:
        choose_device("cuda")
    assert 'pip install "batchcap[cuda]"' in error.value.fix
    device = choose_device("auto")
    assert device.kind == "cpu"
    assert device.note == error.value.message
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not has_gpu(), reason="needs a GPU")
@pytest.mark.parametrize("select", [False, True])
def test_a_gpu_says_what_the_cpu_says(tmp_path: Path, select: bool) -> None:
    bundle, outputs = open_bundle(build_bundle(tmp_path / "b", select=select)), []
    for device in (CPU, choose_device("cuda")):
        encoder, decoder = open_sessions(bundle, device)
        stepper = decoder.start(encoder(PIXELS))
        stepper.step(np.full((3, 1), 1), np.zeros((3, 1), np.int64), candidates=4)
        stepper.step(np.array([[4, 5], [6, 7], [8, 9]]), np.zeros((3, 2), np.int64), candidates=4)
        stepper.select(np.array([2, 0]))
        outputs.append(
            stepper.step(np.array([[4, 5], [6, 7]]), np.array([[1, 0], [0, 0]]), candidates=4, attention=True)
        )
    cpu, gpu = outputs
    assert np.array_equal(cpu.next_token, gpu.next_token)
    assert cpu.log_prob == pytest.approx(gpu.log_prob, abs=1e-5)
    assert cpu.attention == pytest.approx(gpu.attention, abs=1e-5)


@pytest.mark.parametrize(
    ("device", "error", "message", "fix"),
    [
        (
            GPU,
            RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory"),
            "Card: too little",
            "--batch-size",
        ),
        (GPU, RuntimeError("CUDA failure 2: out of memory ; GPU=0"), "Card: too little memory", "--batch-size"),
        (GPU, RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "Card: too little memory", "--batch-size"),
        (CPU, MemoryError(), "CPU, .*: too little memory", "--batch-size"),
        (CPU, RuntimeError("std::bad_alloc"), "CPU, .*: too little memory", "--batch-size"),
        (GPU, RuntimeError("CUDA failure 700: illegal\nmemory access"), r"cuda:1 \(Card\) failed: CUDA", "run again"),
    ],
)
def test_what_a_device_can_raise(device: Device, error: Exception, message: str, fix: str) -> None:
    found = onnx_session._failure(error, device, Path("decoder.onnx"), "its graph failed")
    assert isinstance(found, DeviceError)
    assert re.match(message, found.message)
    assert "\n" not in found.message
    assert fix in found.fix


def test_the_probe_is_the_model_it_says() -> None:
    model = onnx.load_from_string(device_choice._PROBE)
    onnx.checker.check_model(model, full_check=True)
    assert [(n.op_type, list(n.input), list(n.output)) for n in model.graph.node] == [("Identity", ["x"], ["y"])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: X\nflags\t\t: fpu avx2 avx512f\n", True),
        ("flags\t\t: fpu avx512_vnni fma\n", False),
        ("flags\t\t: fpu avx2 avx_vnni\n", False),
        ("Features\t: fp asimd\n", False),
        (None, False),
    ],
)
def test_which_processors_need_slower_products(text: str | None, expected: bool, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert onnx_session._may_overflow(tmp_path / "cpuinfo") is expected


def test_slower_products_are_asked_for_where_they_are_needed(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from a real session: onnxruntime takes any name of a setting, misspelt ones too."""
    for needed in (True, False):
        monkeypatch.setattr(onnx_session, "_may_overflow", lambda _, needed=needed: needed)
        options = onnx_session.open_session(tiny_bundle / "encoder.onnx", choose_device("cpu"), 1).get_session_options()
        found = []
        with contextlib.suppress(RuntimeError):
            found.append(options.get_session_config_entry("session.x64quantprecision"))
        assert found == (["1"] if needed else [])
