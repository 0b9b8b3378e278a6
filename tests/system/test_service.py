"""What systemd is told: received by a real datagram socket, with a path and an abstract one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from batchcap.system.service import Service


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The socket of a service manager, and its name as the environment has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        if request.param == "path":
            address = str(tmp_path / "notify")
            sock.bind(address)
            yield sock, address
        else:
            name = f"batchcap-test-{os.getpid()}"
            sock.bind(f"\0{name}")
            yield sock, f"@{name}"


def received(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().split("\n")


def nothing(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        sock.recv(4096)
    except BlockingIOError:
        return True
    finally:
        sock.settimeout(10)
    return False


def test_all_messages(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    now = [100.0]
    with Service({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}, lambda: now[0]) as service:
        service.alive(lambda: "too early")
        assert nothing(sock)
        service.ready("captioning é\nREADY=0")
        assert received(sock) == ["READY=1", "STATUS=captioning é READY=0"]
        service.alive()
        assert received(sock) == ["WATCHDOG=1"]
        now[0] += 0.5
        service.alive()
        assert nothing(sock)
        now[0] += 0.5
        service.alive(lambda: "12 images")
        assert received(sock) == ["WATCHDOG=1", "STATUS=12 images"]
        service.ready("again")
        assert received(sock) == ["STATUS=again"]
        service.say("waiting")
        assert received(sock) == ["STATUS=waiting"]
    assert received(sock) == ["STOPPING=1"]
    assert nothing(sock)
    service.say("closed")
    assert nothing(sock)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def test_a_short_watchdog_is_told_in_half_of_its_time(manager: socket.socket) -> None:
    now, told = [0.0], []
    with Service({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "400000"}, lambda: now[0]) as service:
        service.ready("")
        received(manager)
        for _ in range(100):
            service.alive()
            if not nothing(manager):
                told.append(now[0])
            now[0] += 0.01
    assert len(told) == 5
    assert all(0.2 <= later - earlier < 0.22 for earlier, later in pairwise(told))


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}],
)
def test_without_a_watchdog_of_this_process_none_is_fed(manager: socket.socket, watchdog: dict[str, str]) -> None:
    with Service({"NOTIFY_SOCKET": manager.getsockname(), **watchdog}, lambda: 7.0) as service:
        service.ready("")
        received(manager)
        service.alive()
        assert nothing(manager)
        service.alive(lambda: "within the same second")
        assert nothing(manager)


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/nowhere/at/all", "@", "/" + "x" * 300, "/nul\0"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    with Service({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}) as service:
        service.ready("a")
        service.alive(lambda: "b")
        service.say("c")


def test_a_manager_that_went_away_fails_nothing(manager: socket.socket) -> None:
    with Service({"NOTIFY_SOCKET": manager.getsockname()}) as service:
        manager.close()
        service.ready("nobody")
        service.alive(lambda: "there")
