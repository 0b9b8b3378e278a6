"""From a captioner to a verified bundle; where something fails there is no bundle at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from batchcap.bundle.bundle import Bundle, open_bundle
from batchcap.bundle.manifest import Metric
from batchcap.errors import ExportError
from batchcap.reporting import Say
from batchcap.tools.comparison import COMPARED_IMAGES
from batchcap_export.data import images
from batchcap_export.data.comparison import check_count
from batchcap_export.model.caption_model import CaptionModel
from batchcap_export.model.check import check_model
from batchcap_export.options.bundles import BundleOptions, Precisions
from batchcap_export.packaging.bundle_files import finish_bundle, write_bundle
from batchcap_export.packaging.scoring import scored
from batchcap_export.packaging.trial import prepare_trial
from batchcap_export.packaging.variants import add_variants
from batchcap_export.proof.copying import copying_cost, copying_warning
from batchcap_export.proof.evaluate import Evaluation, caption_files
from batchcap_export.proof.parity import Parity, check_parity
from batchcap_export.system.places import check_place
from batchcap_export.system.staging import move, staging_folder

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
        evaluations: scored with the bundle's defaults; with rounded weights, the first one also counts the captions
            that rounding changed.
        checks: more that must hold of the bundle; what they measure stands in the manifest.
        precisions: what it gets beside float32, judged on the first of ``evaluations`` or on ``parity_images``.

    Raises:
        ExportError: a conversion that fails or is not equal.
        OptionError: defaults that no run would take.
        OutputError: ``output`` exists, or cannot be written.
    """
    check_place(output)
    check_count(len(parity_images))
    model = replace(model, generation=options.generation(model.generation))
    if options.store != "float32" and model.rounded is None:
        raise ExportError(
            f"--store {options.store}: the weights of a {model.architecture} model cannot be rounded.",
            "Use --store float32.",
        )
    trial = prepare_trial(precisions or Precisions(), parity_images, evaluations)
    check_model(model)
    with staging_folder(output, say) as staging:
        plain: list[str] | None = None
        if model.rounded is not None and options.store != "float32":
            if evaluations:
                say("converting the unrounded model, to count what rounding changes")
                unrounded = write_bundle(model, staging / "unrounded", options, "float32")
                plain = caption_files(unrounded, evaluations[0].files)
            model = replace(model.rounded(options.store), generation=model.generation)
        say("converting")
        bundle = write_bundle(model, staging / "bundle", options, options.store)
        say("comparing with the original")
        pixels = images.read_pixels(parity_images[:COMPARED_IMAGES], model.preprocess)
        parity = check_parity(model, bundle, pixels, say, options.min_distinct)
        say(parity.summary())
        if model.repeats_memory and (warning := copying_warning(copying_cost(bundle, pixels))):
            say(warning)
        metrics = [Metric(name="parity", value=parity.identical / parity.images, signature=parity.summary())]
        metrics += scored(bundle, evaluations, plain, options.store, say)
        for check in checks:
            metrics += check(bundle)
        bundle = add_variants(bundle, trial, say)
        finish_bundle(bundle, metrics, options, model.parameters, parity)
        move(bundle.folder, output)
    return open_bundle(output), parity
