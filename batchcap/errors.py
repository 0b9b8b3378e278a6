"""Every error that batchcap raises on purpose: one base, one class per cause.

Each class also inherits the builtin that a caller would expect (``FileNotFoundError``, ``ValueError``, ...), carries
the exit code of the command line, and separates *what is wrong, and where* (the message) from *what to do about it*
(``fix``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias


class BatchcapError(Exception):
    """Base of all deliberate errors.

    Args:
        message: what is wrong, naming the file, option or tensor. One line: what it quotes may hold line ends, so the
            terminal shows them as escapes.
        fix: what the reader can do about it; empty when there is nothing to add.
    """

    exit_code = 1
    title = "batchcap cannot go on"

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".rstrip()


class OptionError(BatchcapError, ValueError):
    """An option has a value that cannot work, alone or together with another."""

    exit_code = 2
    title = "Wrong option"


class InputNotFoundError(BatchcapError, FileNotFoundError):
    """An input named by the user does not exist."""

    title = "Input not found"


class NoImagesError(BatchcapError, ValueError):
    """The inputs exist, but hold no image."""

    title = "No images"


class DuplicateKeyError(BatchcapError, ValueError):
    """Two different files would get the same record key."""

    title = "Two files, one name"


class BundleError(BatchcapError, ValueError):
    """A model bundle is missing, altered, or not what its manifest says."""

    title = "Bundle cannot be used"


class DeviceError(BatchcapError, RuntimeError):
    """A demanded device is absent, or was lost while running."""

    title = "Device not available"


class OutOfMemoryError(DeviceError, MemoryError):
    """A device has too little memory for what it was given; with less it may go on."""

    title = "Too little memory"


class EngineError(BatchcapError, ImportError):
    """onnxruntime cannot be loaded: it is not installed, or two builds of it were installed over each other."""

    title = "onnxruntime cannot be used"


class OutputError(BatchcapError, OSError):
    """The output cannot be created, read or written."""

    title = "Output cannot be used"


class OutputLockedError(OutputError):
    """Another run holds the output."""

    exit_code = 75
    title = "Output is in use"


class MismatchError(BatchcapError, ValueError):
    """The output was written with another model, preprocessing or decoding."""

    title = "The output was made with other settings"


class RootError(BatchcapError, ValueError):
    """The paths in the output are relative to another folder than those of this run."""

    title = "The output belongs to another folder"


class TooManyFailuresError(BatchcapError, RuntimeError):
    """More images failed than the user allows: a disk that is not mounted, a broken decoder."""

    title = "Too many images failed"


class WatchError(BatchcapError, OSError):
    """The system does not tell what happens in the folders."""

    title = "Folders cannot be watched"


class MissingExtraError(BatchcapError, ImportError):
    """A command needs an optional dependency that is not installed."""

    title = "Optional part not installed"


DecodeErrorKind: TypeAlias = Literal["truncated", "damaged", "corrupt", "empty", "unsupported", "too-large", "killed"]
"""The kinds of an `ImageError` of stage ``decode``."""


class ImageError(BatchcapError, ValueError):
    """One image could not be read or decoded. Becomes the record's ``error``; it never stops a run.

    Args:
        stage: ``read`` (the file could not be read) or ``decode`` (its bytes are no usable image).
        kind: a short stable word for the cause, such as ``missing``, ``permission``, ``truncated``, ``unsupported``.
        message: the cause in words.
    """

    title = "Image failed"

    def __init__(self, stage: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.kind = kind


class ExportError(BatchcapError, ValueError):
    """A model cannot be converted as asked, or its conversion is not equal to the original.

    Base of what the commands of the export stage raise.
    """

    title = "Export failed"


class DataError(ExportError):
    """Images, captions or splits to train a model on, or to compare it on, are missing or do not fit."""

    title = "Images or captions cannot be used"


class TrainingError(ExportError):
    """A network cannot be trained as asked, or its run folder is not in order."""

    title = "Training failed"


@contextmanager
def export_errors_headed(title: str) -> Iterator[None]:
    """Within, an `ExportError` is headed by what the command does: code of the export stage serves several."""
    try:
        yield
    except ExportError as error:
        if not isinstance(error, DataError):  # its title says more, whatever the command does
            error.title = title
        raise
