"""--embed and runs: the next run has nothing to do, and a kill loses no image and no caption."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tagged_images
from commands import COUNT, invoke
from conversions import converted, counts, journal, record
from embeddings import captioned
from journals import posix
from photos import write_photos
from processes import environment
from tagged_images import coded_pixels

from batchcap.convert.embed_jobs import CHANGED
from batchcap.convert.packets import look_inside
from batchcap.images.files import look
from batchcap.journal.reader import JournalReader

pytestmark = [
    pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed"),
    pytest.mark.usefixtures("plain_environment"),
]
MANY = 150


@pytest.mark.parametrize("options", [(), ("--num-captions", "2", "--checksum")])
def test_a_run_after_embedding_in_place_has_nothing_to_do(
    tiny_bundle: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    write_photos(tmp_path / "photos", COUNT)
    run = ("run", tmp_path / "photos", "-o", tmp_path / "c.csv", "--model", tiny_bundle, *options)
    assert invoke(*run).exit_code == 0
    for said in (f"{COUNT} captions written", f"{COUNT} unchanged"):
        done = invoke("convert", tmp_path / "c.csv", tmp_path / "photos", "--embed")
        assert (done.exit_code, said in done.stderr) == (0, True), done.output
    before = (tmp_path / "c.csv").read_bytes()
    done = invoke(*run)
    assert (done.exit_code, "Nothing new" in done.stderr) == (0, True), done.output
    assert (tmp_path / "c.csv").read_bytes() == before
    write_photos(tmp_path / "photos" / "more", 2)
    assert invoke(*run).exit_code == 0
    assert "2 captions written" in invoke("convert", tmp_path / "c.csv", tmp_path / "photos", "--embed").stderr


@posix
def test_killed_in_the_middle(tmp_path: Path) -> None:
    """Each image is the old or the new one, whole; the journal has the new ones, but for one at most."""
    folder, source = tmp_path / "in", tmp_path / "j"
    folder.mkdir()
    image = tagged_images.jpeg(trailer=b"")
    for number in range(MANY):
        (folder / f"{number}.jpg").write_bytes(image)
    looks = {f"{number}.jpg": look(str(folder / f"{number}.jpg")) for number in range(MANY)}
    journal(
        source, [record(name, "a dog", folder, bytes=seen.size, mtime_us=seen.mtime_us) for name, seen in looks.items()]
    )
    arguments = [sys.executable, "-m", "batchcap", "convert", str(source), str(folder), "--embed", "-q"]
    process = subprocess.Popen(arguments, env=environment())
    while source.read_bytes().count(b"\n") < MANY + 5:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    known = {each.path: each.bytes for each in JournalReader(source).last_records()}
    done = [name for name in looks if b"a dog" in (look_inside(str(folder / name)).packet or b"")]
    assert 5 <= len(done) < MANY
    pixels = coded_pixels(folder / f"{MANY - 1}.jpg")
    assert all(coded_pixels(folder / name) == pixels for name in done)
    assert all((folder / name).read_bytes() == image for name in looks if name not in done)
    unknown = [name for name in looks if known[name] != (folder / name).stat().st_size]
    assert len(unknown) <= 1
    assert set(unknown) <= set(done)


def test_a_journal_that_was_not_told_is_told_by_the_next_conversion(tmp_path: Path) -> None:
    """A kill may fall between the image and its record. Somebody else's change has another time."""
    source = journal(
        tmp_path / "j", captioned(tmp_path / "in", dict.fromkeys(("a.jpg", "b.jpg"), tagged_images.jpeg()))
    )
    before = source.read_bytes()
    assert converted(source, tmp_path / "in", embed=True).written == 2
    told = source.read_bytes()
    source.write_bytes(before)
    os.utime(tmp_path / "in/b.jpg")
    tally = converted(source, tmp_path / "in", embed=True)
    assert (tally.written, tally.unchanged, counts(tally.refused)) == (0, 1, {CHANGED: 1})
    assert source.read_bytes() == b"".join(told.splitlines(keepends=True)[:3])
