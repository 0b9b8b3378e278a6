"""The "image captioning with visual attention" lab at full size, with random weights, through ``batchcap export``.

    python benchmarks/lab_bundle.py FOLDER --images PHOTOS [-o results.json]

Writes into FOLDER what the lab leaves behind, ``encoder.keras`` (InceptionResNetV2 at 299x299), ``decoder.keras`` and
``vocabulary.txt``, and makes FOLDER/bundle from them. The captions are nonsense. What is measured is how long it takes,
how large the bundle is, and whether it says what the saved networks say.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import msgspec

from batchcap.bundle.bundle import open_bundle
from batchcap.tools.machine import machine

UNITS, WORDS, SIZE = 512, 20_000, 299


def make_original(folder: Path) -> None:
    """The saved networks and their words."""
    import captioners
    import keras

    captioners.UNITS, captioners.WORDS = UNITS, WORDS
    captioners.VOCABULARY = (*captioners.SPECIAL, *(f"word{i}" for i in range(WORDS - len(captioners.SPECIAL))))

    def network(image: keras.KerasTensor) -> keras.KerasTensor:
        build = keras.applications.InceptionResNetV2
        return build(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))(image)

    encoder, decoder, _ = captioners.lab(network, SIZE, images=6)
    encoder.save(folder / "encoder.keras")
    decoder.save(folder / "decoder.keras")
    captioners.write_vocabulary(folder)


def main() -> None:
    """Make, export, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made if it does not exist")
    parser.add_argument("--images", type=Path, required=True, help="folder of at least 64 photos")
    parser.add_argument("-o", "--output", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    # In a process of its own, so that its memory is free while the export runs.
    maker = multiprocessing.get_context("spawn").Process(target=make_original, args=(chosen.folder,))
    maker.start()
    maker.join()
    if maker.exitcode:
        sys.exit(maker.exitcode)
    bundle, started = chosen.folder / "bundle", time.perf_counter()
    source = [chosen.folder / "encoder.keras", "--decoder", chosen.folder / "decoder.keras"]
    words = ["--vocabulary", chosen.folder / "vocabulary.txt", "--scale", "0..1", "--max-length", "10"]
    command = [sys.executable, "-m", "batchcap", "export", *source, *words, "-o", bundle, "--images", chosen.images]
    subprocess.run(command, check=True)  # noqa: S603 - our own command
    seconds = time.perf_counter() - started
    opened = open_bundle(bundle)
    report = {
        "settings": {"backbone": "InceptionResNetV2", "input": SIZE, "units": UNITS, "words": WORDS, "max_length": 10},
        "machine": machine(),
        "bundle, MB": sum(entry.bytes for entry in opened.manifest.files.values()) / 1e6,
        "batchcap export, seconds": seconds,
        # Of the largest process, which Linux tells in KiB.
        "most memory, MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6,
        "metrics": opened.manifest.provenance.metrics,
    }
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    print(text.decode())
    if chosen.output:
        chosen.output.write_bytes(text + b"\n")


if __name__ == "__main__":
    main()
