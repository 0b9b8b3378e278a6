"""What a run that goes on captions: everything once, then what arrives.

Events say quickly that something has happened, but not reliably: a network mount, a full queue, a disk that is mounted
below an input tell nothing. So now and then, and whenever something may have been missed, all folders are looked
through again. The output decides what is new, so looking twice costs time only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Self

from batchcap.errors import WatchError
from batchcap.images import tree
from batchcap.images.discovery import Inputs
from batchcap.images.walk import Identity, Unread
from batchcap.records import ImageRef
from batchcap.reporting import Say, no_report
from batchcap.run.arrivals import Arrivals, state_of
from batchcap.run.folder_events import FolderEvents
from batchcap.system.interrupts import InterruptGuard

# How long one wait lasts: signals, and the service manager, are answered in between.
_WAIT_SECONDS: Final = 0.5
_CHECK_SECONDS: Final = 1.0
_CHECKED_A_SECOND: Final = 500
# Looking through all folders for what may have been missed takes at most about one part in so many of the time.
_SHARE: Final = 10
# While folders are made faster than they are listed, the rest of them waits until all are looked through.
_MOST_LISTINGS: Final = 3


class Passes:
    """The passes of a run that goes on until it is stopped; a context, which ends the watching of folders.

    Args:
        inputs: what to watch; all of it is there now.
        settle: seconds without a change after which a file is taken.
        rescan: seconds after which all folders are looked through again.
        guard: of the run; a signal ends a wait.
        say: gets a line when an input goes away or comes back, or when a folder cannot be watched.
        tick: called whenever the work goes on, and about twice a second while there is none.

    Raises:
        WatchError: the system does not watch so many folders.
    """

    def __init__(
        self,
        inputs: Inputs,
        settle: float,
        rescan: float,
        guard: InterruptGuard,
        say: Say = no_report,
        tick: Callable[[], object] = no_report,
    ) -> None:
        self.unread = Unread()
        """What the last look through all folders has left out."""
        self._inputs = self._here = inputs
        self._settle, self._rescan = settle, rescan
        self._guard, self._say, self._tick = guard, say, tick
        self._events = FolderEvents()
        self._arrivals = Arrivals(settle)
        self._folders: set[str] = set()
        self._files = {each.file: state_of(each.file) for each in inputs.resolved if each.name is not None}
        self._checks = max(_CHECK_SECONDS, len(inputs.resolved) / _CHECKED_A_SECOND)
        now = time.monotonic()
        self._checked = self._listened = now
        self._looked, self._look_took, self._next_look = now, 0.0, now
        self._missed = False
        self._is_watched = False
        self._watch_all(first=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.close()

    def __iter__(self) -> Iterator[Iterator[ImageRef] | None]:
        """The images of each pass, for ever; all of a pass must be taken before the next pass is asked for.

        The first has all images, the others those that may be new. What the output has already may be among them.
        None comes between two passes where there is nothing to do until something arrives.
        """
        told = False
        while True:
            now = time.monotonic()
            self._check_inputs(now)
            if now >= self._next_look and self._here.resolved:
                told = False
                yield self._everything(now)
            elif settled := sorted(self._arrivals.settled(now), key=os.fsencode):
                told = False
                yield self._here.look_at(self._plain(settled))
            else:
                if not told:
                    told = True
                    yield None
                left = self._arrivals.seconds_left(now)
                self._listen(_WAIT_SECONDS if left is None else min(left, _WAIT_SECONDS))

    def _everything(self, began: float) -> Iterator[ImageRef]:
        """All images but those that may still be written: these wait with the others that have arrived."""
        self.unread = Unread()
        if not self._is_watched:
            self._missed = False
            self._watch_all()
        self._is_watched = False
        elsewhere = 0.0  # seconds in which the images were captioned
        for ref in self._here.images(self.unread):
            self._listen_now_and_then()
            if ref.failure is None and abs(time.time() - ref.mtime_us / 1e6) < self._settle:
                self._arrivals.note([ref.file], time.monotonic())
            else:
                given = time.monotonic()
                yield ref
                elsewhere += time.monotonic() - given
        self._looked = time.monotonic()
        self._look_took = self._looked - began - elsewhere
        self._next_look = self._looked + self._rescan
        if self._missed:
            self._look_again()

    def _look_again(self) -> None:
        """Something may have been missed: look through all folders, but not all the time."""
        self._missed = True
        soon = max(time.monotonic() + self._settle, self._looked + _SHARE * self._look_took)
        self._next_look = min(self._next_look, soon)

    def _plain(self, files: Iterable[str]) -> Iterator[str]:
        """Those that the walk takes whatever else there is. Which name counts of the others only the walk can tell."""
        for file in files:
            self._listen_now_and_then()
            if tree.is_plain(file, self._here.resolved):
                yield file
            elif os.path.lexists(file):
                self._look_again()

    def _listen_now_and_then(self) -> None:
        """While a pass goes on: the system keeps a limited number of events."""
        self._tick()
        if time.monotonic() - self._listened >= _CHECK_SECONDS:
            self._listen(0)

    def _listen(self, seconds: float) -> None:
        """Note what has happened, or what happens in so many seconds."""
        self._tick()
        with self._guard.shielded():  # the library makes a KeyboardInterrupt of all that a handler raises
            events = self._events.wait(seconds)
        now = self._listened = time.monotonic()
        if events.lost or self._arrivals.overflowed:
            self._arrivals.overflowed = False
            self._look_again()
        files, folders = [], []
        for name in events.names:
            if os.path.isdir(name):  # noqa: PTH112 - text, as the library gives it
                if (name in events.new or name not in self._folders) and tree.is_wanted(name, self._here.resolved):
                    folders.append(name)
            elif tree.is_wanted_image(name, self._here.resolved):
                files.append(name)
        self._arrivals.note(files, now)
        if folders:
            self._note_folders(folders, now)

    def _note_folders(self, new: list[str], now: float) -> None:
        """Folders were made, or have come with all that is in them: watch them first, then look into them."""
        try:
            self._watch_below(new)
        except WatchError as error:
            self._say_unwatched(error)
        for folder in self._below(new):
            self._arrivals.note(folder.images, now)

    def _below(self, tops: Sequence[str]) -> Iterator[tree.Folder]:
        """These folders and those below them; that may take minutes on a network."""
        for folder in tree.folders(tops):
            self._tick()
            yield folder

    def _watch_all(self, *, first: bool = False) -> None:
        """Watch the folders that are there now; at the beginning that must be possible."""
        self._folders, self._is_watched = set(), True
        try:
            self._watch_below([each.file for each in self._here.resolved if each.name is None], looked_through=True)
        except WatchError as error:
            if first:
                raise
            self._say_unwatched(error)

    def _watch_below(self, tops: Sequence[str], *, looked_through: bool = False) -> None:
        """Watch these folders and those below them, besides the others.

        Of a folder that is made while they are listed nothing tells, so they are listed once more.
        """
        found = {folder.path for folder in self._below(tops)}
        for _ in range(_MOST_LISTINGS):
            self._folders |= found
            with self._guard.shielded():  # it waits for what has happened so far, as `_listen` does
                self._events.watch(self._folders, looked_through=looked_through)
            found = {folder.path for folder in self._below(tops)}
            if found <= self._folders:
                return
        self._look_again()

    def _say_unwatched(self, error: WatchError) -> None:
        self._say(
            f"{error.message} New images in the others are found when all folders are looked through, every "
            f"{self._rescan:g} s. {error.fix}"
        )

    def _check_inputs(self, now: float) -> None:
        """Whether the inputs are there, and are what they were; single files are looked at here, too."""
        if now - self._checked < self._checks:
            return
        self._checked = now
        before, self._here = _identities(self._here), self._inputs.present()
        after = _identities(self._here)
        for folder in before.keys() - after.keys():
            self._say(f"{folder} is not there any more (a disk that is not mounted?): waiting until it is back.")
        for folder in after.keys() - before.keys():
            self._say(f"{folder} is back: looking through it.")
        for folder in before.keys() & after.keys():
            if before[folder] != after[folder]:
                self._say(
                    f"{folder} is another folder now (a disk that was mounted, or taken away?): looking through it."
                )
        if any(before.get(folder) != identity for folder, identity in after.items()):
            self._next_look = now
        for file, state in self._files.items():
            if (new := state_of(file)) != state:
                self._files[file] = new
                self._arrivals.note([file], now)


def _identities(inputs: Inputs) -> dict[str, Identity]:
    """The folders among inputs, and what they are."""
    return {each.file: each.folder for each in inputs.resolved if each.name is None}
