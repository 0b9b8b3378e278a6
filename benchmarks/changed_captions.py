"""How many captions two versions of batchcap, or two models, give otherwise, and what that does to their scores.

    python benchmarks/changed_captions.py BEFORE AFTER CAPTIONS [-o results.json]

BEFORE and AFTER are folders of JSONL outputs over the same images; files of one name are compared, so a name best says
with which options ``batchcap run`` made them. Scored is the first caption of each image that CAPTIONS has references
for, by its name without the ending.
"""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath

import msgspec

from batchcap.records import Record
from batchcap.tools.machine import machine
from batchcap_export.data.caption_files import read_captions
from batchcap_export.proof.evaluate import score


def read(output: Path) -> dict[str, Record]:
    """The record of each image that was captioned, by its path."""
    with output.open("rb") as lines:
        records = [msgspec.json.decode(line, type=Record) for line in lines]
    return {record.path: record for record in records if record.caption is not None}


def compare(before: Path, after: Path, references: dict[str, tuple[str, ...]]) -> dict[str, object]:
    """What changed from one output to the other, and the CIDEr and BLEU-4 of both."""
    old, new = read(before), read(after)
    if old.keys() != new.keys():
        raise SystemExit(f"{before} and {after} are not of the same images.")
    paths = [path for path in old if PurePosixPath(path).stem in references]
    gold = [references[PurePosixPath(path).stem] for path in paths]
    scores = [score([records[path].caption or "" for path in paths], gold) for records in (old, new)]
    first = next(iter(new.values()))
    return {
        "model": first.model,
        "decoding": first.decoding,
        "images": len(old),
        "captions_changed": sum(old[path].caption != new[path].caption for path in old),
        "n_best_changed": sum(texts(old[path]) != texts(new[path]) for path in old),
        "cider": [scores[0].cider, scores[1].cider],
        "bleu_4": [scores[0].bleu[3], scores[1].bleu[3]],
        "mean_words": [mean_words(old), mean_words(new)],
        "signature": scores[1].signature,
    }


def texts(record: Record) -> list[str | None]:
    """All captions of an image, best first."""
    return [caption.caption for caption in record.captions or ()] or [record.caption]


def mean_words(records: dict[str, Record]) -> float:
    """Of the first captions."""
    return sum(len((record.caption or "").split()) for record in records.values()) / len(records)


def main() -> None:
    """Compare every pair of files, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of outputs")
    parser.add_argument("after", type=Path, help="folder of outputs with the same names")
    parser.add_argument("captions", type=Path, help="references, as for batchcap train")
    parser.add_argument("-o", "--output", type=Path, help="also write the figures as JSON")
    chosen = parser.parse_args()
    references = {Path(name).stem: tuple(lines) for name, lines in read_captions(chosen.captions).items()}
    cases = {}
    for after in sorted(chosen.after.glob("*.jsonl")):
        found = cases[after.stem] = compare(chosen.before / after.name, after, references)
        print(f"{after.stem}: {found['captions_changed']} of {found['images']} changed, CIDEr {found['cider']}")
    if chosen.output:
        report = {"settings": {"references": chosen.captions.name}, "machine": machine(), "options": cases}
        chosen.output.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
