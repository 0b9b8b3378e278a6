"""Saved Keras models, exported with all that is proven of a bundle on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import captioners
from proofs import captions_of, check_graphs

from batchcap.bundle.bundle import Bundle
from batchcap_export.data import images
from batchcap_export.importers.sources import open_source
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.options.importing import ImportOptions
from batchcap_export.packaging.bundling import export_model
from batchcap_export.proof.parity import Parity


def exported(folder: Path, image_folder: Path, source: Path, **options: Any) -> tuple[Bundle, Parity]:
    """The bundle of a saved model, checked as every bundle must be."""
    options = {"scale": "0..1", "vocabulary": captioners.write_vocabulary(folder), **options}
    model = open_source(str(source), ImportOptions(**options))
    how = BundleOptions(name="proof", max_length=8)
    bundle, proof = export_model(model, folder / "proof", how, images.find_images(image_folder), lambda _: None)
    assert proof.images == 64
    assert proof.distinct >= 32
    assert proof.identical + proof.ties == 64
    assert proof.ties <= 1
    assert proof.log_prob < 1e-3
    check_graphs(bundle.folder)
    captions = captions_of(bundle.folder, image_folder, folder / "captions.jsonl")
    assert len(captions) == 64
    assert len(set(captions)) >= 32
    return bundle, proof
