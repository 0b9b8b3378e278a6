"""Options that decide what is done: chosen errors are tried again, changed images left; and when a record is safe."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from journals import FIRST, SECOND, both, captioned, failed, opened, read, ref, todo, write

import batchcap
from batchcap.errors import DecodeErrorKind
from batchcap.journal import live_file
from batchcap.journal.journal import Journal
from batchcap.options.journal import Fsync
from batchcap.options.output import Format

KINDS = get_args(DecodeErrorKind)


@both
def test_only_errors_of_the_kinds_named_are_tried_again(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    refs = [ref(kind) for kind in (*KINDS, "of a later version")]
    write(out, [*(failed(image, kind=image.path) for image in refs), captioned(ref("good"))], format)
    for kind in KINDS:
        assert todo(out, refs, format, retry_errors=(kind,)) == [kind]
        with opened(out, format, retry_errors=(kind,)) as journal:
            assert [image.path for image in refs if journal.is_retry(image)] == [kind]
    assert todo(out, [*refs, ref("good")], format, retry_errors=("all",)) == [image.path for image in refs]
    assert todo(out, refs, format, retry_errors=("empty", "damaged")) == ["damaged", "empty"]
    assert todo(out, refs, format, retry_errors=("empty",), accept_damaged=True) == ["truncated", "damaged", "empty"]
    assert todo(out, refs, format) == []


def test_every_kind_of_error_can_be_named() -> None:
    assert set(_kinds_in_the_code()) == set(KINDS)


def _kinds_in_the_code() -> Iterator[str]:
    """The second arguments of ``ImageError("decode", kind, ...)`` and ``Failure("decode", kind, ...)``."""
    for file in Path(batchcap.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ImageError", "Failure"):
                values = [each.value for each in node.args if isinstance(each, ast.Constant)]
                if values[:1] == ["decode"]:
                    yield str(values[1])


@both
def test_changed_images_are_left_where_they_are_to_be_skipped(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), failed(ref("decode")), failed(ref("read"), "read")], format)
    changed = [ref("a", size=2), ref("a", mtime_us=2), ref("decode", size=2), ref("read"), ref("new")]
    for image in changed[:2]:
        assert todo(out, [image], format) == ["a"]
        with opened(out, format, if_changed="skip") as journal:
            assert list(journal.pending([image])) == []
            assert (journal.skipped, journal.skipped_failures) == (1, 0)
    # What has no caption yet is tried again.
    assert todo(out, changed[2:], format, if_changed="skip") == ["decode", "read", "new"]
    settings = {"fingerprint": SECOND, "if_changed": "skip"}
    assert todo(out, changed[:1], format, on_mismatch="recaption", **settings) == ["a"]
    assert todo(out, changed[:1], format, on_mismatch="keep", **settings) == []


@both
@pytest.mark.parametrize(("fsync", "times"), [("always", 3), ("batch", 1), ("never", 0)])
def test_records_are_on_the_disk_as_often_as_was_chosen(
    tmp_path: Path, format: Format, fsync: Fsync, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    sizes: list[int] = []
    with Journal.open(out, format, FIRST, fsync=fsync) as journal:
        header = out.stat().st_size
        monkeypatch.setattr(live_file.os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
        journal.append([captioned(ref(name)) for name in "abc"])
        journal.commit()
    assert [record.path for record in read(out, format)] == [*"abc"]
    line = (out.stat().st_size - header) // 3
    assert sizes == [header + line * number for number in {"always": [1, 2, 3], "batch": [3], "never": []}[fsync]]
    assert len(sizes) == times


@pytest.mark.parametrize("fsync", ["always", "batch", "never"])
def test_a_new_output_is_on_the_disk_before_the_old_one_goes(
    tmp_path: Path, fsync: Fsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a"), "old")])
    synced: list[int] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(live_file.os, "fsync", note)
    with Journal.open(out, "jsonl", FIRST, fsync=fsync, overwrite=True) as journal:
        list(journal.pending([ref("a")]))
        journal.append([captioned(ref("a"), "new")])
        new = journal.live.stat().st_ino
        journal.commit()
    assert new in synced
    assert [record.caption for record in read(out)] == ["new"]
