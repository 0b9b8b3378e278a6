"""Captioners that were made elsewhere: what a file or folder is, and who can open it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from batchcap.errors import ExportError
from batchcap_export.options.importing import ImportOptions

if TYPE_CHECKING:
    from batchcap_export.model.captioner import CaptionModel

_CHECKPOINT = re.compile(r"model\.ckpt-(\d+)(?:\.index)?")


def open_source(source: str, options: ImportOptions) -> CaptionModel:
    """The captioner in a file or folder.

    Args:
        source: ``FILE.py`` or ``FILE.py:FUNCTION``: see `importers.hook`. A ``.keras`` or ``.h5`` file or a SavedModel
            folder: see `importers.keras_models`. A ``.pb`` file or a checkpoint of the Show and Tell code: see
            `importers.im2txt`.
        options: what the source does not say; those that it has no use for are errors.

    Raises:
        ExportError: nobody here can open it, or it is not in order.
    """
    kind = source_kind(source, options)
    if kind == "hook":
        from batchcap_export.importers import hook

        return hook.load(*hook_of(source))
    if kind == "im2txt":
        from batchcap_export.importers.im2txt import opening

        return opening.load(Path(source), options)
    from batchcap_export.importers.keras import opening

    return opening.load(Path(source), options)


def source_kind(source: str, options: ImportOptions) -> Literal["hook", "im2txt", "keras"]:
    """Who opens this source; TensorFlow is not needed to tell.

    Raises:
        ExportError: nobody, or ``options`` hold something that this kind has no use for.
    """
    if hook_of(source) is not None:
        take_only(source, options)
        return "hook"
    if is_im2txt(source):
        take_only(source, options, "vocabulary", "start", "end", "unknown")
        return "im2txt"
    if not Path(source).exists():
        raise ExportError(
            f"{source}: no such file or folder.", "Name a run folder of batchcap train, or a saved model."
        )
    if options.decoder is not None or is_keras(Path(source)):
        return "keras"
    raise ExportError(
        f"{source}: is nothing that can be exported.",
        "Name a run folder of batchcap train, a .keras or .h5 file, a SavedModel folder, a frozen graph (.pb) or a "
        "checkpoint (model.ckpt-*) of im2txt, or a Python file with a function captioner().",
    )


def is_im2txt(source: str) -> bool:
    """Whether it is named as a frozen graph of the Show and Tell code, or holds its checkpoint."""
    return source.endswith(".pb") or find_checkpoint(Path(source)) is not None


def hook_of(source: str) -> tuple[Path, str] | None:
    """Python file and function of ``FILE.py`` or ``FILE.py:FUNCTION``; None: it is another kind of source."""
    file, colon, function = source.partition(".py:")
    if not colon and not source.endswith(".py"):
        return None
    return Path(f"{file}.py" if colon else source), function or "captioner"


def find_checkpoint(source: Path) -> Path | None:
    """The newest ``model.ckpt-STEP`` of a folder, or the one that ``source`` itself names; None: there is none."""
    if source.is_dir():
        found = [(int(m[1]), f) for f in source.iterdir() if (m := _CHECKPOINT.fullmatch(f.name))]
        return source / f"model.ckpt-{max(found)[0]}" if found else None
    named = source.with_name(source.name.removesuffix(".index").removesuffix(".meta"))
    there = named.is_file() or named.with_name(f"{named.name}.index").is_file()
    return named if there and _CHECKPOINT.fullmatch(named.name) else None


def is_keras(path: Path) -> bool:
    """Whether it is named or laid out as a network that Keras saves: ``.keras``, ``.h5``, or a SavedModel folder."""
    return path.suffix.lower() in (".keras", ".h5", ".hdf5") or (path / "saved_model.pb").is_file()


def take_only(source: str, options: ImportOptions, *used: str) -> None:
    """Raise an ExportError for an option that this kind of source has no use for."""
    given = [field.name for field in fields(options) if getattr(options, field.name) is not None]
    for name in given:
        if name not in used:
            raise ExportError(f"{source}: --{name} does not go with it.", "Leave it out.")
