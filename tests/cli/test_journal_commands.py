"""The commands that look at outputs and change them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COUNT, invoke, on_a_terminal, records
from photos import break_photo, write_photos
from rich.text import Text

from batchcap.system import locks

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def journal(photos: Path, tmp_path: Path, tiny_bundle: Path) -> Path:
    """An output of all photos; one of them is broken."""
    out = tmp_path / "captions.jsonl"
    break_photo(next(photos.rglob("*.jpg")))
    assert invoke("run", photos, "-o", out, "--model", tiny_bundle, "--device", "cpu", "-q").exit_code == 3
    return out


def test_status_says_what_an_output_holds(journal: Path, photos: Path) -> None:
    told = invoke("status", journal)
    assert told.exit_code == 0
    for words in (
        f"captions      {COUNT - 1}",
        "failures      1",
        "decode",
        f"root          {photos}",
        "no run holds it",
    ):
        assert words in told.stdout
    status = json.loads(invoke("status", journal, "--json").stdout)
    assert (status["images"], status["captions"], status["in_use"]) == (COUNT, COUNT - 1, False)
    assert status["failure_kinds"][0]["examples"][0]["path"].endswith(".jpg")


def test_status_in_a_pipe_cuts_no_path_in_two(tmp_path: Path, tiny_bundle: Path) -> None:
    """``batchcap status FILE | grep root`` finds all of it."""
    folder = tmp_path / "/".join(["a long name"] * 12)
    write_photos(folder, 1)
    out = tmp_path / "captions.jsonl"
    assert invoke("run", folder, "-o", out, "--model", tiny_bundle, "--device", "cpu").exit_code == 0
    facts = invoke("status", out).stdout.split("\n\n")[0]
    assert f"\n  root          {folder}\n" in facts
    assert all(line == line.rstrip() for line in facts.splitlines())


@pytest.mark.parametrize("columns", [80, 200])
def test_status_fits_on_a_terminal(journal: Path, columns: int) -> None:
    code, seen = on_a_terminal("status", journal, stdout=True, columns=columns, color=False)
    assert code == 0
    assert "preprocess, decoding" in seen
    assert all(Text.from_ansi(line).cell_len <= columns for line in seen.splitlines())


def test_status_of_what_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a list\n")
    missing, foreign = invoke("status", tmp_path / "nowhere.jsonl"), invoke("status", tmp_path / "notes.txt")
    assert (missing.exit_code, foreign.exit_code) == (1, 1)
    assert "There is no journal" in missing.stderr
    assert "is not a JSONL output of batchcap: line 1" in foreign.stderr
    assert "Name a file that `batchcap run` has written" in foreign.stderr
    assert "remove this one" not in foreign.stderr
    assert invoke("status").exit_code == 2


def test_a_table_of_convert_is_told_from_an_output(journal: Path, tmp_path: Path, photos: Path) -> None:
    table = tmp_path / "table.csv"
    assert invoke("convert", journal, table).exit_code == 0
    for arguments in (("status", table), ("compact", table), ("run", photos, "-o", table)):
        done = invoke(*arguments)
        assert done.exit_code == 1
        assert "table.csv is a table of `batchcap convert`, not an output of `batchcap run`" in done.stderr


def test_repair_says_what_it_did_and_run_goes_on(journal: Path, photos: Path, tiny_bundle: Path) -> None:
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[2] = lines[2][:50] + b"\0\0\n"
    journal.write_bytes(b"".join([*lines, b"my own note\n", lines[0][:20]]))
    again = ("run", photos, "-o", journal, "--model", tiny_bundle, "--device", "cpu", "-q")
    stopped = invoke(*again)
    assert stopped.exit_code == 1
    assert f"batchcap repair {journal}" in stopped.stderr
    foreseen = invoke("repair", journal, "--dry-run")
    assert foreseen.exit_code == 0
    assert "Nothing was changed" in foreseen.stdout
    told = invoke("repair", journal)
    assert told.exit_code == 0
    path = json.loads(whole.splitlines()[2])["path"]
    for words in (f"3 damaged lines; {COUNT - 1} records stay", "line 3: ", f"captions 1 image again: {path}\n"):
        assert words in told.stdout
    assert "note" in journal.with_name(journal.name + ".rejected").read_text()
    assert invoke(*again).exit_code == 3
    assert len(journal.read_bytes().splitlines()) == COUNT
    assert "is sound: 6 records, nothing to repair" in invoke("repair", journal).stdout


def test_quiet_commands_say_errors_alone(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.jsonl"
    commands: list[tuple[str | Path, ...]] = [("compact", journal), ("merge", journal, "-o", out), ("repair", journal)]
    for command in commands:
        done = invoke(*command, "--quiet")
        assert (done.exit_code, done.output) == (0, "")
    assert len(records(out)) == COUNT
    assert "is there already" in invoke("merge", journal, "-o", out, "-q").stderr
    with journal.open("ab") as file:
        file.write(b"no record\n")
    assert (invoke("repair", journal, "-q").output, len(records(journal))) == ("", COUNT)


def test_repair_waits_for_no_run(journal: Path) -> None:
    with locks.open_locked(journal)[0]:
        assert invoke("repair", journal).exit_code == 75


def test_compact_says_what_it_left_out(journal: Path, photos: Path, tiny_bundle: Path) -> None:
    assert "6 records, nothing to leave out" in invoke("compact", journal).stdout
    gone, changed = sorted(photos.rglob("*.jpg"))[1:3]
    gone.unlink()
    os.utime(changed, (1, 1))
    invoke("run", photos, "-o", journal, "--model", tiny_bundle, "--device", "cpu", "-q")
    foreseen = invoke("compact", journal, "--prune", "--dry-run").stdout
    assert len(journal.read_bytes().splitlines()) == COUNT + 1
    told = invoke("compact", journal, "--prune")
    assert told.exit_code == 0
    assert told.stdout + "  Nothing was changed (--dry-run).\n" == foreseen
    for words in ("5 records stay", "1 line that a later line", f"1 image no longer there: {gone.relative_to(photos)}"):
        assert words in told.stdout
    assert len(journal.read_bytes().splitlines()) == COUNT - 1
    with locks.open_locked(journal)[0]:
        assert invoke("compact", journal).exit_code == 75
    assert invoke("compact", journal, "--force").exit_code == 2


def test_shards_merge_into_an_output_that_run_continues(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    settings = ("--model", tiny_bundle, "--device", "cpu", "-q")
    one, two, out = (tmp_path / name for name in ("1.jsonl", "2.csv", "all.jsonl"))
    for shard, part in (("1/2", one), ("2/2", two)):
        assert invoke("run", photos, "-o", part, "--shard", shard, *settings).exit_code == 0
    told = invoke("merge", one, two, "-o", out)
    assert told.exit_code == 0
    assert f"{out}: {COUNT} images, {COUNT} with a caption, 0 without" in told.stdout
    before = out.read_bytes()
    assert invoke("run", photos, "-o", out, *settings).exit_code == 0
    assert out.read_bytes() == before
    invoke("run", photos, "-o", tmp_path / "alone.jsonl", *settings)
    alone = sorted((tmp_path / "alone.jsonl").read_bytes().splitlines())
    assert sorted(before.splitlines()) == alone


def test_merge_tells_conflicts_by_its_exit_code(journal: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.jsonl", tmp_path / "out.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    found = next(row for row in records(journal) if "caption" in row)
    changed = json.dumps(found | {"caption": "a red car"}, separators=(",", ":"))
    other.write_text(changed + "\n")
    foreseen = invoke("merge", journal, other, "-o", out, "--dry-run")
    assert not out.exists()
    told = invoke("merge", journal, other, "-o", out)
    assert (foreseen.exit_code, told.exit_code) == (3, 3)
    assert told.stdout + "  Nothing was changed (--dry-run).\n" == foreseen.stdout
    assert f'conflict: {found["path"]}: "{found["caption"]}" (captions.jsonl, ' in told.stdout
    assert '"a red car" (other.jsonl, ' in told.stdout
    assert len(out.read_bytes().splitlines()) == len(lines)
    for wrong in (("merge", journal), ("merge", "-o", out), ("merge", journal, "-o", "-")):
        assert invoke(*wrong).exit_code == 2
    assert invoke("merge", journal, "-o", out).exit_code == 1
    with locks.open_locked(out)[0]:
        assert invoke("merge", journal, "-o", out, "--overwrite").exit_code == 75


def test_a_signal_in_the_middle_leaves_the_old_output_and_nothing_else(journal: Path, tmp_path: Path) -> None:
    journal.write_bytes(journal.read_bytes() * 2)
    before = journal.read_bytes()
    code = """
import os, signal, sys
from batchcap.journal import live_file
whole = live_file._write
def stopped(target, lines):
    whole(target, lines)
    os.kill(os.getpid(), signal.SIGTERM)
live_file._write = stopped
from batchcap.__main__ import main
main()
"""
    command = [sys.executable, "-c", code, "compact", str(journal)]
    assert subprocess.run(command, check=False).returncode == 143
    assert journal.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
