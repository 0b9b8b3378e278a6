"""Captioned photographs for training: the Flickr8k token format, its splits, and the text that becomes words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchcap.errors import ExportError
from batchcap.vocabulary import Vocabulary

PADDING, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PADDING, START, END, UNKNOWN)
_NOT_A_WORD = re.compile(r"[^\w\s']|_")
_STRAY_APOSTROPHE = re.compile(r"'(?!\w)|(?<=')'")


def standardize(text: str) -> list[str]:
    """Words of a caption: lower case, punctuation blanked, apostrophes kept where a letter follows (``'s``).

    The same words are learnt, counted and scored.
    """
    return _STRAY_APOSTROPHE.sub(" ", _NOT_A_WORD.sub(" ", text.lower())).split()


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """One split: pictures in a stable order and what people said of them."""

    files: tuple[Path, ...]
    references: tuple[tuple[str, ...], ...]
    """The captions of each picture, as written."""

    def __len__(self) -> int:
        return len(self.files)


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Captions by picture name from Flickr8k's token format: ``NAME.jpg#0<TAB>caption``, UTF-8.

    Raises:
        ExportError: no such file, or a line of another form (named by number).
    """
    if not path.is_file():
        raise ExportError(
            f"{path}: no such file of captions.", "Lines are NAME.jpg#0<TAB>caption, as in Flickr8k.token.txt."
        )
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        head, tab, text = line.partition("\t")
        name = head.rpartition("#")[0]
        if not tab or not name:
            raise ExportError(f"{path}, line {number}: not of the form NAME#0<TAB>caption.", "Correct the line.")
        captions.setdefault(name, []).append(text.strip())
    return {name: tuple(texts) for name, texts in captions.items()}


def read_split(images: Path, captions: Mapping[str, tuple[str, ...]], split: Path) -> CaptionedImages:
    """The pictures that a split file names (one a line), matched by name, or by stem where the suffix differs.

    Raises:
        ExportError: a missing file, a picture that is not there or has no caption; at most five are named.
    """
    if not split.is_file():
        raise ExportError(f"{split}: no such split file.", "One picture name a line.")
    if not images.is_dir():
        raise ExportError(f"{images}: no such folder of images.")
    names = [name.strip() for name in split.read_text(encoding="utf-8").split("\n") if name.strip()]
    present = {p.name: p for p in images.iterdir()}
    stems = {p.stem: p for p in present.values()}
    found = {name: present.get(name) or stems.get(Path(name).stem) for name in names}
    for what, fix, missing in (
        (f"no image in {images}", "Correct the file, or name the folder that holds these images.", _absent(found)),
        ("no caption", "Leave these names out, or add their captions.", [n for n in found if n not in captions]),
    ):
        if missing:
            count = f"{len(missing)} of {len(found)} names"
            raise ExportError(f"{split}: {what} for {count}, such as {', '.join(missing[:5])}.", fix)
    if not found:
        raise ExportError(f"{split}: names no picture.")
    return CaptionedImages(tuple(p for p in found.values() if p is not None), tuple(captions[n] for n in found))


def _absent(found: Mapping[str, Path | None]) -> list[str]:
    return [name for name, path in found.items() if path is None]


def build_vocabulary(references: Iterable[Sequence[str]], min_count: int) -> Vocabulary:
    """Special tokens (padding is 0), then every word seen at least ``min_count`` times, most frequent first."""
    counts = Counter(word for texts in references for text in texts for word in standardize(text))
    kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    if not kept:
        raise ExportError(f"No word occurs {min_count} times.", "Lower --min-count.")
    return Vocabulary((*SPECIAL, *kept))


@dataclass(frozen=True, slots=True)
class Sequences:
    """Captions as token ids, one row a caption."""

    image: NDArray[np.int32]
    """[N] index of the picture."""
    tokens: NDArray[np.int32]
    """[N, T + 1]: ``<start>``, words, ``<end>``, padding."""


def encode_captions(data: CaptionedImages, vocabulary: Vocabulary, max_length: int) -> Sequences:
    """Every caption of every picture; words beyond ``max_length`` are cut, unknown ones become ``<unk>``."""
    ids = {word: i for i, word in enumerate(vocabulary.words)}
    unknown, start, end = ids[UNKNOWN], ids[START], ids[END]
    image, rows = [], []
    for index, texts in enumerate(data.references):
        for text in texts:
            words = [ids.get(w, unknown) for w in standardize(text)[:max_length]]
            image.append(index)
            rows.append([start, *words, end])
    tokens = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, values in zip(tokens, rows, strict=True):
        row[: len(values)] = values
    return Sequences(np.asarray(image, np.int32), tokens)
