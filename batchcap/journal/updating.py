"""A journal that another command than ``run`` changes, under the lock that a run would hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from batchcap.errors import OutputLockedError
from batchcap.journal.live_file import LiveFile
from batchcap.journal.reader import JournalReader, reading
from batchcap.records import Record
from batchcap.system.output_files import check_place, explained


@contextmanager
def locked(path: Path, done: str) -> Iterator[LiveFile]:
    """Within, a journal that may be replaced by a new one; its ``path`` has no symbolic links.

    Args:
        path: the journal.
        done: what becomes of it, for errors: "compacted".

    Raises:
        InputNotFoundError, OutputError: it is not there, or cannot be written.
        OutputLockedError: a run holds it.
    """
    with reading(path):
        path = path.resolve(strict=True)
    check_place(path)
    with explained(path, done, overwrite=False), closing(LiveFile(path, b"", overwrite=False)) as live:
        yield live


class JournalUpdate:
    """A journal that is open for further records. It is a context manager, and holds the lock that a run would hold.

    A last line that a killed run has left unfinished is cut, as a run does; ``reader`` then ends before it.

    Args:
        reader: of the journal; a pass over it begins after this.

    Raises:
        OutputLockedError: a run holds the journal, or has written it since the reader was made.
        OutputError: it cannot be written.
    """

    def __init__(self, reader: JournalReader) -> None:
        self._codec = reader.codec
        path = Path(reader.path).resolve()
        self._file = LiveFile(path, reader.codec.header, overwrite=False)
        try:
            if path.stat().st_size != reader.size:
                raise OutputLockedError(f"A run has written {path} in this moment.", "Run it again.")
            with path.open("rb") as file:
                file.seek(max(0, reader.size - 1))
                is_whole = file.read(1) in (b"", b"\n")
            if not is_whole:
                for _ in reader.last_lines():  # to the end: then it is known how much of that is no line
                    pass
            with self._file.explained("written"):
                self._file.begin(reader.size - reader.torn, lacks_end=not is_whole and not reader.torn)
            reader.size -= reader.torn
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Record) -> None:
        """Write a record, and return when it is on the disk.

        Raises:
            OutputError: it cannot be written, or another program has changed the journal.
        """
        with self._file.explained("written"):
            self._file.append(self._codec.encode([record]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
