"""Memory that runs out, and devices that are lost, while images are captioned."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import build_bundle, rewrite
from commands import invoke
from onnx import helper, numpy_helper
from photos import write_photos
from runs import lines, run
from solid_images import COLOURS, solid
from tiny_sessions import CPU, GPU

from batchcap.bundle.bundle import Bundle
from batchcap.errors import DeviceError, OutOfMemoryError
from batchcap.images.pixels import preprocess
from batchcap.runtime import captioner as captioner_module
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoder import Decoder
from batchcap.runtime.device import Device
from batchcap.runtime.encoder import Features
from batchcap.runtime.onnx_session import OnnxGraph

ARENA = (
    "Error in execution: Non-zero status code returned while running Conv node. Name:'c1' Status Message: "
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal("
    "size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 939524096"
)
LOST = (
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=x ; "
    "file=/onnxruntime_src/onnxruntime/core/providers/cuda/gpu_data_transfer.cc ; line=73 ; expr=cudaMemcpyAsync()"
)
# The run itself, with so many bytes of address space left when the model is open.
LIMITED = """if True:
    import resource, sys
    from batchcap.runtime import captioner
    room, opened = int(sys.argv.pop(1)), captioner.open_sessions
    def then_limited(*arguments, sparing=False):
        sessions = opened(*arguments, sparing=sparing)
        if sparing:
            return sessions
        status = open("/proc/self/status").read()
        limit = int(status.split("VmSize:")[1].split()[0]) * 1024 + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return sessions
    captioner.open_sessions = then_limited
    from batchcap.__main__ import main
    main()
"""


class Broken:
    """A session that cannot run any more. What it says of CUDA cannot be had from a real one here."""

    def __init__(self, text: str) -> None:
        self.text = text

    def io_binding(self) -> Any:
        raise RuntimeError(self.text)


class Failing:
    """Opens sessions whose encoder fails with onnxruntime's text on a GPU, wherever ``fails`` says so of ``fed``."""

    def __init__(self, text: str, fails: Callable[[list[int]], bool]) -> None:
        self.fed: list[int] = []
        """The rows that each call of the encoder got."""
        self.sparing: list[bool] = []
        self.fails, self.open = fails, captioner_module.open_sessions
        self.broken = OnnxGraph(Path("encoder.onnx"), GPU, Broken(text))

    def __call__(
        self, bundle: Bundle, device: Device, threads: int, *, sparing: bool = False
    ) -> tuple[Callable[[np.ndarray], Features], Decoder]:
        """As `open_sessions`, whatever the device here on the CPU."""
        encoder, decoder = self.open(bundle, CPU, threads, sparing=sparing)
        self.sparing.append(sparing)

        def encode(pixels: np.ndarray) -> Features:
            self.fed.append(len(pixels))
            if self.fails(self.fed):
                self.broken.run({"image": pixels}, {})
            return encoder(pixels)

        return encode, decoder


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose encoder takes 48 MiB an image."""
    folder = build_bundle(tmp_path_factory.mktemp("large") / "bundle")

    def enlarge(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "ReduceMean":
                node.input[0] = "many"
        model.graph.node.insert(1, helper.make_node("Tile", ["levels", "repeats"], ["many"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 256, 256, 1]), "repeats"))

    rewrite(folder, "encoder.onnx", enlarge)
    return folder


def limited(room: int, photos: Path, output: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["run", photos, "-o", output, "--model", bundle, "--device", "cpu", "--workers", "1"]
    reports = ["--summary", output.with_name("run.json"), "--log-file", output.with_name("log")]
    command = [sys.executable, "-c", LIMITED, room * 2**20, *arguments, "--batch-size", "32", *reports]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_half_a_batch_goes_where_a_whole_one_does_not(large_bundle: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 40)
    done = limited(900, tmp_path / "photos", tmp_path / "out.jsonl", large_bundle)
    assert done.returncode == 0, done.stderr
    said = re.findall(r"Memory ran out: in the end at most (\d+) images? went through", done.stderr)
    assert len(said) == 1, done.stderr
    assert int(said[0]) in {4, 8, 16}
    assert f"--batch-size {said[0]} saves" in done.stderr
    assert done.stderr.count(f"Memory ran out: from here on at most {said[0]} images") == 1
    assert f"WARNING Memory ran out: from here on at most {said[0]} images" in (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "run.json").read_bytes())["notes"]["reduced_batch"] == int(said[0])
    run(tmp_path / "photos", tmp_path / "undisturbed.jsonl", large_bundle, batch_size=2)
    assert lines(tmp_path / "out.jsonl") == lines(tmp_path / "undisturbed.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_where_not_even_one_image_fits(large_bundle: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    done = limited(30, tmp_path / "photos", tmp_path / "out.jsonl", large_bundle)
    assert done.returncode == 1
    assert "Too little memory: CPU" in done.stderr
    assert re.search(r"CPU, .*: too little memory( \(.+\))?\. Not even one image fits\.\n", done.stderr)
    assert "End what else uses this memory. A smaller model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("search", ["beam", "sample"])
@pytest.mark.parametrize("named", [True, False])
def test_a_gpu_is_fed_halves_of_one_shape(
    search: str, named: bool, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its graphs are here on the CPU."""
    failing = Failing(ARENA, lambda fed: fed[-1] > 3)
    usual = Captioner.load(tiny_bundle, "cpu", search=search, num_captions=2, max_length=40)
    monkeypatch.setattr(captioner_module, "open_sessions", failing)
    captioner = Captioner(usual.bundle, usual.decoding, GPU)
    pixels = np.stack([preprocess(solid(colour), usual.bundle.manifest.preprocess) for colour in COLOURS])
    keys = [(f"{n}.jpg", None) for n in range(7)] if named else None
    expected = [[h.tokens for h in each] for each in usual.hypotheses(pixels, 7, keys)]
    found = captioner.hypotheses(pixels, 7, keys)
    assert [[h.tokens for h in each] for each in found] == expected
    assert failing.fed == [7, 3, 3, 3]
    assert failing.sparing == [False, True]
    assert captioner.reduced_batch == 3
    again = captioner.hypotheses(pixels, 4, None if keys is None else keys[:4])
    assert failing.fed[4:] == [3, 3]
    assert [[h.tokens for h in each] for each in again] == expected[:4]


def test_the_library_goes_on_too_and_the_search_may_be_what_runs_out(tiny_bundle: Path) -> None:
    images = [solid(colour) for colour in COLOURS]
    expected = list(Captioner.load(tiny_bundle, "cpu").caption(images))
    captioner = Captioner.load(tiny_bundle, "cpu")

    def too_large(stepper: Any) -> Any:
        step = stepper.step

        def limited_step(token: np.ndarray, *rest: Any, **chosen: Any) -> Any:
            if len(token) > 2:
                np.empty(2**58)
            return step(token, *rest, **chosen)

        stepper.step = limited_step
        return stepper

    captioner.watch = too_large
    assert list(captioner.caption(images)) == expected
    assert captioner.reduced_batch in {1, 2}
    captioner.watch = lambda _: np.empty(2**58)
    with pytest.raises(OutOfMemoryError, match=r"^CPU, .*Unable to allocate 2\.00 EiB.* Not even one image fits"):
        list(captioner.caption(images))


def test_a_model_that_cannot_be_opened_again_is_tried_at_the_next_call(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may hold the memory for a while."""
    failing, full = Failing(ARENA, lambda fed: fed[-1] > 3), [True]

    def opened(*arguments: Any, sparing: bool = False) -> Any:
        if sparing and full:
            raise OutOfMemoryError("no memory")
        return failing(*arguments, sparing=sparing)

    usual = Captioner.load(tiny_bundle, "cpu")
    monkeypatch.setattr(captioner_module, "open_sessions", opened)
    captioner = Captioner(usual.bundle, usual.decoding, CPU)
    images = [solid(colour) for colour in COLOURS]
    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match="no memory"):
            list(captioner.caption(images))
    full.clear()
    assert list(captioner.caption(images)) == list(usual.caption(images))
    assert failing.sparing == [False, True]


def test_a_lost_device_keeps_what_is_written(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", 10)
    output, failing = tmp_path / "out.jsonl", Failing(LOST, lambda fed: len(fed) > 2)
    command = ("run", tmp_path / "photos", "-o", output, "--model", tiny_bundle, "--device", "cpu", "--batch-size", "3")
    with monkeypatch.context() as patch:
        patch.setattr(captioner_module, "open_sessions", failing)
        done = invoke(*command)
    assert done.exit_code == 1
    assert "cuda:1 (Card) failed: [ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: unspecified" in done.stderr
    assert "What was written is kept: run again." in done.stderr
    assert failing.fed == [3, 3, 3], "a device that is lost is not tried with less"
    assert len(lines(output)) == 6
    assert invoke(*command).exit_code == 0
    run(tmp_path / "photos", tmp_path / "undisturbed.jsonl", tiny_bundle)
    assert lines(output) == lines(tmp_path / "undisturbed.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable ; GPU=0",
        "CUDA failure 100: no CUDA-capable device is detected ; GPU=0 ; hostname=x",
        "CUDA failure 214: uncorrectable ECC error encountered ; GPU=0",
        "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
        "CUDA failure 999: unknown error ; GPU=0 ; expr=cudaStreamSynchronize(stream)",
        "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0",
        "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0",
    ],
)
def test_what_a_lost_device_says(text: str) -> None:
    with pytest.raises(DeviceError, match=re.escape(f"cuda:1 (Card) failed: {text}")) as caught:
        OnnxGraph(Path("decoder.onnx"), GPU, Broken(text)).run({}, {})
    assert not isinstance(caught.value, MemoryError)
    assert "nvidia-smi" in caught.value.fix
