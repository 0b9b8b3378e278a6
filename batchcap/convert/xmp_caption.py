"""The caption in an XMP document: whose it is, and the smallest edit that writes another one.

The caption is ``dc:description``, a choice of texts by language (`rdf:Alt`), and its default text has the language
``x-default``. What batchcap writes it also notes in a property of its own, ``batchcap:caption``: a caption that is
not that text any more was written by somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from batchcap.convert.xmp_document import DC, RDF, XML, Document, Edit, Element, Name, XmpError

BATCHCAP: Final = "urn:batchcap:xmp/1.0/"
"""The namespace of the property that notes what batchcap has written."""
DEFAULT_LANGUAGE: Final = "x-default"
THEIRS: Final = "somebody has written or removed the caption (--overwrite replaces it)"
"""Why a caption is not written: see `may_write`."""

_DESCRIPTION: Final = (DC, "description")
_NOTE: Final = (BATCHCAP, "caption")
_EXTENSION: Final = ("http://ns.adobe.com/photoshop/1.0/", "SidecarForExtension")
_LANG: Final = (XML, "lang")
_LISTS: Final = {(RDF, "Alt"), (RDF, "Seq"), (RDF, "Bag")}
_ITEM: Final = (RDF, "li")
_NEW: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="batchcap">\n'
    b' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    b'  <rdf:Description rdf:about=""\n'
    b'    xmlns:dc="http://purl.org/dc/elements/1.1/"\n'
    b'    xmlns:batchcap="' + BATCHCAP.encode() + b'">\n'
    b"  </rdf:Description>\n"
    b" </rdf:RDF>\n"
    b"</x:xmpmeta>\n"
)
_PLACE: Final = b"the place of the caption"
# What XML 1.0 has no way to write.
_UNWRITABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IN_TEXT: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_ESCAPES: Final = str.maketrans(_IN_TEXT)
_IN_ATTRIBUTES: Final = str.maketrans(_IN_TEXT | {'"': "&quot;", "'": "&apos;", "\n": "&#10;", "\t": "&#9;"})


@dataclass(frozen=True, slots=True)
class _Property:
    """A property of the image: a child of an ``rdf:Description``, or an attribute of it."""

    host: Element
    element: Element | None
    """None: it is an attribute."""
    text: str


def writable(caption: str) -> str:
    """A caption with U+FFFD for what XML cannot hold."""
    return _UNWRITABLE.sub("\ufffd", caption)


def new_document(caption: str, language: str = DEFAULT_LANGUAGE) -> bytes:
    """A document that holds a caption and nothing else, UTF-8."""
    return _template(language).replace(_PLACE, _escaped(writable(caption)))


@lru_cache(maxsize=1)
def _template(language: str) -> bytes:
    template = with_caption(_NEW, _PLACE.decode(), language)
    assert template is not None
    return template


def sidecar_extension(document: bytes) -> str | None:
    """The ending of the file that this sidecar belongs to (``CR2``), where it says so, as those of Adobe do.

    Raises:
        XmpError: see `Document.read`.
    """
    found = _property(Document.read(document), _EXTENSION)
    return found.text.strip() if found else None


def is_ours(document: bytes) -> bool | None:
    """Whether batchcap has written the caption as it stands; None: it never wrote one.

    Raises:
        XmpError: see `with_caption`.
    """
    read = Document.read(document)
    note = _property(read, _NOTE)
    texts = _texts(_property(read, _DESCRIPTION))
    return None if note is None else texts.get(DEFAULT_LANGUAGE, "").strip() == note.text.strip()


def with_caption(
    document: bytes, caption: str, language: str = DEFAULT_LANGUAGE, *, overwrite: bool = False
) -> bytes | None:
    """The document with this caption, all else byte for byte as it was; the same bytes where it has it already.

    Args:
        document: XMP.
        caption: the text.
        language: of the caption (RFC 5646): a text of this language is written beside the default one. Texts of other
            languages stay.
        overwrite: replace a caption that somebody else has written.

    Returns:
        None where somebody else has written the caption, or has removed that of batchcap.

    Raises:
        XmpError: the document cannot be read, or its caption has a form that is not known.
    """
    caption = writable(caption)
    read = Document.read(document)
    found, note = _property(read, _DESCRIPTION), _property(read, _NOTE)
    texts = _texts(found)
    wanted = dict.fromkeys([DEFAULT_LANGUAGE, language.lower()], caption)
    if note and texts | wanted == texts and note.text.strip() == caption.strip():
        return document
    if not overwrite and not may_write(texts, note.text if note else None, wanted.keys()):
        return None
    edits, children = _edits(read, found, caption, language), []
    host = found.host if found else _host(read)
    if note is None:
        children.append(_note(host, caption))
    elif note.element is not None:
        edits.append(_filled(note.element, _escaped(caption)))
    else:
        start, end = read.attribute(note.host, _NOTE)
        place = read.data.index(b"=", start) + 1
        edits.append((place, end, b'"' + _escaped(caption, _IN_ATTRIBUTES) + b'"'))
    if found is None or found.element is None:
        children.insert(0, _description(read, host, caption, language))
    if children:
        edits.append(_appended(read, host, children))
    new = read.edited(edits)
    assert new == document or with_caption(new, caption, language) == new
    return new


def may_write(texts: Mapping[str, str], note: str | None, wanted: Collection[str]) -> bool:
    """Whether a caption is empty and was never ours, or is ours still. Ours may be empty, too.

    Args:
        texts: the caption by language, in lower case.
        note: what batchcap has written last; None: nothing.
        wanted: the languages that would be written.
    """
    if not any(text.strip() for text in texts.values()):
        return not (note or "").strip()
    if DEFAULT_LANGUAGE not in texts:
        return False
    ours = (note or "").strip()
    return all(text.strip() in ("", ours) for language, text in texts.items() if language in wanted)


def _property(read: Document, name: Name) -> _Property | None:
    """Where a property stands. Raises XmpError where it stands twice."""
    found = []
    for host in read.rdf.children:
        if name in host.attributes:
            found.append(_Property(host, None, host.attributes[name]))
        found += [_Property(host, child, child.text) for child in host.children if child.name == name]
    if len(found) > 1:
        raise XmpError(f"it has the property {name[1]} more than once")
    return found[0] if found else None


def _items(found: _Property | None) -> tuple[Element | None, list[Element]]:
    """The list of texts and its items; no list where the caption is plain text, or none."""
    if found is None or found.element is None or not found.element.children:
        return None, []
    unknown = XmpError("its dc:description has a form that batchcap does not know")
    if len(found.element.children) > 1 or found.element.children[0].name not in _LISTS:
        raise unknown
    (texts,) = found.element.children
    if any(item.name != _ITEM or item.children for item in texts.children):
        raise unknown
    return texts, texts.children


def _texts(found: _Property | None) -> dict[str, str]:
    """The texts of a caption by language, in lower case; what has no language is the default."""
    texts, items = _items(found)
    if texts is None:
        return {DEFAULT_LANGUAGE: found.text} if found else {}
    by_language: dict[str, str] = {}
    for item in items:
        by_language.setdefault(_language(item), item.text)
    return by_language


def _language(item: Element) -> str:
    return item.attributes.get(_LANG, DEFAULT_LANGUAGE).lower()


def _escaped(text: str, escapes: dict[int, str] = _ESCAPES) -> bytes:
    return text.translate(escapes).encode()


def _prefix(element: Element, namespace: str, usual: str) -> tuple[bytes, bytes]:
    """A prefix of a namespace for children of an element, and its declaration where they need one."""
    for prefix, uri in element.prefixes.items():
        if uri == namespace and prefix:
            return prefix.encode(), b""
    return usual.encode(), f' xmlns:{usual}="{namespace}"'.encode()


def _host(read: Document) -> Element:
    """The ``rdf:Description`` that gets the caption: one that knows Dublin Core, or the first; else rdf:RDF itself."""
    hosts = read.rdf.children
    return next((host for host in hosts if DC in host.prefixes.values()), hosts[0] if hosts else read.rdf)


def _filled(element: Element, inside: bytes) -> Edit:
    """An element with other contents."""
    if element.is_empty:
        return element.end - 2, element.end, b">" + inside + b"</" + element.written + b">"
    return element.opened, element.closed, inside


def _item(prefix: bytes, language: str, caption: str) -> bytes:
    lang = _escaped(language, _IN_ATTRIBUTES)
    return b'<%b:li xml:lang="%b">%b</%b:li>' % (prefix, lang, _escaped(caption), prefix)


def _edits(read: Document, found: _Property | None, caption: str, language: str) -> list[Edit]:
    """What changes a caption that is there; one that is an attribute is taken out."""
    if found is None:
        return []
    if found.element is None:
        return [(*read.attribute(found.host, _DESCRIPTION), b"")]
    texts, items = _items(found)
    if texts is None or not items:
        return [(found.element.start, found.element.end, _description(read, found.host, caption, language))]
    edits, there = [], {_language(item): item for item in reversed(items)}
    prefix, declared = _prefix(texts, RDF, "rdf")
    missing = []
    for each in dict.fromkeys([DEFAULT_LANGUAGE, language]):
        if (item := there.get(each.lower())) is None:
            missing.append(_item(prefix, each, caption).replace(b":li ", b":li" + declared + b" ", 1))
        elif item.text != caption:
            edits.append(_filled(item, _escaped(caption)))
    if missing:  # the default comes first: ISO 16684-1, 8.2.2.4
        new_line, indent = _indent(read, items[0])
        before = b"".join(each + new_line + indent for each in missing)
        after = b"".join(new_line + indent + each for each in missing)
        default = there.get(DEFAULT_LANGUAGE)
        edits.append((items[0].start,) * 2 + (before,) if default is None else (default.end,) * 2 + (after,))
    return edits


def _indent(read: Document, element: Element) -> tuple[bytes, bytes]:
    """The line end and the spaces before an element; both empty where it follows another one on a line."""
    match = re.search(rb"(\r?\n)([ \t]*)\Z", read.data[max(0, element.start - 200) : element.start])
    return (match[1], match[2]) if match else (b"", b"")


def _child_indent(read: Document, host: Element) -> tuple[bytes, bytes]:
    new_line, indent = _indent(read, host)
    if host.children and (there := _indent(read, host.children[-1]))[0]:
        return there
    return new_line, indent + b" " if new_line else b""


def _description(read: Document, host: Element, caption: str, language: str) -> bytes:
    """A whole ``dc:description`` for a host, without the spaces before it."""
    new_line, indent = _child_indent(read, host)
    one, two = (indent + b" ", indent + b"  ") if new_line else (b"", b"")
    dc, dc_declared = _prefix(host, DC, "dc")
    rdf, rdf_declared = _prefix(host, RDF, "rdf")
    items = [_item(rdf, each, caption) for each in dict.fromkeys([DEFAULT_LANGUAGE, language])]
    return b"".join(
        (
            b"<%b:description%b%b>" % (dc, dc_declared, rdf_declared),
            new_line + one + b"<%b:Alt>" % rdf,
            *(new_line + two + item for item in items),
            new_line + one + b"</%b:Alt>" % rdf,
            new_line + indent + b"</%b:description>" % dc,
        )
    )


def _note(host: Element, caption: str) -> bytes:
    prefix, declared = _prefix(host, BATCHCAP, "batchcap")
    return b"<%b:caption%b>%b</%b:caption>" % (prefix, declared, _escaped(caption), prefix)


def _appended(read: Document, host: Element, children: list[bytes]) -> Edit:
    """Children after those that an element has; in rdf:RDF they get an ``rdf:Description`` around them."""
    new_line, indent = _child_indent(read, host)
    inside = b"".join(new_line + indent + child for child in children)
    if host is read.rdf:
        rdf, declared = _prefix(host, RDF, "rdf")
        tag = b'<%b:Description%b %b:about="">' % (rdf, declared, rdf)
        inside = new_line + indent + tag + inside + new_line + indent + b"</%b:Description>" % rdf
    if host.is_empty:
        return _filled(host, inside + new_line + _indent(read, host)[1])
    place = len(read.data[: host.closed].rstrip(b" \t\r\n"))
    return place, place, inside
