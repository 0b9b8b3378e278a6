"""The caption in XMP: what is edited, what stays byte for byte, whose caption it is, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmp_samples import ODD, PROGRAMS, digikam, lightroom, odd

from batchcap.convert.xmp_caption import new_document, sidecar_extension, with_caption, writable
from batchcap.convert.xmp_document import XmpError

CAPTION = 'two dogs & a <cat> say "hé" 雪'
SAMPLES = {name: made() for name, made in PROGRAMS.items()} | {name: odd(name) for name in ODD}


def text_of(document: bytes) -> str:
    """The document as text, whatever its encoding."""
    return document.decode("utf-16" if b"\0" in document else "utf-8")


def without_caption(document: bytes) -> str:
    """What is left of a document without the elements of a caption and the spaces around them."""
    text = re.sub(r"(?s)\s*<(dc:description)\b(?:[^>]*/>|.*?</\1>)", "", text_of(document))
    text = re.sub(r"(?s)\s*<(batchcap:caption)\b.*?</\1>", "", text)
    return re.sub(r"\s+dc:description\s*=\s*(\"[^\"]*\"|'[^']*')", "", text) if "urn:not-dublin" not in text else text


@pytest.mark.parametrize("language", ["x-default", "en"])
@pytest.mark.parametrize("name", SAMPLES)
def test_all_but_the_caption_stays_byte_for_byte(name: str, language: str) -> None:
    new = with_caption(SAMPLES[name], CAPTION, language)
    assert new is not None
    assert "two dogs &amp; a &lt;cat&gt;" in text_of(new)
    before, after = without_caption(SAMPLES[name]), without_caption(new)
    if name in ("one line", "no properties", "bare rdf"):  # an empty tag had to be opened
        before, after = (re.sub(r"\s*/?>\s*|</?rdf:(RDF|Description)[^>]*", "", text) for text in (before, after))
    if name == "no properties":
        before, after = (re.sub(r'\s*rdf:about=""|\s', "", text) for text in (before, after))
    assert after == before
    assert with_caption(new, CAPTION, language) == new
    assert new.count(b"\r\n") == (new.count(b"\n") if name == "crlf" else 0)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "iso-8859-1", "utf-8-sig"])
def test_encodings_stay(encoding: str) -> None:
    declared = encoding.removesuffix("-sig").removesuffix("-le").removesuffix("-be")
    old = digikam().decode().replace("UTF-8", declared).encode(encoding)
    new = with_caption(old, CAPTION)
    assert new is not None
    assert new[:3] == old[:3]
    text = new.decode(encoding)
    assert "People/Zoë" in text
    assert "雪" in text if encoding != "iso-8859-1" else "&#38634;" in text
    assert with_caption(new, CAPTION) == new


@pytest.mark.parametrize("made", PROGRAMS.values(), ids=PROGRAMS)
def test_a_caption_of_somebody_else_stays(made: Callable[..., bytes]) -> None:
    assert with_caption(made("Ana in the snow"), CAPTION) is None
    new = with_caption(made("Ana in the snow"), CAPTION, overwrite=True)
    assert new is not None
    assert without_caption(new) == without_caption(made("Ana in the snow"))
    assert b"Ana in the snow" not in new
    assert with_caption(new, "another") is not None  # it is ours from now on


@pytest.mark.parametrize("made", PROGRAMS.values(), ids=PROGRAMS)
def test_our_caption_is_ours_until_somebody_edits_or_removes_it(made: Callable[..., bytes]) -> None:
    ours = with_caption(made(), "a dog")
    assert ours is not None
    newer = with_caption(ours, "a brown dog")
    assert newer is not None
    assert b"a dog" not in newer
    note = b"<batchcap:caption"
    edited = newer.replace(b"a brown dog", b"Rex, our dog", 1)
    assert edited.index(b"Rex") < edited.index(note)
    assert with_caption(edited, "a cat") is None
    assert with_caption(newer.replace(b"a brown dog", b"", 1), "a cat") is None  # removed on purpose
    assert with_caption(newer.replace(b"a brown dog", b"", 1), "a cat", overwrite=True) is not None
    assert with_caption(newer.replace(b">a brown dog</rdf", b"> a brown dog\n</rdf"), "a cat") is not None


def test_the_note_may_have_become_an_attribute() -> None:
    """As Adobe's programs write simple properties when they save."""
    ours = with_caption(lightroom(), "a dog")
    assert ours is not None
    text = re.sub(rb'\s*<batchcap:caption xmlns:batchcap="[^"]*">a dog</batchcap:caption>', b"", ours)
    saved = text.replace(b' xmp:Rating="4"', b" xmlns:batchcap=\"urn:batchcap:xmp/1.0/\" batchcap:caption='a dog'", 1)
    new = with_caption(saved, 'a "brown"\ndog')
    assert new is not None
    assert b'batchcap:caption="a &quot;brown&quot;&#10;dog"' in new
    assert with_caption(new, 'a "brown"\ndog') == new
    assert with_caption(new, "a cat") is not None


def test_languages() -> None:
    ours = with_caption(lightroom(), "a dog", "en")
    assert ours is not None
    assert re.findall(rb'xml:lang="([^"]*)">([^<]*)', ours) == [(b"x-default", b"a dog"), (b"en", b"a dog")]
    german = ours.replace(b"</rdf:Alt>", '<rdf:li xml:lang="de-DE">ein Hünd</rdf:li></rdf:Alt>'.encode())
    new = with_caption(german, "a cat", "EN")
    assert new is not None
    assert re.findall(rb'xml:lang="([^"]*)">([^<]*)', new) == [
        (b"x-default", b"a cat"),
        (b"en", b"a cat"),
        (b"de-DE", "ein Hünd".encode()),
    ]
    only_german = lightroom("ein Hund").replace(b"x-default", b"de-DE")
    assert with_caption(only_german, "a dog") is None
    both = with_caption(only_german, "a dog", overwrite=True)
    assert both is not None
    assert re.findall(rb'xml:lang="([^"]*)">([^<]*)', both) == [(b"x-default", b"a dog"), (b"de-DE", b"ein Hund")]


@pytest.mark.parametrize(
    "form", ["<dc:description>Ana</dc:description>", "<dc:description><![CDATA[Ana]]></dc:description>"]
)
def test_plain_text_is_a_caption_too(form: str) -> None:
    """As Apple's Photos exports it."""
    document = lightroom().replace(b"<dc:subject>", f"{form}\n   <dc:subject>".encode())
    assert with_caption(document, "a dog") is None
    new = with_caption(document, "a dog", overwrite=True)
    assert new is not None
    assert without_caption(new) == without_caption(document)


def test_a_caption_that_is_an_attribute() -> None:
    document = lightroom().replace(b'dc:format="image/jpeg"', b'dc:description="Ana &amp; Rex"')
    assert with_caption(document, "a dog") is None
    new = with_caption(document, "a dog", overwrite=True)
    assert new is not None
    assert b"Ana" not in new


def test_what_looks_like_a_caption_elsewhere_is_none() -> None:
    """A comment, text of an editing history, and the description of an ingredient deep inside."""
    inner = b'<xmpMM:Pantry><rdf:Bag><rdf:li><rdf:Description dc:description="x"/></rdf:li></rdf:Bag></xmpMM:Pantry>'
    document = lightroom().replace(
        b"<dc:subject>", b"<!-- <dc:description>no</dc:description> -->" + inner + b"<dc:subject>"
    )
    new = with_caption(document, "a dog")
    assert new is not None
    assert inner in new
    assert new.replace(b"\n", b"").count(b"<rdf:Alt>") == 1


BROKEN = {
    "empty": (b"", "empty"),
    "zeros": (b"\0" * 512, "empty"),
    "cut": (lightroom()[:-40], "not well-formed"),
    "not XML": (b"[Desktop Entry]", "not well-formed"),
    "other XML": (b"<svg/>", "no rdf:RDF"),
    "entity": (b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + lightroom().replace(b"snow", b"&a;"), "DOCTYPE"),
    "external": (b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + lightroom(), "DOCTYPE"),
    "unknown entity": (lightroom().replace(b"snow", b"&a;"), "not well-formed"),
    "wrong encoding": (lightroom().replace("Köln".encode(), "Köln".encode("latin-1")), "encoding"),
    "no such encoding": (digikam().replace(b"UTF-8", b"klingon"), "encoding"),
    "two captions": (lightroom("a").replace(b'dc:format="image/jpeg"', b'dc:description="b"'), "more than once"),
    "odd form": (lightroom("a").replace(b"rdf:Alt>", b"rdf:Choice>"), "form that batchcap does not know"),
    "text in text": (lightroom("a <b/>"), "form that batchcap does not know"),
    "prefix without a namespace": (lightroom().replace(b"xmlns:crs", b"xmlns:crz"), "not well-formed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_refused(name: str) -> None:
    document, why = BROKEN[name]
    with pytest.raises(XmpError, match=why):
        with_caption(document, CAPTION, overwrite=True)


def test_deep_and_long_documents_are_no_trouble() -> None:
    deep = lightroom().replace(b"<dc:subject>", b"<a>" * 20000 + b"</a>" * 20000 + b"<dc:subject>")
    wide = lightroom().replace(b"<dc:subject>", b"<crs:a/>" * 20000 + b"<dc:subject>")
    for document in (deep, wide):
        new = with_caption(document, "a dog")
        assert new is not None
        assert without_caption(new) == without_caption(document)


def test_whose_sidecar_it_is() -> None:
    assert sidecar_extension(lightroom(extension="CR2")) == "CR2"
    assert sidecar_extension(digikam()) is None
    assert sidecar_extension(new_document("a dog")) is None


@given(st.text(), st.sampled_from(sorted(SAMPLES)), st.sampled_from(["x-default", "en"]))
def test_any_caption_is_read_as_it_was_written(caption: str, name: str, language: str) -> None:
    new = with_caption(SAMPLES[name], caption, language)
    assert new is not None
    assert with_caption(new, caption, language) == new
    if writable(caption).strip():
        assert with_caption(new, caption + " and more", language) not in (None, new)
