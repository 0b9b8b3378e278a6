"""A signal ends a run in time wherever it is, and the batch that the model works on is written before."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from photos import write_photos
from processes import PATIENCE, command, environment, records
from runs import lines, run

from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.run.figures import Summary
from batchcap.runtime.captioner import Captioner
from batchcap.system.interrupts import InterruptGuard

pytestmark = pytest.mark.usefixtures("own_handlers")

IN_TIME = 4.0
"""Seconds: two, and as much again on a busy machine. What hangs would do so for a minute."""
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
# What the process says when it is where it hangs, and how: a thread waits for a disk that does not answer, the main
# thread waits in a call that no handler of Python interrupts, and the model works on a batch.
AT_WORK = "import os, signal, threading, time; say = lambda: os.write(1, b'here\\n')\n"
READING = "from batchcap.images import files; files.read = lambda *_: (say(), time.sleep(60))\n"
WALKING = """
from batchcap.images import walk
def hang(*_):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Timer(0.3, say).start(); time.sleep(60)
walk._list = hang
"""
LOADING = WALKING.replace("from batchcap.images import walk", "from batchcap.run import job").replace(
    "walk._list", "job.Captioner"
)
CAPTIONING = """
from batchcap.runtime.captioner import Captioner
real = Captioner.caption_pixels
def slow(*arguments):
    say(); time.sleep(SECONDS)
    return real(*arguments)
Captioner.caption_pixels = slow
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 8)
    return tmp_path / "photos"


@contextmanager
def hanging(where: str, arguments: list[str], **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that runs batchcap and has said that it is where it hangs."""
    code = f"{AT_WORK}{where}\nfrom batchcap.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments[3:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **settings,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("where", "number", "code"),
    [
        pytest.param(where, *each, id=name)
        for where, each, name in zip(
            (READING, WALKING, LOADING), SIGNALS, ("reading", "walking", "loading the model"), strict=True
        )
    ],
)
def test_a_run_that_waits_ends_at_once(
    where: str, number: signal.Signals, code: int, photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    output = tmp_path / "out.jsonl"
    output.touch()
    with hanging(where, command(photos, output, tiny_bundle)) as process:
        sent = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, said
        assert time.monotonic() - sent < IN_TIME
    assert output.read_bytes() == b""
    if where == READING:
        assert said.endswith(f"Stopped: nothing was written to {output}; the same command starts again.\n")
    else:
        assert said.endswith(f"Stopped at once: what was written to {output} is safe; the same command goes on.\n")


@contextmanager
def dead_disk(folder: Path) -> Iterator[None]:
    """A file system in the place of a folder that answers nothing: what looks at it cannot be interrupted."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no file systems in user space: {error}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", os.fsencode(folder), b"fuse", 0, options):
        os.close(device)
        pytest.skip(f"may not mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(device)  # all calls that wait fail now
        libc.umount2(os.fsencode(folder), 2)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
@pytest.mark.parametrize(("number", "code"), SIGNALS[:2])
def test_a_disk_that_does_not_answer_does_not_hold_a_run(
    number: signal.Signals, code: int, photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    """The main thread looks for images there, in a call that takes no signal."""
    (photos / "zzz").mkdir()
    output = tmp_path / "out.jsonl"
    with dead_disk(photos / "zzz"):
        process = subprocess.Popen(
            command(photos, output, tiny_bundle, "--batch-size", "1"),
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            started, waits = time.monotonic(), 0
            while waits < 10:  # a write to a disk is such a wait too, but a short one
                assert time.monotonic() - started < PATIENCE
                waits = waits + 1 if _state(process.pid) == "D" else 0
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.03)
            sent = time.monotonic()
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE)
            assert process.returncode == code
            assert time.monotonic() - sent < IN_TIME
            assert said.endswith(f"Stopped at once: what was written to {output} is safe; the same command goes on.\n")
        finally:
            process.kill()
            process.communicate()
    written = records(output)
    assert [record["path"] for record in written] == sorted(record["path"] for record in written)
    (photos / "zzz").rmdir()
    assert run(photos, output, tiny_bundle).exit_code == 0
    assert len(records(output)) == 8


def _state(pid: int) -> str:
    """Of the main thread: D is a wait that no signal ends."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_batch_that_the_model_works_on_is_written(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    """Longer than a run that waits may take to end."""
    output = tmp_path / "out.jsonl"
    arguments = command(photos, output, tiny_bundle, "--batch-size", "3")
    with hanging(CAPTIONING.replace("SECONDS", "2.2"), arguments) as process:
        process.send_signal(signal.SIGHUP)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 129, said
    assert [record["path"] for record in records(output)] == ["0000.jpg", "0001.jpg", "0003.jpg"]
    assert said.endswith(f"Stopped: 3 records safe in {output}; the same command goes on from there.\n")


def test_a_pipe_that_nobody_reads_does_not_hold_a_run(photos: Path, tiny_bundle: Path) -> None:
    """As under a pager, which Ctrl-C does not end."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    write_photos(photos, 60)
    arguments = command(photos, Path("-"), tiny_bundle)
    process = subprocess.Popen(arguments, stdout=write, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        waited = time.monotonic()
        while select.select([], [write], [], 0)[1]:  # until it is full
            assert time.monotonic() < waited + PATIENCE
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert time.monotonic() - sent < IN_TIME
        assert said.endswith("Stopped at once: the last line on standard output may not be whole.\n")
    finally:
        process.kill()
        process.communicate()
        os.close(read)
        os.close(write)


def test_a_storm_that_goes_on_ends_a_slow_batch(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    with hanging(CAPTIONING.replace("SECONDS", "60"), command(photos, output, tiny_bundle)) as process:
        started = time.monotonic()
        while process.poll() is None:
            assert time.monotonic() - started < 5
            for number, _ in SIGNALS:
                process.send_signal(number)
        assert process.returncode in {code for _, code in SIGNALS}
        assert time.monotonic() - started >= 0.5
    assert output.read_bytes() == b""
    assert run(photos, output, tiny_bundle).captioned == 8


def test_a_run_under_nohup_outlives_its_terminal(photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    arguments = command(photos, output, tiny_bundle)
    with hanging(
        CAPTIONING.replace("SECONDS", "0.7"), arguments, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as process:
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert len(records(output)) == 8


@pytest.mark.parametrize("number", [number for number, _ in SIGNALS])
def test_a_batch_is_finished_whenever_the_signal_comes(
    number: signal.Signals, photos: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first moment of the second batch."""
    real, begun = Captioner.caption_pixels, []

    def interrupted(*arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 2:
            signal.raise_signal(number)
        return real(*arguments)

    monkeypatch.setattr(Captioner, "caption_pixels", interrupted)
    summary = run(photos, tmp_path / "out.jsonl", tiny_bundle, batch_size=3)
    assert (summary.exit_code, summary.captioned, len(begun)) == (128 + number, 6, 2)
    assert len(lines(tmp_path / "out.jsonl")) == 6


def test_a_program_of_someone_else_has_the_signals_of_python(
    photos: Path, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Captioner.caption_pixels
    handlers = []

    def interrupted(*arguments: Any) -> Any:
        handlers.append([signal.getsignal(number) for number, _ in SIGNALS])
        if len(handlers) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(Captioner, "caption_pixels", interrupted)
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    output = tmp_path / "out.jsonl"
    options = RunOptions(inputs=(photos,), output=output, model=tiny_bundle, device="cpu", batch_size=3)
    summary: Summary | None = None
    with pytest.raises(KeyboardInterrupt):
        summary = pipeline.run(options)
    assert summary is None
    assert handlers == [before] * 2
    assert len(lines(output)) == 3
    captioner = Captioner.load(tiny_bundle, device="cpu", batch_size=3)
    handlers.clear()
    assert len(list(captioner.caption(sorted(photos.rglob("*.jpg"))))) == 8
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before


def test_a_guard_that_is_not_entered_changes_nothing() -> None:
    guard = InterruptGuard()
    with pytest.raises(KeyboardInterrupt), guard.shielded():
        signal.raise_signal(signal.SIGINT)
