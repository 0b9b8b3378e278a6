"""Opening what is no journal, or has lines that are none: the file stays as it is, and the error names the line."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from journals import FIRST, both, captioned, names, ref, write

from batchcap.errors import OutputError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.output import Format


@pytest.mark.parametrize(
    "content",
    [
        b"a list of things\nto do\n",
        b"one line without an end",
        b'{"path":"a"}',
        b'{"path":"a"}\n',
        b'{"path": "a", "caption": "b"}\n',
        b'{"images": []}',
        b'{"images": [{"path":"a"},\n',
        b'{"images": [',
        b'{"path":"b.jpg","tags":[',
        b"{\n",
        b'{"pa\r\n',
        b'{"p' + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        bytes(1000),
        b"\n",
        "\ufeff".encode() + make_codec("jsonl").encode([captioned(ref("a"))]),
        make_codec("csv").header,
        make_codec("csv").header + make_codec("csv").encode([captioned(ref("a"))]),
    ],
)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "notes.txt"
    out.write_bytes(content)
    with pytest.raises(OutputError, match=r"notes\.txt") as caught:
        Journal.open(out, "jsonl", FIRST)
    assert caught.value.fix
    assert out.read_bytes() == content
    assert names(tmp_path) == ["notes.txt"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"path,caption\na,b\n", "not the header"),
        (b"path;caption", "not the header"),
        (make_codec("csv", 3).header, "--num-captions 3, and this run has 1"),
        (make_codec("csv").header.replace(b",score", b""), "not those of this version"),
        (make_codec("csv").header.replace(b"\n", b"\r\n"), "with Windows line ends"),
        (b"\xef\xbb\xbf" + make_codec("csv").header, "with a byte-order mark"),
        (b"\xef\xbb\xbf" + make_codec("csv").header[:-1] + b"\r\n", "a byte-order mark and Windows line ends"),
        (make_codec("csv").header.replace(b",", b";"), "other separators"),
        (make_codec("csv").header.replace(b",root", b""), "no column root"),
        (make_codec("jsonl").encode([captioned(ref("a"))]), "Use --format jsonl"),
    ],
)
def test_a_csv_file_with_another_header_is_refused_and_left_alone(tmp_path: Path, content: bytes, why: str) -> None:
    out = tmp_path / "table.csv"
    out.write_bytes(content)
    with pytest.raises(OutputError) as caught:
        Journal.open(out, "csv", FIRST)
    assert why in str(caught.value)
    assert out.read_bytes() == content


def test_a_csv_output_for_another_number_of_captions_is_called_an_output_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    out.write_bytes(make_codec("csv", 3).header)
    with pytest.raises(OutputError, match=r"table\.csv cannot be continued: ") as caught:
        Journal.open(out, "csv", FIRST)
    assert caught.value.fix == "Add --num-captions 3, or name another output file."


@both
def test_a_long_output_is_cut_at_its_torn_tail_and_a_damaged_line_in_it_is_named(
    tmp_path: Path, format: Format
) -> None:
    out = tmp_path / "out"
    refs = [ref(f"{number}.jpg") for number in range(3000)]
    write(out, [captioned(image) for image in refs], format)
    lines = out.read_bytes().splitlines(keepends=True)
    first = len(lines) - len(refs)
    out.write_bytes(b"".join(lines)[:-30])
    with Journal.open(out, format, FIRST) as journal:
        assert [image.path for image in journal.pending(refs)] == ["2999.jpg"]
        assert journal.cut == len(lines[-1]) - 30
    for number in (1, 1700, 2998):
        damaged = lines[:]
        damaged[first + number] = b'"' + damaged[first + number][5:]
        out.write_bytes(b"".join(damaged))
        with pytest.raises(OutputError, match=rf"line {first + number + 1}: "):
            Journal.open(out, format, FIRST)
        assert out.read_bytes() == b"".join(damaged)


@both
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_cut(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref(name)) for name in "abc"], format)
    lines = out.read_bytes().splitlines(keepends=True)
    number = 2 if format == "jsonl" else 3
    lines[number - 1] = lines[number - 1][:30] + b"\n"
    out.write_bytes(b"".join(lines))
    before = out.read_bytes()
    with pytest.raises(OutputError, match=rf"out, line {number}: ") as caught:
        Journal.open(out, format, FIRST)
    assert f"batchcap repair {out}" in caught.value.fix
    assert out.read_bytes() == before


@both
def test_zeros_inside_a_line_are_damage_in_the_middle_and_torn_at_the_end(tmp_path: Path, format: Format) -> None:
    """A power failure leaves them, and no field is cut by it."""
    out = tmp_path / "out"
    write(out, [captioned(ref(name)) for name in "abcd"], format)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for number in (len(lines) - 2, len(lines) - 1):
        at = lines[number].index(b"dog")
        damaged = lines[number][:at] + b"\0\0\0" + lines[number][at + 3 :]
        out.write_bytes(b"".join([*lines[:number], damaged, *lines[number + 1 :]]))
        if number == len(lines) - 1:
            with Journal.open(out, format, FIRST) as journal:
                assert (journal.cut, journal.done) == (len(damaged), 3)
        else:
            with pytest.raises(OutputError, match=rf"out, line {number + 1}: "):
                Journal.open(out, format, FIRST)


@pytest.mark.parametrize("tail", [b"# reviewed by Anna\n", b"# reviewed by Anna", b'{"reviewed":true}'])
def test_something_foreign_behind_our_lines_is_not_cut(tmp_path: Path, tail: bytes) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a"))])
    with out.open("ab") as file:
        file.write(tail)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="line 2"):
        Journal.open(out, "jsonl", FIRST)
    assert out.read_bytes() == before


def test_a_huge_file_without_line_ends_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    out = tmp_path / "disk.img"
    with out.open("wb") as file:
        file.write(b'{"path":"')
        file.truncate(1 << 33)  # sparse
    tracemalloc.start()
    with pytest.raises(OutputError, match=r"disk\.img"):
        Journal.open(out, "jsonl", FIRST)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20
    assert out.stat().st_size == 1 << 33
