"""Captioners that were made elsewhere: what a file or folder is, and who can open it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from batchcap.errors import ExportError
from batchcap_export.model import CaptionModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What a saved model does not say of itself; None: it was not given."""

    vocabulary: Path | None = None
    """The words in the order of their ids."""


def open_source(source: str, options: ImportOptions) -> CaptionModel:
    """The captioner in a file or folder.

    Args:
        source: ``FILE.py`` or ``FILE.py:FUNCTION``: see `importers.hook`.

    Raises:
        ExportError: nobody here can open it, or it is not in order.
    """
    file, colon, function = source.partition(".py:")
    if colon or source.endswith(".py"):
        from batchcap_export.importers import hook

        _take_none(source, options)
        return hook.load(Path(f"{file}.py" if colon else source), function or "captioner")
    if not Path(source).exists():
        raise ExportError(
            f"{source}: no such file or folder.", "Name a run folder of batchcap train, or a saved model."
        )
    raise ExportError(
        f"{source}: is nothing that can be exported.",
        "Name a run folder of batchcap train, or a Python file with a function captioner().",
    )


def _take_none(source: str, options: ImportOptions) -> None:
    """Raise an ExportError for an option that this kind of source has no use for."""
    given = [field.name for field in fields(options) if getattr(options, field.name) is not None]
    if given:
        raise ExportError(f"{source}: --{given[0].replace('_', '-')} does not go with it.", "Leave it out.")
