"""The journal against a model of it: random runs that are killed at any byte, changed files, errors, other settings."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from journals import opened

from batchcap.errors import MismatchError
from batchcap.journal.codec import Codec
from batchcap.journal.formats import make_codec
from batchcap.journal.journal import Journal
from batchcap.options.journal import Fsync, IfChanged, RetryKind
from batchcap.options.output import Format
from batchcap.options.run import OnMismatch
from batchcap.records import Failure, Fingerprint, ImageRef, Record

NAMES = ["a.jpg", "é,\n.jpg", '"c".jpg', "d\\.jpg"]
FINGERPRINTS = [
    Fingerprint("m@1", "exact", "beam3-lp0.7#aaaaaaaa"),
    Fingerprint("m@2", "exact", "beam3-lp0.7#aaaaaaaa"),
]

names = st.sampled_from(NAMES)
files = st.tuples(st.integers(1, 3), st.integers(1, 3))
healths = st.sampled_from(["good", "good", "read", "empty", "corrupt"])
kills = st.none() | st.tuples(st.integers(0, 3), st.floats(0, 1))


class JournalMachine(RuleBasedStateMachine):
    """``lines`` is what must stand in the output, in order; ``files`` what lies in the folder."""

    @initialize(format=st.sampled_from(["jsonl", "csv"]))
    def start(self, format: Format) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.out = self.folder / "out"
        self.format: Format = format
        self.codec: Codec = make_codec(format)
        self.files = dict.fromkeys(NAMES, (1, 1))
        self.health = dict.fromkeys(NAMES, "good")
        self.lines: list[Record] = []
        self.partial: list[Record] = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(name=names, size=st.integers(1, 3), mtime_us=st.integers(1, 3), health=healths)
    def change_a_file(self, name: str, size: int, mtime_us: int, health: str) -> None:
        self.files[name], self.health[name] = (size, mtime_us), health

    @rule(name=names, health=st.sampled_from(["good", "read"]))
    def change_a_permission(self, name: str, health: str) -> None:
        self.health[name] = health

    @rule(
        passes=st.lists(st.tuples(st.lists(names, max_size=6), st.dictionaries(names, files)), min_size=1, max_size=3),
        batch_size=st.integers(1, 4),
        fingerprint=st.sampled_from(FINGERPRINTS),
        on_mismatch=st.sampled_from(["stop", "recaption", "keep"]),
        retry_errors=st.sampled_from([(), ("all",), ("empty",), ("damaged", "corrupt")]),
        if_changed=st.sampled_from(["recaption", "skip"]),
        checksum=st.booleans(),
        fsync=st.sampled_from(["always", "batch", "never"]),
        how=st.sampled_from(["continue", "continue", "overwrite", "overwrite with a limit"]),
        kill=kills,
    )
    def run(
        self,
        *,
        passes: list[tuple[list[str], dict[str, tuple[int, int]]]],
        batch_size: int,
        fingerprint: Fingerprint,
        on_mismatch: OnMismatch,
        retry_errors: tuple[RetryKind, ...],
        if_changed: IfChanged,
        checksum: bool,
        fsync: Fsync,
        how: str,
        kill: tuple[int, float] | None,
    ) -> None:
        overwrite, stop_early = how != "continue", how == "overwrite with a limit"
        if overwrite:
            passes = passes[:1]

        def open_journal() -> Journal:
            return opened(
                self.out,
                self.format,
                fingerprint=fingerprint,
                on_mismatch=on_mismatch,
                overwrite=overwrite,
                retry_errors=retry_errors,
                if_changed=if_changed,
                checksum=checksum,
                fsync=fsync,
            )

        lines = list(self.partial if overwrite else self.lines)
        old = {line.path: line for line in lines}
        foreign = [line for line in old.values() if line.error is None and made_with(line) != fingerprint]
        if foreign and on_mismatch == "stop":
            with pytest.raises(MismatchError):
                open_journal()
            return
        live = self.out.with_name("out.partial") if overwrite else self.out
        with open_journal() as journal:
            for number_of_pass, (found, changes) in enumerate(passes):
                keep = on_mismatch == "keep"
                if number_of_pass:
                    journal.next_pass()
                    self.files |= changes
                    old = {line.path: line for line in lines}
                    retry_errors = ()
                    assert journal.done == sum(
                        (keep or made_with(line) == fingerprint)
                        and (line.error is None or line.error.stage == "decode")
                        for line in old.values()
                    )
                refs = [ImageRef(name, name, *self.files[name]) for name in found]
                known = [line for line in lines if made_with(line) == fingerprint and line.error is None]
                todo = list(journal.pending(refs))
                expected = [
                    name
                    for name in dict.fromkeys(found)
                    if not self.is_done(name, old, fingerprint, keep, retry_errors, if_changed, checksum)
                ]
                assert [ref.path for ref in todo] == expected
                assert journal.repeated == len(found) - len(set(found))
                assert journal.skipped == len(set(found)) - len(expected)
                for number, start in enumerate(range(0, len(todo), batch_size)):
                    records = [
                        self.look_at(ref, fingerprint, known, journal if checksum else None)
                        for ref in todo[start : start + batch_size]
                    ]
                    news = [record for record in records if says_something(record, old.get(record.path))]
                    if kill is not None and kill[0] == number and number_of_pass == len(passes) - 1:
                        data = self.codec.encode(news)
                        torn = data[: round(kill[1] * len(data))]
                        with live.open("ab") as file:  # the system's call stops here, and so does the process
                            file.write(torn)
                        # Where only the line end is missing, the record is there.
                        lines += news[: torn.count(b"\n") + (data[len(torn) : len(torn) + 1] == b"\n")]
                        self.keep(lines, overwrite)
                        return
                    journal.append(records)
                    lines += news
            journal.commit(complete=not stop_early)
        if stop_early:
            self.keep(lines, overwrite)
            return
        if overwrite:  # what another run has left of other images is not part of the new output
            lines = [line for line in lines if line.path in found]
            self.partial = []
        self.lines = lines

    def keep(self, lines: list[Record], overwrite: bool) -> None:
        if overwrite:
            self.partial = lines
        else:
            self.lines = lines

    @invariant()
    def the_output_holds_what_was_committed(self) -> None:
        if not hasattr(self, "out") or not self.out.exists():
            return
        data = self.out.read_bytes().removeprefix(self.codec.header)
        found = [line for line in data.split(b"\n") if line]
        assert [self.codec.decode(line) for line in found[: len(self.lines)]] == self.lines
        assert all(self.codec.is_torn(line, first=False) for line in found[len(self.lines) :])
        assert len(found) <= len(self.lines) + 1

    @invariant()
    def nothing_lies_beside_the_output_but_an_unfinished_new_one(self) -> None:
        if hasattr(self, "folder"):
            assert {path.name for path in self.folder.iterdir()} <= {"out", "out.partial"}
            assert not self.partial or self.out.with_name("out.partial").exists()

    @invariant()
    def no_line_repeats_the_record_of_its_image(self) -> None:
        last: dict[str, Record] = {}
        for line in getattr(self, "lines", []):
            before = last.get(line.path)
            assert before != line
            if before is not None and before.error is None and line.error is None:
                same_input = (before.bytes, before.mtime_us) == (line.bytes, line.mtime_us)
                was_hashed = before.sha256 is None and line.sha256 is not None
                assert not (same_input and made_with(before) == made_with(line)) or was_hashed
            if line.error is None:
                assert line.caption == f"an image\nof {line.bytes}"
                assert line.sha256 in (None, str(line.bytes) * 64)
            last[line.path] = line

    def is_done(
        self,
        name: str,
        old: dict[str, Record],
        fingerprint: Fingerprint,
        keep: bool,
        retry_errors: tuple[RetryKind, ...],
        if_changed: IfChanged,
        checksum: bool,
    ) -> bool:
        line = old.get(name)
        if line is None:
            return False
        is_ours = made_with(line) == fingerprint
        same_file = (line.bytes, line.mtime_us) == self.files[name]
        if checksum and same_file and is_ours and line.error is None and line.sha256 is None:
            return False
        may_differ = line.error is None and if_changed == "skip"
        if not same_file and not may_differ:
            return False
        if not is_ours and not keep:
            return False
        return line.error is None or (line.error.stage == "decode" and not {"all", line.error.kind} & set(retry_errors))

    def look_at(self, ref: ImageRef, fingerprint: Fingerprint, known: list[Record], journal: Journal | None) -> Record:
        """What the run does with a file, whose content is its size; with a journal, it is hashed first."""
        health = self.health[ref.path]
        sha256 = None if journal is None or health == "read" else str(ref.size) * 64
        if journal is not None and sha256 is not None:
            found = journal.recall(ref, sha256)
            by_content = [line for line in known if line.sha256 == sha256]
            by_file = [line for line in known if line.sha256 is None and same_file(line, ref)]
            assert (found is not None) == bool(by_content or by_file)
            if found is not None:
                return found
        record = Record(
            ref.path,
            bytes=ref.size,
            mtime_us=ref.mtime_us,
            model=fingerprint.model,
            preprocess=fingerprint.preprocess,
            decoding=fingerprint.decoding,
            sha256=sha256,
        )
        if health == "good":
            text = f"an image\nof {ref.size}"
            return msgspec.structs.replace(record, caption=text, log_prob=-1.0, score=-0.5)
        error = Failure("read", "io", "wörds") if health == "read" else Failure("decode", health, "wörds")
        return msgspec.structs.replace(record, error=error)


def says_something(record: Record, before: Record | None) -> bool:
    """Not the same error again, nor that a captioned file cannot be read just now."""
    if record.error is None or before is None:
        return True
    same_file = (before.bytes, before.mtime_us) == (record.bytes, record.mtime_us)
    return before != record and not (record.error.stage == "read" and before.error is None and same_file)


def same_file(record: Record, ref: ImageRef) -> bool:
    return (record.path, record.bytes, record.mtime_us) == (ref.path, ref.size, ref.mtime_us)


def made_with(record: Record) -> Fingerprint:
    return Fingerprint(record.model, record.preprocess, record.decoding)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
