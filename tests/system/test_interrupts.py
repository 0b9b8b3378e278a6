"""Signals: the guard by itself, and real processes that are stopped, killed, and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from bundles import build_bundle, looping, rewrite
from photos import write_photos
from processes import PATIENCE, command, count, cpu_seconds, environment, records, running

from batchcap.system import interrupts
from batchcap.system.interrupts import Interrupted, InterruptGuard

pytestmark = pytest.mark.usefixtures("own_handlers")

IMAGES = 1500


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_exception(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, InterruptGuard():
        signal.raise_signal(number)
    assert caught.value.signum == number
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not isinstance(caught.value, Exception)


def test_a_shielded_block_runs_to_its_end() -> None:
    steps = []
    with pytest.raises(Interrupted), InterruptGuard() as guard:
        with guard.shielded():
            with guard.shielded():
                signal.raise_signal(signal.SIGTERM)
                steps.append("inner")
            steps.append("outer")
        steps.append("after")
    assert steps == ["inner", "outer"]


def test_a_signal_at_any_moment_of_a_shield_leaves_nobody_at_work() -> None:
    """Else the process would not be ended in time any more. Python runs handlers between any two lines."""
    body = InterruptGuard.shielded.__wrapped__.__code__  # type: ignore[attr-defined]
    lines = {line for _, _, line in body.co_lines() if line is not None and line > body.co_firstlineno + 1}
    before = sys.gettrace()
    for line in sorted(lines):
        guard = InterruptGuard()

        def trace(frame: FrameType, event: str, _: Any, line: int = line) -> Any:
            if frame.f_code is not body:
                return None
            if event == "line" and frame.f_lineno == line:
                sys.settrace(before)
                signal.raise_signal(signal.SIGTERM)
            return trace

        with suppress(Interrupted), guard:
            sys.settrace(trace)
            with guard.shielded():
                pass
        sys.settrace(before)
        assert not guard.is_at_work, f"line {line}"


def test_the_second_signal_meets_the_usual_handler() -> None:
    with InterruptGuard() as guard, pytest.raises(KeyboardInterrupt), guard.shielded():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_last_acts_come_in_the_order_of_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner one first: an outer one, which writes to a disk that does not answer, may never return."""
    monkeypatch.setattr(interrupts, "_FINAL_SECONDS", 0.05)
    free, done = threading.Event(), threading.Event()
    with interrupts.before_forced_end(lambda _: free.wait()), interrupts.before_forced_end(lambda _: done.set()):
        interrupts._run_final_actions(signal.SIGTERM)
        found = done.wait(5)
    free.set()
    assert found


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with InterruptGuard():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.fixture(scope="module")
def many_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many images that a run with one image a batch is still at work when it is stopped."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    write_photos(folder, 12, (8, 8))
    originals = sorted(folder.rglob("*.jpg"))
    for number in range(len(originals), IMAGES):
        shutil.copyfile(originals[number % len(originals)], folder / f"{number:04}.jpg")
    return folder


def assert_complete(output: Path) -> None:
    paths = [record["path"] for record in records(output)]
    assert len(paths) == len(set(paths)) == IMAGES
    assert all("caption" in record for record in records(output))


@pytest.mark.parametrize("before", ["job.open_bundle", "one_pass.load"])
@pytest.mark.parametrize("old", [None, "empty", "a record"])
def test_a_run_that_stops_before_it_writes(before: str, old: str | None, tmp_path: Path, tiny_bundle: Path) -> None:
    """A signal before the bundle is opened, or before the first image is read."""
    write_photos(tmp_path / "photos", 2)
    output = tmp_path / "out.jsonl"
    usual = command(tmp_path / "photos", output, tiny_bundle)
    if old is not None:
        subprocess.run([*usual, "--limit", "1"], check=True, capture_output=True, env=environment())
        if old == "empty":
            output.write_bytes(b"")
    bytes_before = output.read_bytes() if output.exists() else None
    code = (
        f"import signal; from batchcap.run import job, one_pass; real = {before}\n"
        f"def stopped(*a, **k): signal.raise_signal(signal.SIGINT); return real(*a, **k)\n"
        f"{before} = stopped\n"
        "from batchcap.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *usual[3:]], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 130, done.stderr
    assert (output.read_bytes() if output.exists() else None) == bytes_before
    said = done.stderr.splitlines()[-1]
    if old == "a record" and before == "one_pass.load":
        assert said == f"Stopped: 1 record safe in {output}; the same command goes on from there."
    else:
        assert said == f"Stopped: nothing was written to {output}; the same command starts again."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_goes_on(
    number: signal.Signals, code: int, many_photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    output = tmp_path / "out.jsonl"
    slow = command(many_photos, output, tiny_bundle, "--batch-size", "1")
    with running(slow, output) as process:
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == code
    safe = len(records(output))
    assert output.read_bytes().endswith(b"\n")
    assert 20 <= safe < IMAGES
    assert said.endswith(f".\nStopped: {safe:,} records safe in {output}; the same command goes on from there.\n")
    assert said.count("\n") == 2, "what is captioned, and how it ended"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"], "the lock is free and gone"
    again = subprocess.run(
        command(many_photos, output, tiny_bundle), capture_output=True, text=True, check=False, env=environment()
    )
    assert again.returncode == 0, again.stderr
    assert f"{safe:,} images skipped" in again.stderr
    assert_complete(output)


def test_a_killed_run_goes_on(many_photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.csv"
    slow = command(many_photos, output, tiny_bundle, "--batch-size", "1")
    for lines in (20, 60, 100):
        with running(slow, output, lines) as process:
            process.kill()
            assert process.wait(PATIENCE) == -signal.SIGKILL
    assert count(output) < IMAGES
    done = subprocess.run(
        command(many_photos, output, tiny_bundle), capture_output=True, text=True, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr
    paths = [line.split(",", 1)[0] for line in output.read_text().splitlines()[1:]]
    assert len(paths) == len(set(paths)) == IMAGES


def test_a_torn_line_is_cut(many_photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    slow = command(many_photos, output, tiny_bundle, "--batch-size", "1")
    with running(slow, output) as process:
        process.kill()
        process.wait(PATIENCE)
    whole = output.read_bytes()
    output.write_bytes(whole + whole.splitlines()[-1][:30])
    subprocess.run(command(many_photos, output, tiny_bundle), capture_output=True, check=True, env=environment())
    assert_complete(output)


def test_a_second_run_at_the_same_time_is_refused(many_photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    slow = command(many_photos, output, tiny_bundle, "--batch-size", "1")
    with running(slow, output) as first:
        first.send_signal(signal.SIGSTOP)  # else it may be over before the second has begun
        second = subprocess.run(slow, capture_output=True, text=True, check=False, env=environment())
        assert second.returncode == 75
        assert str(output) in second.stderr
        assert "Traceback" not in second.stderr
        first.terminate()
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=PATIENCE)
        assert first.returncode == 143
    subprocess.run(command(many_photos, output, tiny_bundle), capture_output=True, check=True, env=environment())
    assert_complete(output)


def test_an_interrupted_overwrite_leaves_the_old_output(many_photos: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    output = tmp_path / "out.jsonl"
    old = command(many_photos, output, tiny_bundle, "--limit", "5")
    subprocess.run(old, capture_output=True, check=True, env=environment())
    before = output.read_bytes()
    partial = tmp_path / "out.jsonl.partial"
    slow = command(many_photos, output, tiny_bundle, "--batch-size", "1", "--overwrite")
    with running(slow, partial) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert output.read_bytes() == before
    assert said.splitlines()[1:] == [
        (
            f"Stopped: {output} was not touched; {len(records(partial))} records of the new output in {partial}; "
            "the same command goes on from there."
        )
    ]


def test_ctrl_c_while_the_command_line_is_imported_is_no_traceback(tmp_path: Path) -> None:
    """An `import` that sends the signal stands in for the right moment."""
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    code = "from batchcap.__main__ import main; main()"
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment() | {"PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_stream_can_be_stopped(many_photos: Path, tiny_bundle: Path) -> None:
    arguments = command(many_photos, Path("-"), tiny_bundle, "--batch-size", "1")
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # Not `communicate`: it would miss what came with the first line and waits in the stream's buffer.
        whole = (first + process.stdout.read()).splitlines()
        said = process.stderr.read()
    assert process.returncode == 130
    assert all("caption" in json.loads(line) for line in whole)
    assert said.splitlines()[-1].startswith(f"Stopped: {len(whole):,} image")


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGINT)])
def test_a_storm_of_signals_is_one(
    numbers: tuple[signal.Signals, ...], many_photos: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    """As `timeout` sends them: to the process, and at once to its group."""
    output = tmp_path / "out.jsonl"
    with running(command(many_photos, output, tiny_bundle, "--batch-size", "1"), output) as process:
        started, sent = time.monotonic(), 0
        while process.poll() is None and time.monotonic() - started < 0.4:
            process.send_signal(numbers[sent % len(numbers)])
            sent += 1
        _, said = process.communicate(timeout=PATIENCE)
    assert sent > len(numbers)
    assert process.returncode in {128 + number for number in numbers}
    lines = said.splitlines()
    assert (
        lines[-1] == f"Stopped: {len(records(output)):,} records safe in {output}; the same command goes on from there."
    )
    assert "race" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_run_that_hangs(number: signal.Signals, tmp_path: Path) -> None:
    """In a graph that runs for ever, which is let in here: no line of Python is reached."""
    bundle = build_bundle(tmp_path / "bundle")
    rewrite(bundle, "encoder.onnx", looping("memory.colour"))
    write_photos(tmp_path / "photos", 1)
    code = "import batchcap.bundle.files as b; b.LOOPS = frozenset(); from batchcap.__main__ import main; main()"
    arguments = ["run", str(tmp_path / "photos"), "-o", str(tmp_path / "out.jsonl"), "--model", str(bundle)]
    arguments += ["--summary", str(tmp_path / "run.json"), "--metrics", str(tmp_path / "run.prom")]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, env=environment())
    try:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "out.jsonl").exists():
            assert time.monotonic() < deadline
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        before = cpu_seconds(process.pid)
        while cpu_seconds(process.pid) < before + 1:  # it is in the loop by then
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(number)
        assert process.wait(5) == 128 + number
        assert json.loads((tmp_path / "run.json").read_bytes())["signal"] == number.name
        assert f'exit_code="{128 + number}"}} 1\n' in (tmp_path / "run.prom").read_text()
    finally:
        process.kill()
        process.communicate()
