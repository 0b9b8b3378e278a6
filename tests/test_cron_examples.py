"""`examples/cron/`: what systemd, cron and logrotate say of the files, and whether the commands in them run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import invoke
from paths import ROOT
from photos import write_photos
from processes import PATIENCE

EXAMPLES = ROOT / "examples" / "cron"
PROGRAM = "/opt/batchcap/bin/batchcap"
SERVICES = ("batchcap.service", "batchcap-watch.service")
MOST_EXPOSED = 10
"""Of `systemd-analyze security`, in tenths: 0 is nothing, 100 everything. Most services of Debian have 90 and more."""


def needs(program: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What the files name: photos, and folders for the output and the log."""
    for name in write_photos(tmp_path / "srv/photos", 4):
        os.utime(tmp_path / "srv/photos" / name, (1, 1))  # nobody writes them any more
    for folder in ("var/lib/batchcap", "var/log/batchcap", "opt/batchcap/bin"):
        (tmp_path / folder).mkdir(parents=True)
    program = tmp_path / PROGRAM[1:]
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m batchcap "$@"\n')
    program.chmod(0o755)
    return tmp_path


def placed(text: str, place: Path) -> str:
    return re.sub(r"/(srv/photos|var/(lib|log)/batchcap|opt/batchcap)\b", rf"{place}\g<0>", text)


def log_of(place: Path) -> str:
    log = place / "var/log/batchcap/batchcap.log"
    return log.read_text() if log.exists() else ""


def captions(place: Path) -> list[str]:
    lines = (place / "var/lib/batchcap/captions.jsonl").read_text().splitlines()
    return [json.loads(line)["caption"] for line in lines]


@pytest.mark.parametrize("name", [*SERVICES, "batchcap.timer"])
def test_systemd_finds_nothing_wrong(name: str, place: Path) -> None:
    analyze = needs("systemd-analyze")
    for file in EXAMPLES.glob("batchcap*.*er*"):
        (place / file.name).write_text(placed(file.read_text(), place))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(place / name)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(name: str) -> None:
    command = [needs("systemd-analyze"), "security", "--offline=true", f"--threshold={MOST_EXPOSED}"]
    done = subprocess.run([*command, str(EXAMPLES / name)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:]


def test_both_services_may_do_the_same() -> None:
    first, second = ((EXAMPLES / name).read_text() for name in SERVICES)
    start = "# As little of the machine"
    assert first[first.index(start) :] == second[second.index(start) : second.index("\n[Install]")]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_starts(name: str, place: Path) -> None:
    """As systemd would start it."""
    unit = (EXAMPLES / name).read_text()
    match = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.MULTILINE)
    assert match is not None
    command = placed(match[1].replace("\\\n", " "), place)
    command = command.replace("${STATE_DIRECTORY}", f"{place}/var/lib/batchcap")
    command = command.replace("${LOGS_DIRECTORY}", f"{place}/var/log/batchcap")
    process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stderr=subprocess.PIPE, text=True)
    if "--watch" in command:
        deadline = time.monotonic() + PATIENCE
        while "4 images, waiting for more" not in log_of(place) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        process.terminate()
    assert process.communicate(timeout=PATIENCE)[1] == ""
    assert process.returncode == (143 if "--watch" in command else 0)
    assert str(process.returncode) in f"0 {re.search('SuccessExitStatus=(.*)', unit)[1]}".split()  # type: ignore[index]
    assert len(captions(place)) == 4


@pytest.mark.parametrize("name", SERVICES)
def test_what_ends_before_it_is_ready_is_a_success_only_where_nothing_waits_for_that(name: str) -> None:
    """systemd says "protocol" of a service of Type=notify that ends before READY=1, whatever its exit code."""
    unit = (EXAMPLES / name).read_text()
    success = re.search("^SuccessExitStatus=(.*)$", unit, re.MULTILINE)
    assert success is not None
    assert ("Type=exec\n" in unit) == ("75" in success[1].split())
    assert ("Type=notify\n" in unit) != ("Type=exec\n" in unit)


def test_cron_runs_its_lines(place: Path) -> None:
    crontab = placed((EXAMPLES / "batchcap.crontab").read_text(), place)
    path = re.search(r"^PATH=(.*)$", crontab, re.MULTILINE)
    assert path is not None
    for line in re.findall(r"^\d+ \d+ \S+ \S+ \S+  (.*)$", crontab, re.MULTILINE):
        assert "%" not in line  # a line end, to cron
        done = subprocess.run(
            ["/bin/sh", "-c", line], check=False, capture_output=True, text=True, env={"PATH": path[1]}
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # else cron sends a mail
    assert len(captions(place)) == 4


def test_cron_reads_its_file() -> None:
    done = subprocess.run(
        [needs("crontab"), "-n", EXAMPLES / "batchcap.crontab"], check=False, capture_output=True, text=True
    )
    if "invalid option" in done.stderr:
        pytest.skip("this crontab has no dry run")
    assert done.returncode == 0, done.stderr


def test_logrotate_reads_its_file(place: Path) -> None:
    settings = place / "conf"
    text = placed((EXAMPLES / "batchcap.logrotate").read_text(), place)
    settings.write_text(re.sub(r"(su|create 0644) batchcap batchcap", r"\1 root root", text))
    done = subprocess.run([needs("logrotate"), "-d", str(settings)], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "error" not in done.stderr.lower()


def test_the_command_of_the_container(place: Path) -> None:
    text = (EXAMPLES / "Containerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    arguments = [
        part.replace("/photos", f"{place}/srv/photos").replace("/captions/", f"{place}/var/lib/batchcap/")
        for part in json.loads(command)
    ]
    done = invoke(*arguments, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert len(captions(place)) == 4
