"""Stored int8 weights as Cast and Mul, or as DequantizeLinear: what each costs to open and to run, and what it changes.

    python benchmarks/stored_int8.py BUNDLE IMAGES [-o results.json]

BUNDLE stores int8 weights as Cast and Mul (``batchcap export --store int8``). Its two graphs are run as they are, then
with DequantizeLinear (one scale a channel) in the place of each pair, then the same with ``session.disable_quant_qdq``:
onnxruntime then computes the float weights once, when a graph is opened. Graphs with int8 arithmetic need that setting
off. The three take turns, round after round. Seconds are the processor's: waiting for cores that others use is not in
them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from batchcap.bundle.bundle import Bundle, open_bundle, write_manifest
from batchcap.images.discovery import discover
from batchcap.tools.machine import machine
from batchcap_export.data.images import read_pixels
from batchcap_export.proof.evaluate import caption_files

WAYS = {"cast and mul": False, "dequantize": False, "dequantize, folded when opened": True}
BEAMS, CANDIDATES = 3, 6


def dequantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with a DequantizeLinear in place of each Cast of int8 weights and the Mul by their scale."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    small = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "Cast" and node.input[0] in weights and weights[node.input[0]].data_type == TensorProto.INT8
    }
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Mul" and node.input[0] in small:
            scale = numpy_helper.to_array(weights[node.input[1]])
            axis = int(np.argmax(scale.shape))
            weights[node.input[1]].CopyFrom(numpy_helper.from_array(scale.reshape(-1), node.input[1]))
            inputs = [small[node.input[0]], node.input[1]]
            nodes.append(helper.make_node("DequantizeLinear", inputs, node.output, node.name, axis=axis))
        elif node.output[0] not in small:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def changed(bundle: Bundle, folder: Path) -> Bundle:
    """A copy of a bundle in ``folder``, with DequantizeLinear."""
    shutil.copytree(bundle.folder, folder)
    for path in (bundle.encoder_path, bundle.decoder_path):
        onnx.save(dequantized(onnx.load(path)), folder / path.name)
    write_manifest(folder, bundle.manifest)
    return open_bundle(folder)


def opened(path: Path, folded: bool, threads: int) -> Any:
    """A session as the runtime makes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_quant_qdq", str(int(folded)))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(bundles: dict[str, Bundle], pixels: Any, rounds: int, threads: int) -> dict[str, dict[str, Any]]:
    """By way: seconds of opening both graphs, of encoding ``pixels`` and of one step, and how far its result is off."""
    seconds: dict[str, Any] = {way: {"open": [], "encode": [], "step": []} for way in WAYS}
    results: dict[str, Any] = {}
    for number in range(-1, rounds):  # the first is to warm up
        for way, folded in WAYS.items():
            bundle, spent = bundles[way], [time.process_time()]
            encoder, decoder = (opened(path, folded, threads) for path in (bundle.encoder_path, bundle.decoder_path))
            spent.append(time.process_time())
            names = [tensor.name for tensor in encoder.get_outputs()]
            carried = dict(zip(names, encoder.run(names, {"image": pixels}), strict=True))
            spent.append(time.process_time())
            token = np.arange(len(pixels) * BEAMS).reshape(-1, BEAMS)
            given = {"token": token, "parent": np.zeros_like(token), "candidates": np.array([CANDIDATES]), **carried}
            results[way] = decoder.run(["log_prob"], given)[0]
            spent.append(time.process_time())
            if number >= 0:
                for what, took in zip(seconds[way], np.diff(spent), strict=True):
                    seconds[way][what].append(float(took))
    first = results["cast and mul"]
    return {
        way: {
            **{f"{what}_seconds": took for what, took in figures.items()},
            **{f"{what}_seconds_median": statistics.median(took) for what, took in figures.items()},
            "log_prob_differs_by": float(np.abs(results[way] - first).max()),
        }
        for way, figures in seconds.items()
    }


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of the model; 0: one a core")
    chosen = parser.parse_args()
    bundle = open_bundle(chosen.bundle)
    files = [Path(ref.file) for ref in discover([chosen.images])]
    with tempfile.TemporaryDirectory() as folder:
        other = changed(bundle, Path(folder) / bundle.manifest.name)
        bundles = {way: bundle if way == "cast and mul" else other for way in WAYS}
        pixels = read_pixels(files[: chosen.batch_size], bundle.manifest.preprocess)
        ways = measure(bundles, pixels, chosen.rounds, chosen.threads)
        for way, figures in ways.items():
            paths = bundles[way].encoder_path, bundles[way].decoder_path
            figures["bytes"] = sum(path.stat().st_size for path in paths)
        captions = caption_files(bundle, files), caption_files(other, files)
    ways["dequantize"]["captions_changed"] = sum(a != b for a, b in zip(*captions, strict=True))
    settings = {"model": bundle.label, "images": len(files), "beams": BEAMS, "candidates": CANDIDATES}
    settings |= {name: getattr(chosen, name) for name in ("batch_size", "rounds", "threads")}
    report = {"settings": settings, "machine": machine(), "ways": ways}
    for way, figures in ways.items():
        print(f"{way}: { ({name: value for name, value in figures.items() if not isinstance(value, list)}) }")
    if chosen.output is not None:
        chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
