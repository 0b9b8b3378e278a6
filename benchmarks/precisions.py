"""What each precision of a bundle saves on this machine's CPU, and what it costs in captions and bytes.

    python benchmarks/precisions.py BUNDLE PHOTOS [-o results.json]

All precisions caption the same ready batch in turn, round after round, so that whatever else the machine does meets
them alike; a ratio is the median over the rounds of fp32's seconds by those of the precision in the same round. The
seconds are the processor's, not the clock's: waiting for cores that others use is in neither. What changes in the
captions was measured when the bundle was made and stands in its manifest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import msgspec
import numpy as np

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.decoding.types import Stepper
from batchcap.images.decode import decode_image
from batchcap.images.discovery import discover
from batchcap.images.pixels import preprocess
from batchcap.images.resize import Pixels
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap.tools.machine import machine

STAGES = ("encode", "search")


class Clock:
    """Processor seconds of encoder and search; it is what `Captioner.watch` calls between the two."""

    def __call__(self, stepper: Stepper) -> Stepper:
        """The same stepper."""
        self._encoded = time.process_time()
        return stepper

    def stages(self, captioner: Captioner, pixels: Pixels) -> dict[str, float]:
        """Caption a batch."""
        captioner.watch = self
        started = time.process_time()
        captioner.caption_pixels(pixels, len(pixels))
        return {"encode": self._encoded - started, "search": time.process_time() - self._encoded}


def measure(bundle: Bundle, batches: list[Pixels], rounds: int, threads: int) -> dict[str, dict[str, list[float]]]:
    """Processor seconds of each stage in each round, by precision."""
    decoding, device = decoding_options(bundle.manifest), choose_device("cpu")
    captioners = {
        name: Captioner(bundle.at(name), decoding, device, threads=threads) for name in ("fp32", *bundle.variants)
    }
    spent: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in STAGES} for name in captioners}
    clock = Clock()
    for number in range(-1, rounds):  # the first is to warm up
        for name, captioner in captioners.items():
            seconds = clock.stages(captioner, batches[number % len(batches)])
            if number >= 0:
                for stage in STAGES:
                    spent[name][stage].append(seconds[stage])
    return spent


def summary(bundle: Bundle, name: str, spent: dict[str, dict[str, list[float]]]) -> dict[str, object]:
    """The figures of one precision."""
    at = bundle.at(name)  # type: ignore[arg-type]
    out: dict[str, object] = {
        "encoder_bytes": at.encoder_path.stat().st_size,
        "decoder_bytes": at.decoder_path.stat().st_size,
    }
    for stage in STAGES:
        own, plain = spent[name][stage], spent["fp32"][stage]
        ratios = [before / after for before, after in zip(plain, own, strict=True)]
        out |= {f"{stage}_seconds": own, f"{stage}_times_as_fast": statistics.median(ratios)}
    if name in bundle.variants:
        out["captions"] = bundle.variants[name]  # type: ignore[index]
    return out


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1, help="of the model; 0: one a core")
    chosen = parser.parse_args()
    bundle = open_bundle(chosen.bundle)
    how = bundle.manifest.preprocess
    files = [Path(ref.file) for ref in discover([chosen.photos])][: chosen.images]
    decoded = (decode_image(file.read_bytes(), how.jpeg_dct) for file in files)
    pixels = np.stack([preprocess(image, how) for image in decoded])
    batches = [pixels[at : at + chosen.batch_size] for at in range(0, len(pixels), chosen.batch_size)]
    spent = measure(bundle, batches, chosen.rounds, chosen.threads)
    report = {
        "settings": {
            "model": bundle.label,
            "architecture": bundle.manifest.provenance.architecture,
            "input": f"{how.height}x{how.width}",
            "decoding": decoding_options(bundle.manifest).label,
            "images": len(files),
            "batch_size": chosen.batch_size,
            "rounds": chosen.rounds,
            "threads": chosen.threads,
        },
        "machine": machine(),
        "precisions": {name: summary(bundle, name, spent) for name in spent},
    }
    for name in spent:
        ratios = [f"{stage} {report['precisions'][name][f'{stage}_times_as_fast']:.2f}" for stage in STAGES]  # type: ignore[index]
        print(f"{name}: times as fast as fp32: {', '.join(ratios)}")
    if chosen.output is not None:
        chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
