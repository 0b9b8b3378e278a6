"""Scores of captions against references: BLEU and CIDEr of pycocoevalcap, on `words.standardize`d words."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.detokenizer import Text
from batchcap.errors import ExportError, MissingExtraError
from batchcap.runtime.captioner import Captioner
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap.runtime.device_choice import choose_device
from batchcap_export.data.words import standardize

_SIGNATURE = (
    "pycocoevalcap {version}; lower case, punctuation blanked but for apostrophes; {images} images, "
    "{references} references"
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Images with references that the finished bundle is scored on."""

    name: str
    files: tuple[Path, ...]
    references: tuple[tuple[str, ...], ...]


def caption_files(bundle: Bundle, files: Sequence[Path], device: str = "cpu") -> list[str]:
    """The runtime's captions of these files, with the bundle's defaults, as the words that scores are made of.

    Raises:
        ExportError: an image cannot be read.
    """
    words = bundle.with_text(Text(subwords=bundle.manifest.text.subwords))
    captioned = Captioner(words, decoding_options(bundle.manifest), choose_device(device)).caption(files)
    captions = []
    for image in captioned:
        if image.failure is not None:
            raise ExportError(f"{image.path}: {image.failure.message}", "Only whole images can be scored.")
        captions.append(image.captions[0].caption)
    return captions


@dataclass(frozen=True, slots=True)
class Scores:
    """Corpus scores, and every setting that they depend on."""

    bleu: tuple[float, float, float, float]
    """BLEU-1..4 (Papineni et al. 2002), closest reference length."""
    cider: float
    """CIDEr (Vedantam et al. 2015), document frequencies from these references."""
    distinct: int
    """How many different captions there are."""
    signature: str


def score(captions: Sequence[str], references: Sequence[Sequence[str]], signature: str = "") -> Scores:
    """Score one caption an image against its references.

    Args:
        captions: N captions.
        references: N times one or more references.
        signature: what else decides the figures (data, decoding); stands before the metric's own settings.

    Raises:
        MissingExtraError: pycocoevalcap is not installed.
    """
    words = {i: [" ".join(standardize(text))] for i, text in enumerate(captions)}
    gold = {i: [" ".join(standardize(text)) for text in texts] for i, texts in enumerate(references)}
    bleu, cider = score_words(gold, words)
    counts = sorted({len(texts) for texts in references})
    own = _SIGNATURE.format(
        version=version("pycocoevalcap"), images=len(captions), references="/".join(str(n) for n in counts)
    )
    return Scores(bleu, cider, len(set(captions)), f"{signature}; {own}" if signature else own)


def empty_warning(captions: Sequence[str]) -> str:
    """What to say of captions of which more than one in ten holds no word; else nothing."""
    empty = sum(not caption for caption in captions)
    if empty * 10 <= len(captions):
        return ""
    return f"warning: {empty} of {len(captions)} captions are empty: the model has learnt too little, train it longer"


def score_words(
    references: dict[int, list[str]], captions: dict[int, list[str]]
) -> tuple[tuple[float, float, float, float], float]:
    """BLEU-1..4 and CIDEr of text that is already split into words by blanks. None of the two needs Java."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
    except ImportError as error:
        raise MissingExtraError("Scores need pycocoevalcap.", "pip install 'batchcap[eval]'") from error
    # Both print to standard output, which belongs to the command.
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, _ = Bleu(4).compute_score(references, captions, verbose=0)
        cider, _ = Cider().compute_score(references, captions)
    return (float(bleu[0]), float(bleu[1]), float(bleu[2]), float(bleu[3])), float(cider)
