"""What a distillation learns from, found and checked before TensorFlow is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchcap.errors import DataError, OptionError, TrainingError
from batchcap_export.data import images
from batchcap_export.data.splits import read_names
from batchcap_export.options.training import DistillOptions, ImageFolders
from batchcap_export.system.places import check_place


@dataclass(frozen=True, slots=True)
class DistilledFiles:
    """The images of a distillation, those that are held out apart."""

    main: list[Path]
    extra: list[Path]
    held_out: list[Path]


def check_distilling(teacher: Path, folders: ImageFolders, run: Path, options: DistillOptions) -> DistilledFiles:
    """Find the images of a distillation, and whatever would end it later.

    Raises:
        DataError: a folder or file of names that is missing, or does not fit.
        OptionError: a batch that is larger than everything.
        OutputError: ``run`` cannot be a folder.
        TrainingError: no such teacher.
    """
    check_place(run, run_folder=True)
    if not teacher.is_file():
        raise TrainingError(f"{teacher}: no such teacher network.", "Give a .keras file.")
    held = _named(folders.held_out, [folders.held_out_names] if folders.held_out_names else [])
    apart = {path.resolve() for path in held}
    main = [p for p in _named(folders.folders[0], folders.names) if p.resolve() not in apart]
    extra = [p for folder in folders.folders[1:] for p in images.find_images(folder) if p.resolve() not in apart]
    if not main:
        raise DataError(
            f"{folders.folders[0]}: every image here is held out.",
            "Hold out fewer: another --held-out folder, or --held-out-names.",
        )
    views = len(main) * options.views + len(extra) * options.extra_views
    if views < options.batch_size:
        raise OptionError(
            f"--batch-size {options.batch_size}: there are only {views} views of all images.", "Take a smaller one."
        )
    return DistilledFiles(main, extra, held)


def _named(folder: Path, names: Sequence[Path]) -> list[Path]:
    """The images of ``folder`` that the files name, by stem and in their order; all where there is no file."""
    found = images.find_images(folder)
    if not names:
        return found
    by_stem = {path.stem: path for path in found}
    wanted = [name for file in names for name in _names(file)]
    missing = [name for name in wanted if Path(name).stem not in by_stem]
    if missing:
        raise DataError(
            f"{folder}: has no image for {len(missing)} of the {len(wanted)} names in {', '.join(map(str, names))}, "
            f"such as {', '.join(missing[:5])}.",
            "Remove the names, or add the images.",
        )
    return [by_stem[stem] for stem in dict.fromkeys(Path(name).stem for name in wanted)]


def _names(file: Path) -> Iterable[str]:
    if not file.is_file():
        raise DataError(f"{file}: no such file of image names.", "One image name a line.")
    return read_names(file)
