"""Steps of a bundle's decoder against the tables that it was built from, and images that leave it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import GRID, build_bundle, random_tables
from tiny_sessions import CPU, GPU, LEVELS, PIXELS, has_gpu, with_select_graph

from batchcap.bundle.bundle import open_bundle
from batchcap.decoding.pruning import prune_at_once
from batchcap.decoding.types import StepOutput, Stepper
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoder import Decoder
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.onnx_session import OnnxGraph
from batchcap.runtime.sessions import open_sessions

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


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_selects_as_numpy_does(tmp_path: Path, kind: dict[str, object]) -> None:
    bundle = open_bundle(build_bundle(tmp_path / "b", select=True, **kind))
    encoder, decoder = open_sessions(bundle, CPU)
    features = encoder(PIXELS.astype(kind.get("pixels", "uint8")))
    one = decoder.start(features)
    assert decoder.select is None
    assert decoder.pruning is prune_at_once
    other = with_select_graph(Decoder(decoder.graph, words=decoder.words, end=decoder.end), bundle).start(features)
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
    images = np.random.default_rng(4).integers(0, 256, (16, 1, 1, 3)).astype(np.uint8)
    graph = captioner._decoder.graph
    by_graph = OnnxGraph.load(captioner.bundle.select_path, CPU, 1)
    expected = list(captioner.caption(images))
    for select in (None, by_graph):
        decoder = Decoder(replace(graph, device=GPU), select, words=12, end=2)
        decoder.graph = graph  # where its tensors lie; what it does with finished images is decided
        captioner._decoder, captioner.watch = decoder, Sizes()
        assert list(captioner.caption(images)) == expected
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
