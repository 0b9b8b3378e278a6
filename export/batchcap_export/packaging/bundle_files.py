"""The files of a bundle: graphs, vocabulary, manifest and card."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

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
from batchcap_export.convert.graphs import OPSET, convert_decoder, convert_encoder, convert_select
from batchcap_export.convert.storage import compact
from batchcap_export.data.texts import TEXTS
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.packaging.model_card import model_card
from batchcap_export.proof.parity import Parity


def write_bundle(model: CaptionModel, folder: Path, options: BundleOptions, store: str) -> Bundle:
    """Graphs, vocabulary and manifest; the card comes when there is something to say."""
    folder.mkdir()
    for name, convert in ((ENCODER_FILE, convert_encoder), (DECODER_FILE, convert_decoder)):
        graph = convert(model)
        compact(graph, store)
        (folder / name).write_bytes(graph.SerializeToString(deterministic=True))
    # ``graph`` is the decoder, which came last: the select graph gathers its states and memories.
    (folder / SELECT_FILE).write_bytes(convert_select(graph).SerializeToString(deterministic=True))
    model.vocabulary.save(folder / VOCABULARY_FILE)
    (folder / CARD_FILE).write_text(f"# {options.name}\n", encoding="utf-8")
    write_manifest(folder, make_manifest(model, options))
    return open_bundle(folder)


def make_manifest(model: CaptionModel, options: BundleOptions) -> Manifest:
    """The manifest before anything is measured; `write_manifest` adds the files."""
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


def finish_bundle(bundle: Bundle, metrics: list[Metric], options: BundleOptions, weights: int, parity: Parity) -> None:
    """Write the manifest once more, with what was measured, and the card; the bundle must still open."""
    provenance = structs.replace(bundle.manifest.provenance, metrics=metrics)
    manifest = structs.replace(bundle.manifest, provenance=provenance)
    card = model_card(manifest, weights, parity, asdict(options))
    (bundle.folder / CARD_FILE).write_text(card, encoding="utf-8")
    write_manifest(bundle.folder, manifest)
    open_bundle(bundle.folder)
