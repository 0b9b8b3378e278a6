"""Run a command and see every file that it writes and every connection that it tries, however short-lived.

A seccomp filter (seccomp_unotify(2)) holds the process at each such system call until this module has noted it, and
then lets it happen: for all threads and child processes, with or without root, and without any tool installed. Linux on
x86-64 only. As a script it is the launcher that puts the filter on.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

CAN_WATCH = sys.platform == "linux" and platform.machine() == "x86_64"

# System calls (asm/unistd_64.h) by what their arguments are: where the folder's descriptor and the path stand.
_FIRST, _SECOND = (None, 0), (None, 1)
_PATHS = {
    **dict.fromkeys((76, 83, 84, 85, 87, 133), _FIRST),  # truncate, mkdir, rmdir, creat, unlink, mknod
    **dict.fromkeys((82, 86, 88), _SECOND),  # rename, link, symlink: what they make
    **dict.fromkeys((258, 259, 263, 437), (0, 1)),  # mkdirat, mknodat, unlinkat, openat2
    **dict.fromkeys((264, 265, 316), (2, 3)),  # renameat, linkat, renameat2
    266: (1, 2),  # symlinkat
}
_OPENS = {2: (None, 0, 1), 257: (0, 1, 2)}  # open, openat: folder, path, flags
_SOCKET, _CONNECT, _SENDTO, _IO_URING = 41, 42, 44, 425
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC if CAN_WATCH else 0
_ARCH = 0xC000003E
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_AT_FDCWD = -100


@dataclass
class Seen:
    """What became of a command."""

    returncode: int = -1
    stdout: str = ""
    stderr: str = ""
    written: list[str] = field(default_factory=list)
    """Every path that was created, opened for writing, renamed to, or removed; in order."""
    sockets: list[int] = field(default_factory=list)
    """The families of the sockets that were made, but for AF_UNIX."""
    connections: list[str] = field(default_factory=list)
    """Family and address of every attempt, AF_UNIX among them: name services are asked that way."""

    def written_outside(self, *folders: Path) -> list[str]:
        """The paths in ``written`` that lie in none of ``folders``, and are no devices. A folder lies in itself."""
        inside = tuple(f"{folder}{os.sep}" for folder in folders)
        devices = ("/dev/null", "/dev/tty", "/dev/nvidia", "/dev/pts/", "/proc/")
        return [path for path in self.written if not f"{path}{os.sep}".startswith((*inside, *devices))]


def watch(arguments: list[str], env: dict[str, str], cwd: Path, timeout: float = 300) -> Seen:
    """Run ``arguments`` to their end, in an environment of ``env`` alone."""
    seen, (ours, theirs) = Seen(), socket.socketpair()
    launcher = [sys.executable, "-I", __file__, str(theirs.fileno()), *arguments]
    with (
        ours,
        subprocess.Popen(
            launcher,
            env=env,
            cwd=cwd,
            pass_fds=[theirs.fileno()],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        theirs.close()
        _, listeners, _, _ = socket.recv_fds(ours, 1, 1)
        assert listeners, f"no filter: {process.communicate()[1]}"
        watcher = threading.Thread(target=_note, args=(listeners[0], seen))
        watcher.start()
        try:
            seen.stdout, seen.stderr = process.communicate(timeout=timeout)
        finally:
            process.kill()
            watcher.join()
        seen.returncode = process.returncode
    return seen


def _note(listener: int, seen: Seen) -> None:
    """Answer the filter until nobody is left behind it."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while not poll.poll()[0][1] & select.POLLHUP:
        request = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, request)
            number, pid, _, call, _, _, *args = struct.unpack("=QIIiIQ6Q", request)
            _describe(pid, call, args, seen)
            fcntl.ioctl(listener, _SEND, struct.pack("=QqiI", number, 0, 0, 1))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):  # the thread is gone, or a signal came first
                raise
    os.close(listener)


def _describe(pid: int, call: int, args: list[int], seen: Seen) -> None:
    if call in (_SOCKET, _IO_URING):
        seen.sockets.append(args[0] if call == _SOCKET else -1)
    elif call in (_CONNECT, _SENDTO):
        address = args[1] if call == _CONNECT else args[4]
        if address:
            seen.connections.append(repr(_memory(pid, address, 32)))
    else:
        folder, path = _PATHS[call] if call in _PATHS else _OPENS[call][:2]
        name = os.fsdecode(_memory(pid, args[path], 4096).split(b"\0")[0])
        at = _AT_FDCWD if folder is None else ctypes.c_int(args[folder] & 0xFFFFFFFF).value
        start = f"/proc/{pid}/cwd" if at == _AT_FDCWD else f"/proc/{pid}/fd/{at}"
        seen.written.append(os.path.normpath(name if name.startswith("/") else f"{Path(start).readlink()}/{name}"))


def _memory(pid: int, address: int, size: int) -> bytes:
    """Up to ``size`` bytes of a process: what follows the page may not be there."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        first = memory.read(min(size, 4096 - address % 4096))
        if len(first) == size or b"\0" in first:
            return first
        try:
            return first + memory.read(size - len(first))
        except OSError:
            return first


def _filter() -> bytes:
    """The program of the filter (linux/filter.h): what it does not know is allowed."""
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCH), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    for number in (*_PATHS, _CONNECT, _SENDTO, _IO_URING):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    for number, (_, _, flags) in _OPENS.items():
        code += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * flags), (_ANY_BIT, 0, 1, _WRITES)]
        code += [(_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)]
    code += [(_EQUAL, 0, 4, _SOCKET), (_LOAD, 0, 0, 16), (_EQUAL, 0, 1, socket.AF_UNIX)]
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in code)


def _launch(channel: int, arguments: list[str]) -> None:
    """Put the filter on this process, hand its listener over, and become the command."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(_filter())

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    whole = Program(len(program) // 8, ctypes.addressof(program))
    if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS: what makes a filter possible without root
        raise OSError(ctypes.get_errno(), "prctl")
    listener = libc.syscall(317, 1, 8, ctypes.byref(whole))  # seccomp: SET_MODE_FILTER, NEW_LISTENER
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    with socket.socket(fileno=channel) as out:
        socket.send_fds(out, [b"x"], [listener])
    os.close(listener)
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    _launch(int(sys.argv[1]), sys.argv[2:])
