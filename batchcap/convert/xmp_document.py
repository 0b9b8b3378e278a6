"""An XMP document as bytes with places in them: what it says, and where, so that an edit leaves the rest byte for byte.

XMP is RDF in XML: ISO 16684-1. No document type is read, so no entity can grow or open a file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from xml.parsers import expat

RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC: Final = "http://purl.org/dc/elements/1.1/"
XML: Final = "http://www.w3.org/XML/1998/namespace"

Name: TypeAlias = tuple[str, str]
"""Namespace and local name; the namespace is empty where there is none."""

Edit: TypeAlias = tuple[int, int, bytes]
"""From, to (exclusive), and the bytes that take their place."""

_DESCRIPTION: Final = (DC, "description")
_LARGEST: Final = 32 << 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED: Final = re.compile(rb"""^<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][\w.-]*)["']""")
_ATTRIBUTE: Final = re.compile(rb"""\s+([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG_END: Final = re.compile(rb"\s*/?>")


class XmpError(ValueError):
    """A document that cannot be read, or whose form is not known. The message is a cause in words, without an end."""


@dataclass(slots=True)
class Element:
    """An element, with its places in the UTF-8 bytes of the document."""

    name: Name
    prefixes: Mapping[str, str]
    """Prefix to namespace, as they stand inside the element."""
    attributes: dict[Name, str]
    start: int
    opened: int
    """Where its start tag ends."""
    written: bytes
    """Its name as the start tag spells it."""
    is_empty: bool
    """It is one tag: ``<a/>``."""
    closed: int = 0
    """Where its end tag begins; for an empty one, where it ends."""
    end: int = 0
    text: str = ""
    children: list[Element] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document."""

    bom: bytes
    codec: str
    data: bytes
    """The text as UTF-8, without its byte order mark."""
    rdf: Element
    """Its ``rdf:RDF``."""

    @classmethod
    def read(cls, document: bytes) -> Document:
        """Read a document in any encoding that it declares.

        Raises:
            XmpError: it is empty, larger than 32 MiB, not well-formed, has a document type, or is no XMP.
        """
        if not document.strip(b"\0 \t\r\n"):
            raise XmpError("it is empty")
        if len(document) > _LARGEST:
            raise XmpError(f"it is larger than {_LARGEST >> 20} MiB")
        bom, codec = _encoding(document)
        try:
            text = document[len(bom) :].decode(codec)
            data = text.encode()
            same = bom + text.encode(codec) == document
        except (UnicodeError, LookupError):
            same = False
        if not same:
            raise XmpError(f"it is not in the encoding that it declares ({codec})")
        return cls(bom, codec, data, _Reader(data).rdf())

    def edited(self, edits: list[Edit]) -> bytes:
        """The document with these edits, none of which overlap, in its own encoding."""
        data = self.data
        for start, end, new in sorted(edits, reverse=True):
            data = data[:start] + new + data[end:]
        return self.bom + data.decode().encode(self.codec, "xmlcharrefreplace")

    def attribute(self, element: Element, name: Name) -> tuple[int, int]:
        """Where an attribute stands: from the space before its name to after its value."""
        at = element.start + 1 + len(element.written)
        while (match := _ATTRIBUTE.match(self.data, at, element.opened)) is not None:
            prefix, _, local = match[1].decode().rpartition(":")
            if local == name[1] and (element.prefixes.get(prefix, "") if prefix else "") == name[0]:
                return match.span()
            at = match.end()
        raise XmpError(f"its attribute {name[1]} is not found")


def _encoding(document: bytes) -> tuple[bytes, str]:
    for bom, codec in _BOMS:
        if document.startswith(bom):
            return bom, codec
    if document.startswith(b"<\0"):
        return b"", "utf-16-le"
    if document.startswith(b"\0<"):
        return b"", "utf-16-be"
    declared = _DECLARED.match(document)
    return b"", declared[1].decode() if declared else "utf-8"


class _Reader:
    """One pass of expat. What lies deeper than the properties is kept for the caption only."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Element] = []
        self._scopes: list[dict[str, str]] = [{"xml": XML}]
        self._declared: dict[str, str] = {}
        self._rdf: Element | None = None
        # Depth of rdf:RDF, of a property in it, and of the caption.
        self._depth = -1
        self._in_caption = 0
        parser = expat.ParserCreate("utf-8", " ")
        parser.namespace_prefixes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartNamespaceDeclHandler = self._declare
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._parser = parser

    def rdf(self) -> Element:
        try:
            self._parser.Parse(self._data, True)
        except expat.ExpatError as error:
            raise XmpError(f"it is not well-formed XML: {error}") from error
        if self._rdf is None:
            raise XmpError("it is XML, but no XMP: it has no rdf:RDF")
        return self._rdf

    @staticmethod
    def _refuse(*_: object) -> None:
        raise XmpError("it has a document type (DOCTYPE), which no XMP needs and batchcap does not read")

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._declared[prefix or ""] = uri or ""

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        scope = self._scopes[-1]
        if self._declared:
            scope = {**scope, **self._declared}
            self._declared = {}
        self._scopes.append(scope)
        at = self._parser.CurrentByteIndex
        opened, written = _tag(self._data, at)
        element = Element(
            _name(name),
            scope,
            {_name(key): value for key, value in attributes.items()},
            at,
            opened,
            written,
            self._data[opened - 2] == ord("/"),
        )
        depth = len(self._stack)
        if self._rdf is None and depth <= 1 and element.name == (RDF, "RDF"):
            self._rdf, self._depth = element, depth
        elif self._in_caption or (self._depth >= 0 and depth <= self._depth + 2):
            self._stack[-1].children.append(element)
        self._in_caption += bool(self._in_caption) or (element.name == _DESCRIPTION and depth == self._depth + 2)
        self._stack.append(element)

    def _end(self, _: str) -> None:
        self._scopes.pop()
        element = self._stack.pop()
        element.closed = element.end = element.opened
        if not element.is_empty:
            element.closed = self._parser.CurrentByteIndex
            element.end = self._data.index(b">", element.closed) + 1
        self._in_caption -= bool(self._in_caption)
        if self._rdf is element:
            self._depth = -1

    def _text(self, text: str) -> None:
        if self._stack and (self._in_caption or len(self._stack) == self._depth + 3):
            self._stack[-1].text += text


def _name(spelled: str) -> Name:
    """What expat calls a name: namespace, local name and prefix, apart by spaces."""
    parts = spelled.split(" ")
    return ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _tag(data: bytes, start: int) -> tuple[int, bytes]:
    """Where the start tag ends that begins at ``start``, and its name; expat has seen that it is well-formed."""
    match = re.compile(rb"<([^\s/>]+)").match(data, start)
    assert match is not None
    at = match.end()
    while (attribute := _ATTRIBUTE.match(data, at)) is not None:
        at = attribute.end()
    end = _TAG_END.match(data, at)
    assert end is not None
    return end.end(), match[1]
