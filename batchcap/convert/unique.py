"""Whether each image has a name of its own in the target, found before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from batchcap.convert.hashes import Hashes
from batchcap.convert.work import Work
from batchcap.errors import DuplicateKeyError
from batchcap.records import Record

_MOST_NAMED: Final = 1000


def check_unique(work: Work, name_of: Callable[[Record], str | None], fix: str) -> None:
    """Raise DuplicateKeyError where two captioned images have one name; all of them are named (the first thousand).

    Takes 8 bytes of memory a record, and reads the journal once more only where there may be such names.

    Args:
        work: its records are read.
        name_of: the name of a record in the target; None: it has none.
        fix: what the reader can do.
    """
    hashes = Hashes()
    for record in work.records("checking names"):
        if record.caption is not None and (name := name_of(record)) is not None:
            hashes.add(name)
    twice = hashes.repeated()
    if not twice:
        return
    found: dict[str, list[str]] = {}
    for record in work.records("checking names"):
        name = name_of(record) if record.caption is not None else None
        if name is not None and hash(name) in twice:
            found.setdefault(name, []).append(record.path)
    shared = {name: paths for name, paths in found.items() if len(paths) > 1}
    if not shared:  # only their hashes were equal
        return
    for name, paths in list(shared.items())[:_MOST_NAMED]:
        work.say(f"one name for {len(paths)} images: {name}: {', '.join(paths)}")
    if len(shared) > _MOST_NAMED:
        work.say(f"... and {len(shared) - _MOST_NAMED:,} more")
    example = ", ".join(next(iter(shared.values())))
    stand = "1 name stands" if len(shared) == 1 else f"{len(shared):,} names stand"
    raise DuplicateKeyError(f"{stand} for several images, such as {example}. Nothing was written.", fix)
