"""The three places of a caption in an image file, whose it is, and what is told exiftool to write it.

They are those of the Metadata Working Group (Guidelines for Handling Image Metadata 2.0, 5.4 Description): XMP
``dc:description``, which is always written, and EXIF ``ImageDescription`` and IPTC ``Caption-Abstract``, which are
written where the file has EXIF or IPTC, so that every program reads the same. The guidelines would add EXIF to files
without it, and with it a resolution and a colour space that nobody knows.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Self

from batchcap.convert.exiftool import Command, quoted
from batchcap.convert.xmp_caption import DEFAULT_LANGUAGE, may_write

_XMP: Final = "XMP-dc:Description"
_NOTE: Final = "XMP-batchcap:Caption"
_EXIF: Final = "IFD0:ImageDescription"
_IPTC: Final = "IPTC:Caption-Abstract"
_DIGEST: Final = "Photoshop:IPTCDigest"
_DIGEST_NOW: Final = "File:CurrentIPTCDigest"
_IPTC_CODES: Final = "IPTC:CodedCharacterSet"
_HAS_EXIF: Final = "File:ExifByteOrder"
_LONGEST_IPTC: Final = 2000
# What cameras write as the description of every image.
_CAMERA: Final = re.compile(
    r"([A-Z]+ )?DIGITAL CAMERA|KODAK Digital Still Camera|SONY DSC|Exif_JPEG_PICTURE|DCIM\\.*|default"
)


def reading(file: str) -> Command:
    """What makes exiftool print the fields of a file."""
    wanted = (f"{_XMP}*", _NOTE, _EXIF, _IPTC, _DIGEST, _DIGEST_NOW, _IPTC_CODES, _HAS_EXIF)
    return ("-j", "-G1", "-q", *(f"-{name}" for name in wanted), file)


@dataclass(frozen=True, slots=True)
class Fields:
    """What a file says of its caption."""

    texts: dict[str, str]
    """Of XMP, by language in lower case."""
    note: str | None
    """What batchcap has written last."""
    description: str | None
    """Of EXIF; None: the file has no EXIF."""
    abstract: str | None
    """Of IPTC; None: the file has no IPTC."""
    iptc_holds_all: bool
    """IPTC is UTF-8; where it is not, it holds ASCII only."""
    digest_fits: bool
    """The file says with which IPTC its XMP was in step, and it is this one."""

    @classmethod
    def read(cls, said: bytes) -> Self:
        """Take what exiftool printed for `reading`; ValueError: it is no such thing."""
        # A caption that looks like a number is printed as one.
        (tags,) = json.loads(said.decode("utf-8", "replace"), parse_float=str, parse_int=str)
        digest = tags.get(_DIGEST)
        return cls(
            texts={_language(name): _text(tags[name]) for name in tags if name.startswith(_XMP)},
            note=_text(tags[_NOTE]) if _NOTE in tags else None,
            description=_text(tags.get(_EXIF, "")) if _HAS_EXIF in tags else None,
            abstract=_text(tags.get(_IPTC, "")) if _DIGEST_NOW in tags else None,
            iptc_holds_all=tags.get(_IPTC_CODES) == "UTF8",
            digest_fits=digest is not None and digest == tags.get(_DIGEST_NOW),
        )

    def has(self, caption: str, language: str) -> bool:
        """Whether the file holds this caption wherever it is written."""
        wanted = dict.fromkeys([DEFAULT_LANGUAGE, language.lower()], caption)
        held = (self.description, self.abstract if self._iptc_takes(caption) else None)
        return (
            self.texts | wanted == self.texts and self.note == caption and all(text in (None, caption) for text in held)
        )

    def may_be_written(self, language: str) -> bool:
        """Whether nobody else has written a caption, into any of the three fields."""
        if not may_write(self.texts, self.note, {DEFAULT_LANGUAGE, language.lower()}):
            return False
        others = ((text or "").strip() for text in (self.description, self.abstract))
        ours = {"", (self.note or "").strip()}
        return all(text in ours or _CAMERA.fullmatch(text) for text in others)

    def writing(self, caption: str, language: str, source: str, target: str) -> Command:
        """What makes exiftool write a copy of ``source`` that holds a caption."""
        value = quoted(caption)
        command = [f"-{_XMP}-{each}={value}" for each in dict.fromkeys([DEFAULT_LANGUAGE, language])]
        command.append(f"-{_NOTE}={value}")
        if self.description is not None:
            command.append(f"-{_EXIF}={value}")
        if self.abstract is not None and self._iptc_takes(caption):
            command.append(f"-{_IPTC}={value}")
            if self.digest_fits:
                command.append(f"-{_DIGEST}=new")
        return ("-q", "-E", *command, "-o", target, source)

    def _iptc_takes(self, caption: str) -> bool:
        return len(caption.encode()) <= _LONGEST_IPTC and (self.iptc_holds_all or caption.isascii())


def _language(name: str) -> str:
    return name.removeprefix(_XMP).removeprefix("-").lower() or DEFAULT_LANGUAGE


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
