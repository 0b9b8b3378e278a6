"""``batchcap verify --origin``: a finished bundle compared again with what it was exported from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.manifest import VOCABULARY_FILE
from batchcap.errors import ExportError
from batchcap.reporting import Say
from batchcap.tools.comparison import COMPARED_IMAGES
from batchcap.tools.verify import Check
from batchcap_export.data import images
from batchcap_export.data.comparison import check_count
from batchcap_export.importers.sources import is_im2txt, is_keras, open_source, take_only
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.model.check import check_model
from batchcap_export.options.bundles import Storage
from batchcap_export.options.importing import ImportOptions
from batchcap_export.proof.parity import check_parity
from batchcap_export.training.finished_run import load_run, trained_model
from batchcap_export.training.recipes import dev_images, is_run


def compare(model: str | Path, source: str, how: ImportOptions, folder: Path | None, say: Say) -> Iterator[Check]:
    """Compare a bundle with the captioner it came from, as `batchcap export` did.

    Args:
        model: the bundle, which is in order.
        source: a run folder, or what `importers.open_source` takes.
        how: what the source does not say of itself; without words those of the bundle are taken, if it holds none.
        folder: both caption the first 64 images here, more where the origin has a proof of its own; None: a run's dev
            images.
        say: gets a line for every caption that differs by a tie.

    Raises:
        ExportError: the source cannot be opened, or there are too few images.
    """
    bundle = open_bundle(model)
    known = _with_own_words(bundle, source, how)
    origin, files = _open(source, known, folder)
    check_count(len(files))
    check_model(origin)
    difference = _difference(bundle, origin)
    same = "the same words, special tokens and pixels"
    if known is not how:
        same = "the same pixels; no --vocabulary was named, so the words are the bundle's own"
    yield Check("origin", not difference, difference or f"{source}: {same}")
    if difference:
        return
    store = _stored_as(bundle)
    if store != "float32":
        if origin.rounded is None:
            yield Check("parity", False, f"{source}: cannot be rounded to {store}, as the bundle's weights are")
            return
        origin = origin.rounded(store)
    pixels = images.read_pixels(files[:COMPARED_IMAGES], bundle.manifest.preprocess)
    try:
        parity = check_parity(origin, bundle, pixels, say, min_distinct=0.0)
    except ExportError as error:
        yield Check("parity", False, str(error))
        return
    yield Check("parity", True, parity.summary())
    if origin.prove is not None:
        try:
            metrics = origin.prove(bundle, files, say)
        except ExportError as error:
            yield Check("proof", False, str(error))
            return
        yield Check("proof", True, "; ".join(metric.signature for metric in metrics))


def _with_own_words(bundle: Bundle, source: str, how: ImportOptions) -> ImportOptions:
    """The options with the bundle's words and special tokens where the origin holds none and none are named."""
    if how.vocabulary is not None or not (is_im2txt(source) or is_keras(Path(source))):
        return how
    tokens, words = bundle.manifest.tokens, bundle.vocabulary.words
    ids = {"start": tokens.start, "end": tokens.end, "unknown": tokens.unknown}
    if not is_im2txt(source):
        ids["padding"] = tokens.padding
    own = {name: words[token] for name, token in ids.items() if token is not None and getattr(how, name) is None}
    return replace(how, vocabulary=bundle.folder / VOCABULARY_FILE, **own)


def _open(source: str, how: ImportOptions, folder: Path | None) -> tuple[CaptionModel, list[Path]]:
    """The captioner, and the images to compare on."""
    found = images.find_images(folder) if folder is not None else []
    if not is_run(source):
        return open_source(source, how), found
    take_only(source, how)
    captioner, trained, _ = load_run(Path(source))
    if folder is None:
        found = list(dev_images(trained).files)
    return trained_model(captioner, trained, {}), found


def _difference(bundle: Bundle, origin: CaptionModel) -> str:
    """The first difference of words, special tokens or pixels between a bundle and its origin; empty: none."""
    manifest, words = bundle.manifest, bundle.vocabulary.words
    if len(words) != len(origin.vocabulary):
        return f"the bundle has {len(words)} words, the origin {len(origin.vocabulary)}"
    for index, (here, there) in enumerate(zip(words, origin.vocabulary.words, strict=True)):
        if here != there:
            return f"word {index} is {here!r} in the bundle and {there!r} in the origin"
    if manifest.tokens != origin.tokens:
        return f"the special tokens are {manifest.tokens} in the bundle and {origin.tokens} in the origin"
    if manifest.preprocess != origin.preprocess:
        return f"pixels are made by {manifest.preprocess} in the bundle and by {origin.preprocess} in the origin"
    return ""


def _stored_as(bundle: Bundle) -> Storage:
    """How `storage.compact` stored the big weights: their names tell."""
    names = [tensor.name for tensor in onnx.load(bundle.decoder_path).graph.initializer]
    if any(name.endswith(".int8") for name in names):
        return "int8"
    return "float16" if any(name.endswith(".float16") for name in names) else "float32"
