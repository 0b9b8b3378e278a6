"""`batchcap convert` as a person meets it: what it says, its exit codes, signals, and a run that writes meanwhile."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import COUNT, invoke, on_a_terminal
from conversions import failure, files, journal, record
from journals import FIRST, captioned, names, posix, ref

from batchcap.journal.journal import Journal

pytestmark = pytest.mark.usefixtures("plain_environment")
MANY = 20_000


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return journal(tmp_path / "j.jsonl", (record(f"{n % 50}/{n}.jpg", "a dog") for n in range(MANY)))


def test_every_target_of_a_real_run(photos: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "captions.jsonl"
    assert invoke("run", photos, "-o", source, "--model", tiny_bundle, "--num-captions", "2").exit_code == 0
    for out, options in {
        photos: ("--to", "txt"),
        photos / "metadata.jsonl": (),
        tmp_path / "c.csv": (),
        tmp_path / "k.json": ("--to", "kohya"),
        tmp_path / "s.tar": ("--shard-size", "4"),
    }.items():
        for said in (f"{COUNT} captions written", f"{COUNT} unchanged"):
            done = invoke("convert", source, out, *options)
            assert (done.exit_code, done.stdout) == (0, ""), done.output
            assert said in done.stderr, done.output
    before = source.read_bytes()
    assert invoke("run", photos, "-o", source, "--model", tiny_bundle, "--num-captions", "2").exit_code == 0
    assert source.read_bytes() == before  # none of the files is an image


def test_what_it_says(tmp_path: Path, out: Path) -> None:
    out.mkdir()
    (out / "b.txt").write_text("by hand")
    source = journal(tmp_path / "j", [record("a.jpg"), record("b.jpg"), record("../c.jpg"), failure("d.jpg")])
    done = invoke("convert", source, out, "--to", "txt")
    assert done.exit_code == 3
    lines = done.stderr.splitlines()
    assert lines[0] == f"{source} to txt: {out}"
    assert [line.split()[0] for line in lines[1:-1]] == ["1"] * 4
    assert lines[-1].startswith("  Not beside the images: the images are in /photos;")
    for said in ("caption written", "the image failed", "(--overwrite replaces it): ", "outside the root: ../c.jpg"):
        assert sum(said in line for line in lines) == 1, done.stderr
    assert invoke("convert", source, out, "--to", "txt", "--quiet").output == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("j", "out"), 2, "Add --to TARGET: txt,"),
        (("j", "out", "--to", "word"), 2, "word"),
        (("j", "-", "--to", "csv"), 2, "writes no stream"),
        (("j", "x.csv", "--shard-size", "3"), 2, "It goes with --to webdataset"),
        (("j", "x.tar", "--shard-size", "0"), 2, "--shard-size"),
        (("nowhere", "x.csv"), 1, "There is no journal nowhere"),
        (("j", "no/x.csv"), 1, "there is no folder no"),
        (("j", "j"), 2, "Add --to TARGET"),
        (("j", "j", "--to", "coco"), 1, "is the journal itself"),
        (("folder", "x.csv"), 1, "is a folder"),
        (("a.jpg", "x.csv"), 1, "a.jpg"),
        (("j", "folder", "--to", "csv"), 1, "is a folder"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    journal(tmp_path / "j", [record("a.jpg")])
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    before = names(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = invoke("convert", *arguments)
    assert done.exit_code == code, done.output
    assert said in done.stderr
    assert "bug" not in done.stderr
    assert names(tmp_path) == before


@posix
def test_names_cannot_write_to_the_terminal(tmp_path: Path, out: Path) -> None:
    source = journal(tmp_path / "j", [record("/x\x1b[2J\ny.jpg"), record("a.jpg"), record("a.png")])
    for target in ("txt", "coco"):
        shown = invoke("convert", source, out, "--to", target).stderr
        assert "\x1b" not in shown
        assert "\ny.jpg" not in shown


@posix
def test_progress_on_a_terminal(tmp_path: Path, out: Path) -> None:
    count = 20_000  # the bar is drawn ten times a second, and each pass takes longer than that
    many = journal(tmp_path / "j.jsonl", (record(f"{n}.jpg") for n in range(count)))
    code, shown = on_a_terminal("convert", many, out, "--to", "coco")
    assert code == 0
    assert re.search(r"converting.*\d,000 of 20,001", shown)
    assert "20,000 captions written" in shown
    assert re.search(r"checking names.*\d,000 of 20,001", shown)
    assert "converting" not in on_a_terminal("convert", many, out, "--to", "coco", "--no-progress")[1]


@posix
def test_lines_stand_above_the_bar(tmp_path: Path, out: Path) -> None:
    paths = [*(f"{n}.jpg" for n in range(3000)), "5.png", "7.png"]
    code, shown = on_a_terminal("convert", journal(tmp_path / "j", map(record, paths)), out, "--to", "txt")
    assert code == 1
    assert re.search(r"(\n|\x1b\[2K|\r)one name for 2 images: \S+/out/5.txt: 5.jpg, 5.png *\r\n", shown)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_conversion_that_is_stopped_goes_on(many: Path, out: Path, number: signal.Signals) -> None:
    """Every file is whole at every moment; what a kill leaves is gone after the next conversion."""
    command = [sys.executable, "-m", "batchcap", "convert", str(many), str(out), "--to", "txt"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (out / "7").exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    written = list(out.rglob("*.txt"))
    assert 0 < len(written) < MANY
    assert {path.read_text() for path in written} == {"a dog\n"}
    if number is not signal.SIGKILL:
        assert process.returncode == 128 + number
        assert "Stopped. Every file that was written is whole" in said
        assert not list(out.rglob(".*"))
    done = invoke("convert", many, out, "--to", "txt")
    assert done.exit_code == 0
    assert f"{MANY - len(written):,} captions written" in done.stderr
    assert len(files(out)) == MANY


def test_a_run_may_write_meanwhile(tmp_path: Path, out: Path) -> None:
    """The run holds the lock of the journal; the conversion only reads."""
    source = tmp_path / "j.jsonl"
    with Journal.open(source, "jsonl", FIRST) as held:
        held.append([captioned(ref("a.jpg"))])
        assert invoke("convert", source, out, "--to", "txt").exit_code == 0
        held.append([captioned(ref("b.jpg"))])
        assert "1 caption written" in invoke("convert", source, out, "--to", "txt").stderr
        held.commit()
    assert set(files(out)) == {"a.txt", "b.txt"}
