"""JSONL and CSV lines: any record becomes one line and comes back the same."""

from __future__ import annotations

import csv
import json
import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcap.errors import OutputError
from batchcap.journal.codec import Codec
from batchcap.journal.format_csv import Csv
from batchcap.journal.format_jsonl import Jsonl
from batchcap.journal.formats import guess_format, make_codec
from batchcap.journal.scores import rounded
from batchcap.records import Caption, Failure, Record

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("\\\r\n\",' \0\u2028\x85rné", max_size=12)
names = texts.filter(bool)
numbers = st.floats(-1e6, 0)
sizes = st.none() | st.integers(0, 2**63 - 1)
captions = st.builds(Caption, texts, numbers, numbers)
failures = st.builds(Failure, st.sampled_from(["read", "decode"]), texts, texts)


@st.composite
def records(draw: st.DrawFn, num_captions: int = 1) -> Record:
    fields: dict[str, Any] = {
        "path": draw(names.filter(lambda name: "\0" not in name)),
        "member": draw(st.none() | names),
        "path_b64": draw(st.none() | names),
        "width": draw(sizes),
        "height": draw(sizes),
        "bytes": draw(sizes),
        "mtime_us": draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        "model": draw(names),
        "preprocess": draw(names),
        "decoding": draw(names.map(lambda name: f"{name}#01234567")),
        "sha256": draw(st.none() | st.just("0123456789abcdef" * 4)),
        "root": draw(st.none() | names),
    }
    if draw(st.booleans()):
        return Record(**fields, error=draw(failures))
    ranked = draw(st.lists(captions, min_size=1, max_size=num_captions))
    best = ranked[0]
    return Record(
        **fields,
        damaged=draw(st.none() | texts.filter(bool)),
        caption=best.caption,
        log_prob=best.log_prob,
        score=best.score,
        captions=tuple(ranked) if num_captions > 1 else None,
    )


formats = st.sampled_from([("jsonl", 1), ("jsonl", 3), ("csv", 1), ("csv", 2), ("csv", 3)])
batches = formats.flatmap(lambda f: st.tuples(st.just(make_codec(*f)), st.lists(records(f[1]), max_size=4)))


@settings(deadline=None)
@given(batches)
def test_any_record_is_one_line_and_comes_back_the_same(batch: tuple[Codec, list[Record]]) -> None:
    codec, written = batch
    data = codec.encode(written)
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert [codec.decode(line) for line in lines] == written


@settings(deadline=None)
@given(batches)
def test_scanning_reads_the_same_as_decoding(batch: tuple[Codec, list[Record]]) -> None:
    codec, written = batch
    for line, record in zip(_lines(codec, written), written, strict=True):
        scanned = codec.scan(line)
        for field in scanned.__struct_fields__:
            assert getattr(scanned, field) == getattr(record, field)
        assert scanned.key == record.key
    lines = _lines(codec, written)
    if lines:
        assert codec.scan_all(b"".join(lines)) == [codec.scan(line) for line in lines]


@settings(deadline=None)
@given(batches, st.data())
def test_lines_are_scanned_together_only_where_each_can_be_alone(
    batch: tuple[Codec, list[Record]], data: st.DataObject
) -> None:
    codec, written = batch
    lines = _lines(codec, written)
    if not lines:
        return
    at = data.draw(st.integers(0, len(lines) - 1))
    damage = st.sampled_from([b'"', b",", b"\\", b"\r", b"\xff", b"{", b"1"])
    place = data.draw(st.integers(0, len(lines[at]) - 1))
    lines[at] = lines[at][:place] + data.draw(damage) + lines[at][place + data.draw(st.integers(0, 1)) :]
    try:
        alone = [codec.scan(line) for line in lines]
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            codec.scan_all(b"".join(lines))
    else:
        assert codec.scan_all(b"".join(lines)) == alone


def _lines(codec: Codec, written: list[Record]) -> list[bytes]:
    return [line + b"\n" for line in codec.encode(written).split(b"\n")[:-1]]


@settings(deadline=None)
@given(batches)
def test_every_proper_beginning_of_a_line_is_known_as_torn(batch: tuple[Codec, list[Record]]) -> None:
    codec, written = batch
    for line in _lines(codec, written):
        for end in range(1, len(line) - 1):  # without its last byte, the line end, it is a whole record
            assert codec.is_torn(line[:end], first=False), line[:end]


@settings(deadline=None)
@given(batches)
def test_a_torn_line_that_an_editor_ended_is_known_as_torn(batch: tuple[Codec, list[Record]]) -> None:
    codec, written = batch
    for line in _lines(codec, written):
        for end in range(len(line) - 2):
            with pytest.raises(ValueError, match=r"."):
                codec.scan(line[:end] + b"\n")
            assert codec.is_torn(line[:end] + b"\n", first=False), line[:end]


@settings(deadline=None)
@given(st.lists(records(), min_size=1, max_size=4))
def test_ordinary_readers_read_our_lines(written: list[Record]) -> None:
    objects = [json.loads(line) for line in Jsonl().encode(written).split(b"\n")[:-1]]
    assert [thing["path"] for thing in objects] == [record.path for record in written]
    table = Csv()
    rows = list(csv.DictReader(line.decode() for line in [table.header, *_lines(table, written)]))
    plain = [(row["path"], record.path) for row, record in zip(rows, written, strict=True) if "\\" not in row["path"]]
    assert all(read == path for read, path in plain)
    assert [row["bytes"] for row in rows] == ["" if record.bytes is None else str(record.bytes) for record in written]


def test_the_csv_header_depends_on_the_number_of_captions_alone() -> None:
    assert Csv().header == (
        b"path,member,path_b64,caption,log_prob,score,p,error_stage,error_kind,error_message,"
        b"damaged,width,height,bytes,mtime_us,sha256,root,model,preprocess,decoding\n"
    )
    assert (
        b",error_message,caption_2,log_prob_2,score_2,p_2,caption_3,log_prob_3,score_3,p_3,damaged,width,"
        in Csv(3).header
    )


def test_line_ends_and_backslashes_are_escaped_in_csv() -> None:
    record = Record(
        path="a\\n.jpg", caption='one\ntwo\r\n"three", four', model="m", preprocess="p", decoding="d#01234567"
    )
    assert Csv().encode([record]) == (b'a\\\\n.jpg,,,"one\\ntwo\\r\\n""three"", four",,,,,,,,,,,,,,m,p,d#01234567\n')


@settings(deadline=None)
@given(st.lists(captions, min_size=2, max_size=2), st.sampled_from([0.0, -1.75, -13.971432, -750.0, -1e6]))
def test_p_in_csv_is_the_exponential_of_the_log_prob_beside_it(pair: list[Caption], log_prob: float) -> None:
    best, second = msgspec.structs.replace(pair[0], log_prob=log_prob), pair[1]
    record = Record(path="a", caption=best.caption, log_prob=log_prob, score=best.score, captions=(best, second))
    (row,) = csv.DictReader(line.decode() for line in [Csv(2).header, *_lines(Csv(2), [record])])
    for field, caption in (("p", best), ("p_2", second)):
        p = Decimal(row[field])
        assert p > 0
        assert float(p.ln()) == pytest.approx(float(row[field.replace("p", "log_prob")]), abs=6e-6)
        if caption.log_prob > -700:
            assert float(row[field]) == pytest.approx(math.exp(caption.log_prob), rel=6e-6)


def test_p_is_written_as_people_write_numbers() -> None:
    made = [
        Record(path="a", caption="x", log_prob=n, score=n, model="m") for n in (0.0, -1.5, -8.31, -13.971432, -2000)
    ]
    ps = [line.split(b",")[6] for line in Csv().encode(made).splitlines()]
    assert ps == [b"1", b"0.223130", b"0.000246044", b"8.55626e-7", b"2.57654e-869"]


def test_reading_a_row_back_ignores_p() -> None:
    record = Record(path="a", caption="x", log_prob=-2.0, score=-1.0, model="m", preprocess="p", decoding="d#01234567")
    (line,) = _lines(Csv(), [record])
    assert b",0.135335," in line
    for other in (b",7,", b",,", b",a guess,"):
        changed = line.replace(b",0.135335,", other)
        assert Csv().decode(changed) == record
        assert Csv().scan(changed) == Csv().scan(line)


def test_a_caption_may_be_empty_but_not_absent() -> None:
    record = Record(path="a", caption="", log_prob=-1.0, score=-1.0, model="m", preprocess="p", decoding="d#01234567")
    for codec in (Jsonl(), Csv()):
        assert codec.decode(codec.encode([record])) == record


@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_numbers_of_a_record_are_rounded_before_and_written_as_they_are(name: str) -> None:
    codec = make_codec(name, 2)
    best = rounded(Caption("a dog", -8.310000419616699, -1.1700000762939453))
    assert best == Caption("a dog", -8.31, -1.17)
    assert rounded(Caption("a dog", -8.31049, -1.17051)) == Caption("a dog", -8.31, -1.171)
    assert rounded(best) == best
    record = Record(
        path="a",
        caption="a dog",
        log_prob=best.log_prob,
        score=best.score,
        captions=(best, best),
        decoding="d#01234567",
    )
    assert codec.decode(codec.encode([record])) == record


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_number_that_no_format_holds_is_an_error_that_names_the_image(name: str, value: float) -> None:
    with pytest.raises(OutputError, match=r"b\.jpg.*(nan|inf)"):
        make_codec(name).encode([Record(path="b.jpg", caption="x", log_prob=-1.0, score=value)])


@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_lone_surrogates_become_the_replacement_character(name: str) -> None:
    codec = make_codec(name)
    record = Record(
        path="a",
        error=Failure("read", "io", "cannot open 'IMG_\udcff\udce9.jpg'"),
        decoding="d#01234567",
        model="m\ud800",
    )
    read = codec.decode(codec.encode([record]))
    assert read.error == Failure("read", "io", "cannot open 'IMG_\ufffd\ufffd.jpg'")
    assert read.model == "m\ufffd"


def test_an_error_message_of_any_length_can_be_read_back_from_csv() -> None:
    record = Record(path="a", error=Failure("decode", "corrupt", '\n"' * 100_000), decoding="d#01234567", model="m")
    read = Csv().decode(Csv().encode([record]))
    assert read.error is not None
    assert read.error.message == '\n"' * 30_000


@pytest.mark.parametrize(
    "record",
    [
        Record(path="a"),
        Record(path="a", caption="x", error=Failure("read", "io", "m")),
        Record(path="a", caption="x", captions=(Caption("x", -1.0, -1.0),) * 3),
    ],
)
def test_csv_refuses_what_its_columns_cannot_hold(record: Record) -> None:
    with pytest.raises(ValueError, match="a record holds"):
        Csv(2).encode([record])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"a,b\n", "2 columns instead of 20"),
        (b"a,,,x,,,,,,,,1,1,1,1,,r,m,p,d#01234567\r\n", "carriage return"),
        (b"a,,,x,,,,,,,,1,1,one,1,,r,m,p,d#01234567\n", "one"),
        (b"a,,,x,,,,,,,,1,1,99999999999999999999,1,,r,m,p,d#01234567\n", "out of range"),
        (b"a,,,x,,,,maybe,,,,1,1,1,1,,r,m,p,d#01234567\n", "no stage"),
        (b"a\\t,,,x,,,,,,,,1,1,1,1,,r,m,p,d#01234567\n", "no escape"),
        (b"a\\,,,x,,,,,,,,1,1,1,1,,r,m,p,d#01234567\n", "no escape"),
        (b'"a,,,x,,,,,,,,1,1,1,1,,r,m,p,d#01234567\n', "unexpected end"),
        (b"\xff,,,x,,,,,,,,1,1,1,1,,r,m,p,d#01234567\n", "utf-8"),
        (b"a,,,x\0\0\0,,,,,,,,1,1,1,1,,r,m,p,d#01234567\n", "zeros"),
        (b'"a","",,x\0,,,,,,,,1,1,1,1,,r,m,p,d#01234567\n', "zeros"),
    ],
)
def test_a_csv_line_that_is_not_ours_says_why(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Csv().scan(line)


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{}",
        b'{"a":1}',
        b'{"path":"a"}',
        b'{"path":"a","model":"m","preprocess":"p","decoding":"d","bytes":1e99}',
        b'{"path":"a","model":"m","preprocess":"p","decoding":"d","error":{"stage":"other"}}',
        b'{"path":"a"} {"path":"b"}',
        b'{"path":"a","caption":1}',
        b"[]",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_whole_but_not_ours_is_not_torn(line: bytes, first: bool) -> None:
    with pytest.raises(ValueError, match=r"JSON|Object|Expected|Invalid"):
        Jsonl().scan(line)
    assert not Jsonl().is_torn(line, first)
    assert not Jsonl().is_torn(line + b"\n", first)


def test_zeros_left_by_a_power_failure_are_torn_where_the_file_is_known_as_ours() -> None:
    for codec in (Jsonl(), Csv()):
        assert codec.is_torn(bytes(100), first=False)
        assert not codec.is_torn(bytes(100), first=True)
    assert Jsonl().is_torn(b'{"path":"a' + bytes(100), first=True)


def test_the_header_may_be_torn_too() -> None:
    header = Csv(2).header
    assert all(Csv(2).is_torn(header[:end], first=True) for end in range(1, len(header)))
    assert not Csv(2).is_torn(b"path;member", first=True)


def test_formats_are_known_by_their_first_bytes() -> None:
    record = Record(path="a", caption="x")
    assert guess_format(Jsonl().encode([record])) == "jsonl"
    assert guess_format(Csv(3).header) == "csv"
    assert guess_format(b"\x89PNG") is None


def test_an_unknown_field_of_a_later_version_does_not_stop_resuming() -> None:
    line = b'{"path":"a","caption":"x","region":[1,2],"model":"m","preprocess":"p","decoding":"d"}\n'
    assert Jsonl().scan(line).path == "a"
    assert isinstance(Jsonl().decode(line), msgspec.Struct)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\uff1d", "\r="])
def test_no_cell_of_text_begins_as_a_formula_does(start: str) -> None:
    text = f'{start}HYPERLINK("http://example.org","x")'
    record = Record(
        text, caption=text, log_prob=-1.0, score=-1.0, member=text, root=text, model=text, decoding=f"{text}#01234567"
    )
    failed = Record(text, error=Failure("read", text, text), decoding="d#01234567")
    for written in (record, failed):
        (line,) = _lines(Csv(), [written])
        cells = next(csv.reader([line.decode()]))
        assert not [cell for cell in cells if cell.startswith((*"=+@\t\r\uff1d", "-H"))]
        assert Csv().decode(line) == written
    assert b",-1.0,-1.0," in Csv().encode([record])  # numbers stay numbers
