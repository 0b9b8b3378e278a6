"""Splits: the images that a file names, with their captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchcap.errors import DataError
from batchcap.images.walk import SUFFIXES
from batchcap_export.data.caption_files import read_text

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """One split: images in a stable order, and their references."""

    files: tuple[Path, ...]
    references: tuple[tuple[str, ...], ...]
    """The captions of each image, as written."""

    def __len__(self) -> int:
        return len(self.files)


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
    names = [name for line in read_text(file).split("\n") if (name := line.strip())]
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
