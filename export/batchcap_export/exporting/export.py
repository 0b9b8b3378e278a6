"""What `batchcap export` does with a run folder and with a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchcap.errors import ExportError
from batchcap.reporting import Say
from batchcap_export.data import images
from batchcap_export.data.splits import CaptionedImages
from batchcap_export.importers.sources import open_source
from batchcap_export.options.bundles import BundleOptions, Precisions
from batchcap_export.options.importing import ImportOptions
from batchcap_export.packaging.bundling import Check, export_model
from batchcap_export.proof.evaluate import Evaluation
from batchcap_export.proof.parity import Parity
from batchcap_export.training.finished_run import load_run, trained_model
from batchcap_export.training.recipes import dev_images


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
        folder: images for the comparison; None: the run's dev images.
        scored: score the bundle on the run's dev images.
        copies: folders with other copies of some dev images, such as the originals of reduced ones. Each is scored, and
            beside it the same images as the run has them.
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
    """Export a captioner that was made elsewhere; see `importers.open_source`.

    Args:
        folder: images for the comparison.
    """
    model = open_source(source, how)
    files, prove = [] if folder is None else images.find_images(folder), model.prove
    checks: list[Check] = [] if prove is None else [lambda bundle: prove(bundle, files, say)]
    return export_model(model, output, options, files, say, checks=checks, precisions=precisions)[1]


def _copies(folder: Path, dev: CaptionedImages) -> list[Evaluation]:
    there = {file.stem: file for file in images.find_images(folder)}
    both = [i for i, file in enumerate(dev.files) if file.stem in there]
    if not both:
        raise ExportError(f"--also-score {folder}: none of its images is named as a dev image.")
    references = tuple(dev.references[i] for i in both)
    return [
        Evaluation(folder.name, tuple(there[dev.files[i].stem] for i in both), references),
        Evaluation(f"{folder.name}-as-trained", tuple(dev.files[i] for i in both), references),
    ]
