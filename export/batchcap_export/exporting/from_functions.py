"""The export stage as a library: a captioner of any make, given as two functions, becomes a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchcap.bundle.bundle import Bundle
from batchcap.bundle.vocabulary import Vocabulary
from batchcap.images.preprocess import Preprocess
from batchcap.reporting import Say
from batchcap_export.data.images import find_images
from batchcap_export.model.caption_model import Encode, RowStep, Step
from batchcap_export.model.functions import caption_model
from batchcap_export.options.bundles import BundleOptions
from batchcap_export.packaging.bundling import export_model


def export_captioner(
    encode: Encode,
    step: RowStep | Step,
    vocabulary: Sequence[str] | Vocabulary,
    output: str | Path,
    images: str | Path,
    *,
    preprocess: Preprocess,
    name: str | None = None,
    data: str = "",
    terms: str = "",
    say: Say = print,
    **more: Any,
) -> Bundle:
    """Export a captioner of your own as a bundle, and prove that its captions are the same.

    Args:
        encode, step, vocabulary, preprocess: see `caption_model`.
        output: the folder to make.
        images: a folder of at least 64 images; the functions and the bundle caption the first 64.
        name: the bundle's; None is the folder's.
        data, terms: what it learnt from and who may use it, for its card.
        say: gets a line for each stage.
        more: what else `caption_model` takes.

    Returns:
        The bundle.

    Raises:
        ExportError: something does not fit, or the captions differ; then there is no bundle.
        OutputError: ``output`` exists, or cannot be written.
    """
    output = Path(output)
    model = caption_model(encode, step, vocabulary, preprocess, **more)
    options = BundleOptions(name=name or output.name, data=data, terms=terms)
    return export_model(model, output, options, find_images(Path(images)), say)[0]
