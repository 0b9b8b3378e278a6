"""How many records differ where batches fall otherwise, by the digits that a record's numbers are rounded to.

    python benchmarks/rounding.py MODEL IMAGES -o FILE

Each image is captioned at several batch sizes, and once in another order. What is compared with a batch of 32 is the
first caption of each image, and whether its ``log_prob`` or ``score`` would be written otherwise with 4, 3 or 2 digits.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from batchcap.images import discovery
from batchcap.images.loader import load
from batchcap.images.resize import Pixels
from batchcap.journal.scores import round_score
from batchcap.records import Caption
from batchcap.runtime.captioner import Captioner
from batchcap.tools.machine import machine

DIGITS = (4, 3, 2)
REFERENCE = 32
SIZES = (1, 2, 3, 7, 64)


@dataclass(frozen=True)
class Compared:
    """One way to batch the images, against batches of `REFERENCE` in order."""

    batch_size: int
    order: str
    captions_differ: int
    largest_log_prob_difference: float
    median_log_prob_difference: float
    equal_to_the_last_bit: int
    records_differ: dict[str, int]
    """By the digits that are written."""


def read(folder: Path, captioner: Captioner) -> Pixels:
    """[N, H, W, 3] every image of the folder that can be decoded."""
    how = captioner.bundle.manifest.preprocess
    rows = []
    for batch in load(discovery.discover([folder]), how, 64):
        rows.append(batch.pixels[: batch.count].copy())
        batch.release()
    return np.concatenate(rows)


def caption(captioner: Captioner, pixels: Pixels, batch_size: int, order: np.ndarray) -> list[Caption]:
    """The first caption of each image, in the order of ``pixels``."""
    found: dict[int, Caption] = {}
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        captions = captioner.caption_pixels(pixels[rows], len(rows))
        found |= {int(row): best[0] for row, best in zip(rows, captions, strict=True)}
    return [found[row] for row in range(len(pixels))]


def written(caption: Caption, digits: int) -> tuple[float, float]:
    """Both numbers as a record would have them."""
    return round(caption.log_prob, digits), round_score(caption.score, digits)


def compare(batch_size: int, order: str, found: list[Caption], expected: list[Caption]) -> Compared:
    """How far one way is from the other."""
    pairs = list(zip(found, expected, strict=True))
    apart = np.array([abs(one.log_prob - other.log_prob) for one, other in pairs])
    return Compared(
        batch_size=batch_size,
        order=order,
        captions_differ=sum(one.caption != other.caption for one, other in pairs),
        largest_log_prob_difference=float(apart.max()),
        median_log_prob_difference=float(np.median(apart)),
        equal_to_the_last_bit=int((apart == 0).sum()),
        records_differ={
            str(digits): sum(written(one, digits) != written(other, digits) for one, other in pairs)
            for digits in DIGITS
        },
    )


def main() -> None:
    """Caption in every way, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args()
    captioner = Captioner.load(chosen.model, "cpu", REFERENCE)
    pixels = read(chosen.images, captioner)
    in_order = np.arange(len(pixels))
    expected = caption(captioner, pixels, REFERENCE, in_order)
    ways = [(size, "given", in_order) for size in SIZES]
    ways.append((REFERENCE, "shuffled", np.random.default_rng(0).permutation(len(pixels))))
    compared = []
    for size, name, order in ways:
        found = compare(size, name, caption(captioner, pixels, size, order), expected)
        print(found, flush=True)
        compared.append(found)
    settings = {
        "model": captioner.bundle.label,
        "decoding": captioner.decoding.label,
        "device": captioner.device.description,
        "images": len(pixels),
        "compared_with": f"batches of {REFERENCE}, given order",
    }
    report = {"settings": settings, "machine": machine(), "ways": compared}
    chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
