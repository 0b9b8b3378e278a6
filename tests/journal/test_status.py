"""What a journal holds: counted by its last records, also while a run writes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from journals import FIRST, SECOND, both, captioned, failed, ref, write

from batchcap.errors import OutputError
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.journal.status import FailedImage, Rooted, read_status
from batchcap.options.output import Format
from batchcap.records import Failure, Record


def error(name: str, failure: Failure) -> Record:
    return msgspec.structs.replace(failed(ref(name)), error=failure)


RECORDS = [
    *(captioned(ref(name)) for name in "abc"),
    msgspec.structs.replace(captioned(ref("d")), damaged="the file ends before the image does", root="/one"),
    captioned(ref("a"), "another dog", SECOND),
    *(error(f"e{n}", Failure("decode", "truncated", f"cut {n}")) for n in range(5)),
    error("shut", Failure.from_folder_error(PermissionError(13, "Permission denied"))),
    error("e0", Failure("read", "io", "no")),
    captioned(replace(ref("z.zip::a"), member="a")),
]


@both
def test_only_the_last_record_of_an_image_is_counted(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    codec = make_codec(format)
    out.write_bytes(codec.header + codec.encode(RECORDS) + codec.encode(RECORDS[:1])[:9])
    status = read_status(out)
    assert (status.lines, status.images, status.superseded) == (13, 11, 2)
    assert (status.captions, status.damaged, status.failures) == (5, 1, 6)
    assert (status.format, status.bytes, status.torn_bytes) == (format, out.stat().st_size, 9)
    kinds = {(each.stage, each.kind): each for each in status.failure_kinds}
    assert {kind: each.images for kind, each in kinds.items()} == {
        ("decode", "truncated"): 4,
        ("read", "io"): 1,
        ("read", "permission"): 1,
    }
    assert kinds["decode", "truncated"].examples == tuple(FailedImage(f"e{n}", f"cut {n}") for n in (1, 2, 3))
    assert kinds["read", "permission"].examples[0].path == "shut/"
    assert [(each.model, each.captions, each.failures) for each in status.made_with] == [
        (FIRST.model, 4, 6),
        (SECOND.model, 1, 0),
    ]
    assert status.roots == (Rooted(None, 10), Rooted("/one", 1))


def test_a_run_at_work_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Journal.open(out, "jsonl", FIRST) as journal:
        journal.append([captioned(ref("a"))])
        status = read_status(out)
        assert (status.in_use, status.images, status.unfinished) == (True, 1, None)
        journal.append([captioned(ref("b"))])
    assert (read_status(out).in_use, read_status(out).images) == (False, 2)


def test_what_a_stopped_run_with_overwrite_has_left_is_named(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write(out, [captioned(ref("a"))])
    with Journal.open(out, "jsonl", FIRST, overwrite=True) as journal:
        journal.append([captioned(ref("a"))])
        journal.commit(complete=False)
    unfinished = read_status(out).unfinished
    assert unfinished is not None
    assert unfinished.path == f"{out}.partial"
    assert unfinished.bytes == out.stat().st_size
    assert 0 <= (datetime.now(UTC) - unfinished.written).total_seconds() < 60


def test_a_damaged_line_is_an_error_that_names_it(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write(out, [captioned(ref("a"))])
    out.write_bytes(b"".join([out.read_bytes(), b"\0\n", out.read_bytes()]))
    with pytest.raises(OutputError, match="line 2"):
        read_status(out)
