"""The values that flow from a source to the output: frozen, and free of any other part of batchcap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT_FAILURES: Final = 5
"""How many images without a caption a run names in its summary."""

Key: TypeAlias = tuple[str, str | None]
"""What names an image in the output: (``path_b64`` where there is one, else ``path``; ``member``)."""


def key_of(path: str, path_b64: str | None, member: str | None = None) -> Key:
    """The key of the image with these names."""
    return (path if path_b64 is None else path_b64, member)


ACCEPTABLE: Final = ("truncated", "damaged")
"""Kinds of errors of images of which a part can be decoded."""

_NOT_LISTED: Final = "this folder cannot be listed: "


class Failure(msgspec.Struct, frozen=True):
    """Why one image has no caption, or why the images of one folder are not known."""

    stage: Literal["read", "decode"]
    """``read``: the file could not be read. ``decode``: its bytes are no usable image."""
    kind: str
    """A short stable word: ``missing``, ``permission``, ``io``, ``empty``, ``truncated``, ``unsupported``, ..."""
    message: str
    """The cause in words."""

    @classmethod
    def from_os_error(cls, error: OSError) -> Failure:
        """A file or folder that could not be read: kind ``missing``, ``permission`` or ``io``."""
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            kind = "missing"
        else:
            kind = "permission" if isinstance(error, PermissionError) else "io"
        return cls("read", kind, error.strerror or str(error) or type(error).__name__)

    @classmethod
    def from_folder_error(cls, error: OSError) -> Failure:
        """A folder that could not be listed, or not to its end; the kinds are those of a file."""
        why = cls.from_os_error(error)
        return cls(why.stage, why.kind, _NOT_LISTED + why.message)

    @property
    def may_be_accepted(self) -> bool:
        """Part of the image can be decoded, and ``--accept-damaged`` captions that."""
        return self.stage == "decode" and self.kind in ACCEPTABLE

    @property
    def of_folder(self) -> bool:
        """No image failed, but a whole folder: how many images it holds is not known."""
        return self.stage == "read" and self.message.startswith(_NOT_LISTED)


class Caption(msgspec.Struct, frozen=True):
    """One hypothesis of the search, in words."""

    caption: str
    log_prob: float
    """Sum of the natural log-probabilities of the generated tokens, ``<end>`` included."""
    score: float
    """``log_prob / n ** length_penalty``, n = generated tokens with ``<end>``. Hypotheses are ranked by it."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that was found but not read yet."""

    path: str
    """The record's path: ``/`` between names, relative to the root, U+FFFD for what is not UTF-8."""
    file: str
    """The file to open, as the operating system spells it (surrogate-escaped). For a member: the archive."""
    size: int
    """Bytes of the file."""
    mtime_us: int
    """Time of the last change in microseconds since 1970."""
    member: str | None = None
    """The name inside an archive."""
    path_b64: str | None = None
    """Base64 of the exact bytes of ``path`` where they are not UTF-8."""
    failure: Failure | None = None
    """Set where finding it already failed (vanished, no permission)."""
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    """An upright RGB image [height, width, 3] that was given as it is; there is no file then."""

    @property
    def key(self) -> Key:
        return key_of(self.path, self.path_b64, self.member)


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the output. Fields at their default are left out; their order here is their order in the line."""

    path: str
    member: str | None = None
    path_b64: str | None = None
    caption: str | None = None
    log_prob: float | None = None
    score: float | None = None
    error: Failure | None = None
    captions: tuple[Caption, ...] | None = None
    """The n best, best first; only where more than one was asked for."""
    damaged: str | None = None
    """What is wrong with an image that was captioned although it is damaged; see ``--accept-damaged``."""
    width: int | None = None
    """Columns of the image as it stands upright."""
    height: int | None = None
    """Rows of the image as it stands upright."""
    bytes: int | None = None
    """Size of the file."""
    mtime_us: int | None = None
    """Microseconds since 1970: nanoseconds do not survive JavaScript and jq."""
    sha256: str | None = None
    """SHA-256 of the file's bytes, 64 hex digits; only where a run with ``--checksum`` made the record."""
    root: str | None = None
    """The absolute folder that ``path`` is relative to, also where this path is an absolute one outside it; a ``file:``
    URI where its name is not UTF-8."""
    model: str = ""
    preprocess: str = ""
    decoding: str = ""

    @property
    def key(self) -> Key:
        return key_of(self.path, self.path_b64, self.member)


class Fingerprint(msgspec.Struct, frozen=True):
    """Everything besides the image that decides its caption."""

    model: str
    """``name@`` + first 8 hex digits of the bundle's digest (+ the precision where it is not fp32)."""
    preprocess: str
    """``exact``, or the name of a faster way."""
    decoding: str
    """A label + ``#`` + 8 hex digits over every option that can change text."""
