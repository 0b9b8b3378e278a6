"""The kinds of saved captioners: how each is recognized, what it takes of the options, and who opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batchcap.errors import ExportError
from batchcap_export.importers.im2txt.checkpoints import find_checkpoint
from batchcap_export.options.importing import ImportOptions

if TYPE_CHECKING:
    from batchcap_export.model.caption_model import CaptionModel


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of saved captioners."""

    name: str
    recognizes: Callable[[str, ImportOptions], bool]
    """Whether a source is of this kind, from its name and its files' names, without TensorFlow."""
    load: Callable[[str, ImportOptions], CaptionModel]
    takes: frozenset[str] = frozenset()
    """Fields of `ImportOptions` that it has a use for."""


def source_kind(source: str, options: ImportOptions) -> Kind:
    """The kind of a source, found without TensorFlow.

    Raises:
        ExportError: there is no such source, or it is of no kind, or ``options`` hold something that this kind has no
            use for.
    """
    for kind in KINDS:
        if kind.recognizes(source, options):
            take_only(source, options, kind.takes)
            return kind
    if not Path(source).exists():
        raise ExportError(
            f"{source}: no such file or folder.", "Name a run folder of batchcap train, or a saved model."
        )
    raise ExportError(
        f"{source}: is nothing that can be exported.",
        "Name a run folder of batchcap train, a .keras or .h5 file, a SavedModel folder, a frozen graph (.pb) or a "
        "checkpoint (model.ckpt-*) of im2txt, or a Python file with a function captioner().",
    )


def open_source(source: str, options: ImportOptions) -> CaptionModel:
    """The captioner in a file or folder.

    Args:
        source: ``FILE.py`` or ``FILE.py:FUNCTION``: see `importers.hook`. A ``.keras`` or ``.h5`` file or a SavedModel
            folder: see `importers.keras`. A ``.pb`` file or a checkpoint of the Show and Tell code: see
            `importers.im2txt`.
        options: what the source does not say; those that it has no use for are errors.

    Raises:
        ExportError: it is of no kind, or not in order.
    """
    return source_kind(source, options).load(source, options)


def take_only(source: str, options: ImportOptions, takes: frozenset[str] = frozenset()) -> None:
    """Raise an ExportError for an option that this source has no use for."""
    for name in (field.name for field in fields(options)):
        if name not in takes and getattr(options, name) is not None:
            raise ExportError(f"{source}: --{name} does not go with it.", "Leave it out.")


def hook_of(source: str) -> tuple[Path, str] | None:
    """Python file and function of ``FILE.py`` or ``FILE.py:FUNCTION``; None: it is another kind of source."""
    file, colon, function = source.partition(".py:")
    if not colon and not source.endswith(".py"):
        return None
    return Path(f"{file}.py" if colon else source), function or "captioner"


def is_im2txt(source: str) -> bool:
    """Whether it is named as a frozen graph of the Show and Tell code, or holds its checkpoint."""
    return source.endswith(".pb") or find_checkpoint(Path(source)) is not None


def is_keras(path: Path) -> bool:
    """Whether it is named or laid out as a network that Keras saves: ``.keras``, ``.h5``, or a SavedModel folder."""
    return path.suffix.lower() in (".keras", ".h5", ".hdf5") or (path / "saved_model.pb").is_file()


def _recognizes_keras(source: str, options: ImportOptions) -> bool:
    return Path(source).exists() and (options.decoder is not None or is_keras(Path(source)))


def _load_hook(source: str, _: ImportOptions) -> CaptionModel:
    from batchcap_export.importers import hook

    named = hook_of(source)
    assert named is not None
    return hook.load(*named)


def _load_im2txt(source: str, options: ImportOptions) -> CaptionModel:
    from batchcap_export.importers.im2txt import opening

    return opening.load(Path(source), options)


def _load_keras(source: str, options: ImportOptions) -> CaptionModel:
    from batchcap_export.importers.keras import opening

    return opening.load(Path(source), options)


_IM2TXT_TAKES: Final = frozenset({"vocabulary", "start", "end", "unknown"})
KINDS: Final = (
    Kind("hook", lambda source, _: hook_of(source) is not None, _load_hook),
    Kind(
        "im2txt",
        lambda source, _: is_im2txt(source),
        _load_im2txt,
        frozenset(("vocabulary", "start", "end", "unknown")),
    ),
    Kind("keras", _recognizes_keras, _load_keras, frozenset(field.name for field in fields(ImportOptions))),
)
"""The first one that recognizes a source opens it."""
