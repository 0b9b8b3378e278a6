"""One journal asked again and again, as by a run that watches a folder."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from journals import FIRST, SECOND, both, captioned, failed, opened, read, ref, write

from batchcap.journal.journal import Journal
from batchcap.options.output import Format


@both
def test_a_pass_knows_what_the_last_one_wrote(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("old"))], format)
    with Journal.open(out, format, FIRST) as journal:
        assert list(journal.pending([ref("old"), ref("new"), ref("new")])) == [ref("new")]
        assert (journal.skipped, journal.repeated) == (1, 1)
        journal.append([captioned(ref("new"))])
        assert journal.done == 2
        journal.next_pass()
        assert (journal.skipped, journal.repeated, journal.done) == (0, 0, 2)
        images = [ref("old", size=2), ref("new"), ref("newer")]
        assert list(journal.pending(images)) == [images[0], images[2]]
        assert journal.skipped == 1
        journal.append([captioned(images[0]), captioned(images[2])])
        assert journal.done == 3
        journal.next_pass()
        assert list(journal.pending(images)) == []
        journal.commit()
    assert [record.path for record in read(out, format)] == ["old", "new", "old", "newer"]


def test_what_a_pass_could_not_read_is_tried_in_the_next_one_and_written_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Journal.open(out, "jsonl", FIRST) as journal:
        for _ in range(3):
            assert list(journal.pending([ref("a")])) == [ref("a")]
            journal.append([failed(ref("a"), "read")])
            assert journal.done == 0
            journal.next_pass()
        journal.append([captioned(ref("a"))])
        journal.next_pass()
        journal.append([failed(ref("a"), "read")])  # the disk is away; the caption stays
        journal.next_pass()
        assert list(journal.pending([ref("a")])) == []
    assert [record.caption for record in read(out)] == [None, "a dog"]


@pytest.mark.parametrize("options", [{"retry_errors": ("truncated",)}, {"accept_damaged": True}])
def test_what_is_tried_again_is_tried_in_the_first_pass(tmp_path: Path, options: dict[str, Any]) -> None:
    out = tmp_path / "out"
    write(out, [failed(ref("a"), kind="truncated")])
    with opened(out, **options) as journal:
        assert list(journal.pending([ref("a")])) == [ref("a")]
        journal.append([failed(ref("a"), kind="truncated")])
        journal.next_pass()
        assert list(journal.pending([ref("a")])) == []
        assert journal.skipped_failures == 1
        assert list(journal.pending([ref("a", size=2)])) == []
        journal.next_pass()
        assert list(journal.pending([ref("a", size=2)])) == [ref("a", size=2)]
    assert len(read(out)) == 1


def test_captions_of_other_settings_are_made_again_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a"))])
    with opened(out, fingerprint=SECOND, on_mismatch="recaption") as journal:
        assert list(journal.pending([ref("a")])) == [ref("a")]
        journal.append([captioned(ref("a"), fingerprint=SECOND)])
        journal.next_pass()
        assert list(journal.pending([ref("a")])) == []


def test_memory_does_not_grow_with_the_passes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = [ref(f"{number}.jpg", mtime_us=0) for number in range(500)]
    with Journal.open(out, "jsonl", FIRST) as journal:

        def one_pass(mtime_us: int) -> None:
            changed = [ref(image.path, mtime_us=mtime_us) for image in images]
            journal.append([captioned(image) for image in journal.pending(changed)])
            journal.next_pass()

        one_pass(1)
        tracemalloc.start()
        one_pass(2)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(3, 20):
            one_pass(number)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert after < before + 50 * len(images)
    assert out.read_bytes().count(b"\n") == 19 * len(images)
