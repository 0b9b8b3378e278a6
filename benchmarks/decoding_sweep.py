"""Which beam, length penalty and length suit a bundle: scores of every combination on captioned images.

    python benchmarks/decoding_sweep.py BUNDLE IMAGES CAPTIONS SPLIT -o results.json

The images are encoded once and searched with every beam and penalty at 20 words; then other lengths with the best
combination of all, the one that the rule names, and the bundle's own. The rule was fixed before the first sweep: the
smallest beam whose best CIDEr is within 0.005 of the best of all, with its best penalty (of equal ones the smaller).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.detokenizer import Detokenizer
from batchcap.console.progress import Steps
from batchcap.decoding.driver import search
from batchcap.images.discovery import discover
from batchcap.images.loader import load
from batchcap.options.decoding import DecodingOptions
from batchcap.runtime.device_choice import choose_device
from batchcap.runtime.encoder import Features
from batchcap.runtime.search_request import search_request
from batchcap.runtime.sessions import open_sessions
from batchcap.tools.machine import machine
from batchcap_export.data.caption_files import read_captions
from batchcap_export.data.splits import CaptionedImages, read_split
from batchcap_export.proof.evaluate import score

BEAMS: Final = (1, 2, 3, 4, 5, 8)
PENALTIES: Final = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5)
LENGTH: Final = 20
OTHER_LENGTHS: Final = (12, 15, 25, 30)
NEAR: Final = 0.005
BATCH: Final = 50
RULE: Final = (
    f"the smallest beam whose best CIDEr at {LENGTH} words is within {NEAR} of the best of all, with its best penalty"
)


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One combination."""

    beam_size: int
    length_penalty: float
    max_length: int


@dataclass(frozen=True, slots=True)
class Row:
    """A combination and what it gave."""

    setting: Setting
    bleu_4: float
    cider: float
    mean_words: float
    distinct: int
    core_ms_an_image: float
    """Of the search, decoder steps and bookkeeping, summed over the cores: other work beside it changes that little."""


class Sweep:
    """Captioned images, encoded, ready to be searched again and again."""

    def __init__(self, bundle: Bundle, data: CaptionedImages) -> None:
        self.bundle, self.data, self.metric = bundle, data, ""
        unknown = bundle.manifest.tokens.unknown
        self._detokenize = Detokenizer(
            bundle.vocabulary.words, bundle.manifest.text, () if unknown is None else (unknown,)
        )
        encoder, self._decoder = open_sessions(bundle, choose_device("cpu"))
        self._features: list[Features] = []
        with closing(load(discover(data.files), bundle.manifest.preprocess, BATCH)) as batches, Steps() as steps:
            for batch in batches:
                if batch.count < len(batch.refs):
                    raise SystemExit(f"An image of the split cannot be read: see batchcap run on {batch.refs[0].file}.")
                self._features.append(encoder(batch.pixels[: batch.count]))
                batch.release()
                steps("encoding", sum(features.images for features in self._features), len(data))

    def try_(self, setting: Setting) -> Row:
        """Search with one combination, and score it."""
        options = DecodingOptions(**asdict(setting))
        started = time.process_time()
        captions = [text for features in self._features for text in self._search(features, options)]
        seconds = time.process_time() - started
        scores = score(captions, self.data.references)
        self.metric = scores.signature
        words = sum(len(caption.split()) for caption in captions) / len(captions)
        return Row(setting, scores.bleu[3], scores.cider, words, scores.distinct, 1e3 * seconds / len(captions))

    def _search(self, features: Features, options: DecodingOptions) -> list[str]:
        """The best caption of each image."""
        found = search(self._decoder.start(features), search_request(self.bundle, options, features.images))
        return [self._detokenize(best[0].tokens) for best in found]


def best_of(rows: Sequence[Row]) -> Row:
    """The highest CIDEr; of equal ones the smaller beam, then the smaller penalty."""
    return min(rows, key=lambda row: (-row.cider, row.setting))


def choose(rows: Sequence[Row]) -> Row:
    """What `RULE` says."""
    most = best_of(rows).cider
    beam = min(row.setting.beam_size for row in rows if row.cider >= most - NEAR)
    return best_of([row for row in rows if row.setting.beam_size == beam])


def sweep(work: Sweep) -> tuple[list[Row], dict[str, Row]]:
    """Every combination at `LENGTH`, the other lengths of three of them, and these three by name."""
    grid = [Setting(beam, penalty, LENGTH) for beam in BEAMS for penalty in PENALTIES]
    own = work.bundle.manifest.generation
    now = Setting(own.beam_size, own.length_penalty, own.max_length)
    rows: dict[Setting, Row] = {}
    with Steps() as steps:
        for done, setting in enumerate(dict.fromkeys([now, *grid])):
            rows[setting] = work.try_(setting)
            steps("searching", done, len(grid))
        at_length = [rows[setting] for setting in grid]
        named = {"best": best_of(at_length), "by the rule": choose(at_length), "the bundle's own": rows[now]}
        longer = [
            Setting(row.setting.beam_size, row.setting.length_penalty, length)
            for row in named.values()
            for length in OTHER_LENGTHS
        ]
        for setting in dict.fromkeys(longer):
            rows[setting] = rows.get(setting) or work.try_(setting)
        steps("searching", len(grid), len(grid))
    return [rows[setting] for setting in sorted(rows)], named


def main() -> None:
    """Sweep, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="name of an embedded bundle, or the folder of one")
    parser.add_argument("images", type=Path, help="folder of the images")
    parser.add_argument("captions", type=Path, help="their captions, in Flickr8k's token format")
    parser.add_argument("split", type=Path, help="the names of the images to use, one a line")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the figures go, as JSON")
    chosen = parser.parse_args()
    data = read_split(chosen.images, read_captions(chosen.captions), chosen.split)
    work = Sweep(open_bundle(chosen.bundle), data)
    rows, named = sweep(work)
    print("beam  penalty  length  BLEU-4   CIDEr  words  distinct  core ms/image")
    for row in rows:
        of = row.setting
        note = ", ".join(name for name, other in named.items() if other is row)
        print(
            f"{of.beam_size:4}  {of.length_penalty:7.1f}  {of.max_length:6}  {row.bleu_4:.4f}  {row.cider:.4f}  "
            f"{row.mean_words:5.2f}  {row.distinct:8}  {row.core_ms_an_image:13.2f}  {note}".rstrip()
        )
    report = {
        "settings": {
            "model": work.bundle.label,
            "split": f"{chosen.images.parent.name}/{chosen.split.name}",
            "images": len(data),
            "metric": work.metric,
            "batch_size": BATCH,
            "rule": RULE,
        },
        "machine": machine(),
        "named": {name: asdict(row) for name, row in named.items()},
        "rows": [asdict(row) for row in rows],
    }
    chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
