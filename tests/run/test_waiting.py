"""`--wait`: a second run on the same output goes on when the first has ended, as if it had just started."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import invoke, records
from processes import PATIENCE, command, environment

from batchcap.errors import OutputLockedError
from batchcap.options.operation import OperationOptions
from batchcap.options.run import RunOptions
from batchcap.run import pipeline
from batchcap.system.locks import open_locked


def test_a_run_waits_and_goes_on_as_if_just_started(photos: Path, output: Path, tiny_bundle: Path) -> None:
    """What the first has captioned is skipped, and images that came meanwhile are found."""
    options = RunOptions(inputs=(photos,), output=output, model=tiny_bundle, device="cpu", batch_size=3)
    said: list[str] = []
    (photos / "notes.txt").touch()
    journal, _ = open_locked(output)

    def meanwhile(text: str) -> None:
        said.append(text)
        journal.close()
        pipeline.run(options)
        for photo in sorted(photos.glob("*.jpg")):
            photo.rename(photo.with_name(f"new {photo.name}"))

    waited = pipeline.run(options, operation=OperationOptions(wait=60), say=meanwhile)
    assert said == [f"Another run is writing {output}: waiting up to 60 s for it."]
    assert (waited.captioned, waited.skipped) == (7, 3)
    assert waited.unread.kinds == {".txt": 1}
    assert len(records(output)) == 17


def test_a_run_that_waits_in_vain(photos: Path, output: Path, tiny_bundle: Path) -> None:
    held, _ = open_locked(output)
    arguments = ["run", photos, "-o", output, "--model", tiny_bundle, "--device", "cpu"]
    with held:
        at_once = invoke(*arguments)
        started = time.monotonic()
        done = invoke(*arguments, "--wait", "0.7")
        assert time.monotonic() - started >= 0.7
        quiet = invoke(*arguments, "--wait", "0.1", "--quiet")
        options = RunOptions(inputs=(photos,), output=output, model=tiny_bundle, device="cpu", overwrite=True)
        with pytest.raises(OutputLockedError):
            pipeline.run(options, operation=OperationOptions(wait=0.1))
    assert (at_once.exit_code, done.exit_code, quiet.exit_code) == (75, 75, 75)
    assert "waiting" not in at_once.stderr
    first, *error = done.stderr.splitlines()
    assert first == f"Another run is writing {output}: waiting up to 0.7 s for it."
    assert error == at_once.stderr.splitlines() == quiet.stderr.splitlines()
    assert invoke(*arguments, "--wait", "5").exit_code == 0


def test_ctrl_c_ends_the_waiting(photos: Path, output: Path, tiny_bundle: Path) -> None:
    held, _ = open_locked(output)
    arguments = command(photos, output, tiny_bundle, "--wait", "100")
    with held, subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Another run is writing {output}: waiting up to 100 s for it.\n"
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(PATIENCE) == 130
        assert time.monotonic() - sent < 4, "two seconds, and a busy machine"
    assert said == f"Stopped: nothing was written to {output}; the same command starts again.\n"


def test_a_stream_waits_for_nobody(photos: Path, tiny_bundle: Path) -> None:
    done = invoke("run", photos, "-o", "-", "--model", tiny_bundle, "--device", "cpu", "--wait", "9")
    assert done.exit_code == 0
    assert len(records(done.stdout)) == 10
