"""Files that wait until they are settled, with a clock and a disk of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from batchcap.run.arrivals import Arrivals, State, state_of


class Disk(dict[str, tuple[int, ...]]):
    """Files and their states."""

    def look(self, file: str) -> State:
        return self.get(file)


def test_a_file_that_is_still_written_waits() -> None:
    disk = Disk(a=(10,))
    arrivals = Arrivals(5, disk.look)
    arrivals.note(["a"], 0)
    assert list(arrivals.settled(4.9)) == []
    disk["a"] = (20,)  # without an event: nothing may be seen of a write through the network
    assert list(arrivals.settled(5)) == []
    assert arrivals.seconds_left(6) == 4
    assert list(arrivals.settled(9.9)) == []
    assert list(arrivals.settled(10)) == ["a"]
    assert (len(arrivals), arrivals.seconds_left(10)) == (0, None)


def test_an_event_begins_the_time_again_only_where_something_has_changed() -> None:
    disk = Disk(a=(10,), b=(10,))
    arrivals = Arrivals(5, disk.look)
    arrivals.note(["a", "b"], 0)
    disk["a"] = (20,)
    arrivals.note(["a", "b"], 3)  # b was opened and closed
    assert list(arrivals.settled(5)) == ["b"]
    assert list(arrivals.settled(8)) == ["a"]


def test_a_file_that_vanishes_is_forgotten() -> None:
    disk = Disk(a=(1,), b=(1,), c=(1,))
    arrivals = Arrivals(5, disk.look)
    arrivals.note(["a", "b", "c", "never"], 0)
    del disk["a"]
    del disk["b"]
    arrivals.note(["a"], 1)
    assert len(arrivals) == 2
    assert list(arrivals.settled(5)) == ["c"]
    assert len(arrivals) == 0


def test_of_too_many_it_is_known_that_there_are_more() -> None:
    disk = Disk({str(number): (1,) for number in range(5)})
    arrivals = Arrivals(5, disk.look, most=3)
    arrivals.note(disk, 0)
    assert arrivals.overflowed
    assert list(arrivals.settled(5)) == ["0", "1", "2"]
    assert arrivals.overflowed
    arrivals.overflowed = False
    arrivals.note(["3", "4"], 6)
    assert not arrivals.overflowed


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=30))
def test_nothing_comes_out_early_and_nothing_is_forgotten(steps: list[tuple[str, int, bool]]) -> None:
    disk, changed, came, now = Disk(), dict[str, int](), set[str](), 0
    arrivals = Arrivals(3, disk.look)
    for number, (name, pause, with_event) in enumerate(steps):
        if with_event or name not in disk.keys() - came:  # a file that waits is looked at again without an event
            disk[name] = (number,)
            arrivals.note([name], now)
        else:
            disk[name] = (number,)
        changed[name] = now
        came.discard(name)
        now += pause
        for file in arrivals.settled(now):
            assert now - changed[file] >= 3
            came.add(file)
    came.update(arrivals.settled(now + 3))
    came.update(arrivals.settled(now + 6))
    assert came == disk.keys()


def test_the_state_of_a_real_file(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    assert state_of(str(file)) is None
    assert state_of("nul\0") is None
    file.write_bytes(b"1")
    before = state_of(str(file))
    assert state_of(str(file)) == before
    os.utime(file, (1, 1))
    dated = state_of(str(file))
    assert dated != before
    file.unlink()
    file.write_bytes(b"2")
    os.utime(file, (1, 1))
    assert state_of(str(file)) != dated  # the same size and time, another file
