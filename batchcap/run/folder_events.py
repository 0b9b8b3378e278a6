"""What happens in folders while a run waits: names that were made, changed, renamed or removed.

The library watchfiles tells it. Each folder is watched by itself, not "with all folders in it": in that mode one folder
that may not be listed ends the watching of all that come after it, without a word (watchfiles 1.3).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from batchcap.errors import MissingExtraError, WatchError

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

_STEP_MS: Final = 100
# How late the library's thread may tell what happened, on a busy machine.
_LATE_SECONDS: Final = 0.05
_MOST_TRIES: Final = 5
_QUEUE: Final = Path("/proc/sys/fs/inotify/max_queued_events")
_QUEUE_USUAL: Final = 16_384
# The system's queue overflows without a word (watchfiles does not pass it on). A file that is made and written takes
# at least three places, so so many names at once may be what is left of more.
_PLACES_A_NAME: Final = 8
_ADDED: Final = 1


class Events(NamedTuple):
    """What happened since the last question."""

    names: AbstractSet[str]
    """Absolute names of files and folders."""
    new: AbstractSet[str]
    """Those among ``names`` that were made, or renamed to this name. Folders among them are not watched yet."""
    lost: bool
    """Something else has happened, too: only a look through the folders shows what."""


_NOTHING: Final = Events(frozenset(), frozenset(), lost=False)


def check_installed() -> None:
    """Raise MissingExtraError unless the library is there."""
    try:
        import watchfiles  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "--watch needs the library watchfiles, which is not installed.", "Install it: pip install 'batchcap[watch]'"
        ) from None


class FolderEvents:
    """The folders that are watched, and what happened in them. Close it."""

    def __init__(self) -> None:
        self._notify: RustNotify | None = None
        self._kept = _NOTHING
        with suppress(OSError, ValueError):
            self._most = int(_QUEUE.read_text()) // _PLACES_A_NAME
            return
        self._most = _QUEUE_USUAL // _PLACES_A_NAME

    def watch(self, folders: Iterable[str], *, looked_through: bool = False) -> None:
        """Watch these folders from now on, and no others. What has happened in others is still told.

        Folders that are not there or may not be listed are left out, and so are names that are not UTF-8, which the
        library cannot take.

        Args:
            folders: absolute names.
            looked_through: the caller looks through all folders after this call, and finds what was lost before.

        Raises:
            WatchError: the system does not watch so many folders; what was watched before still is.
        """
        new = _watching(folders)
        if self._notify is not None:
            self._kept = self._take(_LATE_SECONDS)
            if looked_through:
                self._kept = self._kept._replace(lost=False)
            self._notify.close()
        self._notify = new

    def wait(self, seconds: float) -> Events:
        """What has happened since the last call; where that is nothing, what happens next, if it does in that time.

        After ``lost`` nothing is seen until `watch` is called again. A signal whose handler raises nothing does not end
        the wait; any other exception of a handler comes out as KeyboardInterrupt.
        """
        events, self._kept = self._take(seconds if self._kept == _NOTHING else 0), _NOTHING
        return events

    def _take(self, seconds: float) -> Events:
        assert self._notify is not None  # `watch` comes first
        from watchfiles._rust_notify import WatchfilesRustInternalError

        milliseconds = max(1, round(seconds * 1000))
        step = min(_STEP_MS, milliseconds)
        changes: set[tuple[int, str]] | str
        try:
            changes = self._notify.watch(step, step, milliseconds, None)
        except WatchfilesRustInternalError:  # of a name that is not UTF-8, for instance; it is raised again for ever
            return Events(self._kept.names, self._kept.new, lost=True)
        if changes == "signal":  # its handler has raised, and the library has taken the exception for itself
            raise KeyboardInterrupt
        if isinstance(changes, str):
            return self._kept
        names = self._kept.names | {name for _, name in changes}
        new = self._kept.new | {name for kind, name in changes if kind == _ADDED}
        return Events(names, new, lost=self._kept.lost or len(names) >= self._most)

    def close(self) -> None:
        """May be called twice."""
        if self._notify is not None:
            self._notify.close()
            self._notify = None


def _watching(folders: Iterable[str]) -> RustNotify:
    from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

    names = list(folders)
    for _ in range(_MOST_TRIES):
        names = [name for name in names if _can_be_watched(name)]
        try:
            return RustNotify(names, False, False, 0, False, False)
        except (FileNotFoundError, PermissionError):  # one of them was removed meanwhile: which one is not told
            continue
        except (OSError, WatchfilesRustInternalError) as error:
            raise _limit(str(error), len(names)) from None
    raise WatchError("Folders are made and removed faster than they can be watched.", "Run again when that is over.")


def _can_be_watched(folder: str) -> bool:
    try:
        folder.encode()
    except UnicodeEncodeError:
        return False
    return os.path.isdir(folder) and os.access(folder, os.R_OK)  # noqa: PTH112 - text, as from the walk


def _limit(why: str, count: int) -> WatchError:
    """The library's error in words: it has no class or number for it."""
    if "watch limit" in why:
        return WatchError(
            f"The system watches no more folders: {count:,} are to be watched.",
            "Raise the limit: sysctl fs.inotify.max_user_watches=1048576 (in /etc/sysctl.d/ for ever).",
        )
    if "os error 24" in why:
        return WatchError(
            "The system watches for no more programs of this user.",
            "Raise the limit: sysctl fs.inotify.max_user_instances=1024 (in /etc/sysctl.d/ for ever), or `ulimit -n`.",
        )
    return WatchError(f"The folders cannot be watched: {why}.", "Run without --watch, every few minutes.")
