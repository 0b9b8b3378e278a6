"""``batchcap export``: a trained captioner in, a verified bundle out, or nothing at all."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from msgspec import structs
from numpy.typing import NDArray

from batchcap import preprocess
from batchcap.bundle import (
    CARD_FILE,
    DECODER_FILE,
    ENCODER_FILE,
    MANIFEST_VERSION,
    VOCABULARY_FILE,
    Bundle,
    Generation,
    Manifest,
    Metric,
    Provenance,
    Tokens,
    open_bundle,
    write_manifest,
)
from batchcap.captioner import Captioner, decoding_options
from batchcap.errors import ExportError, OutputError
from batchcap.options import DecodingOptions
from batchcap_export import datasets, images
from batchcap_export.convert import OPSET, compact, convert_decoder, convert_encoder
from batchcap_export.evaluate import Scores, score
from batchcap_export.model_card import model_card
from batchcap_export.parity import MIN_IMAGES, Parity, check_parity
from batchcap_export.rounding import Storage, round_captioner
from batchcap_export.stepping import TrainedCaptioner, parameters
from batchcap_export.train import load_run

Say = Callable[[str], None]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOptions:
    """What a bundle is called, how it is stored, and what is said of it."""

    name: str
    version: str = "1"
    store: Storage = "float32"
    """How the big weights lie in the files; arithmetic is float32."""
    beam_size: int = 3
    """Default of the bundle, as the next two."""
    max_length: int = 20
    length_penalty: float = 0.7
    architecture: str = "attention-gru"
    data: str = ""
    """What it learnt from, in words."""
    terms: str = ""
    """Under which terms it may be used."""
    min_distinct: float = 0.5
    """Share of the parity captions that must be different."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ExportError(
                f"{self.name!r} cannot be the name of a bundle.",
                "Use letters, digits and . _ + -, with --name or --output.",
            )
        # Whatever a run would refuse is no default either.
        DecodingOptions(beam_size=self.beam_size, max_length=self.max_length, length_penalty=self.length_penalty)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Photographs with references that the finished bundle is scored on."""

    name: str
    files: tuple[Path, ...]
    references: tuple[tuple[str, ...], ...]


def export_bundle(
    captioner: TrainedCaptioner,
    output: Path,
    options: BundleOptions,
    parity_images: Sequence[Path],
    recipe: dict[str, Any],
    evaluations: Sequence[Evaluation],
    say: Say,
) -> tuple[Bundle, Parity]:
    """Convert, compare with the model, score, and only then move the bundle to ``output``.

    Args:
        parity_images: the first 64 of them are captioned by the model and by the bundle.
        recipe: how it was trained, for the manifest.
        evaluations: scored with the bundle's defaults; with rounded weights, the first one also tells how many captions
            the rounding changed.

    Raises:
        ExportError: a conversion that fails or is not equal.
        OutputError: ``output`` exists, or cannot be written.
    """
    if output.exists():
        raise OutputError(f"{output}: exists already.", "Remove it, or name another folder.")
    if len(parity_images) < MIN_IMAGES:
        raise ExportError(f"Parity needs {MIN_IMAGES} images, not {len(parity_images)}.", "Name a folder: --images.")
    with _workshop(output) as shop:
        plain: list[str] | None = None
        if options.store != "float32" and evaluations:
            say("converting the unrounded model, to count what rounding changes")
            unrounded = _write(captioner, shop / "unrounded", options, recipe, "float32")
            plain = _captions(unrounded, evaluations[0].files)
        rounded = round_captioner(captioner, options.store)
        say("converting")
        folder = shop / "bundle"
        bundle = _write(rounded, folder, options, recipe, options.store)
        say("comparing with the model")
        pixels = _pixels(rounded, parity_images[:MIN_IMAGES])
        parity = check_parity(rounded, bundle, pixels, say, options.min_distinct)
        say(parity.summary())
        metrics = [Metric(name="parity", value=parity.identical / parity.images, signature=parity.summary())]
        metrics += _scored(bundle, evaluations, plain, options.store, say)
        bundle = _finish(bundle, metrics, options, parameters(rounded.backbone.model, rounded.decoder), parity)
        folder.rename(output)
    return open_bundle(output), parity


def export_run(
    run: Path,
    output: Path,
    options: BundleOptions,
    folder: Path | None,
    scored: bool,
    copies: Sequence[Path],
    say: Say,
) -> Parity:
    """Export the run folder of a training.

    Args:
        folder: pictures for parity; None takes the run's dev pictures.
        scored: score the bundle on the run's dev pictures.
        copies: folders with other copies of some dev pictures (the originals of reduced ones, say): each is scored, and
            beside it the same pictures as the run has them.
    """
    captioner, trained, recipe = load_run(run)
    dev = None
    if scored or folder is None or copies:
        captions = datasets.read_captions(trained.captions)
        dev = datasets.read_split(trained.images, captions, trained.dev_split)
    evaluations = []
    if dev is not None and scored:
        evaluations.append(Evaluation(trained.dev_split.stem, dev.files, dev.references))
    for copy in copies:
        evaluations += _copies(copy, dev) if dev is not None else []
    parity_images = images.find_images(folder) if folder is not None else list(dev.files if dev is not None else ())
    names = ("images", "captions", "train_split", "dev_split", "weights")
    said = {k: v for k, v in recipe.options.items() if k not in names}
    said |= {k: Path(str(recipe.options[k])).name for k in names}
    options = replace(options, architecture=trained.architecture)
    return export_bundle(captioner, output, options, parity_images, said, evaluations, say)[1]


def _copies(folder: Path, dev: datasets.CaptionedImages) -> list[Evaluation]:
    there = {file.stem: file for file in images.find_images(folder)}
    both = [i for i, file in enumerate(dev.files) if file.stem in there]
    if not both:
        raise ExportError(f"--also-score {folder}: none of its pictures is named as a dev picture.")
    references = tuple(dev.references[i] for i in both)
    return [
        Evaluation(folder.name, tuple(there[dev.files[i].stem] for i in both), references),
        Evaluation(f"{folder.name}-as-trained", tuple(dev.files[i] for i in both), references),
    ]


@contextmanager
def _workshop(output: Path) -> Iterator[Path]:
    """A hidden folder beside the output, gone at the end: a failed export leaves nothing, a good one moves at once."""
    if not output.parent.is_dir():
        raise OutputError(f"{output.parent}: no such folder.", "Make it first.")
    try:
        shop = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise OutputError(f"{output.parent}: cannot be written: {error.strerror}.") from error
    try:
        yield shop
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error}.", "Nothing of the bundle remains.") from error
    finally:
        shutil.rmtree(shop, ignore_errors=True)


def _write(
    captioner: TrainedCaptioner, folder: Path, options: BundleOptions, recipe: dict[str, Any], store: str
) -> Bundle:
    """Graphs, vocabulary and manifest; the card comes when there is something to say."""
    folder.mkdir()
    for name, convert in ((ENCODER_FILE, convert_encoder), (DECODER_FILE, convert_decoder)):
        model = convert(captioner)
        compact(model, store)
        (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    captioner.vocabulary.save(folder / VOCABULARY_FILE)
    (folder / CARD_FILE).write_text(f"# {options.name}\n", encoding="utf-8")
    write_manifest(folder, _manifest(captioner, options, recipe))
    return open_bundle(folder)


def _manifest(captioner: TrainedCaptioner, options: BundleOptions, recipe: dict[str, Any]) -> Manifest:
    ids = {word: i for i, word in enumerate(captioner.vocabulary.words)}
    tools = {name: version(name) for name in ("tensorflow", "keras", "tf2onnx", "onnx", "numpy", "pillow")}
    # Two distributions have this module; which one depends on the platform.
    tools["onnxruntime"] = onnxruntime.__version__
    return Manifest(
        format_version=MANIFEST_VERSION,
        name=options.name,
        version=options.version,
        preprocess=captioner.preprocess,
        tokens=Tokens(
            start=ids[datasets.START],
            end=ids[datasets.END],
            unknown=ids[datasets.UNKNOWN],
            padding=ids[datasets.PADDING],
        ),
        vocabulary_size=len(ids),
        generation=Generation(
            beam_size=options.beam_size, max_length=options.max_length, length_penalty=options.length_penalty
        ),
        attention_grid=captioner.backbone.grid,
        provenance=Provenance(architecture=options.architecture, data=options.data, terms=options.terms, recipe=recipe),
        tools=tools,
        opset=OPSET,
        files={},
    )


def _pixels(captioner: TrainedCaptioner, files: Sequence[Path]) -> NDArray[Any]:
    return np.stack([preprocess.apply(images.read_image(file), captioner.preprocess) for file in files])


def _captions(bundle: Bundle, files: Sequence[Path]) -> list[str]:
    """The runtime's captions of these files, with the bundle's defaults."""
    captioned = Captioner.load(bundle.folder, device="cpu").caption(files)
    captions = []
    for image in captioned:
        if image.failure is not None:
            raise ExportError(f"{image.path}: {image.failure.message}", "Only whole pictures can be scored.")
        captions.append(image.captions[0].caption)
    return captions


def _scored(
    bundle: Bundle, evaluations: Sequence[Evaluation], plain: list[str] | None, store: str, say: Say
) -> list[Metric]:
    metrics = []
    for index, evaluation in enumerate(evaluations):
        say(f"captioning {len(evaluation.files)} images of {evaluation.name}")
        captions = _captions(bundle, evaluation.files)
        label = decoding_options(bundle.manifest).label
        scores = score(captions, evaluation.references, f"{evaluation.name}; {label}; {store} weights")
        metrics += _metrics(evaluation.name, scores)
        say(
            f"{evaluation.name}: BLEU-4 {scores.bleu[3]:.3f}, CIDEr {scores.cider:.3f}, "
            f"{scores.distinct} distinct captions"
        )
        if plain is not None and index == 0:
            changed = sum(a != b for a, b in zip(plain, captions, strict=True))
            before = score(plain, evaluation.references)
            text = (
                f"captions that rounding to {store} changed, of {len(plain)} ({evaluation.name}); "
                f"unrounded CIDEr {before.cider:.4f}"
            )
            metrics.append(Metric(name="changed_by_rounding", value=float(changed), signature=text))
            say(f"rounding to {store} changed {changed} of {len(plain)} captions (CIDEr {before.cider:.4f} before)")
    return metrics


def _metrics(name: str, scores: Scores) -> list[Metric]:
    values = {f"bleu_{n}": value for n, value in enumerate(scores.bleu, 1)}
    values |= {"cider": scores.cider, "distinct_captions": float(scores.distinct)}
    return [Metric(name=f"{name}/{key}", value=value, signature=scores.signature) for key, value in values.items()]


def _finish(bundle: Bundle, metrics: list[Metric], options: BundleOptions, weights: int, parity: Parity) -> Bundle:
    """The manifest once more, with what was measured, and the card."""
    provenance = structs.replace(bundle.manifest.provenance, metrics=metrics)
    manifest = structs.replace(bundle.manifest, provenance=provenance)
    card = model_card(manifest, weights, parity, asdict(options))
    (bundle.folder / CARD_FILE).write_text(card, encoding="utf-8")
    write_manifest(bundle.folder, manifest)
    return open_bundle(bundle.folder)
