"""The values that flow: frozen, keyed by name, in the order of the contract."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from batchcap.records import Caption, Failure, Fingerprint, ImageRef, Record


def test_the_fields_of_a_line_stand_in_the_order_of_the_contract_and_defaults_are_left_out() -> None:
    record = Record(
        path="2019/trip/IMG_1.jpg",
        caption="two dogs play in the snow",
        log_prob=-8.31,
        score=-1.17,
        width=4032,
        height=3024,
        bytes=2913401,
        mtime_us=1732142000123456,
        model="flickr8k-small@3f9a0c12",
        preprocess="exact",
        decoding="beam3-lp0.7#5c1e9a02",
    )
    assert msgspec.json.encode(record).decode() == (
        '{"path":"2019/trip/IMG_1.jpg","caption":"two dogs play in the snow","log_prob":-8.31,"score":-1.17,'
        '"width":4032,"height":3024,"bytes":2913401,"mtime_us":1732142000123456,"model":"flickr8k-small@3f9a0c12",'
        '"preprocess":"exact","decoding":"beam3-lp0.7#5c1e9a02"}'
    )


def test_an_error_and_a_member_stand_where_the_contract_puts_them() -> None:
    record = Record(path="trip.zip::a.jpg", member="a.jpg", error=Failure("decode", "truncated", "short"), bytes=7)
    assert msgspec.json.encode(record).decode() == (
        '{"path":"trip.zip::a.jpg","member":"a.jpg",'
        '"error":{"stage":"decode","kind":"truncated","message":"short"},"bytes":7}'
    )


@pytest.mark.parametrize(
    ("path", "member", "path_b64", "key"),
    [
        ("a.jpg", None, None, ("a.jpg", None)),
        ("t.zip::a.jpg", "a.jpg", None, ("t.zip::a.jpg", "a.jpg")),
        ("\ufffd.jpg", None, "/y5qcGc=", ("/y5qcGc=", None)),
    ],
)
def test_a_record_has_the_key_of_the_image_it_is_about(
    path: str, member: str | None, path_b64: str | None, key: tuple[str, str | None]
) -> None:
    ref = ImageRef(path=path, file="file", size=1, mtime_us=2, member=member, path_b64=path_b64)
    assert ref.key == key
    assert Record(path=path, member=member, path_b64=path_b64).key == key


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (ImageRef("a", "a", 1, 2), "path"),
        (Record(path="a"), "caption"),
        (Caption("a", -1.0, -1.0), "score"),
        (Failure("read", "io", "x"), "kind"),
        (Fingerprint("m", "exact", "d"), "model"),
    ],
)
def test_values_are_frozen(value: object, field: str) -> None:
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        setattr(value, field, "other")


def test_a_stage_is_read_or_decode() -> None:
    with pytest.raises(msgspec.ValidationError, match="stage"):
        msgspec.json.decode(b'{"path":"a","error":{"stage":"search","kind":"k","message":"m"}}', type=Record)
