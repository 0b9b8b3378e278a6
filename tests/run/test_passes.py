"""What a run that goes on captions: real folders, real events of the system, and no model."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import PATIENCE

from batchcap.images.discovery import resolve
from batchcap.records import ImageRef
from batchcap.run import passes
from batchcap.run.folder_events import FolderEvents
from batchcap.run.passes import Passes
from batchcap.system.interrupts import Interrupted, InterruptGuard

OLD = 1_000_000_000
"""A time long ago: whoever wrote the file has finished."""


def put(path: Path, content: bytes = b"1") -> Path:
    """An image that was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (OLD, OLD))
    return path


class Watched:
    """Passes over inputs, and the lines that were said. What does not come for a minute fails the test."""

    def __init__(self, *inputs: Path, settle: float = 0.05, rescan: float = 3600) -> None:
        self.said: list[str] = []
        self.root = inputs[0] if inputs[0].is_dir() else inputs[0].parent
        self.ticks: list[float] = []
        self.passes = Passes(resolve(inputs, self.root), settle, rescan, InterruptGuard(), self.said.append, self.tick)
        self.each = iter(self.passes)

    def tick(self) -> None:
        self.ticks.append(time.monotonic())
        assert self.ticks[-1] < self.ticks[0] + PATIENCE

    def next(self) -> list[str] | None:
        """The paths of the next pass; None: there is nothing to do."""
        images: Iterator[ImageRef] | None = next(self.each)
        return None if images is None else [ref.path for ref in images]

    def after(self, act: Callable[[], object]) -> list[str]:
        """Do something while the passes wait; the paths of the next pass that has any, each name once."""
        act()
        found = self.until_idle()
        while not found:
            found = self.until_idle()
        return found

    def until_idle(self) -> list[str]:
        found: list[str] = []
        while (paths := self.next()) is not None:
            found += paths
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "in/a.jpg")
    put(tmp_path / "in/sub/b.jpg")
    return tmp_path / "in"


@pytest.fixture
def watched(folder: Path) -> Iterator[Watched]:
    """A folder with two images; the first pass is over."""
    watched = Watched(folder)
    with watched.passes:
        assert watched.next() == ["a.jpg", "sub/b.jpg"]
        assert watched.next() is None
        yield watched


def test_a_new_a_changed_and_a_renamed_file(watched: Watched, folder: Path) -> None:
    assert watched.after(lambda: put(folder / "c.JPG")) == ["c.JPG"]
    assert watched.after(lambda: put(folder / "sub/b.jpg", b"22")) == ["sub/b.jpg"]
    put(folder / ".c.jpg.x7Hd2")
    put(folder / "d.jpg.part")
    put(folder / "d.crdownload")
    put(folder / ".hidden/e.jpg")
    put(folder / "notes.txt")
    assert watched.after(lambda: (folder / "d.jpg.part").rename(folder / "d.jpg")) == ["d.jpg"]


def test_whole_trees_and_renamed_folders(watched: Watched, folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/x/1.jpg")
    put(tmp_path / "elsewhere/x/y/2.jpg")
    put(tmp_path / "elsewhere/.z/3.jpg")
    assert watched.after(lambda: (tmp_path / "elsewhere").rename(folder / "moved")) == [
        "moved/x/1.jpg",
        "moved/x/y/2.jpg",
    ]
    assert watched.after(lambda: put(folder / "moved/x/y/4.jpg")) == ["moved/x/y/4.jpg"]
    found = watched.after(lambda: (folder / "moved/x").rename(folder / "renamed"))
    assert found == ["renamed/1.jpg", "renamed/y/2.jpg", "renamed/y/4.jpg"]
    assert watched.after(lambda: put(folder / "renamed/y/5.jpg")) == ["renamed/y/5.jpg"]
    assert watched.after(lambda: put(folder / "n/e/w/6.jpg")) == ["n/e/w/6.jpg"]


def test_a_folder_that_is_made_while_the_others_are_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing and the watching: nothing tells of it."""
    watch, late = FolderEvents.watch, [folder / "late", folder / "new/late"]

    def watch_late(self: FolderEvents, folders: Iterable[str], **more: bool) -> None:
        if late and late[0].parent.is_dir():
            late.pop(0).mkdir()
        watch(self, folders, **more)

    monkeypatch.setattr(FolderEvents, "watch", watch_late)
    watched = Watched(folder)
    with watched.passes:
        assert watched.until_idle() == ["a.jpg", "sub/b.jpg"]
        assert watched.after(lambda: put(folder / "late/c.jpg")) == ["late/c.jpg"]
        assert watched.after(lambda: put(folder / "new/d.jpg")) == ["new/d.jpg"]
        assert watched.after(lambda: put(folder / "new/late/e.jpg")) == ["new/late/e.jpg"]


def test_a_folder_that_is_removed_and_made_again(watched: Watched, folder: Path) -> None:
    shutil.rmtree(folder / "sub")
    assert watched.after(lambda: put(folder / "sub/c.jpg")) == ["sub/c.jpg"]
    assert watched.after(lambda: put(folder / "sub/d.jpg")) == ["sub/d.jpg"]
    assert watched.said == []


def test_what_is_removed_is_no_error(watched: Watched, folder: Path) -> None:
    put(folder / "short.jpg")
    (folder / "short.jpg").unlink()
    (folder / "a.jpg").unlink()
    shutil.rmtree(folder / "sub")
    assert watched.after(lambda: put(folder / "c.jpg")) == ["c.jpg"]


def test_a_file_that_is_written_when_the_run_begins_waits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "now.jpg").write_bytes(b"half")
    written = (folder / "now.jpg").stat().st_mtime
    monkeypatch.setattr(passes, "time", SimpleNamespace(time=lambda: written, monotonic=time.monotonic))
    watched = Watched(folder)
    with watched.passes:
        assert watched.next() == ["a.jpg", "sub/b.jpg"]
        assert len(watched.passes._arrivals) == 1
        assert watched.until_idle() + watched.until_idle() == ["now.jpg"]


def test_which_of_several_names_counts_is_decided_by_the_walk(watched: Watched, folder: Path, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside/o.jpg")
    (folder / "a2.jpg").hardlink_to(folder / "a.jpg")  # comes later in the order: left out
    (folder / "l.jpg").symlink_to(outside)
    everything = ["a.jpg", "l.jpg", "sub/b.jpg"]
    assert watched.after(lambda: (folder / "l2.jpg").symlink_to(folder / "a.jpg")) == everything
    found = watched.after(lambda: (folder / "linked").symlink_to(tmp_path / "outside"))
    assert found == everything  # o.jpg has a name already
    assert set(watched.after(lambda: put(tmp_path / "outside/p.jpg"))) == {*everything, "linked/p.jpg"}


def test_after_lost_events_all_folders_are_looked_through(watched: Watched, folder: Path) -> None:
    watched.passes._events._most = 3
    for number in range(5):
        put(folder / f"{number}.jpg")
    everything = {"a.jpg", "sub/b.jpg", *(f"{number}.jpg" for number in range(5))}
    found: list[str] = []
    while set(found) != everything:
        found += watched.until_idle()


def test_hours_of_captioning_do_not_put_off_the_next_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then nothing is seen after lost events, such as those of a name that is not UTF-8."""
    worked = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + worked[0], time=time.time)
    monkeypatch.setattr(passes, "time", clock)
    watched = Watched(folder)
    for _ in next(watched.each) or ():
        worked[0] += 3600  # the model is at work
    watched.passes._look_again()
    assert watched.passes._next_look - clock.monotonic() < 10
    watched.passes._events.close()


def test_names_that_are_not_utf8(watched: Watched, folder: Path) -> None:
    odd = os.fsencode(folder) + b"/odd\xff.jpg"

    def write() -> None:
        Path(os.fsdecode(odd)).write_bytes(b"1")
        os.utime(odd, (OLD, OLD))

    assert watched.after(write) == ["a.jpg", "odd\ufffd.jpg", "sub/b.jpg"]
    assert watched.after(lambda: put(folder / "c.jpg")) == ["c.jpg"]  # it goes on


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed_hides_no_other(folder: Path) -> None:
    for name in ("k", "lost+found", "z"):
        (folder / name).mkdir()
    (folder / "lost+found").chmod(0)
    watched = Watched(folder)
    with watched.passes:
        assert watched.until_idle() == ["a.jpg", "lost+found", "sub/b.jpg"]
        for name in ("k", "z", "sub"):
            assert watched.after(lambda name=name: put(folder / name / "c.jpg")) == [f"{name}/c.jpg"]
    (folder / "lost+found").chmod(0o700)


def test_an_input_that_goes_away_and_comes_back(watched: Watched, folder: Path, tmp_path: Path) -> None:
    watched.passes._checks = 0
    folder.rename(tmp_path / "away")
    for _ in range(3):
        watched.passes._check_inputs(time.monotonic())
    assert len(watched.said) == 1
    assert watched.said[0].startswith(f"{folder} is not there any more")
    put(tmp_path / "away/new.jpg")
    assert watched.after(lambda: (tmp_path / "away").rename(folder)) == ["a.jpg", "new.jpg", "sub/b.jpg"]
    assert watched.said[1:] == [f"{folder} is back: looking through it."]
    assert watched.after(lambda: put(folder / "sub/c.jpg")) == ["sub/c.jpg"]


def test_another_folder_in_the_place_of_an_input(watched: Watched, folder: Path, tmp_path: Path) -> None:
    watched.passes._checks = 0
    put(tmp_path / "other/x.jpg")
    folder.rename(tmp_path / "away")  # as a mount does
    assert watched.after(lambda: (tmp_path / "other").rename(folder)) == ["x.jpg"]
    assert watched.after(lambda: put(folder / "y.jpg")) == ["y.jpg"]
    assert [line.partition(" (")[0] for line in watched.said] == [f"{folder} is another folder now"]


def test_single_files(folder: Path) -> None:
    watched = Watched(folder / "a.jpg", folder / "sub/b.jpg")
    watched.passes._checks = 0
    with watched.passes:
        assert watched.until_idle() == ["a.jpg", "sub/b.jpg"]
        put(folder / "c.jpg")
        assert watched.after(lambda: put(folder / "new.jpg").replace(folder / "a.jpg")) == ["a.jpg"]
        (folder / "a.jpg").unlink()
        assert watched.after(lambda: put(folder / "sub/b.jpg", b"22")) == ["sub/b.jpg"]
        assert watched.said == []


@pytest.mark.usefixtures("own_handlers")
def test_ctrl_c_ends_a_wait(folder: Path) -> None:
    """Where no guard takes the signal, as in a program of someone else."""
    watched = Watched(folder)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    with watched.passes, pytest.raises(KeyboardInterrupt):
        assert watched.until_idle() == ["a.jpg", "sub/b.jpg"]
        timer.start()
        watched.next()


def test_looking_through_folders_tells_that_it_goes_on(watched: Watched, folder: Path) -> None:
    """A network folder with many folders takes minutes to list, and nothing comes out meanwhile."""
    for number in range(50):
        (folder / str(number)).mkdir()
    watched.ticks.clear()
    watched.passes._watch_all()
    assert len(watched.ticks) == 2 * 52  # listed, watched, and listed again


class Swallowing:
    """As the library: an exception of a handler comes out of it as a word."""

    def watch(self, *_: object) -> str:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Interrupted:
            return "signal"
        return "timeout"

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.usefixtures("own_handlers")
@pytest.mark.parametrize("act", [Passes._watch_all, lambda each: each._listen(0)])
def test_the_signal_that_ends_a_run_is_known(act: Callable[[Passes], None], folder: Path) -> None:
    """Its number is the exit code."""
    with InterruptGuard() as guard, Passes(resolve([folder], folder), 1, 3600, guard) as passes:
        passes._events._notify = Swallowing()  # type: ignore[assignment]
        with pytest.raises(Interrupted) as caught:
            act(passes)
        assert caught.value.signum == signal.SIGTERM


def test_everything_again_now_and_then(folder: Path) -> None:
    watched = Watched(folder, rescan=0.1)
    with watched.passes:
        assert watched.until_idle() == ["a.jpg", "sub/b.jpg"]
        assert watched.until_idle() == ["a.jpg", "sub/b.jpg"]
