"""`--watch` and `--notify-systemd` as a user runs them: the command in a process of its own, on real folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from commands import invoke
from photos import break_photo, write_photos

from batchcap.errors import OptionError
from batchcap.images.discovery import Inputs, resolve
from batchcap.images.walk import Unread
from batchcap.options.run import RunOptions
from batchcap.options.watch import WatchOptions
from batchcap.records import ImageRef
from batchcap.run import pipeline
from batchcap.run.figures import Progress
from batchcap.system.interrupts import InterruptGuard

SECONDS = 60


def arguments(inputs: Sequence[Path], output: Path, model: Path, *more: str) -> list[str]:
    names = [*map(str, inputs), "-o", str(output), "--model", str(model), "--device", "cpu", "--batch-size", "4"]
    return [sys.executable, "-m", "batchcap", "run", *names, *more]


class Watch:
    """A run with ``--watch`` in a process of its own."""

    def __init__(self, photos: Path, output: Path, model: Path, *more: str, **environment: str) -> None:
        self.output = output
        command = arguments([photos], output, model, "--watch", "--settle", "0.2", *more)
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)

    def lines(self) -> list[dict[str, Any]]:
        text = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def until(self, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The records once they are as they should be."""
        end = time.monotonic() + SECONDS
        while not holds(found := self.lines()):
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return found

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it as a service manager does; what it has said."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=SECONDS)[1]
        assert self.process.returncode == 128 + number, said
        return said


@pytest.fixture
def watch(photos: Path, output: Path, tiny_bundle: Path) -> Iterator[Callable[..., Watch]]:
    begun: list[Watch] = []

    def begin(*more: str, **environment: str) -> Watch:
        begun.append(Watch(photos, output, tiny_bundle, *more, **environment))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.communicate()


def test_the_records_are_those_of_a_run(
    watch: Callable[..., Watch], photos: Path, output: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    running = watch("--num-captions", "2")
    running.until(lambda found: len(found) == 10)
    more = tmp_path / "more"
    write_photos(more, 16)
    for number in (0, 10, 12, 13):  # all come at once, as on a machine that is not busy
        shutil.copy2(more / f"{number or 4:04}.jpg", tmp_path / "copy.jpg")
        (tmp_path / "copy.jpg").rename(photos / f"{number:04}.jpg")
    shutil.copytree(more / "sub", tmp_path / "tree/a b\n", copy_function=shutil.copy2)
    (tmp_path / "tree").rename(photos / "tree")
    break_photo(more / "0015.jpg")
    more.rename(photos / "moved")
    (photos / "link.jpg").symlink_to(photos / "0001.jpg")
    (photos / "nowhere.jpg").symlink_to(photos / "gone")
    expected = 10 + 3 + 5 + 16 + 1
    found = running.until(
        lambda found: len({each["path"] for each in found}) == expected and len(found) == expected + 1
    )
    said = running.stop()
    assert f"{expected + 1} images, 2 failed, waiting for more" in said
    assert f"Stopped: {expected - 1} records safe in {output}" in said
    other = tmp_path / "run.jsonl"
    done = subprocess.run(arguments([photos], other, tiny_bundle, "--num-captions", "2", "-q"), check=False)
    assert done.returncode == 3
    last = {record["path"]: record for record in running.lines()}
    assert last == {record["path"]: record for record in map(json.loads, other.read_text().splitlines())}
    again = subprocess.run(
        arguments([photos], output, tiny_bundle, "--num-captions", "2"), check=False, capture_output=True, text=True
    )
    assert (again.returncode, running.lines()) == (3, found), again.stderr


def test_a_truncated_file_that_is_completed(watch: Callable[..., Watch], photos: Path) -> None:
    whole = (photos / "0001.jpg").read_bytes()
    running = watch("--quiet")
    running.until(lambda found: len(found) == 10)
    (photos / "slow.part").write_bytes(whole[:200])
    with (photos / "slow.part").rename(photos / "slow.jpg").open("ab") as file:
        (failed,) = running.until(lambda found: len(found) == 11)[10:]
        file.write(whole[200:])
    (captioned,) = running.until(lambda found: len(found) == 12)[11:]
    assert (failed["path"], failed["error"]["kind"]) == ("slow.jpg", "truncated")
    assert (captioned["path"], captioned["bytes"]) == ("slow.jpg", len(whole))
    assert running.stop(signal.SIGINT) == ""


def test_a_disk_that_is_taken_away_writes_no_errors(watch: Callable[..., Watch], photos: Path, output: Path) -> None:
    running = watch("--rescan", "1")
    running.until(lambda found: len(found) == 10)
    photos.rename(photos.with_name("away"))
    assert running.process.stderr is not None
    for line in running.process.stderr:
        if "is not there any more" in line:
            break
    second = subprocess.run(running.process.args, check=False, capture_output=True, text=True)  # type: ignore[call-overload]
    assert second.returncode == 1  # at the start the folder must be there
    assert "Input not found" in second.stderr
    write_photos(photos.with_name("away"), 12)
    photos.with_name("away").rename(photos)
    found = running.until(lambda found: len(found) == 22)  # all were written anew
    assert all("caption" in record for record in found)
    locked = subprocess.run(running.process.args, check=False, capture_output=True, text=True)  # type: ignore[call-overload]
    assert locked.returncode == 75
    running.stop()


def test_an_empty_folder_may_fill(watch: Callable[..., Watch], photos: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()
    running = watch()
    assert running.process.stderr is not None
    assert any("waiting for more" in line for line in running.process.stderr if "0 images" in line)
    write_photos(photos, 3)
    running.until(lambda found: len(found) == 3)
    running.stop()


class Finite:
    """So many passes over everything, in place of those that go on."""

    def __init__(self, inputs: Inputs, count: int) -> None:
        self.unread = Unread()
        self._inputs, self._count = inputs, count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def __iter__(self) -> Iterator[Iterator[ImageRef] | None]:
        for _ in range(self._count):
            yield self._inputs.images()
            yield None


def test_a_failure_that_lasts_counts_once(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "nowhere.jpg").symlink_to(photos / "gone")
    break_photo(photos / "0001.jpg")
    monkeypatch.setattr(pipeline, "passes_of", lambda job, *_: Finite(job.inputs, 4))
    seen: list[Progress] = []
    options = RunOptions(inputs=(photos,), output=output, model=str(tiny_bundle), device="cpu")
    summary = pipeline.run(options, {}, seen.append, watch=WatchOptions(watch=True))
    assert (summary.captioned, summary.failed, summary.failed_anew, summary.skipped) == (9, 2, 2, 0)
    assert [(each.done, each.failed) for each in seen if each.waiting] == [(11, 2)] * 4
    assert len(output.read_bytes().splitlines()) == 11


def test_what_was_there_before_is_counted_once(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later passes skip what this run has written: those are not images that the output had."""
    break_photo(photos / "0000.jpg")
    options = RunOptions(inputs=(photos,), output=output, model=str(tiny_bundle), device="cpu")
    pipeline.run(replace(options, limit=4))

    class Growing(Finite):
        def __iter__(self) -> Iterator[Iterator[ImageRef] | None]:
            for number, images in enumerate(super().__iter__()):
                yield images
                write_photos(photos / str(number), 1)

    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.done == 8:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(pipeline, "passes_of", lambda job, *_: Growing(job.inputs, 4))
    with InterruptGuard() as guard:
        summary = pipeline.run(options, {}, report, watch=WatchOptions(watch=True), guard=guard)
    assert [(each.done, each.skipped) for each in seen] == [(6, 4), (6, 4), (8, 4)]
    assert (summary.interrupted, summary.skipped, summary.skipped_failures) == (signal.SIGTERM, 4, 1)
    assert (summary.captioned, summary.failed, summary.without_caption) == (8, 0, 1)


def test_an_image_that_vanishes_while_it_is_captioned_is_no_failure(
    photos: Path, output: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = list(resolve([photos]).images())
    for ref in refs[:4]:
        Path(ref.file).unlink()

    class Found(Finite):
        def __iter__(self) -> Iterator[Iterator[ImageRef] | None]:
            yield iter(refs)

    monkeypatch.setattr(pipeline, "passes_of", lambda job, *_: Found(job.inputs, 1))
    options = RunOptions(inputs=(photos,), output=output, model=str(tiny_bundle), device="cpu")
    summary = pipeline.run(options, watch=WatchOptions(watch=True))
    assert (summary.captioned, summary.failed, len(output.read_bytes().splitlines())) == (6, 0, 6)


# systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        sock.bind(str(tmp_path / "notify"))
        yield sock


def told(manager: socket.socket, last: str) -> list[str]:
    """All lines up to one that begins so."""
    lines: list[str] = []
    while not any(line.startswith(last) for line in lines):
        lines += manager.recv(4096).decode().split("\n")
    return lines


def test_systemd_is_told_of_a_run_that_goes_on(
    watch: Callable[..., Watch], photos: Path, manager: socket.socket
) -> None:
    running = watch("--notify-systemd", NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="200000")
    assert told(manager, "READY=1") == ["READY=1", "STATUS=captioning: 0 captioned, 0 failed, 0 skipped"]
    assert "STATUS=waiting for images: 10 captioned, 0 failed, 0 skipped" in told(manager, "STATUS=waiting")
    assert "WATCHDOG=1" in told(manager, "WATCHDOG")  # also while nothing arrives
    write_photos(photos / "more", 1)
    told(manager, "STATUS=waiting for images: 11 captioned")
    os.kill(running.process.pid, signal.SIGSTOP)  # a run that hangs: nothing goes on telling that it is well
    manager.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            manager.recv(4096)
    manager.settimeout(SECONDS)
    os.kill(running.process.pid, signal.SIGCONT)
    running.stop()
    assert told(manager, "STOPPING=1")[-1] == "STOPPING=1"


def test_systemd_is_told_of_every_run(
    photos: Path, output: Path, tiny_bundle: Path, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    for expected in ("10 captioned, 0 failed, 0 skipped", None):
        invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--notify-systemd")
        lines = told(manager, "STOPPING=1")
        assert lines[0] == "READY=1"  # also where there is nothing to do: systemd waits for it
        assert expected is None or f"STATUS=ended: {expected}" in lines
    monkeypatch.delenv("NOTIFY_SOCKET")
    done = invoke("run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu", "--notify-systemd")
    assert done.exit_code == 0


# Wrong usage, and what the system lacks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": None}, "--watch needs an output file"),
        ({"limit": 3}, "--limit ends the run"),
        ({"overwrite": True}, "--overwrite replaces it"),
    ],
)
def test_options_that_contradict_each_other(photos: Path, output: Path, settings: dict[str, Any], message: str) -> None:
    options = RunOptions(**{"inputs": (photos,), "output": output, **settings})
    WatchOptions().check_beside(options)
    with pytest.raises(OptionError, match=message):
        WatchOptions(watch=True).check_beside(options)


def test_wrong_usage_on_the_command_line(photos: Path, output: Path) -> None:
    done = invoke("run", photos, "-o", output, "--watch", "--limit", "3")
    assert done.exit_code == 2
    assert not output.exists()


def test_without_the_library_nothing_begins(photos: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = invoke("run", photos, "-o", output, "--watch", "--device", "cpu")
    assert done.exit_code == 1
    assert "pip install 'batchcap[watch]'" in done.stderr
    assert not output.exists()


def test_the_limit_of_watched_folders(photos: Path, output: Path, tiny_bundle: Path) -> None:
    namespace = ["unshare", "-Ur", "sh", "-c", 'echo 2 >/proc/sys/user/max_inotify_watches && "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a user namespace with a limit of its own cannot be made here")
    for number in range(3):
        (photos / str(number)).mkdir()
    command = [*namespace, *arguments([photos], output, tiny_bundle, "--watch")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    assert "The system watches no more folders: 5 are to be watched." in done.stderr
    assert "fs.inotify.max_user_watches" in done.stderr
    assert not output.exists()
