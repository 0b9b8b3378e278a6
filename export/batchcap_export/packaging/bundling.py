"""``batchcap export``: a trained captioner in, a verified bundle out, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import onnxruntime
from msgspec import structs

from batchcap.bundle.bundle import Bundle, open_bundle, write_manifest
from batchcap.bundle.manifest import (
    CARD_FILE,
    DECODER_FILE,
    ENCODER_FILE,
    MANIFEST_VERSION,
    SELECT_FILE,
    VOCABULARY_FILE,
    Manifest,
    Metric,
    Provenance,
)
from batchcap.errors import ExportError
from batchcap.runtime.decoding_defaults import decoding_options
from batchcap_export.convert.graphs import (
    OPSET,
    compact,
    convert_decoder,
    convert_encoder,
    convert_select,
)
from batchcap_export.data import datasets, images
from batchcap_export.data.texts import TEXTS
from batchcap_export.exporting.checks import dev_images
from batchcap_export.importers.sources import open_source
from batchcap_export.model.captioner import CaptionModel, Say
from batchcap_export.model.check import check_model
from batchcap_export.options.bundles import MIN_IMAGES, BundleOptions, Precisions
from batchcap_export.options.importing import ImportOptions
from batchcap_export.packaging.model_card import model_card
from batchcap_export.packaging.precision import add_variants, prepare_trial
from batchcap_export.proof.evaluate import (
    Evaluation,
    Scores,
    caption_files,
    empty_warning,
    score,
)
from batchcap_export.proof.parity import Parity, check_parity, copying_cost
from batchcap_export.system.places import check_place
from batchcap_export.system.staging import move, workshop
from batchcap_export.training.train import load_run, trained_model

_NOTICEABLE = 1.1

Check: TypeAlias = Callable[[Bundle], Sequence[Metric]]
"""Measures a finished bundle before it moves to its place, or raises."""


def export_model(
    model: CaptionModel,
    output: Path,
    options: BundleOptions,
    parity_images: Sequence[Path],
    say: Say,
    *,
    evaluations: Sequence[Evaluation] = (),
    checks: Sequence[Check] = (),
    precisions: Precisions | None = None,
) -> tuple[Bundle, Parity]:
    """Convert, compare with the original, score, and only then move the bundle to ``output``.

    Args:
        parity_images: the first 64 of them are captioned by the original and by the bundle.
        evaluations: scored with the bundle's defaults; with rounded weights, the first one also tells how many captions
            the rounding changed.
        checks: more that must hold of the bundle; what they measure stands in the manifest.
        precisions: what it gets beside float32, judged on the first of ``evaluations`` or on ``parity_images``.

    Raises:
        ExportError: a conversion that fails or is not equal.
        OptionError: defaults that no run would take.
        OutputError: ``output`` exists, or cannot be written.
    """
    check_place(output)
    if len(parity_images) < MIN_IMAGES:
        raise ExportError(f"Parity needs {MIN_IMAGES} images, not {len(parity_images)}.", "Name a folder: --images.")
    model = replace(model, generation=options.generation(model.generation))
    if options.store != "float32" and model.rounded is None:
        raise ExportError(
            f"--store {options.store}: the weights of a {model.architecture} model cannot be rounded.",
            "Use --store float32.",
        )
    trial = prepare_trial(precisions or Precisions(), parity_images, evaluations)
    check_model(model)
    with workshop(output, say) as shop:
        plain: list[str] | None = None
        if model.rounded is not None and options.store != "float32":
            if evaluations:
                say("converting the unrounded model, to count what rounding changes")
                plain = caption_files(_write(model, shop / "unrounded", options, "float32"), evaluations[0].files)
            model = replace(model.rounded(options.store), generation=model.generation)
        say("converting")
        folder = shop / "bundle"
        bundle = _write(model, folder, options, options.store)
        say("comparing with the original")
        pixels = images.read_pixels(parity_images[:MIN_IMAGES], model.preprocess)
        parity = check_parity(model, bundle, pixels, say, options.min_distinct)
        say(parity.summary())
        if model.repeats_memory:
            cost = copying_cost(bundle, pixels)
            if warning := copying_warning(cost):
                say(warning)
        metrics = [Metric(name="parity", value=parity.identical / parity.images, signature=parity.summary())]
        metrics += _scored(bundle, evaluations, plain, options.store, say)
        for check in checks:
            metrics += check(bundle)
        bundle = add_variants(bundle, trial, say)
        bundle = _finish(bundle, metrics, options, model.parameters, parity)
        move(folder, output)
    return open_bundle(output), parity


def export_run(
    run: Path,
    output: Path,
    options: BundleOptions,
    folder: Path | None,
    scored: bool,
    copies: Sequence[Path],
    say: Say,
    *,
    precisions: Precisions | None = None,
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
        dev = dev_images(trained)
    evaluations = []
    if dev is not None and scored:
        evaluations.append(Evaluation(trained.dev_split.stem, dev.files, dev.references))
    for copy in copies:
        evaluations += _copies(copy, dev) if dev is not None else []
    parity_images = images.find_images(folder) if folder is not None else list(dev.files if dev is not None else ())
    names = ("images", "captions", "train_split", "dev_split", "weights")
    said = {k: v for k, v in recipe.options.items() if k not in names}
    said |= {k: Path(str(recipe.options[k])).name for k in names}
    model = trained_model(captioner, trained, said)
    return export_model(model, output, options, parity_images, say, evaluations=evaluations, precisions=precisions)[1]


def export_source(
    source: str,
    how: ImportOptions,
    output: Path,
    options: BundleOptions,
    folder: Path | None,
    say: Say,
    *,
    precisions: Precisions | None = None,
) -> Parity:
    """Export a captioner that was made elsewhere: see `importers.open_source`.

    Args:
        folder: pictures for parity.
    """
    model = open_source(source, how)
    if folder is None:
        raise ExportError(
            f"{source}: there are no pictures to compare with.", f"Name a folder of at least {MIN_IMAGES}: --images."
        )
    pictures, prove = images.find_images(folder), model.prove
    checks: list[Check] = [] if prove is None else [lambda bundle: prove(bundle, pictures, say)]
    return export_model(model, output, options, pictures, say, checks=checks, precisions=precisions)[1]


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


def _write(model: CaptionModel, folder: Path, options: BundleOptions, store: str) -> Bundle:
    """Graphs, vocabulary and manifest; the card comes when there is something to say."""
    folder.mkdir()
    for name, convert in ((ENCODER_FILE, convert_encoder), (DECODER_FILE, convert_decoder)):
        graph = convert(model)
        compact(graph, store)
        (folder / name).write_bytes(graph.SerializeToString(deterministic=True))
    # The decoder came last: what it carries is what leaves with an image.
    (folder / SELECT_FILE).write_bytes(convert_select(graph).SerializeToString(deterministic=True))
    model.vocabulary.save(folder / VOCABULARY_FILE)
    (folder / CARD_FILE).write_text(f"# {options.name}\n", encoding="utf-8")
    write_manifest(folder, _manifest(model, options))
    return open_bundle(folder)


def _manifest(model: CaptionModel, options: BundleOptions) -> Manifest:
    tools = {name: version(name) for name in ("tensorflow", "keras", "tf2onnx", "onnx", "numpy", "pillow")}
    # Two distributions have this module; which one depends on the platform.
    tools["onnxruntime"] = onnxruntime.__version__
    return Manifest(
        format_version=MANIFEST_VERSION,
        name=options.name,
        version=options.version,
        preprocess=model.preprocess,
        tokens=model.tokens,
        vocabulary_size=len(model.vocabulary),
        generation=model.generation,
        attention_grid=model.grid,
        provenance=Provenance(
            architecture=model.architecture, data=options.data, terms=options.terms, recipe=dict(model.recipe)
        ),
        text=model.text if options.text is None else TEXTS[options.text],
        tools=tools,
        opset=OPSET,
        files={},
    )


def _scored(
    bundle: Bundle, evaluations: Sequence[Evaluation], plain: list[str] | None, store: str, say: Say
) -> list[Metric]:
    metrics = []
    for index, evaluation in enumerate(evaluations):
        say(f"captioning {len(evaluation.files)} images of {evaluation.name}")
        captions = caption_files(bundle, evaluation.files)
        if warning := empty_warning(captions):
            say(warning)
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


def copying_warning(cost: float) -> str:
    """What to say of a step that copies the memory for every beam and takes ``cost`` times as long.

    Nothing where it is not slower by more than what measuring varies.
    """
    if cost < _NOTICEABLE:
        return ""
    return (
        f"warning: the step copies the memory for every beam, which makes it {cost:.1f} times as slow; one that is "
        "written for beams does not copy (export_captioner, beams=True)"
    )


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
