"""What `export` and `verify --origin` can know before TensorFlow is loaded: missing files, options that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchcap.bundle.manifest import Generation
from batchcap.errors import DataError, ExportError, OptionError
from batchcap.tools.comparison import COMPARED_IMAGES
from batchcap_export.data import images
from batchcap_export.data.caption_files import read_captions
from batchcap_export.importers.keras.vocabulary import read_vocabulary
from batchcap_export.importers.sources import hook_of, source_kind, take_only
from batchcap_export.options.bundles import BundleOptions, Precisions
from batchcap_export.options.importing import ImportOptions
from batchcap_export.system.extras import need_modules
from batchcap_export.system.places import check_place
from batchcap_export.training.recipes import dev_images, is_run, read_recipe


def check_export(
    source: str,
    how: ImportOptions,
    output: Path,
    options: BundleOptions,
    folder: Path | None,
    scored: bool,
    copies: Sequence[Path],
    *,
    precisions: Precisions,
) -> None:
    """Find whatever would end an export later; the arguments are those of `export.export_run` and
    `export.export_source`.

    Raises:
        OptionError: options that do not go together, or defaults that no run would take.
        DataError: a folder, a split or captions that are missing, or too few images.
        OutputError: ``output`` exists, or cannot be made.
        ExportError: nothing that can be exported.
        MissingExtraError: scores are wanted, and what computes them is not installed.
    """
    check_place(output)
    options.generation(Generation())
    run = is_run(source)
    if copies and not run:
        raise OptionError("--also-score goes with a run folder of batchcap train.", "Leave it out.")
    scores = run and (scored or copies)
    if scores or (precisions.wanted and precisions.references):
        need_modules("pycocoevalcap")
    check_source(source, how, folder, dev=bool(scores))
    if not run and hook_of(source) is None:
        if how.vocabulary is None:
            words = "word_counts.txt" if source_kind(source, how).name == "im2txt" else "FILE"
            raise ExportError(f"{source}: does not hold its words.", f"Name the file that does: --vocabulary {words}.")
        if options.store != "float32":
            raise OptionError(
                f"--store {options.store}: only a run of batchcap train can be rounded.",
                "Leave it out, or see --precision.",
            )
    for other in (*copies, *precisions.calibrate):
        check_images(other, 1)
    if precisions.references is not None:
        read_captions(precisions.references)


def check_source(source: str, how: ImportOptions, folder: Path | None, *, dev: bool = False) -> None:
    """Find what would keep a source from being opened, or compared on ``folder``; None: on a run's dev images.

    Args:
        dev: the dev images of a run are needed besides.

    Raises:
        ExportError: no such source, file or run, or an option that does not go with it.
        DataError: a folder, a split or captions that are missing, or too few images.
    """
    if is_run(source):
        take_only(source, how)
        trained, _ = read_recipe(Path(source))
        if dev or folder is None:
            found = len(dev_images(trained))
            if folder is None and found < COMPARED_IMAGES:
                raise DataError(
                    f"{source}: its {found} dev images are too few to compare on.",
                    f"Name a folder of at least {COMPARED_IMAGES} images: --images.",
                )
    else:
        _check_files(source, how)
        if folder is None:
            raise DataError(
                f"{source}: there are no images to compare with.",
                f"The comparison needs {COMPARED_IMAGES} images, not 0. Name a folder of them: --images.",
            )
    if folder is not None:
        check_images(folder, COMPARED_IMAGES)


def _check_files(source: str, how: ImportOptions) -> None:
    kind, hook = source_kind(source, how).name, hook_of(source)
    file = hook[0] if hook is not None else Path(source)
    if not file.exists() and (kind == "hook" or file.suffix == ".pb"):
        raise ExportError(f"{file}: no such {'Python file' if kind == 'hook' else 'file'}.", "Name one that exists.")
    for option, path in (("--decoder", how.decoder), ("--vocabulary", how.vocabulary)):
        if path is not None and not path.exists():
            raise ExportError(f"{option} {path}: no such file.", "Name one that exists.")
    if kind == "keras" and how.vocabulary is not None:
        read_vocabulary(how.vocabulary)


def check_images(folder: Path, least: int) -> None:
    """Refuse a folder with fewer images than ``least``; no more of it than that is listed.

    Raises:
        DataError: the folder is missing, or holds fewer.
    """
    found = len(images.find_images(folder, most=least))
    if found < least:
        raise DataError(f"{folder}: holds {found} images; {least} are needed.", "Name a folder with more.")
