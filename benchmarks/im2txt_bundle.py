"""The Show and Tell network at its published size, with random weights, through ``batchcap export`` as people run it.

    python benchmarks/im2txt_bundle.py FOLDER --images PHOTOS [-o results.json]

Writes into FOLDER what the original leaves behind, ``show-and-tell.pb``, ``model.ckpt-1`` and ``word_counts.txt`` (with
fewer words than the network has outputs), and makes FOLDER/bundle from the frozen graph. The captions are nonsense.
What is measured is how long it takes, how large the bundle is, and whether it prints what the frozen graph prints.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import msgspec
import tensorflow as tf
from show_and_tell import random_weights

from batchcap.bundle.bundle import open_bundle
from batchcap.tools.machine import machine
from batchcap_export.data.images import find_images
from batchcap_export.importers.im2txt.show_and_tell import inference_graph


def make_original(folder: Path, images: Path, outputs: int, words: int) -> None:
    """The frozen graph, the same as a checkpoint, and the words."""
    weights = random_weights(find_images(images)[:16], outputs=outputs, words=words + 1)
    (folder / "show-and-tell.pb").write_bytes(inference_graph(weights).SerializeToString())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.Variable(value, name=name) for name, value in weights.items()]
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(folder / "model.ckpt"), 1, write_meta_graph=False)
    known = ["a", "<S>", "</S>", *(f"word{number}" for number in range(3, words))]
    lines = (f"{word} {words - number}\n" for number, word in enumerate(known))
    (folder / "word_counts.txt").write_text("".join(lines))


def export(folder: Path, source: Path, images: Path, name: str) -> tuple[Path, float]:
    """The bundle's folder and the seconds that the command took, Python's start included."""
    bundle, started = folder / name, time.perf_counter()
    words = ["--vocabulary", folder / "word_counts.txt"]
    command = [sys.executable, "-m", "batchcap", "export", source, *words, "-o", bundle, "--images", images]
    subprocess.run(command, check=True)  # noqa: S603 - our own command
    return bundle, time.perf_counter() - started


def main() -> None:
    """Make, export, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made if it does not exist")
    parser.add_argument("--images", type=Path, required=True, help="folder of at least 64 JPEG photos")
    parser.add_argument("--outputs", type=int, default=12000, help="of the softmax (12000)")
    parser.add_argument("--words", type=int, default=11518, help="lines of word_counts.txt (11518)")
    parser.add_argument("-o", "--output", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    # In a process of its own, so that its memory is free while the export runs.
    maker = multiprocessing.get_context("spawn").Process(
        target=make_original, args=(chosen.folder, chosen.images, chosen.outputs, chosen.words)
    )
    maker.start()
    maker.join()
    if maker.exitcode:
        sys.exit(maker.exitcode)
    frozen = chosen.folder / "show-and-tell.pb"
    bundle, seconds = export(chosen.folder, frozen, chosen.images, "bundle")
    again, _ = export(chosen.folder, chosen.folder, chosen.images, "from-checkpoint")
    same = all((bundle / file).read_bytes() == (again / file).read_bytes() for file in ("encoder.onnx", "decoder.onnx"))
    opened = open_bundle(bundle)
    report = {
        "settings": {"outputs": chosen.outputs, "words": chosen.words, "photos": len(find_images(chosen.images))},
        "machine": machine(),
        "frozen graph, MB": frozen.stat().st_size / 1e6,
        "bundle, MB": sum(entry.bytes for entry in opened.manifest.files.values()) / 1e6,
        "batchcap export, seconds": seconds,
        "the checkpoint gives the same graphs": same,
        "metrics": opened.manifest.provenance.metrics,
    }
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    print(text.decode())
    if chosen.output:
        chosen.output.write_bytes(text + b"\n")


if __name__ == "__main__":
    main()
