"""Captioned images for training: files of captions, splits, and the words of a caption."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchcap.bundle.vocabulary import Vocabulary
from batchcap.errors import DataError
from batchcap.images.walk import SUFFIXES

PADDING, START, END, UNKNOWN = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL = (PADDING, START, END, UNKNOWN)
FORMS = (
    "Captions are read from lines of NAME#0<TAB>CAPTION, as in Flickr8k.token.txt (dog.jpg#0<TAB>A dog runs .), or "
    'from CSV with the columns image and caption, as in the usual download of Flickr8k (dog.jpg,"A dog , running .").'
)
_NOT_A_WORD = re.compile(r"[^\w\s']|_")
_STRAY_APOSTROPHE = re.compile(r"'(?!\w)|(?<=')'")
_SHOWN = 5


def standardize(text: str) -> list[str]:
    """Words of a caption: lower case, punctuation blanked, apostrophes kept where a letter follows (``'s``).

    The same words are learnt, counted and scored.
    """
    return _STRAY_APOSTROPHE.sub(" ", _NOT_A_WORD.sub(" ", text.lower())).split()


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """One split: images in a stable order, and their references."""

    files: tuple[Path, ...]
    references: tuple[tuple[str, ...], ...]
    """The captions of each image, as written."""

    def __len__(self) -> int:
        return len(self.files)


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Captions by image name, from a file of one of `FORMS`; UTF-8, with or without a byte-order mark, LF or CRLF.

    Raises:
        DataError: no such file, no text, or a line of another form (named by number).
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of captions.", FORMS)
    text = _read_text(path)
    columns = _csv_columns(text)
    pairs = _token_pairs(path, text) if columns is None else _csv_pairs(path, text, columns)
    captions: dict[str, list[str]] = {}
    for number, name, caption in pairs:
        if not caption:
            raise DataError(f"{path}, line {number}: {name} has an empty caption.", "Remove the line, or complete it.")
        captions.setdefault(name, []).append(caption)
    if not captions:
        raise DataError(f"{path}: holds no caption.", FORMS)
    return {name: tuple(texts) for name, texts in captions.items()}


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None


def _token_pairs(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Line, image name and caption of Flickr8k's token format."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            head, tab, caption = line.partition("\t")
            name = head.rpartition("#")[0]
            if not tab or not name:
                raise DataError(f"{path}, line {number}: not of a form that is known: {_shown(line)}", FORMS)
            yield number, name, caption.strip()


def _csv_columns(text: str) -> tuple[int, int] | None:
    """Where a CSV header says that image and caption are; None: this is no such header."""
    first = text.lstrip().split("\n", 1)[0]
    cells = [cell.strip().lower() for cell in next(csv.reader([first]), [])]
    return (cells.index("image"), cells.index("caption")) if {"image", "caption"} <= {*cells} else None


def _csv_pairs(path: Path, text: str, columns: tuple[int, int]) -> Iterator[tuple[int, str, str]]:
    """Line, image name and caption of a CSV file; the first row is its header.

    Where the caption is the last column, commas without quotation marks belong to it.
    """
    rows = csv.reader(io.StringIO(text.lstrip(), newline=""), strict=True)
    width, number = len(next(rows)), 1
    try:
        for row in rows:
            began, number = number + 1, rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > width and columns[1] == width - 1:
                row[width - 1 :] = [",".join(row[width - 1 :])]
            if len(row) != width or not row[columns[0]].strip():
                raise DataError(f"{path}, line {began}: {len(row)} cells where the header has {width}.", FORMS)
            yield began, row[columns[0]].strip(), row[columns[1]].strip()
    except csv.Error as error:
        raise DataError(
            f"{path}, line {number + 1}: is no CSV: {error}.",
            'A caption with quotation marks is quoted, and they are doubled: dog.jpg,"A dog named ""Rex"" .".',
        ) from None


def _shown(line: str) -> str:
    line = line.strip()
    return line if len(line) <= 80 else f"{line[:80]}..."


def read_split(images: Path, captions: Mapping[str, tuple[str, ...]], split: Path) -> CaptionedImages:
    """The images that a split file names (one a line), matched by name, or by stem where the suffix differs.

    Raises:
        DataError: a missing or empty file, an image that is not there or has no caption; at most five are named.
    """
    if not split.is_file():
        raise DataError(f"{split}: no such split file.", "One image name a line.")
    if not images.is_dir():
        raise DataError(f"{images}: no such folder of images.", "Give a folder that exists.")
    names = read_names(split)
    present = {p.name: p for p in images.iterdir()}
    stems = {p.stem: p for p in present.values() if p.suffix.lower() in SUFFIXES}
    found = {name: present.get(name) or stems.get(Path(name).stem) for name in names}
    for what, fix, missing in (
        (f"no image in {images}", "Correct the file, or name the folder that holds these images.", _absent(found)),
        ("no caption", "Leave these names out, or add their captions.", [n for n in found if n not in captions]),
    ):
        if missing:
            count = f"{len(missing)} of {len(found)} names"
            raise DataError(f"{split}: {what} for {count}, such as {', '.join(missing[:_SHOWN])}.", fix)
    return CaptionedImages(tuple(p for p in found.values() if p is not None), tuple(captions[n] for n in found))


def _absent(found: Mapping[str, Path | None]) -> list[str]:
    return [name for name, path in found.items() if path is None]


def read_names(file: Path) -> list[str]:
    """The image names of a split file, one a line.

    Raises:
        DataError: it cannot be read, or holds none.
    """
    names = [name for line in _read_text(file).split("\n") if (name := line.strip())]
    if not names:
        raise DataError(f"{file}: names no image.", "Write one image name a line.")
    return names


def keep_apart(learn: CaptionedImages, dev: CaptionedImages, learn_split: Path, dev_split: Path) -> None:
    """Refuse splits that share images: scores on learnt images mean nothing, and training would stop too late.

    Raises:
        DataError: they name the same images, or some are in both; at most five are named.
    """
    learnt = {file.resolve() for file in learn.files}
    both = [file.name for file in dev.files if file.resolve() in learnt]
    why = "The dev images tell when to stop and how good the captions are, so none of them may be learnt."
    if len(both) == len(dev) == len(learn):
        raise DataError(f"--train-split {learn_split} and --dev-split {dev_split} name the same images.", why)
    if both:
        raise DataError(
            f"--dev-split {dev_split}: {len(both)} of its {len(dev)} images are in --train-split {learn_split} too, "
            f"such as {', '.join(both[:_SHOWN])}.",
            f"{why} Take them out of one of the two.",
        )


def build_vocabulary(references: Iterable[Sequence[str]], min_count: int) -> Vocabulary:
    """Special tokens (padding is 0), then every word seen at least ``min_count`` times, most frequent first."""
    counts = Counter(word for texts in references for text in texts for word in standardize(text))
    kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    if not kept:
        raise DataError(f"No word occurs {min_count} times.", "Lower --min-count.")
    return Vocabulary((*SPECIAL, *kept))


@dataclass(frozen=True, slots=True)
class Sequences:
    """Captions as token ids, one row a caption."""

    image: NDArray[np.int32]
    """[N] index of the image."""
    tokens: NDArray[np.int32]
    """[N, T + 1]: ``<start>``, words, ``<end>``, padding."""


def encode_captions(data: CaptionedImages, vocabulary: Vocabulary, max_length: int) -> Sequences:
    """Every caption of every image; words beyond ``max_length`` are cut, unknown ones become ``<unk>``."""
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
