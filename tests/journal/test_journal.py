"""Opening a journal: what is done is skipped, a torn tail is cut, and nothing foreign is touched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from journals import FIRST, SECOND, both, captioned, failed, names, opened, read, ref, todo, write

from batchcap.errors import MismatchError
from batchcap.journal.journal import Journal
from batchcap.options.decoding import DecodingOptions
from batchcap.options.output import Format
from batchcap.records import Failure, Fingerprint, ImageRef

# --- Skipping what is done


@both
def test_a_second_run_has_nothing_to_do_and_changes_no_byte(tmp_path: Path, format: Format) -> None:
    out = tmp_path / f"out.{format}"
    refs = [ref(f"{name}.jpg") for name in "abc"]
    write(out, [captioned(image) for image in refs], format)
    before = out.read_bytes()
    with Journal.open(out, format, FIRST) as journal:
        assert journal.done == 3
        assert list(journal.pending(refs)) == []
        assert (journal.skipped, journal.repeated) == (3, 0)
        journal.commit()
    assert out.read_bytes() == before
    assert names(tmp_path) == [out.name]


def test_pending_is_lazy_and_keeps_the_order(tmp_path: Path) -> None:
    met: list[str] = []

    def refs() -> Iterable[ImageRef]:
        for name in "cab":
            met.append(name)
            yield ref(name)

    with Journal.open(tmp_path / "out.jsonl", "jsonl", FIRST) as journal:
        pending = journal.pending(refs())
        assert met == []
        assert next(pending).path == "c"
        assert met == ["c"]
        assert [image.path for image in pending] == ["a", "b"]


@pytest.mark.parametrize("changed", [ref("a", size=2), ref("a", mtime_us=2), ref("a", mtime_us=-5)])
@both
def test_a_changed_image_is_captioned_again_and_its_last_line_counts(
    tmp_path: Path, format: Format, changed: ImageRef
) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), captioned(ref("b"))], format)
    assert todo(out, [changed, ref("b")], format) == ["a"]
    write(out, [captioned(changed, "a cat")], format)
    assert todo(out, [changed, ref("b")], format) == []
    # The file of the first line is back: the last line of the path is not about it.
    assert todo(out, [ref("a"), ref("b")], format) == ["a"]


@both
def test_errors_of_reading_are_retried_and_errors_of_decoding_only_on_demand(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    refs = [ref("read"), ref("decode"), ref("good")]
    write(out, [failed(refs[0], "read"), failed(refs[1]), captioned(refs[2])], format)
    assert todo(out, refs, format) == ["read"]
    assert todo(out, refs, format, retry_errors=("all",)) == ["read", "decode"]
    assert todo(out, [ref("decode", size=2)], format) == ["decode"]


def test_the_last_of_many_lines_of_a_key_is_its_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref(name, size)) for size in range(1, 201) for name in "ab"])
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert journal.done == 2
        assert list(journal.pending([ref("a", 200), ref("b", 199)])) == [ref("b", 199)]


def test_done_counts_the_images_that_need_no_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [failed(ref("read"), "read"), failed(ref("decode")), captioned(ref("a")), captioned(ref("a", 2))])
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert journal.done == 2
    with opened(out, retry_errors=("all",)) as journal:
        assert journal.done == 1


def test_done_follows_what_is_written_and_counts_an_image_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), failed(ref("read"), "read"), failed(ref("decode"))])
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert journal.done == 2
        journal.append([captioned(ref("a", 2)), captioned(ref("new")), failed(ref("late"), "read")])
        assert journal.done == 3
        journal.append([captioned(ref("read"))])
        assert journal.done == 4
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert journal.done == 4


def test_only_an_image_that_could_not_be_read_is_a_retry(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), failed(ref("read"), "read"), failed(ref("decode"))])
    with Journal.open(out, "jsonl", FIRST) as journal:
        refs = [ref("a", 2), ref("read"), ref("decode", 2), ref("new")]
        assert [journal.is_retry(image) for image in refs] == [False, True, False, False]


def test_a_retried_error_is_written_again_only_if_it_says_something_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = failed(ref("a"), "read", "no permission")
    write(out, [first])
    write(out, [first])
    assert read(out) == [first]
    second = failed(ref("a"), "read", "the disk is broken")
    write(out, [second, failed(ref("b"))])
    write(out, [captioned(ref("a"))])
    assert read(out) == [first, second, failed(ref("b")), captioned(ref("a"))]


def test_an_image_that_cannot_be_looked_at_is_never_taken_for_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a"))])
    assert todo(out, [ref("a", failure=Failure("read", "permission", "no"))]) == ["a"]


def test_a_key_met_twice_is_passed_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("done")), captioned(ref("changed"))])
    refs = [ref("new"), ref("done"), ref("changed", size=2)]
    with Journal.open(out, "jsonl", FIRST) as journal:
        assert [image.path for image in journal.pending(refs + refs[::-1])] == ["new", "changed"]
        assert (journal.skipped, journal.repeated) == (1, 3)


def test_the_key_is_path_and_member_or_the_exact_bytes_of_a_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = [
        ImageRef("t.zip", "t.zip", 1, 1, member="a"),
        ImageRef("t.zip", "t.zip", 1, 1, member="b"),
        ImageRef("t.zip", "t.zip", 1, 1),
        ImageRef("t.zip:a", "t.zip:a", 1, 1),
        ImageRef("\ufffd.jpg", "\udcfe.jpg", 1, 1, path_b64="/i5qcGc="),
        ImageRef("\ufffd.jpg", "\udcff.jpg", 1, 1, path_b64="/y5qcGc="),
    ]
    for done, image in enumerate(images):
        with Journal.open(out, "jsonl", FIRST) as journal:
            assert list(journal.pending(images)) == images[done:]
            journal.append([captioned(image)])
    assert todo(out, images) == []


# --- Another fingerprint


@both
def test_another_fingerprint_stops_the_run_and_shows_both_values_of_what_differs(
    tmp_path: Path, format: Format
) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), captioned(ref("b"))], format)
    before = out.read_bytes()
    with pytest.raises(MismatchError) as caught:
        Journal.open(out, format, SECOND)
    message = caught.value.message
    assert "2 of its captions" in message
    assert "model was small@11111111 and is now small@22222222" in message
    # The same options, and another hash: another version of the search.
    assert "decoding was beam3-lp0.7#aaaaaaaa and is now beam3-lp0.7#bbbbbbbb" in message
    assert "preprocess" not in message
    assert "--on-mismatch recaption" in caught.value.fix
    assert out.read_bytes() == before
    write(out, [captioned(ref("c"))], format)  # the lock was given back


@both
def test_the_options_that_differ_are_named_with_both_values(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    before = DecodingOptions(beam_size=4, max_length=16, ban=("dog", "cat"))
    now = DecodingOptions(beam_size=4, min_length=3, prefix="a photo of")
    old, new = (Fingerprint("m@1", "exact", options.label) for options in (before, now))
    write(out, [captioned(ref("a"), fingerprint=old)], format, fingerprint=old)
    with pytest.raises(MismatchError) as caught:
        Journal.open(out, format, new)
    assert caught.value.message.endswith(
        "made with other settings: --max-length was 16 and is now 20; --min-length was 0 and is now 3; "
        "--ban was cat dog and is now none; --prefix was none and is now a photo of."
    )


def test_many_other_fingerprints_are_shown_briefly(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(5):
        other = Fingerprint(f"model{number}", "exact", FIRST.decoding)
        write(out, [captioned(ref(str(number)), fingerprint=other)], fingerprint=other, on_mismatch="keep")
    with pytest.raises(MismatchError, match="model was model0, model1, model2 and 2 more and is now small@11111111"):
        Journal.open(out, "jsonl", FIRST)


@both
def test_recaption_does_again_what_another_fingerprint_did(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    refs = [ref("a"), ref("b")]
    write(out, [captioned(image) for image in refs], format)
    assert todo(out, refs, format, fingerprint=SECOND, on_mismatch="recaption") == ["a", "b"]
    write(out, [captioned(refs[0], fingerprint=SECOND)], format, fingerprint=SECOND, on_mismatch="recaption")
    assert todo(out, refs, format, fingerprint=SECOND, on_mismatch="recaption") == ["b"]
    write(out, [captioned(refs[1], fingerprint=SECOND)], format, fingerprint=SECOND, on_mismatch="recaption")
    assert todo(out, refs, format, fingerprint=SECOND) == []  # nothing of the first is left: it needs no option


def test_old_captions_beside_new_ones_may_be_of_images_that_are_gone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), captioned(ref("deleted"))])
    with pytest.raises(MismatchError) as caught:
        Journal.open(out, "jsonl", SECOND)
    assert "no longer there" not in caught.value.fix
    write(out, [captioned(ref("a"), fingerprint=SECOND)], fingerprint=SECOND, on_mismatch="recaption")
    with pytest.raises(MismatchError, match="1 of its captions") as caught:
        Journal.open(out, "jsonl", SECOND)
    assert "images that are no longer there: keep the option, or start anew with --overwrite" in caught.value.fix


@both
def test_keep_counts_what_another_fingerprint_did_as_done(tmp_path: Path, format: Format) -> None:
    out = tmp_path / "out"
    write(out, [captioned(ref("a")), failed(ref("b"))], format)
    refs = [ref("a"), ref("b"), ref("c")]
    assert todo(out, refs, format, fingerprint=SECOND, on_mismatch="keep") == ["c"]
    assert todo(out, [ref("a", size=2)], format, fingerprint=SECOND, on_mismatch="keep") == ["a"]


@pytest.mark.parametrize("stage", ["read", "decode"])
def test_errors_of_another_fingerprint_stop_no_run_and_are_tried_again(tmp_path: Path, stage: str) -> None:
    out = tmp_path / "out"
    write(out, [failed(ref("a"), stage)])
    assert todo(out, [ref("a")], fingerprint=SECOND) == ["a"]
    again = failed(ref("a"), stage, fingerprint=SECOND)
    write(out, [again], fingerprint=SECOND)
    assert read(out) == [failed(ref("a"), stage), again]


def test_a_record_without_the_fingerprint_of_the_run_is_refused(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "out", "jsonl", FIRST) as journal, pytest.raises(ValueError, match="fingerprint"):
        journal.append([captioned(ref("a"), fingerprint=SECOND)])
