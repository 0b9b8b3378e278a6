"""What every line in the terminal has in common, and errors. Only the `console` files use rich."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from batchcap.errors import BatchcapError

if TYPE_CHECKING:
    from batchcap.records import Record

# What a terminal would obey instead of showing it (a line end too), what turns the direction of writing, and what UTF-8
# cannot hold.
_INVISIBLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Parts of a traceback that are no message: frames, and the sentences between two errors.
_FRAMES: Final = ("  File ", "\n")


class _Piped(Console):
    """A console that raises where the reader has closed the pipe, since the command handles that; rich would exit."""

    def on_broken_pipe(self) -> None:
        """Called where the error is handled."""
        raise BrokenPipeError from None


def err() -> Console:
    """A console on the present standard error: tests and callers may have replaced it."""
    return Console(stderr=True, highlight=False)


def out() -> Console:
    return _Piped(highlight=False)


def visible(text: str) -> str:
    """One line: the text with a backslash escape for every control character.

    File names may hold anything, a line end as well, and must not write lines of their own. All text passes here on its
    way to the terminal; a text of several lines passes line by line.
    """
    return _INVISIBLE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def plain(text: str, style: str = "") -> Text:
    """Text without markup."""
    return Text(visible(text), style)


def show_error(error: BatchcapError, verbosity: int = 0) -> None:
    """One panel, or plain lines where standard error is no terminal: what is wrong, where, and the fix."""
    console = err()
    if verbosity > 1:
        _show_traceback(error)
    # A name that does not fit into a panel would be cut in two by its border.
    longest = max(map(cell_len, visible(f"{error.message} {error.fix}").split(" ")))
    if console.is_terminal and longest > console.width - 4:
        print_line(console, f"{error.title}:", "bold red")
        print_line(console, f"  {error.message}")
        if error.fix:
            print_line(console, f"  {error.fix}", "green")
    elif console.is_terminal:
        body = plain(error.message)
        if error.fix:
            body.append("\n").append_text(plain(error.fix, "green"))
        console.print(Panel(body, title=escape(error.title), title_align="left", border_style="red"))
    else:
        sys.stderr.write(visible(f"{error.title}: {error.message}") + "\n")
        if error.fix:
            sys.stderr.write(visible(error.fix) + "\n")


def show_bug(error: Exception, verbosity: int = 0) -> None:
    """An error that batchcap did not expect."""
    if verbosity > 1:
        _show_traceback(error)
        return
    show_error(as_bug(error))


def as_bug(error: BaseException) -> BatchcapError:
    """An error that batchcap did not expect, in words."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    bug = BatchcapError(text, "Nothing that was written is lost. Run again with -vv and report what it shows.")
    bug.title = "This is a bug in batchcap"
    return bug


def _show_traceback(error: BaseException) -> None:
    for part in traceback.format_exception(error):
        lines = part.split("\n") if part.startswith(_FRAMES) else [part.removesuffix("\n"), ""]
        sys.stderr.write("\n".join(visible(line) for line in lines))


def say(text: str) -> None:
    """One plain line on standard error."""
    print_line(err(), text)


def print_line(console: Console, text: str, style: str = "") -> None:
    """One line. On a terminal too narrow for it, it goes on below, indented; a long name is never cut in two.

    Elsewhere it stays one line, for grep.
    """
    body = text.lstrip(" ")
    indent = len(text) - len(body)
    if not console.is_terminal:
        console.print(" " * indent, plain(body, style), sep="", soft_wrap=True)
        return
    for number, line in enumerate(_wrapped(visible(body), console.width - indent - 2)):
        console.print(" " * (indent + 2 * (number > 0)), Text(line, style), sep="", soft_wrap=True)


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Lines of whole words; a word that is wider than ``width`` columns has a line of its own."""
    line, *words = text.split(" ")
    for word in words:
        if cell_len(line) + 1 + cell_len(word) > width:
            yield line
            line = word
        else:
            line += f" {word}"
    yield line


# Words that progress and summaries share


def failure_line(record: Record) -> str:
    """``failed: a.jpg: decode, truncated: the file ends before the image does``; a folder's name ends in a slash."""
    error = record.error
    folder = "/" if error is not None and error.of_folder else ""
    reason = f"{error.stage}, {error.kind}: {error.message}" if error is not None else "no reason was noted"
    return f"failed: {record.path}{folder}: {reason}"


def speed(rate: float) -> str:
    return f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"


def duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``5 min 10 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{whole} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{minutes} min {whole} s" if hours == 0 else f"{hours} h {minutes_left} min"


def several(count: int, thing: str) -> str:
    return f"1 {thing}" if count == 1 else f"{count:,} {thing}s"


def images(count: int) -> str:
    return several(count, "image")
